"""Speech in an environment: recordings in its background, one or several at once, at a signal-to-noise ratio."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from clsr.audio.files import find_recordings
from clsr.audio.waveform import add_noise, duration_s, read_waveform
from clsr.data.kaldi import Utterance, read_data_dir
from clsr.errors import InputError

PIECE_S = 60.0  # of a long recording, drawn as a whole


def read_background(folder: Path) -> list[Utterance]:
    """The recordings of a Kaldi data directory, or the audio files below a folder in pieces of at most a minute.

    Raises:
        InputError: there is no recording, or a file is at fault.
    """
    if (folder / "wav.scp").is_file():
        return read_data_dir(folder)
    pieces = []
    for file in find_recordings(folder):
        length_s = duration_s(file)
        for number in range(math.ceil(length_s / PIECE_S)):
            end_s = min((number + 1) * PIECE_S, length_s)
            pieces.append(Utterance(f"{file.name}-{number}", file, number * PIECE_S, end_s, None, file.name))
    return pieces


def mix_background(recordings: Sequence[Utterance], samples: int, at_once: int, draw: np.random.Generator
                   ) -> np.ndarray:  # fmt: skip
    """So many samples of several recordings at once ``(N,)``, each row of recordings with the same power.

    Args:
        recordings: drawn from, again and again until they are long enough.
        samples: N, above 0.
        at_once: rows.
        draw: decides which.
    """
    mixture = np.zeros(samples, np.float32)
    for _ in range(at_once):
        row = np.zeros(0, np.float32)
        while len(row) < samples:
            drawn = recordings[int(draw.integers(len(recordings)))]
            row = np.concatenate([row, read_waveform(drawn.recording, drawn.start_s, drawn.end_s)])
        row = row[:samples]
        mixture += row / np.sqrt(np.mean(np.square(row))).clip(1e-9)
    return mixture


def add_background(
    waveform: np.ndarray, recordings: Sequence[Utterance], at_once: int, snr_db: float, name: str
) -> np.ndarray:
    """Mix recordings into a waveform ``(N,)``; where the mixture would clip, it is made quieter. Silence stays silent.

    Args:
        waveform: speech at 16 kHz.
        recordings: of the background.
        at_once: how many of them sound at the same time.
        snr_db: ratio of speech to background.
        name: decides which recordings are taken, so that another ratio has the same ones.

    Raises:
        InputError: the recordings that were drawn are silent, or one cannot be read.
    """
    if not np.any(waveform):
        return waveform
    draw = np.random.default_rng(list(hashlib.sha256(name.encode()).digest()))
    background = mix_background(recordings, len(waveform), at_once, draw)
    if not np.any(background):
        raise InputError(f"{recordings[0].recording.parent}: recordings there are silent; take those away")
    mixed = add_noise(waveform, background, snr_db)
    return mixed / max(1.0, float(np.abs(mixed).max()))
