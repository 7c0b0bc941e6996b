"""Where nobody speaks in a waveform; word times without it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from clsr.audio.waveform import SAMPLE_RATE
from clsr.vocabulary import Word

LEAST_PAUSE_S = 0.2  # the closure of a plosive is shorter
FRAME_S = 0.01
QUIETER_DB = 35.0  # than loud speech: the tail of a word still counts as speech
LEAST_CONTRAST_DB = 20.0  # between a room and speech in it; where all is alike, nobody is silent
LOUD, QUIET = 95, 5  # percentiles of the frames' levels that stand for loud speech and for the room
FLOOR = 1e-10  # power of digital silence, instead of 0
SEARCH_S = 5.0  # a piece of a recording ends in the quietest moment of its last so many seconds
MOMENT_S = 0.1

Span = tuple[float, float]  # start and end in seconds


def find_pauses(waveform: np.ndarray) -> list[Span]:
    """Start and end of each span of at least 0.2 s in which nobody speaks, in seconds.

    A frame of 10 ms is quiet when its level lies 35 dB below loud speech (the 95th percentile of all frames), or, where
    the room (5th percentile) is at least 20 dB below loud speech, in the lowest quarter between the two.

    >>> second = np.ones(16000, np.float32)
    >>> find_pauses(np.concatenate([second, 0 * second, second]))
    [(1.0, 2.0)]

    Args:
        waveform: 16 kHz, ``(N,)``.
    """
    hop = round(FRAME_S * SAMPLE_RATE)
    frames = waveform[: len(waveform) // hop * hop].reshape(-1, hop)
    if not len(frames):
        return []
    levels_db = 10 * np.log10(np.square(frames).mean(1, dtype=np.float64) + FLOOR)
    room_db, loud_db = np.percentile(levels_db, [QUIET, LOUD])
    contrast_db = loud_db - room_db
    in_room_db = room_db + contrast_db / 4 if contrast_db >= LEAST_CONTRAST_DB else -np.inf
    quiet = levels_db < max(loud_db - QUIETER_DB, in_room_db)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], quiet.astype(int), [0]])))
    spans = (edges.reshape(-1, 2) * FRAME_S).tolist()
    return [(start_s, end_s) for start_s, end_s in spans if end_s - start_s >= LEAST_PAUSE_S - FRAME_S / 2]


def without_pauses(words: Iterable[Word], pauses: Sequence[Span]) -> list[Word]:
    """Words with times that leave out the pauses.

    A recogniser of the CIF kind lets each word last until the next begins, pauses included. A word that a pause cuts
    keeps the longer of its parts; one that lies inside a pause as a whole becomes a moment at the nearer end of it.

    >>> without_pauses([Word("so", 0.0, 1.3), Word("far", 1.3, 2.5)], [(1.0, 2.0)])
    [Word(text='so', start_s=0.0, end_s=1.0), Word(text='far', start_s=2.0, end_s=2.5)]
    """
    return [_shorten(word, pauses) for word in words]


def _shorten(word: Word, pauses: Sequence[Span]) -> Word:
    inside = [(start_s, end_s) for start_s, end_s in pauses if start_s < word.end_s and word.start_s < end_s]
    if not inside:
        return word
    starts = [word.start_s, *(end_s for _, end_s in inside)]
    ends = [*(start_s for start_s, _ in inside), word.end_s]
    start_s, end_s = max(zip(starts, ends, strict=True), key=lambda part: part[1] - part[0])
    if end_s > start_s:
        return Word(word.text, start_s, end_s)
    middle_s = (word.start_s + word.end_s) / 2
    edge_s = min(inside[0], key=lambda edge_s: abs(edge_s - middle_s))
    return Word(word.text, edge_s, edge_s)


def quietest(waveform: np.ndarray) -> int:
    """Return the sample, among the last ``SEARCH_S`` seconds, in the middle of the quietest tenth of a second."""
    moment = int(MOMENT_S * SAMPLE_RATE)
    start = max(0, len(waveform) - int(SEARCH_S * SAMPLE_RATE))
    energy = np.concatenate([[0.0], np.cumsum(waveform[start:].astype(np.float64) ** 2)])
    return start + int(np.argmin(energy[moment:] - energy[:-moment])) + moment // 2


def pieces(waveform: np.ndarray, longest_s: float) -> list[tuple[int, np.ndarray]]:
    """Cut a waveform into pieces of at most ``longest_s``, each but the last ending in a quiet moment.

    Returns:
        The first sample and the waveform of each piece, in order; none of an empty waveform.
    """
    found = []
    position = 0
    while position < len(waveform):
        piece = waveform[position : position + int(longest_s * SAMPLE_RATE)]
        if position + len(piece) < len(waveform):
            piece = piece[: quietest(piece)]
        found.append((position, piece))
        position += len(piece)
    return found
