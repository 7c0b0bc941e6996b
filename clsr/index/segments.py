"""A window's words -> its segments (speech between two pauses) and their vectors, one byte a component. Internal.

Recognisers write no full stops: a segment (inter-pausal unit) stands for a sentence. An index keeps the vectors of
segments beside those of windows, since to encode them takes longer than all the rest of a search.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from clsr.audio.pauses import LEAST_PAUSE_S
from clsr.vocabulary import Word, join_words

if TYPE_CHECKING:
    from clsr.models.text_encoder import TextEncoder

LONGEST_PAUSE_S = 3.0  # that a segment may reach over; indices of before have segments over any pause
LEAST_S = 2.0  # shortest segment: a shorter one is a phrase, too little to answer a question
ROUNDING_S = 1e-3  # times are sums and differences of floats: a pause of 0.1999999 s is one of 0.2 s
LARGEST = 127  # of a signed byte


def split(words: Sequence[Word], longest_pause_s: float = LONGEST_PAUSE_S) -> list[list[Word]]:
    """Cut words at their pauses, of 0.2 s and more, into segments of 2 s and more.

    A segment that is shorter is joined to its neighbour across the shorter pause (of equal ones the first), the
    shortest segment first, but across no pause longer than ``longest_pause_s``: it then stays short. Words without
    pauses are one segment; there is always one.

    >>> [[word.text for word in segment] for segment in split([
    ...     Word("so", 0.0, 0.5), Word("far", 0.7, 2.5), Word("and", 3.0, 4.0), Word("on", 4.0, 5.5)])]
    [['so', 'far'], ['and', 'on']]
    """
    segments: list[list[Word]] = [list(words[:1])]
    for before, word in pairwise(words):
        if word.start_s - before.end_s >= LEAST_PAUSE_S - ROUNDING_S:
            segments.append([])
        segments[-1].append(word)
    while True:
        pauses_s = [after[0].start_s - before[-1].end_s for before, after in pairwise(segments)]
        short = [  # length, place, and the shortest pause beside it: pause i lies before segment i + 1
            (_length_s(segment), at, min(beside, key=pauses_s.__getitem__))
            for at, segment in enumerate(segments)
            if (beside := [i for i in (at - 1, at) if 0 <= i < len(pauses_s) and pauses_s[i] <= longest_pause_s])
            and _length_s(segment) < LEAST_S - ROUNDING_S
        ]
        if not short:
            return segments
        left = min(short)[2]
        segments[left : left + 2] = [segments[left] + segments[left + 1]]


def encode_segments(text_encoder: TextEncoder, windows: Sequence[Sequence[Word]]) -> list[bytes]:
    """The vectors of each window's segments as bytes; empty for a window of one segment, which needs no choice.

    A segment is encoded by itself, as a passage without the passage projection: its tokens then speak for their own
    sentence, where in the context of the window they speak for their neighbours too. Of a vector's numbers the greatest
    becomes 127 and the others are rounded to what is a whole number then, which moves the cosines of vectors
    of hundreds of numbers by less than 0.002, if none of these is far greater than the others.

    Args:
        text_encoder: of the model.
        windows: the words of each.

    Returns:
        Of ``S`` segments, ``S * E`` signed bytes, row by row; no window has others than ``split`` makes of its words.
    """
    texts = [[join_words(word.text for word in segment) for segment in split(words)] for words in windows]
    needed = [text for window in texts if len(window) > 1 for text in window]
    unique = list(dict.fromkeys(needed))  # equal segments have equal vectors, to the last digit
    if not unique:
        return [b""] * len(windows)
    vectors = text_encoder.encode(unique, "passage").numpy()
    vectors = np.rint(vectors * (LARGEST / np.abs(vectors).max(1, keepdims=True).clip(1e-12))).astype(np.int8)
    row = {text: vector.tobytes() for text, vector in zip(unique, vectors, strict=True)}
    return [b"".join(row[text] for text in window) if len(window) > 1 else b"" for window in texts]


def segment_cosines(segments: bytes, query: np.ndarray) -> np.ndarray:
    """Cosines ``(S,)`` of a window's segments, as ``encode_segments`` has them, and a query's vector ``(E,)``."""
    # Each summed by itself: in the product of a whole matrix the order of summing depends on the row's place.
    return np.einsum("se,e->s", segment_vectors(segments, len(query)), query)


def segment_vectors(segments: bytes, width: int) -> np.ndarray:
    """Unit vectors ``(S, E)`` of a window's segments, as ``encode_segments`` has them."""
    rows = np.frombuffer(segments, np.int8).reshape(-1, width).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-12)


def _length_s(words: Sequence[Word]) -> float:
    return words[-1].end_s - words[0].start_s if words else 0.0
