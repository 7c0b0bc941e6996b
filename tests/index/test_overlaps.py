from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pytest

from clsr.index.ranking import merge
from clsr.index.windows import covered_s, windows


class Span(NamedTuple):
    recording: str
    start_s: float
    end_s: float
    score: float


def test_windows_follow_the_hop() -> None:
    assert windows(100.0, length_s=40.0, hop_s=30.0) == [(0.0, 40.0), (30.0, 70.0), (60.0, 100.0)]


def test_last_full_window_ends_with_the_recording() -> None:
    assert windows(70.5, length_s=40.0, hop_s=30.0) == [(0.0, 40.0), (30.0, 70.0), (30.5, 70.5)]


@pytest.mark.parametrize("duration_s", [0.01, 12.0, 40.0])
def test_short_recording_is_one_window(duration_s: float) -> None:
    assert windows(duration_s, length_s=40.0, hop_s=30.0) == [(0.0, duration_s)]


def test_float_noise_makes_no_extra_window() -> None:
    assert len(windows(3 * 0.1 + 0.4, length_s=0.4, hop_s=0.1)) == 4  # 3 * 0.1 is a little more than 0.3


def test_windows_cover_every_second_and_stay_inside() -> None:
    generator = np.random.default_rng(0)
    for _ in range(200):
        length_s = generator.uniform(1, 60)
        hop_s = generator.uniform(0.2, 1.0) * length_s
        duration_s = generator.uniform(0.1, 600)
        spans = windows(duration_s, length_s, hop_s)
        assert covered_s(spans) == pytest.approx(duration_s)
        assert spans[0][0] == 0.0 and spans[-1][1] == duration_s
        assert all(end - start == pytest.approx(min(length_s, duration_s)) for start, end in spans)
        assert all(0 < after[0] - before[0] <= hop_s + 1e-9 for before, after in pairwise(spans))


@pytest.mark.parametrize(("duration_s", "length_s", "hop_s"), [(0, 40, 30), (60, 40, 0), (60, 40, 41), (60, -1, -1)])
def test_windows_refuse_what_would_leave_gaps(duration_s: float, length_s: float, hop_s: float) -> None:
    with pytest.raises(ValueError, match="no windows"):
        windows(duration_s, length_s, hop_s)


def test_covered_seconds_count_once() -> None:
    assert covered_s([]) == 0.0
    assert covered_s([(0, 10), (2, 5), (5, 12)]) == 12.0
    assert covered_s([(20, 30), (0, 10)]) == 20.0


def test_merge_keeps_the_best_of_overlapping_windows() -> None:
    hits = [Span("a", 0, 40, 0.8), Span("a", 30, 70, 0.9), Span("a", 60, 100, 0.7), Span("a", 90, 130, 0.6)]
    assert merge(hits) == [Span("a", 30, 70, 0.9), Span("a", 90, 130, 0.6)]


def test_merge_keeps_other_recordings_and_windows_that_touch() -> None:
    hits = [Span("a", 0, 40, 0.9), Span("b", 0, 40, 0.8), Span("a", 40, 80, 0.7)]
    assert merge(hits) == hits


def test_merge_keeps_overlap_with_a_dropped_window() -> None:
    hits = [Span("a", 0, 40, 0.9), Span("a", 30, 70, 0.8), Span("a", 60, 100, 0.7)]
    assert merge(hits) == [hits[0], hits[2]]


def test_merge_takes_equal_scores_by_recording_then_start() -> None:
    hits = [Span("b", 0, 40, 0.5), Span("a", 30, 70, 0.5), Span("a", 0, 40, 0.5)]
    assert merge(hits) == [Span("a", 0, 40, 0.5), Span("b", 0, 40, 0.5)]


def test_merged_list_starts_with_its_merged_head() -> None:
    generator = np.random.default_rng(0)
    starts = generator.uniform(0, 500, size=100)
    scores = sorted(generator.uniform(size=100), reverse=True)
    hits = [Span("ab"[i % 2], starts[i], starts[i] + 40, scores[i]) for i in range(100)]
    whole = merge(hits)
    for head in range(100):
        part = merge(hits[:head])
        assert part == whole[: len(part)]
