"""A window's words and a question -> the stretch of speech in the window that answers best, and its best words.

Recognisers write no full stops: what stands for a sentence is a stretch between two pauses.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from clsr.search.pauses import LEAST_PAUSE_S
from clsr.vocabulary import Word, join_words

if TYPE_CHECKING:
    import numpy as np

    from clsr.models.text_encoder import TextEncoder
    from clsr.search.memory import PassageMemory

LEAST_S = 2.0  # of a stretch: less is a phrase, and a player that starts there says too little
MARGIN_S = 0.25  # before the first word and after the last, at most, so that neither is cut
BEST_WORDS = 3  # different words marked in a moment, at most
ROUNDING_S = 1e-3  # times are sums and differences of floats: a pause of 0.1999999 s is one of 0.2 s


class Heard(NamedTuple):
    """What was recognised in a window."""

    start_s: float
    end_s: float
    text: str
    words: list[Word]


class Moment(NamedTuple):
    """The part of a window that answers best; times in seconds from the start of the recording."""

    start_s: float
    end_s: float
    text: str
    matches: tuple[Word, ...]


def find_moments(
    text_encoder: TextEncoder | PassageMemory, question: np.ndarray, windows: Sequence[Heard]
) -> list[Moment]:
    """The moment of each window: of its stretches between pauses, the one whose vector is nearest to the question's.

    Each stretch is encoded by itself, as a passage without passage map: its tokens then speak for their own sentence,
    where in the context of the window they speak for their neighbours too. Of equal stretches the first is taken. The
    moment reaches beyond its words by up to 0.25 s and half the pause, but not out of the window. A window whose words
    are not known is a moment as a whole.

    Args:
        text_encoder: of the model.
        question: vector ``(E,)`` of norm 1.
        windows: what was recognised in each.
    """
    parts = [split(window.words) for window in windows]
    scores = _score(text_encoder, question, [join_words(w.text for w in s) for p in parts if len(p) > 1 for s in p])
    best = [max(range(len(p)), key=lambda i: scores.get(join_words(w.text for w in p[i]), 0.0)) for p in parts]
    words = {word.text for part, i in zip(parts, best, strict=True) for word in part[i]}
    word_scores = _score(text_encoder, question, sorted(words))
    return [_moment(w, part, i, word_scores) for w, part, i in zip(windows, parts, best, strict=True)]


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


def best_matches(words: Sequence[Word], scores: dict[str, float]) -> tuple[Word, ...]:
    """Occurrences of the best words: those whose score is nearer to the best than to the mean of all words."""
    ranked = sorted({word.text for word in words}, key=lambda text: (-scores[text], text))
    if not ranked:
        return ()
    mean = sum(scores[text] for text in ranked) / len(ranked)
    best = {text for text in ranked[:BEST_WORDS] if scores[text] >= (mean + scores[ranked[0]]) / 2}
    return tuple(word for word in words if word.text in best)


def _moment(window: Heard, stretches: list[list[Word]], at: int, word_scores: dict[str, float]) -> Moment:
    words = stretches[at]
    if not words:
        return Moment(window.start_s, window.end_s, window.text, ())
    first_s, last_s = words[0].start_s, words[-1].end_s
    before_s = (stretches[at - 1][-1].end_s + first_s) / 2 if at else window.start_s
    after_s = (last_s + stretches[at + 1][0].start_s) / 2 if at + 1 < len(stretches) else window.end_s
    start_s, end_s = max(first_s - MARGIN_S, before_s), min(last_s + MARGIN_S, after_s)
    return Moment(start_s, end_s, join_words(word.text for word in words), best_matches(words, word_scores))


def _score(text_encoder: TextEncoder | PassageMemory, question: np.ndarray, texts: Sequence[str]) -> dict[str, float]:
    """Cosine of the question's vector ``(E,)`` and that of each text by itself.

    For single words this is what marks them: in its context, a word's vector speaks for the sentence, and "the" before
    a good match beats the match; alone, words without meaning of their own come out last.
    """
    if not texts:
        return {}
    vectors = text_encoder.encode(texts, "passage").numpy()
    return dict(zip(texts, (vectors @ question).tolist(), strict=True))


def _length_s(words: Sequence[Word]) -> float:
    return words[-1].end_s - words[0].start_s if words else 0.0
