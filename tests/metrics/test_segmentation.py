"""Boundary F1 and P_k on segmentations that can be counted by hand."""

import pytest

from clsr.metrics.segmentation import boundary_f1, p_k


def test_boundaries_match_once_within_tolerance() -> None:
    assert boundary_f1([10, 20], [10, 20], 0) == 1
    assert boundary_f1([10.0], [8.0, 12.0], 2) == pytest.approx(2 / 3)  # one of them is too many
    assert boundary_f1([10.0, 11.0], [10.5], 2) == pytest.approx(2 / 3)
    assert boundary_f1([10.0], [13.0], 2) == 0
    assert boundary_f1([10.0, 14.0], [12.0, 15.0], 2) == 1  # the first takes 12, which leaves 15 to the second


def test_nothing_to_find_and_nothing_found() -> None:
    assert boundary_f1([], [], 5) == 1
    assert boundary_f1([10.0], [], 5) == 0
    assert p_k([], [], 10.0) == 0


def test_pk_counts_pairs_that_differ() -> None:
    """Of 20 s with a boundary at 10 s, pairs are 5 s apart: 15 of them, and 5 of these span the boundary."""
    assert p_k([10.0], [10.0], 20.0) == 0
    assert p_k([10.0], [], 20.0) == pytest.approx(5 / 15)
    assert p_k([10.0], [9.0], 20.0) == pytest.approx(2 / 15)  # one pair spans only the first, one only the second
    assert p_k([10.0], [float(s) for s in range(1, 20)], 20.0) == pytest.approx(10 / 15)


def test_pk_of_too_little_is_refused() -> None:
    with pytest.raises(ValueError, match="too short"):
        p_k([], [], 1.0)
