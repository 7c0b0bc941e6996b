"""Recordings in the background of speech."""

from pathlib import Path

import numpy as np
import pytest

from clsr.audio.waveform import SAMPLE_RATE, read_waveform, write_waveform
from clsr.corpora.background import add_background, mix_background, read_background
from clsr.data.kaldi import Utterance, read_data_dir
from clsr.errors import InputError


def test_long_recordings_are_taken_in_minutes(tmp_path: Path) -> None:
    write_waveform(tmp_path / "long.wav", np.full(130 * SAMPLE_RATE, 0.1, np.float32))
    write_waveform(tmp_path / "short.wav", np.full(SAMPLE_RATE, 0.1, np.float32))
    (tmp_path / "notes.txt").write_text("no audio")
    spans = [(piece.recording.name, piece.start_s, piece.end_s) for piece in read_background(tmp_path)]
    assert spans == [("long.wav", 0, 60), ("long.wav", 60, 120), ("long.wav", 120, 130), ("short.wav", 0, 1)]
    with pytest.raises(InputError, match="none: no such file or folder"):
        read_background(tmp_path / "none")


def test_a_data_directory_gives_its_utterances(tone_set: Path) -> None:
    assert read_background(tone_set / "passages") == read_data_dir(tone_set / "passages")


def test_a_background_has_rows_of_equal_power(tone_set: Path) -> None:
    (low, *_) = read_background(tone_set / "passages")
    tone = read_waveform(low.recording)  # half a second
    twice = np.concatenate([tone, tone])
    row = twice / np.sqrt(np.mean(twice**2))
    draw = np.random.default_rng(0)
    assert np.allclose(mix_background([low], SAMPLE_RATE, 1, draw), row, atol=1e-6)
    assert np.allclose(mix_background([low], SAMPLE_RATE, 3, draw), 3 * row, atol=1e-5)


def test_the_ratio_of_the_background_is_exact(tone_set: Path) -> None:
    tones = read_background(tone_set / "passages")
    speech = 0.05 * np.random.default_rng(1).standard_normal(8000).astype(np.float32)
    added = add_background(speech, tones, 1, 10.0, "a") - speech
    assert np.mean(speech**2) / np.mean(added**2) == pytest.approx(10, rel=1e-3)
    louder = add_background(speech, tones, 1, 0.0, "a") - speech
    assert np.allclose(louder, np.sqrt(10) * added, atol=1e-5)  # the same recordings
    assert np.abs(add_background(speech, tones, 1, -60.0, "a")).max() == pytest.approx(1)  # not clipped
    assert not add_background(np.zeros(100, np.float32), tones, 1, 10.0, "a").any()


def test_a_silent_background_is_refused(tmp_path: Path) -> None:
    write_waveform(tmp_path / "silent.wav", np.zeros(SAMPLE_RATE, np.float32))
    silent = Utterance("silent", tmp_path / "silent.wav", 0.0, 1.0, None, "silent")
    with pytest.raises(InputError, match="recordings there are silent; take those away"):
        add_background(np.ones(10, np.float32), [silent], 2, 10.0, "a")
