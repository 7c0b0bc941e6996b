"""Clips: spans of files, samples at other rates, and parts as they are spelled."""

from pathlib import Path

import numpy as np
import pytest

from clsr.audio.clip import Clip, parse_part, read_clip
from clsr.audio.waveform import SAMPLE_RATE, read_waveform, write_waveform
from clsr.errors import InputError


def sine(seconds: float, rate: int = SAMPLE_RATE) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def test_span_of_a_file_is_read(tmp_path: Path) -> None:
    write_waveform(tmp_path / "a.wav", sine(2))
    whole = read_waveform(tmp_path / "a.wav")
    assert np.array_equal(read_clip(Clip(tmp_path / "a.wav", 0.5, 1.25)), whole[8_000:20_000])
    assert np.array_equal(read_clip(Clip(str(tmp_path / "a.wav"), 1.5)), whole[24_000:])
    assert np.array_equal(read_clip(Clip(tmp_path / "a.wav")), whole)


def test_samples_of_another_rate_are_resampled() -> None:
    read = read_clip(Clip(sine(1, 44_100), rate=44_100))
    assert len(read) == SAMPLE_RATE and np.abs(read - sine(1))[200:-200].max() < 1e-3
    span = read_clip(Clip(sine(2, 8_000), 0.5, 1.5, rate=8_000))
    assert len(span) == SAMPLE_RATE
    assert np.array_equal(read_clip(Clip(sine(1), 0.25)), sine(1)[4_000:])


def test_no_more_than_the_limit_is_read() -> None:
    assert len(read_clip(Clip(sine(5)), longest_s=1)) == 2 * SAMPLE_RATE  # a second more says that it is too long


@pytest.mark.parametrize("span", [(2.0, 1.0), (1.0, 1.0), (-1.0, None), (float("inf"), None), (float("nan"), None)])
def test_empty_span_is_refused(span: tuple[float, float | None]) -> None:
    with pytest.raises(InputError, match=r"a\.wav.*: the span is empty; give 0 <= start < end"):
        Clip("a.wav", *span)


def test_rate_that_is_none_is_refused() -> None:
    with pytest.raises(InputError, match="the samples: a rate of 0 Hz"):
        Clip(sine(1), rate=0)


@pytest.mark.parametrize(
    ("spelled", "part"),
    [
        ("what does", "what does"),
        ("", ""),
        ("a.wav", Path("in/a.wav")),
        ("a b.FLAC", Path("in/a b.FLAC")),
        ("/b/a.mp3", Path("/b/a.mp3")),
        ("a.wav:1.5-20", Clip(Path("in/a.wav"), 1.5, 20.0)),
        ("a.wav:12-", Clip(Path("in/a.wav"), 12.0)),
        ("a:b.wav:0-3", Clip(Path("in/a:b.wav"), 0.0, 3.0)),
        ("who opened a.wav?", "who opened a.wav?"),
        ("read John 3:16-18", "read John 3:16-18"),
        ("a.txt", "a.txt"),
        ("a.wav:x-y", "a.wav:x-y"),
    ],
)
def test_suffix_says_what_is_audio(spelled: str, part: object) -> None:
    assert parse_part(spelled, Path("in")) == part


def test_spelling_is_read_back() -> None:
    for spelled in ("in/a.wav:1.5-20", "in/a.wav:12-"):
        assert str(parse_part(spelled)) == spelled
    with pytest.raises(InputError, match=r"a\.wav:5-2: the span is empty"):
        parse_part("a.wav:5-2")
