"""Whisper's features: log-mel frames every 10 ms."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from clsr.audio.waveform import SAMPLE_RATE

HOP_SAMPLES = 160
WINDOW_SAMPLES = 400
FLOOR = 1e-10  # power of digital silence, instead of 0
RANGE = 8.0  # powers of ten between the loudest and the quietest of an utterance


def log_mel(waveforms: Tensor, bins: int = 80) -> Tensor:
    """Return the log-mel features ``(B, F, N / 160)`` of 16 kHz waveforms ``(B, N)``, as Whisper computes them.

    Let ``p`` be the power of a Hann window of 25 ms in a mel bin (Slaney's), and ``m`` the greatest ``log10 p`` of
    the waveform. A feature is ``(max(log10 p, m - 8) + 4) / 4`` (arXiv:2212.04356).

    Args:
        waveforms: at least 201 samples each, with the silence that they are padded with.
        bins: mel bins of the model, F.
    """
    window = torch.hann_window(WINDOW_SAMPLES, device=waveforms.device)
    spectrum = torch.stft(waveforms, WINDOW_SAMPLES, HOP_SAMPLES, window=window, return_complex=True)[..., :-1]
    powers = spectrum.real.square() + spectrum.imag.square()  # not abs(), which takes the root of it
    levels = (_mel_filters(bins).to(waveforms.device) @ powers).clamp(min=FLOOR).log10()
    return (levels.maximum(levels.amax((1, 2), keepdim=True) - RANGE) + 4) / 4


@cache
def _mel_filters(bins: int) -> Tensor:
    """Weights ``(F, 201)`` of a power spectrum's frequencies in the mel bins."""
    from torchaudio.functional import melscale_fbanks

    frequencies = WINDOW_SAMPLES // 2 + 1
    return melscale_fbanks(
        frequencies, 0.0, SAMPLE_RATE / 2, bins, SAMPLE_RATE, norm="slaney", mel_scale="slaney"
    ).T.contiguous()
