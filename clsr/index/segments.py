"""A window's words -> the stretches of speech between its pauses, and their vectors, a byte a number.

Recognisers write no full stops: what stands for a sentence is a stretch between two pauses. An index keeps the vectors
of stretches beside those of windows, since to encode them takes longer than all the rest of a search.
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

LEAST_S = 2.0  # of a stretch: less is a phrase, and a player that starts there says too little
ROUNDING_S = 1e-3  # times are sums and differences of floats: a pause of 0.1999999 s is one of 0.2 s
LARGEST = 127  # of a signed byte


def split(words: Sequence[Word]) -> list[list[Word]]:
    """Cut words at their pauses, of 0.2 s and more, into stretches of 2 s and more.

    A stretch that is shorter is joined to its neighbour across the shorter pause (of equal ones the first), the
    shortest stretch first. Words without pauses are one stretch; there is always one.

    >>> [[word.text for word in stretch] for stretch in split([
    ...     Word("so", 0.0, 0.5), Word("far", 0.7, 2.5), Word("and", 3.0, 4.0), Word("on", 4.0, 5.5)])]
    [['so', 'far'], ['and', 'on']]
    """
    stretches: list[list[Word]] = [list(words[:1])]
    for before, word in pairwise(words):
        if word.start_s - before.end_s >= LEAST_PAUSE_S - ROUNDING_S:
            stretches.append([])
        stretches[-1].append(word)
    while len(stretches) > 1:
        at = min(range(len(stretches)), key=lambda i: _length_s(stretches[i]))
        if _length_s(stretches[at]) >= LEAST_S - ROUNDING_S:
            break
        pauses_s = [after[0].start_s - before[-1].end_s for before, after in pairwise(stretches)]
        beside = [i for i in (at - 1, at) if 0 <= i < len(pauses_s)]  # pause i lies before stretch i + 1
        left = min(beside, key=lambda i: pauses_s[i])
        stretches[left : left + 2] = [stretches[left] + stretches[left + 1]]
    return stretches


def encode_stretches(text_encoder: TextEncoder, windows: Sequence[Sequence[Word]]) -> list[bytes]:
    """The vectors of each window's stretches, as bytes; none for a window of one stretch, which leaves no choice.

    A stretch is encoded by itself, as a passage without projection: its tokens then speak for their own sentence,
    where in the context of the window they speak for their neighbours too. Of a vector's numbers the
    greatest becomes 127 and the others are rounded to what is a whole number then, which moves the cosines of vectors
    of hundreds of numbers by less than 0.002, if none of these is far greater than the others.

    Args:
        text_encoder: of the model.
        windows: the words of each.

    Returns:
        Of ``S`` stretches, ``S * E`` signed bytes, row by row; no window has others than ``split`` makes of its words.
    """
    texts = [[join_words(word.text for word in stretch) for stretch in split(words)] for words in windows]
    told = [text for window in texts if len(window) > 1 for text in window]
    unique = list(dict.fromkeys(told))  # equal stretches have equal vectors, to the last digit
    if not unique:
        return [b""] * len(windows)
    vectors = text_encoder.encode(unique, "passage").numpy()
    vectors = np.rint(vectors * (LARGEST / np.abs(vectors).max(1, keepdims=True).clip(1e-12))).astype(np.int8)
    row = {text: vector.tobytes() for text, vector in zip(unique, vectors, strict=True)}
    return [b"".join(row[text] for text in window) if len(window) > 1 else b"" for window in texts]


def stretch_cosines(stretches: bytes, question: np.ndarray) -> np.ndarray:
    """Cosines ``(S,)`` of a window's stretches, as ``encode_stretches`` has them, and a question's vector ``(E,)``."""
    rows = np.frombuffer(stretches, np.int8).reshape(-1, len(question)).astype(np.float32)
    # Each summed by itself: in the product of a whole matrix the order of summing depends on the row's place.
    return np.einsum("se,e->s", rows, question) / np.linalg.norm(rows, axis=1).clip(1e-12)


def _length_s(words: Sequence[Word]) -> float:
    return words[-1].end_s - words[0].start_s if words else 0.0
