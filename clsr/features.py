"""Waveform to network input: Kaldi filter banks, stacked frames (LFR), mean and variance normalisation (CMVN)."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn

from clsr.audio import SAMPLE_RATE

MEL_BINS = 80
HOP_S = 0.010  # one filter-bank frame
WINDOW_MS = 25.0
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

    ``shift`` and ``scale`` are ``(560,)``: minus the mean, and one over the standard deviation.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("shift", torch.zeros(FEATURE_SIZE))
        self.register_buffer("scale", torch.ones(FEATURE_SIZE))

    def fit(self, features: Iterable[Tensor]) -> None:
        """Take the statistics of stacked features ``(T, 560)`` of a training corpus."""
        count, total, squares = 0, torch.zeros(FEATURE_SIZE).double(), torch.zeros(FEATURE_SIZE).double()
        for rows in features:
            count += len(rows)
            total += rows.double().sum(0)
            squares += rows.double().square().sum(0)
        mean = total / count
        deviation = (squares / count - mean.square()).clamp(min=1e-10).sqrt()
        self.shift.copy_(-mean)
        self.scale.copy_(1 / deviation)

    def forward(self, features: Tensor) -> Tensor:
        """Normalise features ``(..., 560)``."""
        return (features + self.shift) * self.scale
