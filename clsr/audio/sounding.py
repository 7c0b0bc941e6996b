"""A waveform without the parts in which nobody can be speaking: digital silence, and sound that does not change."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from clsr.audio.pauses import Span
from clsr.audio.waveform import SAMPLE_RATE

SILENT = 1e-4  # greatest deviation of a sample from the mean: digital silence, dither and a constant offset included
FRAME_SAMPLES = SAMPLE_RATE // 10  # of 0.1 s: half a syllable
LEAST_STEADY_FRAMES = 10  # a vowel is shorter
STEADY_FRAMES = 20  # in which no band may change, where there are so many
LEAST_DEAD_FRAMES = 10  # left out at once: what is shorter is a pause, and speech needs its pauses
MARGIN_FRAMES = 2  # left on either side
BANDS = 16  # of equal width on the scale of mel, from 100 Hz to 8 kHz
STEADY_DB = 3.0  # most deviation of the levels of a band of noise: white noise has 1.4 in the narrowest band
FAINT_DB = 60.0  # below the loudest band a band tells nothing
FLOOR = 1e-12


class Sounding(NamedTuple):
    """What is left of a waveform, and where it was.

    Attributes:
        waveform: what is left, ``(M,)``; empty where nobody can be speaking at all.
        kept: start and end of each part of it in the waveform that it was taken from, in seconds.
    """

    waveform: np.ndarray
    kept: list[Span]

    def in_whole(self, start_s: float, end_s: float) -> Span:
        """A span of what is left, in seconds of the whole; it ends where the part ends in which it starts."""
        before_s = 0.0
        for i, (kept_start_s, kept_end_s) in enumerate(self.kept):
            length_s = kept_end_s - kept_start_s
            if start_s < before_s + length_s or i == len(self.kept) - 1:
                start_s = min(kept_start_s + start_s - before_s, kept_end_s)
                return start_s, max(start_s, min(kept_start_s + end_s - before_s, kept_end_s))
            before_s += length_s
        return start_s, end_s


def leave_out_dead(waveform: np.ndarray) -> Sounding:
    """A waveform without digital silence and steady sound, such as noise and hum, that last a second or longer.

    Sound is steady where, over two seconds, its level hardly changes in any of 16 bands: speech changes in some band
    with each syllable, in noise of its own loudness too. Recognisers make words of such parts, which nobody has said.
    What is left is the very waveform where nothing is to be left out.

    Args:
        waveform: 16 kHz, ``(N,)``.
    """
    count = len(waveform) // FRAME_SAMPLES
    frames = waveform[: count * FRAME_SAMPLES].reshape(count, FRAME_SAMPLES)
    dead = _silent(frames) | _steady(frames)
    if not len(waveform) or np.ptp(waveform) <= 2 * SILENT:
        return Sounding(waveform[:0], [])
    spans = [(a, b) for a, b in _runs(dead) if b - a >= LEAST_DEAD_FRAMES]
    if spans and (spans[0][0], spans[-1][1]) == (0, count) and len(spans) == 1:
        return Sounding(waveform[:0], [])
    kept, position = [], 0
    for first, end in spans:
        stop = (first + MARGIN_FRAMES) * FRAME_SAMPLES if first else 0
        if stop > position:
            kept.append((position, stop))
        position = (end - MARGIN_FRAMES) * FRAME_SAMPLES if end < count else len(waveform)
    if position < len(waveform):
        kept.append((position, len(waveform)))
    if len(kept) == 1 and kept[0] == (0, len(waveform)):
        return Sounding(waveform, [(0.0, len(waveform) / SAMPLE_RATE)])
    left = np.concatenate([waveform[a:b] for a, b in kept]) if kept else waveform[:0]
    return Sounding(left, [(a / SAMPLE_RATE, b / SAMPLE_RATE) for a, b in kept])


def _silent(frames: np.ndarray) -> np.ndarray:
    """Which frames ``(F, n)`` are digital silence."""
    return np.ptp(frames, axis=1) <= 2 * SILENT


def _steady(frames: np.ndarray) -> np.ndarray:
    """Which frames ``(F, n)`` lie in two seconds of steady sound."""
    count = len(frames)
    if count < LEAST_STEADY_FRAMES:
        return np.zeros(count, bool)
    levels = _levels_db(frames)
    width = min(count, STEADY_FRAMES)
    seen = np.lib.stride_tricks.sliding_window_view(levels, width, axis=0)  # (F - width + 1, BANDS, width)
    means = seen.mean(axis=2)
    changes = seen.std(axis=2) > STEADY_DB
    tells = means > means.max(axis=1, keepdims=True) - FAINT_DB
    steady = ~(changes & tells).any(axis=1)
    dead = np.zeros(count, bool)
    for first in np.flatnonzero(steady):
        dead[first : first + width] = True
    return dead


def _levels_db(frames: np.ndarray) -> np.ndarray:
    """Level of each band in each frame: ``(F, BANDS)``."""
    smooth = np.hanning(frames.shape[1]) * (frames - frames.mean(axis=1, keepdims=True))  # loud bands stay in place
    powers = np.square(np.abs(np.fft.rfft(smooth, axis=1)))
    edges = 700 * (np.expm1(np.linspace(_mel(100), _mel(SAMPLE_RATE / 2), BANDS + 1)))
    bins = np.round(edges * frames.shape[1] / SAMPLE_RATE).astype(int)
    return 10 * np.log10(np.add.reduceat(powers[:, : bins[-1]], bins[:-1], axis=1) + FLOOR)


def _mel(frequency_hz: float) -> float:
    return float(np.log1p(frequency_hz / 700))


def _runs(flags: np.ndarray) -> list[tuple[int, int]]:
    """First and end of each run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]
