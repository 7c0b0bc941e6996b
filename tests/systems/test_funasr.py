"""A released Paraformer or SenseVoice as the recogniser of a pipeline and of an index."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import clsr
from clsr.audio.waveform import write_waveform
from clsr.checkpoint_folder import read_meta
from clsr.cli.main import main
from clsr.config import TrainingConfig
from clsr.errors import InputError
from clsr.systems.clsr import load_clsr
from clsr.systems.funasr import load_funasr
from clsr.systems.info import describe
from clsr.systems.load import load_system
from clsr.systems.sources import open_source
from clsr.vocabulary import normalise


def test_a_released_folder_writes_what_its_import_writes(
    tiny_release: Path, release_model: Path, tiny_settings: TrainingConfig, say_in_tones: Callable[[str], np.ndarray]
):
    system = load_system(f"funasr:{tiny_release}", tiny_settings.text_encoder)
    assert system.rows == ("funasr-bge",)
    waveforms = [say_in_tones(text) for text in ("red blue green old", "dog", "cat sun boat red dog blue cat")]
    recognised = system.recognise(waveforms)
    own = load_clsr(release_model, tiny_settings.text_encoder)
    assert recognised == [normalise(text) for text in own.transcribe(own.recognise(waveforms))] and any(recognised)
    assert recognised == [system.recognise([waveform])[0] for waveform in waveforms]
    vectors = system.encode(recognised, "funasr-bge", "passage")
    assert vectors.norm(dim=1).tolist() == pytest.approx([1.0] * 3, abs=1e-5)


def test_a_folder_without_a_model_is_named():
    with pytest.raises(InputError, match="nowhere"):
        load_system("funasr:nowhere")


def test_sense_voice_indexes_and_is_searched(
    sense_voice_release: Path, tone_model: Path, say_in_tones: Callable[[str], np.ndarray], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):  # fmt: skip
    for name, text in (("a", "red blue green old"), ("b", "dog cat sun")):
        write_waveform(tmp_path / f"{name}.wav", say_in_tones(text))
    reference, texts = f"funasr:{sense_voice_release}", str(read_meta(tone_model).text_encoder)
    model = clsr.load(reference, text_encoder=texts)
    index = clsr.Index.create(tmp_path / "index", model)
    assert {status.status for status in index.add([tmp_path / "a.wav", tmp_path / "b.wav"])} == {"indexed"}
    assert index.description.model == reference and not any(status.flagged for status in index.status())
    written = model.transcribe(tmp_path / "a.wav").text
    assert main(["search", "--index", str(tmp_path / "index"), "--top-k", "1", written]) == 0
    assert "a.wav" in capsys.readouterr().out


def test_sense_voice_is_measured_as_it_transcribes(
    sense_voice_release: Path, tiny_settings: TrainingConfig, say_in_tones: Callable[[str], np.ndarray]
):
    waveforms = [say_in_tones(text) for text in ("red blue green old", "dog")]
    system = load_system(f"funasr:{sense_voice_release}#en", tiny_settings.text_encoder)
    expected = load_funasr(sense_voice_release, language="en").transcribe(waveforms)
    assert system.recognise(waveforms) == [normalise(one.text) for one in expected]
    assert [one.text for one in load_funasr(sense_voice_release).transcribe(waveforms)] != [
        one.text for one in expected
    ]


def test_sense_voice_is_described(sense_voice_release: Path):
    found = describe(f"funasr:{sense_voice_release}")
    assert (found.kind, found.vocabulary) == ("funasr", 80)
    assert found.languages == ["Chinese", "Cantonese", "English", "Japanese", "Korean"]


def test_languages_have_fingerprints_of_their_own(sense_voice_release: Path):
    names = (f"funasr:{sense_voice_release}", f"funasr:{sense_voice_release}#en", f"funasr:{sense_voice_release}#ja")
    assert len({open_source(name).fingerprint(None) for name in names}) == 3
    assert [open_source(name).reference for name in names] == list(names)


def test_languages_that_no_model_takes(sense_voice_release: Path, tiny_release: Path):
    with pytest.raises(InputError, match="does not know the language 'fr': give one of auto, zh, en, yue, ja, ko$"):
        open_source(f"funasr:{sense_voice_release}#fr")
    with pytest.raises(InputError, match="a Paraformer takes no language: leave out #en$"):
        open_source(f"funasr:{tiny_release}#en")


@pytest.mark.parametrize("model", ["SenseVoice", "WhisperWarp", "CTTransformer"])
def test_other_models_of_funasr_are_refused(model: str, tmp_path: Path):
    (tmp_path / "config.yaml").write_text(f"model: {model}\n")
    for load in (open_source, load_system):
        with pytest.raises(InputError, match=f"holds FunASR's {model}, which clsr does not read: name a Paraformer or"):
            load(f"funasr:{tmp_path}")
