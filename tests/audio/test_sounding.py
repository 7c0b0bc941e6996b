"""Where nobody can be speaking: silence and steady sound of every colour, and never speech."""

from pathlib import Path

import numpy as np
import pytest

from clsr.audio.sounding import leave_out_dead
from clsr.audio.waveform import SAMPLE_RATE, add_noise, read_waveform

DRAW = np.random.default_rng(0)


def coloured(power: float, seconds: float) -> np.ndarray:
    """Noise whose amplitude falls with this power of the frequency."""
    white = np.fft.rfft(DRAW.standard_normal(round(seconds * SAMPLE_RATE)))
    noise = np.fft.irfft(white / np.arange(1, len(white) + 1) ** power)
    return (0.1 * noise / np.abs(noise).max()).astype(np.float32)


def hum(seconds: float) -> np.ndarray:
    time_s = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return sum(0.1 / n * np.sin(2 * np.pi * 50 * n * time_s) for n in (1, 2, 3)).astype(np.float32)


def syllables(seconds: float) -> np.ndarray:
    """Beats of a tone four times a second, as loud and as long as syllables."""
    time_s = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return (0.3 * np.sin(2 * np.pi * 700 * time_s) * (time_s % 0.25 < 0.15)).astype(np.float32)


@pytest.mark.parametrize(
    "waveform",
    [
        np.zeros(5 * SAMPLE_RATE),
        np.zeros(100),
        np.full(5 * SAMPLE_RATE, 0.3),  # an offset
        DRAW.integers(-2, 3, 5 * SAMPLE_RATE) / 32_768,  # dither
        coloured(0, 1.5),
        coloured(0, 12),
        coloured(0.5, 12),
        coloured(1, 12),
        hum(6),
        hum(6) + coloured(0, 6),
    ],
)
def test_silence_and_steady_sound_are_dead(waveform: np.ndarray) -> None:
    assert not len(leave_out_dead(waveform.astype(np.float32)).waveform)


def test_dead_parts_are_left_out_with_margins() -> None:
    waveform = np.concatenate([syllables(2.0), np.zeros(12 * SAMPLE_RATE, np.float32), syllables(3.0)])
    left = leave_out_dead(waveform)
    assert left.kept == [(0.0, pytest.approx(2.2, abs=0.11)), (pytest.approx(13.8, abs=0.01), 17.0)]
    assert len(left.waveform) == pytest.approx(5.4 * SAMPLE_RATE, abs=0.11 * SAMPLE_RATE)
    assert left.in_whole(0.5, 1.0) == (0.5, 1.0)
    first_s = left.kept[0][1]
    assert left.in_whole(first_s + 0.5, first_s + 1.0) == (pytest.approx(14.3), pytest.approx(14.8))
    assert left.in_whole(first_s - 0.5, first_s + 1.0)[1] == first_s  # no word reaches over the silence


def test_short_pauses_stay() -> None:
    waveform = np.concatenate([syllables(2.0), np.zeros(SAMPLE_RATE * 8 // 10, np.float32), syllables(2.0)])
    assert leave_out_dead(waveform).waveform is waveform


def test_speech_in_noise_is_kept(shared_data: Path) -> None:
    for path in sorted((shared_data / "speech" / "austen_en" / "audio").glob("*.wav"))[:3]:
        voice = read_waveform(path)[: 20 * SAMPLE_RATE]
        assert leave_out_dead(voice).waveform is voice or len(leave_out_dead(voice).waveform) > 0.9 * len(voice)
        for snr_db in (20, 5, 0):
            noisy = add_noise(voice, DRAW.standard_normal(len(voice)).astype(np.float32), snr_db)
            assert len(leave_out_dead(noisy).waveform) > 0.9 * len(voice)
