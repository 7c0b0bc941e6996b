"""How well the boundaries of a segmentation are found."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

STEP_S = 1.0  # of the grid that P_k is counted on


def boundary_f1(reference_s: Sequence[float], hypothesis_s: Sequence[float], tolerance_s: float) -> float:
    """F1 of boundaries, 0 to 1: each is matched once, with one that lies no further away than the tolerance.

    Boundaries are matched in order, each with the first that is free, which matches the most. Where neither has any,
    it is 1.

    >>> boundary_f1([10.0, 20.0], [11.0, 15.0, 19.0], tolerance_s=2.0)
    0.8
    """
    if not reference_s and not hypothesis_s:
        return 1.0
    left, matched = sorted(hypothesis_s), 0
    for time_s in sorted(reference_s):
        left = [other_s for other_s in left if other_s >= time_s - tolerance_s]
        if left and left[0] <= time_s + tolerance_s:
            matched += 1
            left.pop(0)
    return 2 * matched / (len(reference_s) + len(hypothesis_s))


def p_k(reference_s: Sequence[float], hypothesis_s: Sequence[float], duration_s: float) -> float:
    """P_k (Beeferman, Berger and Lafferty, 1999), 0 to 1, of which less is better.

    It is the share of pairs of seconds, half a segment of the reference apart on average, of which one segmentation
    says that they are in one segment and the other that they are not.

    Args:
        reference_s: its boundaries.
        hypothesis_s: those that were found.
        duration_s: of what is segmented.

    Raises:
        ValueError: it is too short for any pair.
    """
    distance = max(1, round(duration_s / (len(reference_s) + 1) / 2 / STEP_S))
    times_s = np.arange(0.5, duration_s, STEP_S)
    if len(times_s) <= distance:
        raise ValueError(f"{duration_s} s are too short for pairs that are {distance} s apart")
    segments = [np.searchsorted(np.sort(boundaries), times_s) for boundaries in (reference_s, hypothesis_s)]
    same = [segment[distance:] == segment[:-distance] for segment in segments]
    return float(np.mean(same[0] != same[1]))
