"""Ranked windows -> what is to be found in them: runs of tokens, segments, windows, or whole recordings. Internal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from clsr.index.config import HitUnit
from clsr.index.ranking import RankedWindow, RecognisedWindow, merge
from clsr.index.segments import segment_cosines
from clsr.search.moments import WindowRun, segments_of
from clsr.search.passage_cache import PassageCache
from clsr.search.token_matches import TokenMatch

SUMMED = 3  # windows of a recording, the best, whose scores are its own
DEEP = 1000  # windows that are read for the best recordings
SEGMENTS_FROM = 10  # windows for each segment that is wanted
RUN_SHARE = 0.5  # of the cosines of a query's matches, that a run of tokens holds


class RankedRun(NamedTuple):
    """A run of parts of a window; ``recording``, times and score are those that overlapping runs compete by."""

    recording: str
    start_s: float
    end_s: float
    score: float
    window: RankedWindow
    run: WindowRun


def windows_wanted(unit: HitUnit, top_k: int) -> int:
    """How many windows have to be read for so many hits."""
    return {"segment": SEGMENTS_FROM * top_k, "recording": max(DEEP, top_k)}.get(unit, top_k)


def best_recordings(windows: Sequence[RankedWindow], top_k: int) -> list[RankedWindow]:
    """The best window of each recording, with the sum of its three best scores, by falling sum.

    Args:
        windows: best first, no two overlapping.
        top_k: recordings at most.
    """
    of: dict[str, list[RankedWindow]] = {}
    for window in windows:
        of.setdefault(window.recording, []).append(window)
    summed = [found[0]._replace(score=sum(window.score for window in found[:SUMMED])) for found in of.values()]
    return sorted(summed, key=lambda window: (-window.score, window.recording))[:top_k]


def best_segments(
    passages: PassageCache, query: np.ndarray, found: Sequence[tuple[RankedWindow, RecognisedWindow]], top_k: int
) -> list[RankedRun]:
    """The segments of windows whose vectors have the greatest cosine with a query's, those that overlap once.

    Args:
        passages: encodes windows that are one segment, of which the index keeps no vector.
        query: vector ``(E,)`` of norm 1.
        found: windows, and what was recognised in them.
        top_k: segments at most.
    """
    runs: list[RankedRun] = []
    for window, recognised in found:
        parts = segments_of(recognised, len(query))
        if len(parts) > 1:
            cosines = segment_cosines(recognised.segments, query)
        else:
            cosines = passages.encode([recognised.text], "passage") @ query
        for at, (part, cosine) in enumerate(zip(parts, cosines.tolist(), strict=True)):
            start_s, end_s = (part[0].start_s, part[-1].end_s) if part else (window.start_s, window.end_s)
            run = (recognised, parts, range(at, at + 1))
            runs.append(RankedRun(window.recording, start_s, end_s, cosine, window, run))
    return merge(runs, top_k)


def token_run(window: RecognisedWindow, matches: Sequence[TokenMatch]) -> WindowRun:
    """The shortest run of a window's words that holds half of its matches, as their cosines count.

    Of equal runs the first is taken. Negative cosines count nothing; a window without words is a run as a whole.

    Args:
        window: with its words.
        matches: of the query's tokens in it.
    """
    words = window.words
    weights = np.zeros(len(words))
    for match in matches:
        middle_s = (match.start_s + match.end_s) / 2
        nearest = min(
            range(len(words)), key=lambda i: abs((words[i].start_s + words[i].end_s) / 2 - middle_s), default=0
        )
        weights[nearest : nearest + 1] += max(0.0, match.cosine)
    held = np.concatenate([[0.0], np.cumsum(weights)])
    wanted = RUN_SHARE * held[-1] * (1 - 1e-9)
    best, first = range(len(words)), 0
    for end in range(1, len(words) + 1):
        while first + 1 < end and held[end] - held[first + 1] >= wanted:
            first += 1
        run = range(first, end)
        if held[end] - held[first] >= wanted > 0 and _length_s(window, run) < _length_s(window, best):
            best = run
    return window, [[word] for word in words] or [[]], best or range(1)


def _length_s(window: RecognisedWindow, run: range) -> float:
    return window.words[run[-1]].end_s - window.words[run[0]].start_s
