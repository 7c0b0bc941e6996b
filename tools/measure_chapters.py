#!/usr/bin/env python3
"""Join pieces of an index's recordings, find the chapters of each joined one, and print boundary F1 and P_k.

Every recording has to be of one subject, such as a chapter of a book. A joined recording is a row of pieces of 3 to 8
minutes, no two neighbours from one recording. The uniform cut has as many boundaries as there are, at equal distances.
"""

import argparse
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from clsr.index.index import Index
from clsr.metrics.segmentation import boundary_f1, p_k
from clsr.search.chapters import CONTEXT_S, DEPTH, LEAST_S, SpokenUnit, boundaries, read_units

SHORTEST_S, LONGEST_S = 180.0, 480.0  # of a piece


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--index", type=Path, required=True, metavar="DIR")
    parser.add_argument("--joined", type=int, default=100, metavar="N", help="joined recordings")
    parser.add_argument("--pieces", type=int, default=8, metavar="N", help="of each")
    parser.add_argument("--tolerance-s", type=float, default=30.0, metavar="S", help="of a boundary")
    parser.add_argument("--context-s", type=float, nargs="+", default=[CONTEXT_S], metavar="S")
    parser.add_argument("--least-s", type=float, nargs="+", default=[LEAST_S], metavar="S")
    parser.add_argument("--depth", type=float, nargs="+", default=[DEPTH], metavar="X")
    options = parser.parse_args()
    index = Index.open(options.index)
    recordings = [read_units(index, recording) for recording in index.entries()]
    draw = random.Random(0)
    joined = [join(draw, recordings, options.pieces) for _ in range(options.joined)]
    print("| | boundary F1 | P_k | boundaries |\n| --- | ---: | ---: | ---: |")
    uniform = [np.linspace(0, units[-1].end_s, len(truth) + 2)[1:-1].tolist() for units, truth in joined]
    show("uniform cut", joined, uniform, options.tolerance_s)
    for context_s in options.context_s:
        for least_s in options.least_s:
            for depth in options.depth:
                found = [
                    [units[place].start_s for place in boundaries(units, context_s, least_s, depth)]
                    for units, _ in joined
                ]
                name = f"context {context_s:g} s, shortest {least_s:g} s, depth {depth:g}"
                show(name, joined, found, options.tolerance_s)


Joined = tuple[list[SpokenUnit], list[float]]
"""The segments of a joined recording, and where one piece ends and the next begins, in seconds."""


def join(draw: random.Random, recordings: Sequence[Sequence[SpokenUnit]], pieces: int) -> Joined:
    """Join pieces of recordings."""
    units: list[SpokenUnit] = []
    truth: list[float] = []
    last = -1
    for _ in range(pieces):
        last = draw.choice([i for i in range(len(recordings)) if i != last])
        of_recording = recordings[last]
        length_s = draw.uniform(SHORTEST_S, LONGEST_S)
        start_s = draw.uniform(0, max(0.0, of_recording[-1].end_s - length_s))
        piece = [unit for unit in of_recording if start_s <= unit.start_s < start_s + length_s]
        offset_s = (units[-1].end_s if units else 0.0) - piece[0].start_s
        if units:
            truth.append(units[-1].end_s)
        units += [u._replace(start_s=u.start_s + offset_s, end_s=u.end_s + offset_s) for u in piece]
    return units, truth


def show(name: str, joined: Sequence[Joined], found: Sequence[Sequence[float]], tolerance_s: float) -> None:
    """Print a row: means over the joined recordings."""
    each = [
        (boundary_f1(truth, times_s, tolerance_s), p_k(truth, times_s, units[-1].end_s), len(times_s))
        for (units, truth), times_s in zip(joined, found, strict=True)
    ]
    f1, share, count = np.mean(each, axis=0)
    print(f"| {name} | {100 * f1:.1f} | {100 * share:.1f} | {count:.1f} |")


if __name__ == "__main__":
    main()
