"""Filter banks, stacking, noise and normalisation."""

import numpy as np
import pytest
import torch

from clsr.audio.features import (
    FEATURE_SIZE,
    MEL_BINS,
    STACK,
    STRIDE,
    Cmvn,
    fbank,
    fbank_batch,
    frame_count,
    mix_noise,
    stack_frames,
)
from clsr.audio.waveform import SAMPLE_RATE


def tone(frequency_hz: float, samples: int) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * frequency_hz * np.arange(samples) / SAMPLE_RATE).astype(np.float32)


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).standard_normal(samples, dtype=np.float32)


def mel(frequency_hz: np.ndarray | float) -> np.ndarray:
    return 1127 * np.log(1 + np.asarray(frequency_hz) / 700)


def slow_fbank(waveform: np.ndarray) -> np.ndarray:
    """Kaldi's definition, a frame and a triangle at a time, in float64."""
    window = 0.54 - 0.46 * np.cos(2 * np.pi * np.arange(400) / 399)
    edges = np.linspace(mel(20), mel(8000), MEL_BINS + 2)
    bins = mel(np.arange(256) * SAMPLE_RATE / 512)  # the highest frequency is left out
    rows = []
    for start in range(0, len(waveform) - 400 + 1, 160):
        frame = waveform[start : start + 400].astype(np.float64) * 2**15
        frame = frame - frame.mean()
        frame = frame - 0.97 * np.concatenate([frame[:1], frame[:-1]])
        power = np.abs(np.fft.rfft(frame * window, 512))[:256] ** 2
        row = []
        for low, centre, high in zip(edges, edges[1:], edges[2:]):
            triangle = np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre)).clip(0)
            row.append(np.log(max(triangle @ power, np.finfo(np.float32).eps)))
        rows.append(row)
    return np.array(rows)


def test_fbank_is_kaldis():
    for waveform in (noise(4321), tone(700, 3000) + noise(3000)):
        assert np.abs(fbank(waveform).numpy() - slow_fbank(waveform)).max() < 1e-3


@pytest.mark.parametrize(("samples", "frames"), [(1, 1), (400, 1), (559, 1), (560, 2), (16_000, 98), (15_999, 98)])
def test_only_whole_windows_count(samples: int, frames: int):
    assert fbank(noise(samples)).shape == (frames, MEL_BINS)


def test_a_tone_peaks_in_its_own_bin():
    centres = np.linspace(mel(20), mel(8000), MEL_BINS + 2)[1:-1]
    for frequency_hz in (400.0, 1000.0, 3000.0):
        nearest = np.abs(centres - mel(frequency_hz)).argmin()
        assert (fbank(tone(frequency_hz, 4000)).argmax(1) == nearest).all()


def test_ten_times_louder_is_ln_100_more():
    difference = fbank(10 * noise(4000)) - fbank(noise(4000))
    assert torch.allclose(difference, torch.full_like(difference, np.log(100)), atol=1e-3)


def test_silence_is_finite():
    assert torch.isfinite(fbank(np.zeros(4000, np.float32))).all()


def test_stacks_are_seven_neighbours_every_six_frames():
    for count in range(1, 50):
        frames = torch.arange(count * 2.0).reshape(count, 2)  # row t is [2 t, 2 t + 1]
        stacks = stack_frames(frames)
        assert len(stacks) == -(-count // STRIDE)
        for i, stack in enumerate(stacks):
            neighbours = [min(max(6 * i + k, 0), count - 1) for k in range(-3, 4)]
            assert stack.tolist() == [x for t in neighbours for x in (2.0 * t, 2.0 * t + 1)]


def test_features_of_a_second():
    assert stack_frames(fbank(noise(16_000))).shape == (17, FEATURE_SIZE)  # 98 frames: 16 stacks of 6 and a rest
    assert FEATURE_SIZE == STACK * MEL_BINS == 560


def test_noise_adds_its_power():
    speech, hiss = torch.tensor([[np.log(8.0)]]), torch.tensor([[np.log(3.0)]])
    # 20 dB below a power of 0.25: a gain of 0.0025.
    assert mix_noise(speech, 0.25, hiss, 20.0).exp().item() == pytest.approx(8 + 3 * 0.0025)
    assert mix_noise(speech, 0.25, hiss, -20.0).exp().item() == pytest.approx(8 + 3 * 25)


def test_mixing_features_is_nearly_mixing_waveforms():
    speech, hiss = noise(160_000, 1), 10 * noise(160_000, 2)  # mean squares 0.01 and 1
    mixed = speech + hiss * np.sqrt(0.01 / 10 ** (6 / 10))
    difference = mix_noise(fbank(speech), 0.01, fbank(hiss), 6.0) - fbank(mixed)
    assert difference.mean().abs() < 0.1  # of features that noise at this level moves by
    assert (fbank(mixed) - fbank(speech)).mean() == pytest.approx(np.log(1 + 10**-0.6), abs=0.02)


def test_normalised_features_have_mean_0_and_deviation_1():
    torch.manual_seed(0)
    rows = [torch.randn(n, FEATURE_SIZE) * 3 + 5 for n in (10, 1, 30)]
    for row in rows:
        row[:, 7] = 2.0  # never varies
    cmvn = Cmvn()
    cmvn.fit(rows)
    normalised = cmvn(torch.cat(rows))
    assert normalised.mean(0).abs().max() < 1e-4
    varying = [i for i in range(FEATURE_SIZE) if i != 7]
    assert torch.allclose(normalised[:, varying].std(0, unbiased=False), torch.ones(FEATURE_SIZE - 1), atol=1e-4)
    assert torch.isfinite(normalised).all()


def test_an_unfitted_normalisation_changes_nothing():
    features = torch.randn(2, 3, FEATURE_SIZE)
    assert torch.equal(Cmvn()(features), features)


def test_batched_filter_banks_equal_those_of_each_waveform():
    waveforms = [noise(length, seed) for seed, length in enumerate((16_000, 399, 400, 5_555, 48_001))]
    padded = torch.full((5, 48_001), 0.7)
    for row, waveform in zip(padded, waveforms, strict=True):
        row[: max(400, len(waveform))] = 0.0
        row[: len(waveform)] = torch.from_numpy(waveform)
    together = fbank_batch(padded)
    for frames, waveform in zip(together, waveforms, strict=True):
        alone = fbank(waveform)
        assert len(alone) == frame_count(len(waveform))
        assert torch.allclose(frames[: len(alone)], alone, atol=2e-3)
    assert fbank_batch(torch.zeros(2, 3)).shape == (2, 1, MEL_BINS)


def test_filter_banks_of_a_batch_follow_the_definition():
    waveform = noise(4_000, 7) + tone(440.0, 4_000)
    assert fbank_batch(torch.from_numpy(waveform)[None])[0].numpy() == pytest.approx(slow_fbank(waveform), abs=2e-3)
