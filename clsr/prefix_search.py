"""Prefix beam search (Hannun et al., arXiv:1408.2873) over firings whose repeats are merged, guided by known words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from clsr.config import SearchConfig
from clsr.vocabulary import BLANK

LEAST = -6.0  # log probability below which an output is not followed
HYPOTHESES = 3  # paths returned: each costs a pass of the text encoder
SMOOTHING = 0.1  # added to the count of each word
NEVER = -1e30  # log probability of what cannot be; finite, so that differences are numbers


class Path(NamedTuple):
    """One hypothesis of an utterance: its pieces, and where they fire."""

    tokens: np.ndarray  # (U, K) output indices at each piece's likeliest firing, the piece first
    scores: np.ndarray  # (U, K) their log probabilities; minus infinity for what is no alternative
    spans: list[tuple[int, int]]  # first and last firing of each piece
    score: float  # log probability, with the bonuses of its words


class _Prefix(NamedTuple):
    """A prefix of pieces, and the log probability of all alignments that end in a blank or in its last piece."""

    blank: float
    piece: float
    words: float  # score of its finished words
    word: str  # letters of the word that is not finished

    @property
    def total(self) -> float:
        """Score that prefixes are compared by."""
        return _add(self.blank, self.piece) + self.words


class PrefixSearch:
    """Find the likeliest sequences of pieces, summed over alignments, of which known words are preferred.

    A word that was counted scores ``weight * log(share of the counts)``, another one ``-unknown_penalty``.

    Args:
        pieces: text of each output, ``start`` in front of those that begin a word.
        words: how often each known word was counted; 0 where it is only known.
        config: beam and weights.
        start: mark of a piece that begins a word.
    """

    def __init__(self, pieces: Sequence[str], words: Mapping[str, int], config: SearchConfig, start: str):
        self.config = config
        self._letters = [piece.removeprefix(start) for piece in pieces]
        self._begins = [piece.startswith(start) for piece in pieces]
        total = sum(words.values()) + SMOOTHING * len(words)
        self._words = {
            word: config.word_weight * math.log((count + SMOOTHING) / total) for word, count in words.items()
        }

    def __call__(self, tokens: np.ndarray, scores: np.ndarray) -> list[Path]:
        """Search the firings of an utterance.

        Args:
            tokens: best outputs of each firing, ``(N, K)``, best first.
            scores: their log probabilities, ``(N, K)``.

        Returns:
            The likeliest paths, best first; one without pieces where there is no speech.
        """
        beam: dict[tuple[int, ...], _Prefix] = {(): _Prefix(0.0, NEVER, 0.0, "")}
        for outputs, values in zip(tokens.tolist(), scores.tolist(), strict=True):
            beam = self._extend(beam, outputs, values)
        finished = sorted(((p.total + self._finish(p.word), prefix) for prefix, p in beam.items()), reverse=True)
        return [_align(prefix, total, tokens, scores) for total, prefix in finished[:HYPOTHESES]]

    def _extend(
        self, beam: dict[tuple[int, ...], _Prefix], outputs: list[int], values: list[float]
    ) -> dict[tuple[int, ...], _Prefix]:
        """Return the best prefixes after one more firing."""
        # A blank that is not among the best outputs is no likelier than the last of them.
        blank = dict(zip(outputs, values, strict=True)).get(BLANK, values[-1]) + self.config.blank_bonus
        pieces = [(i, value) for i, value in zip(outputs, values, strict=True) if i != BLANK and value >= LEAST]
        longer: dict[tuple[int, ...], _Prefix] = {}

        def add(prefix: tuple[int, ...], new: _Prefix) -> None:
            old = longer.get(prefix)
            if old is not None:
                new = new._replace(blank=_add(old.blank, new.blank), piece=_add(old.piece, new.piece))
            longer[prefix] = new

        for prefix, old in beam.items():
            total = _add(old.blank, old.piece)
            add(prefix, old._replace(blank=total + blank, piece=NEVER))
            for i, value in pieces:
                before = total
                if prefix and prefix[-1] == i:  # the same piece again: merged, unless a blank lies between
                    add(prefix, old._replace(blank=NEVER, piece=old.piece + value))
                    before = old.blank
                if before > NEVER:
                    add((*prefix, i), self._with(old, i)._replace(blank=NEVER, piece=before + value))
        best = sorted(longer.items(), key=lambda item: -item[1].total)
        return dict(best[: self.config.beam])

    def _with(self, prefix: _Prefix, index: int) -> _Prefix:
        """Return the words of a prefix that one more piece is put behind."""
        if self._begins[index]:
            return prefix._replace(words=prefix.words + self._finish(prefix.word), word=self._letters[index])
        return prefix._replace(word=prefix.word + self._letters[index])

    def _finish(self, word: str) -> float:
        """Return the score of a word; none for no word."""
        return self._words.get(word, -self.config.unknown_penalty) if word else 0.0


def _add(a: float, b: float) -> float:
    """Return ``log(exp(a) + exp(b))``."""
    high, low = (a, b) if a > b else (b, a)
    return high if low - high < -50 else high + math.log1p(math.exp(low - high))


def _align(prefix: tuple[int, ...], total: float, tokens: np.ndarray, scores: np.ndarray) -> Path:
    """Return where each piece of a prefix fires on its likeliest alignment, with the outputs of its best firing."""
    count = len(tokens)
    if not prefix:
        return Path(tokens[:0], scores[:0], [], total)
    states = [BLANK]
    for piece in prefix:
        states += [piece, BLANK]
    emitted = np.stack([np.where(tokens == state, scores, NEVER).max(1) for state in states], 1)  # (N, 2 U + 1)
    emitted[:, ::2] = np.maximum(emitted[:, ::2], scores[:, -1:])  # as in the search
    skips = np.array([i > 1 and i % 2 == 1 and states[i] != states[i - 2] for i in range(len(states))])
    path, back = np.full(len(states), NEVER), np.zeros((count, len(states)), int)
    path[:2] = emitted[0, :2]
    for n in range(1, count):
        steps = np.stack([path, np.r_[NEVER, path[:-1]], np.where(skips, np.r_[NEVER, NEVER, path[:-2]], NEVER)])
        back[n] = steps.argmax(0)
        path = steps.max(0) + emitted[n]
    state = len(states) - 1 if path[-1] > path[-2] else len(states) - 2
    places: list[list[int]] = [[] for _ in prefix]
    for n in reversed(range(count)):
        if state % 2:
            places[state // 2].insert(0, n)
        state -= back[n, state]
    peaks = [firings[int(emitted[firings, 2 * u + 1].argmax())] for u, firings in enumerate(places)]
    found = [_piece_first(piece, tokens[n], scores[n]) for piece, n in zip(prefix, peaks, strict=True)]
    return Path(
        np.stack([row for row, _ in found]),
        np.stack([values for _, values in found]),
        [(firings[0], firings[-1]) for firings in places],
        total,
    )


def _piece_first(piece: int, tokens: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Put the piece of a path before the other outputs of its firing ``(K,)``.

    The blank is no alternative, nor is an output that is likelier by itself: the piece's word has overruled it.
    """
    place = int(np.flatnonzero(tokens == piece)[0])
    order = np.r_[place, np.delete(np.arange(len(tokens)), place)]
    ruled_out = (tokens[order] == BLANK) | (scores[order] > scores[place])
    return tokens[order], np.where(ruled_out, -np.inf, scores[order])
