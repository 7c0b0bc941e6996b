"""Recordings of any length and rate to text with times."""

import json
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from clsr.audio.pauses import quietest
from clsr.audio.waveform import SAMPLE_RATE, write_waveform
from clsr.checkpoint import load_speech_encoder
from clsr.data.kaldi import Utterance, write_data_dir
from clsr.errors import InputError
from clsr.models.speech_encoder import SpeechEncoder
from clsr.transcribe import Transcript, find_utterances, transcribe, transcribe_one

Say = Callable[[str], np.ndarray]


@pytest.fixture(scope="module")
def encoder(tone_model: Path) -> SpeechEncoder:
    return load_speech_encoder(tone_model)


def test_file_is_transcribed_as_a_whole(encoder: SpeechEncoder, say_in_tones: Say, tmp_path: Path):
    write_waveform(tmp_path / "a.wav", say_in_tones("old boat red"))
    (utterance,) = find_utterances([tmp_path / "a.wav"])
    transcript = transcribe_one(encoder, utterance)
    assert transcript.text == "old boat red"
    assert transcript.token_ids == encoder.text_encoder.token_ids("old boat red")
    assert transcript.duration_s == pytest.approx(0.9)
    assert len(transcript.times) == 3 and transcript.times[0][0] == 0.0
    content = json.loads(transcript.to_json())
    assert list(content) == ["audio", "text", "token_ids", "times", "duration_s"]


def test_long_recordings_are_cut_with_continuous_times(
    encoder: SpeechEncoder, say_in_tones: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("clsr.transcribe.PIECE_S", 1.4)
    monkeypatch.setattr("clsr.audio.pauses.SEARCH_S", 0.5)
    text = "old boat red green dog sun cat blue red old dog cat boat sun"
    waveform = say_in_tones(text)
    write_waveform(tmp_path / "long.wav", waveform)
    lengths: list[int] = []
    recognise = encoder.recognise
    monkeypatch.setattr(encoder, "recognise", lambda pieces: lengths.extend(map(len, pieces)) or recognise(pieces))
    transcript = transcribe_one(encoder, find_utterances([tmp_path / "long.wav"])[0])
    assert transcript.text == text
    assert len(lengths) >= 3 and sum(lengths) == len(waveform)  # every sample once
    for number, (begin_s, end_s) in enumerate(transcript.times):  # a word lasts 0.3 s
        assert (begin_s + end_s) / 2 == pytest.approx(0.3 * number + 0.15, abs=0.2)


@pytest.mark.parametrize("rate", [8000, 22_050, 44_100])
def test_any_rate_and_length_comes_to_an_end(encoder: SpeechEncoder, say_in_tones: Say, tmp_path: Path, rate: int):
    speech = soxr.resample(say_in_tones("blue cat"), SAMPLE_RATE, rate)
    for samples in range(len(speech) - 8, len(speech)):  # lengths that are no whole number of samples at 16 kHz
        write_waveform(tmp_path / "a.wav", speech[:samples], rate)
        transcript = transcribe_one(encoder, find_utterances([tmp_path / "a.wav"])[0])
        assert transcript.text == "blue cat"


def test_pieces_end_in_the_quietest_moment():
    waveform = np.ones(10 * SAMPLE_RATE, np.float32)
    waveform[7 * SAMPLE_RATE : int(7.2 * SAMPLE_RATE)] = 0.01
    waveform[2 * SAMPLE_RATE : 3 * SAMPLE_RATE] = 0.0  # quieter, but not in the last five seconds
    assert 7.0 < quietest(waveform) / SAMPLE_RATE < 7.2
    assert 0 < quietest(np.zeros(SAMPLE_RATE, np.float32)) <= SAMPLE_RATE


def test_utterances_of_a_data_directory(encoder: SpeechEncoder, say_in_tones: Say, tmp_path: Path):
    write_waveform(tmp_path / "long.wav", np.concatenate([say_in_tones("red dog"), say_in_tones("sun")]))
    spans = [("a", 0.0, 0.6), ("b", 0.6, 0.9)]
    write_data_dir(tmp_path, [Utterance(i, tmp_path / "long.wav", start, end, None, "s") for i, start, end in spans])
    found = list(transcribe(encoder, find_utterances([tmp_path])))
    assert [(t.id, t.text) for t in found if isinstance(t, Transcript)] == [("a", "red dog"), ("b", "sun")]
    assert isinstance(found[1], Transcript) and 0.6 <= found[1].times[0][0] < found[1].times[0][1] <= 0.9 + 1e-6
    assert json.loads(found[1].to_json())["id"] == "b"


def test_unreadable_file_stops_no_other(encoder: SpeechEncoder, say_in_tones: Say, tmp_path: Path):
    (tmp_path / "a.wav").write_bytes(b"")
    write_waveform(tmp_path / "b.wav", say_in_tones("sun"))
    first, second = transcribe(encoder, find_utterances([tmp_path]))
    assert isinstance(first, InputError) and "a.wav: is empty" in str(first)
    assert isinstance(second, Transcript) and second.text == "sun"
    with pytest.raises(InputError, match="missing.wav"):
        find_utterances([tmp_path / "missing.wav"])


def test_what_is_wrong_with_a_file_is_told(encoder: SpeechEncoder, say_in_tones: Say, tmp_path: Path):
    soundfile.write(tmp_path / "a.mp3", say_in_tones("red dog sun " * 6), SAMPLE_RATE)
    whole = (tmp_path / "a.mp3").read_bytes()
    (tmp_path / "b.mp3").write_bytes(whole[: len(whole) // 2])
    soundfile.write(tmp_path / "c.ogg", say_in_tones("sun"), SAMPLE_RATE)
    with open(tmp_path / "c.ogg", "ab") as file:
        file.write(random.Random(0).randbytes(20_000))
    sound, cut_off, joined = transcribe(encoder, find_utterances([tmp_path]))
    assert isinstance(sound, Transcript) and (sound.partial, sound.reason) == (False, "")
    assert isinstance(cut_off, Transcript) and not cut_off.partial
    assert "it was cut off" in json.loads(cut_off.to_json())["reason"]
    assert isinstance(joined, Transcript) and joined.partial and joined.text == "sun"
    assert "20,000 of " in joined.reason
