"""Channels of opposite phase do not cancel the speech in them."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from clsr.audio.waveform import SAMPLE_RATE, Remarks, read_waveform, stream_progress, stream_waveform


def speech(seconds: float, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(round(seconds * SAMPLE_RATE))).astype(np.float32)


def stereo(path: Path, *channels: np.ndarray) -> Path:
    soundfile.write(path, np.stack(channels, axis=1), SAMPLE_RATE, subtype="FLOAT")
    return path


@pytest.mark.parametrize("gain", [1.0, 0.8, 0.5])
def test_opposite_phase_uses_the_louder_channel(tmp_path: Path, gain: float) -> None:
    voice = speech(3.0)
    path = stereo(tmp_path / "a.wav", -gain * voice, voice)
    remarks = Remarks()
    mono = np.concatenate(list(stream_progress(path, remarks=remarks)))
    if gain == 0.5:  # half of the voice is left in the mean, which is not far quieter
        np.testing.assert_allclose(mono, voice / 4, atol=1e-6)
        assert remarks.notes == []
        return
    loud = -voice if gain == 1.0 else voice  # of equal ones the first
    np.testing.assert_allclose(mono, loud, atol=1e-6)
    assert remarks.notes == ["its channels cancel each other out in 3 s: the louder one is used there"]


def test_noise_of_its_own_hides_no_opposite_phase(tmp_path: Path) -> None:
    voice = speech(3.0)
    path = stereo(tmp_path / "a.wav", voice + 0.1 * speech(3.0, 1), -voice + 0.1 * speech(3.0, 2))
    assert np.std(read_waveform(path)) == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize(
    "others", [(speech(3.0, 1),), (np.zeros(48_000, np.float32),), (speech(3.0, 1), speech(3.0, 2))]
)
def test_unrelated_channels_are_averaged(tmp_path: Path, others: tuple[np.ndarray, ...]) -> None:
    path = stereo(tmp_path / "a.wav", speech(3.0), *others)
    np.testing.assert_allclose(read_waveform(path), np.mean([speech(3.0), *others], axis=0), atol=1e-6)


def test_spans_are_slices_where_phases_change(tmp_path: Path) -> None:
    voice = speech(6.5)
    other = voice.copy()
    other[round(1.3 * SAMPLE_RATE) : round(4.2 * SAMPLE_RATE)] *= -1
    path = stereo(tmp_path / "a.wav", voice, other)
    whole = read_waveform(path)
    for start_s, end_s in ((0.0, 1.5), (1.25, 2.5), (3.9, 4.5), (4.1, None), (6.2, 9.0)):
        span = read_waveform(path, start_s, end_s)
        assert np.array_equal(span, whole[round(start_s * SAMPLE_RATE) :][: len(span)])
        assert np.array_equal(np.concatenate(list(stream_waveform(path, start_s, end_s))), span)
        assert len(span) == round(((end_s or 6.5) if (end_s or 0) < 6.5 else 6.5) * SAMPLE_RATE) - round(
            start_s * SAMPLE_RATE
        )
