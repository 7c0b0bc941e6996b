"""Waveform to network input: Kaldi filter banks, stacked frames (LFR), mean and variance normalisation (CMVN)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn

from clsr.audio.waveform import SAMPLE_RATE
from clsr.padding import pad

MEL_BINS = 80
HOP_S = 0.010  # one filter-bank frame
WINDOW_MS = 25.0
FFT_SIZE = 512  # the next power of two
LOWEST_HZ = 20.0  # of the mel bins; the highest is half the sample rate
PREEMPHASIS = 0.97
STACK = 7  # LFR: frames stacked into one ...
STRIDE = 6  # ... and the step between stacks, so that a stacked frame stands for 60 ms
FEATURE_SIZE = STACK * MEL_BINS
FRAME_S = STRIDE * HOP_S


def fbank(waveform: np.ndarray) -> Tensor:
    """Return log mel filter banks ``(T, 80)`` of a 16 kHz waveform ``(N,)``, as Kaldi and FunASR compute them.

    Hamming windows of 25 ms every 10 ms, full windows only, samples on the 16-bit scale, no dither: the same
    waveform always gives the same features. A waveform shorter than one window is padded with silence to one.
    """
    from torchaudio.compliance import kaldi

    samples = torch.from_numpy(np.ascontiguousarray(waveform, dtype=np.float32)) * 2**15
    window = int(WINDOW_MS * SAMPLE_RATE / 1000)
    if len(samples) < window:
        samples = nn.functional.pad(samples, (0, window - len(samples)))
    return kaldi.fbank(
        samples[None],
        num_mel_bins=MEL_BINS,
        frame_length=WINDOW_MS,
        frame_shift=HOP_S * 1000,
        sample_frequency=SAMPLE_RATE,
        window_type="hamming",
        dither=0.0,
        energy_floor=0.0,
    )


def frame_count(samples: int) -> int:
    """Return the number of filter-bank frames of so many samples at 16 kHz.

    >>> frame_count(16000), frame_count(3)
    (98, 1)
    """
    window, hop = int(WINDOW_MS * SAMPLE_RATE / 1000), int(HOP_S * SAMPLE_RATE)
    return 1 + max(0, samples - window) // hop


def fbank_batch(waveforms: Tensor) -> Tensor:
    """Return the filter banks ``(B, T, 80)`` of ``fbank`` for 16 kHz waveforms ``(B, N)`` at once, on their device.

    Frames that lie within a waveform do not depend on what it is padded with.
    """
    window, hop = int(WINDOW_MS * SAMPLE_RATE / 1000), int(HOP_S * SAMPLE_RATE)
    samples = nn.functional.pad(waveforms * 2**15, (0, max(0, window - waveforms.shape[1])))
    frames = samples.unfold(1, window, hop)  # (B, T, 400)
    frames = frames - frames.mean(2, keepdim=True)
    before = torch.cat([frames[..., :1], frames[..., :-1]], 2)
    shape = torch.hamming_window(window, periodic=False, device=frames.device)
    spectrum = torch.fft.rfft((frames - PREEMPHASIS * before) * shape, n=FFT_SIZE).abs().square()
    return (spectrum @ _mel_banks().to(frames.device)).clamp(min=torch.finfo(torch.float32).eps).log()


@cache
def _mel_banks() -> Tensor:
    """Weights ``(257, 80)`` of a power spectrum's frequencies in the mel bins."""
    from torchaudio.compliance import kaldi

    banks, _ = kaldi.get_mel_banks(MEL_BINS, FFT_SIZE, SAMPLE_RATE, LOWEST_HZ, 0.0, 100.0, -500.0, 1.0)
    return nn.functional.pad(banks, (0, 1)).T.contiguous()


def stack_frames(frames: Tensor) -> Tensor:
    """Stack 7 neighbouring frames every 6 frames: ``(T, 80)`` to ``(ceil(T / 6), 560)``.

    The low-frame-rate input of Paraformer (arXiv:2206.08317). The first frame is repeated three times on the
    left and the last one as often as needed on the right, so every stack is centred on a real frame.
    """
    count = -(-len(frames) // STRIDE)
    left = (STACK - 1) // 2
    right = max(0, (count - 1) * STRIDE + STACK - left - len(frames))
    padded = torch.cat([frames[:1].expand(left, -1), frames, frames[-1:].expand(right, -1)])
    stacks = padded.unfold(0, STACK, STRIDE)[:count]  # (T', 80, 7)
    return stacks.transpose(1, 2).reshape(count, -1)


def mix_noise(frames: Tensor, power: float, noise: Tensor, snr_db: float) -> Tensor:
    """Add noise to log filter banks, as if it had been added to the waveform at this signal-to-noise ratio.

    Powers add where speech and noise are independent, so ``log(exp(speech) + gain * exp(noise))`` stands for
    the features of the sum: the filter banks of clean speech can be kept and noise drawn anew each time.

    Args:
        frames: log filter banks of speech, ``(T, 80)``.
        power: mean square of the speech waveform, in -1..1 samples.
        noise: log filter banks of noise whose waveform has mean square 1, ``(T, 80)``.
        snr_db: ratio of the two powers, in decibels.
    """
    gain_db = 10 * np.log10(max(power, 1e-12)) - snr_db
    return torch.logaddexp(frames, noise + gain_db * np.log(10) / 10)


class Cmvn(nn.Module):
    """Global mean and variance normalisation of stacked features, with its statistics among the weights.

    ``shift`` and ``scale`` are ``(F,)``: minus the mean, and one over the standard deviation.

    Args:
        size: size of a feature, F.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, size: int = FEATURE_SIZE) -> None:
        super().__init__()
        self.register_buffer("shift", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))

    def fit(self, features: Iterable[Tensor]) -> None:
        """Take the statistics of features ``(T, F)`` of a training corpus."""
        count, total, squares = 0, torch.zeros_like(self.shift).double(), torch.zeros_like(self.shift).double()
        for rows in features:
            count += len(rows)
            total += rows.double().sum(0)
            squares += rows.double().square().sum(0)
        mean = total / count
        deviation = (squares / count - mean.square()).clamp(min=1e-10).sqrt()
        self.shift.copy_(-mean)
        self.scale.copy_(1 / deviation)

    def forward(self, features: Tensor) -> Tensor:
        """Normalise features ``(..., F)``."""
        return (features + self.shift) * self.scale


class FbankFrontend(nn.Module):
    """Stacked log filter banks, Paraformer's own; it has no weights."""

    size = FEATURE_SIZE
    place: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("place", torch.empty(0), persistent=False)  # where the model is

    def extract(self, waveforms: Sequence[np.ndarray]) -> list[Tensor]:
        """Return stacked features ``(T_i, 560)``."""
        return stacked_features(waveforms, self.place.device)

    def forward(self, rows: Tensor, lengths: Tensor) -> Tensor:
        """Return the rows as they are."""
        return rows


def stacked_features(waveforms: Sequence[np.ndarray], device: torch.device) -> list[Tensor]:
    """Return the features ``(T_i, 560)`` of waveforms: one by one on a processor, at once on another device."""
    if device.type == "cpu":
        return [stack_frames(fbank(waveform)) for waveform in waveforms]
    return stacked_at_once(waveforms, device)


def stacked_at_once(waveforms: Sequence[np.ndarray], device: torch.device) -> list[Tensor]:
    """Return the features ``(T_i, 560)`` of waveforms, computed on a device in one batch."""
    if not waveforms:
        return []
    samples, lengths = pad([torch.from_numpy(waveform) for waveform in waveforms])
    frames = fbank_batch(samples.to(device, non_blocking=True))
    return [stack_frames(rows[: frame_count(n)]) for rows, n in zip(frames, lengths.tolist(), strict=True)]
