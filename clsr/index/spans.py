"""Recording -> overlapping windows in seconds; window hits -> one hit a moment."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Protocol, TypeVar

ROUNDING_S = 1e-6  # a window that would start later than its predecessor by less is float noise, not a window


class ScoredSpan(Protocol):
    """A window of a recording and how well it answers."""

    @property
    def recording(self) -> str: ...

    @property
    def start_s(self) -> float: ...

    @property
    def end_s(self) -> float: ...

    @property
    def score(self) -> float: ...


SpanT = TypeVar("SpanT", bound=ScoredSpan)


def windows(duration_s: float, length_s: float, hop_s: float) -> list[tuple[float, float]]:
    """Start and end of each window of a recording, in seconds.

    Windows start every ``hop_s``. The last one ends with the recording and is moved back to keep its full length, so
    that scores of all windows speak of the same amount of speech; a recording shorter than a window gives one window.

    >>> windows(75.0, length_s=40.0, hop_s=30.0)
    [(0.0, 40.0), (30.0, 70.0), (35.0, 75.0)]

    Args:
        duration_s: length of the recording, above 0.
        length_s: length of a window, above 0.
        hop_s: from one start to the next, above 0 and at most ``length_s``: no second stays uncovered.

    Raises:
        ValueError: one of the three is out of its range.
    """
    if not (duration_s > 0 and 0 < hop_s <= length_s):
        raise ValueError(f"no windows of {length_s} s every {hop_s} s in a recording of {duration_s} s")
    last_start_s = max(0.0, duration_s - length_s)
    starts_s = [index * hop_s for index in range(math.ceil((last_start_s - ROUNDING_S) / hop_s))]
    return [(start_s, start_s + length_s) for start_s in starts_s] + [(last_start_s, duration_s)]


def covered_s(spans: Iterable[tuple[float, float]]) -> float:
    """Seconds that lie in at least one of the spans.

    >>> covered_s([(30.0, 70.0), (0.0, 40.0), (100.0, 110.0)])
    80.0
    """
    total_s, reached_s = 0.0, -math.inf
    for start_s, end_s in sorted(spans):
        total_s += max(0.0, end_s - max(start_s, reached_s))
        reached_s = max(reached_s, end_s)
    return total_s


def merge(hits: Iterable[SpanT], top_k: int | None = None) -> list[SpanT]:
    """Best hit of each moment, best first: overlapping windows of a recording answer with the same seconds.

    Greedy: hits are taken by falling score, and one that overlaps a hit already taken from its recording is dropped.
    Windows that only touch do not overlap. Equal scores go by recording, then by start. Dropping depends on better hits
    alone, so the first hits of a longer list are those of its head.

    Args:
        hits: in any order.
        top_k: hits at most; ``None`` is all.
    """
    kept: list[SpanT] = []
    of_recording: dict[str, list[SpanT]] = {}
    for hit in sorted(hits, key=lambda hit: (-hit.score, hit.recording, hit.start_s)):
        if len(kept) == top_k:
            break
        taken = of_recording.setdefault(hit.recording, [])
        if not any(_overlap(hit, other) for other in taken):
            kept.append(hit)
            taken.append(hit)
    return kept


def _overlap(one: ScoredSpan, other: ScoredSpan) -> bool:
    return one.start_s < other.end_s and other.start_s < one.end_s
