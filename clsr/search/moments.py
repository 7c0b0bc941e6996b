"""A window's words and a query -> the best segment of the window and its best words. Internal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from clsr.index.ranking import RecognisedWindow
from clsr.index.segments import segment_cosines, split
from clsr.vocabulary import Word, join_words

if TYPE_CHECKING:
    from clsr.search.passage_cache import PassageCache
    from clsr.text.encoder import SentenceEncoder

MARGIN_S = 0.25  # before the first word and after the last, at most, so that neither is cut
BEST_WORDS = 3  # different words marked in a moment, at most


class Moment(NamedTuple):
    """The best segment of a window; times in seconds from the start of the recording."""

    start_s: float
    end_s: float
    text: str
    matches: tuple[Word, ...]


def find_moments(
    text_encoder: SentenceEncoder | PassageCache, query: np.ndarray, windows: Sequence[RecognisedWindow]
) -> list[Moment]:
    """The moment of each window: of its segments, the one whose vector is nearest to the query's.

    Of equal segments the first is taken. The moment reaches beyond its words by up to 0.25 s and half the pause, but
    not out of the window. A window whose words are not known is a moment as a whole.

    Args:
        text_encoder: of the model, for the words that are to be marked.
        query: vector ``(E,)`` of norm 1.
        windows: what was recognised in each.
    """
    parts = [segments_of(window, len(query)) for window in windows]
    best = [
        int(segment_cosines(window.segments, query).argmax()) if len(part) > 1 else 0
        for window, part in zip(windows, parts, strict=True)
    ]
    runs = [(window, part, range(i, i + 1)) for window, part, i in zip(windows, parts, best, strict=True)]
    return moments_of(text_encoder, query, runs)


WindowRun = tuple[RecognisedWindow, list[list[Word]], range]
"""A window, its words in parts, and the parts that are a moment."""


def moments_of(
    text_encoder: SentenceEncoder | PassageCache, query: np.ndarray, runs: Sequence[WindowRun]
) -> list[Moment]:
    """The moments that are runs of parts of windows, with their best words.

    Args:
        text_encoder: of the model, for the words that are to be marked.
        query: vector ``(E,)`` of norm 1.
        runs: of parts, at least one each.
    """
    texts = {word.text for _, parts, run in runs for part in parts[run.start : run.stop] for word in part}
    word_scores = _score(text_encoder, query, sorted(texts))
    return [_moment(*run, word_scores) for run in runs]


def segments_of(window: RecognisedWindow, width: int) -> list[list[Word]]:
    """A window's segments whose vectors the index has, which in indices of before reach over pauses of any length."""
    segments = split(window.words)
    stored = max(1, len(window.segments) // width)
    return segments if len(segments) == stored else split(window.words, math.inf)


def best_matches(words: Sequence[Word], scores: dict[str, float]) -> tuple[Word, ...]:
    """Occurrences of the best words, whose scores are nearer to the best score than to the mean."""
    ranked = sorted({word.text for word in words}, key=lambda text: (-scores[text], text))
    if not ranked:
        return ()
    mean = sum(scores[text] for text in ranked) / len(ranked)
    best = {text for text in ranked[:BEST_WORDS] if scores[text] >= (mean + scores[ranked[0]]) / 2}
    return tuple(word for word in words if word.text in best)


def _moment(window: RecognisedWindow, parts: list[list[Word]], run: range, word_scores: dict[str, float]) -> Moment:
    words = [word for part in parts[run.start : run.stop] for word in part]
    if not words:
        return Moment(window.start_s, window.end_s, window.text, ())
    first_s, last_s = words[0].start_s, words[-1].end_s
    before_s = (parts[run.start - 1][-1].end_s + first_s) / 2 if run.start else window.start_s
    after_s = (last_s + parts[run.stop][0].start_s) / 2 if run.stop < len(parts) else window.end_s
    start_s, end_s = max(first_s - MARGIN_S, before_s), min(last_s + MARGIN_S, after_s)
    return Moment(start_s, end_s, join_words(word.text for word in words), best_matches(words, word_scores))


def _score(text_encoder: SentenceEncoder | PassageCache, query: np.ndarray, words: Sequence[str]) -> dict[str, float]:
    """Cosine of the query's vector ``(E,)`` and that of each word by itself.

    Words are encoded alone: in context, a word's vector stands for its sentence, and "the" before a match would beat
    the match. Alone, function words score lowest.
    """
    if not words:
        return {}
    vectors = np.asarray(text_encoder.encode(words, "passage"))
    return dict(zip(words, (vectors @ query).tolist(), strict=True))
