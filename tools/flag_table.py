#!/usr/bin/env python3
"""Print a Markdown table of the confidence of recordings in an index, by the folder they are in, and what is flagged.

Folders named by --understood hold speech in the model's language, all others something else. The last lines are the
share of either that is flagged, with the 95 % interval of Wilson, and the precision of the flags. Recordings in which
nothing was recognised have no confidence: they are silent, which the status says as well, and count as flagged. With
--choose, the threshold in the middle between the confidence that 98 % of one kind are above, and that which 98 % of the
other are below, is printed instead of that of the system.
"""

import argparse
import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from clsr.index.index import Index
from clsr.index.recordings import least_confidence

Confidences = list[float]  # 0 where nothing was recognised
SHARE = 2.0  # percent of each kind beyond the thresholds that --choose takes the middle of


def read_confidences(index: Index) -> dict[str, Confidences]:
    """The confidence of each recording, by the name of its folder."""
    found: dict[str, Confidences] = defaultdict(list)
    for status in index.status():
        if status.status != "failed":
            found[Path(status.path).parent.name].append(status.confidence or 0.0)
    return dict(sorted(found.items()))


def wilson(count: int, total: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927).

    >>> [round(end, 3) for end in wilson(9, 10)]
    [0.596, 0.982]
    """
    z, share = 1.96, count / total
    middle = (share + z**2 / (2 * total)) / (1 + z**2 / total)
    half = z / (1 + z**2 / total) * math.sqrt(share * (1 - share) / total + z**2 / (4 * total**2))
    return max(0.0, middle - half), min(1.0, middle + half)


def choose(understood: Sequence[float], others: Sequence[float]) -> float:
    """The threshold in the middle between the 2 % least of one kind and the 2 % greatest of the other.

    >>> choose([0.9, 0.8], [0.3, 0.1])
    0.55
    """
    return round(float(np.percentile(understood, SHARE) + np.percentile(others, 100 - SHARE)) / 2, 2)


def table(found: dict[str, Confidences], understood: Sequence[str], threshold: float) -> list[str]:
    """The lines of the table."""
    lines = ["| set | recordings | lowest | median | highest | flagged |", "| --- | --- | --- | --- | --- | --- |"]
    for name, values in found.items():
        numbers = " | ".join(f"{value:.2f}" for value in (min(values), float(np.median(values)), max(values)))
        lines.append(f"| {name} | {len(values)} | {numbers} | {sum(value < threshold for value in values)} |")
    kinds = {
        "understood": [value for name in understood for value in found.get(name, [])],
        "others": [value for name, values in found.items() if name not in understood for value in values],
    }
    flagged = {kind: sum(value < threshold for value in values) for kind, values in kinds.items()}
    for kind, values in kinds.items():
        if values:
            low, high = wilson(flagged[kind], len(values))
            share = 100 * flagged[kind] / len(values)
            lines.append(f"\n{kind}: {share:.1f} % flagged [{100 * low:.1f}, {100 * high:.1f}] of {len(values)}")
    if sum(flagged.values()):
        precision = 100 * flagged["others"] / sum(flagged.values())
        lines.append(f"\nthreshold {threshold:g}: precision {precision:.1f} %")
    return lines


def main() -> None:
    """Print the table of an index."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--index", required=True)
    parser.add_argument("--understood", nargs="+", required=True, metavar="NAME")
    parser.add_argument("--threshold", type=float, help="instead of that of the system")
    parser.add_argument("--choose", action="store_true")
    options = parser.parse_args()
    index = Index.open(options.index)
    found = read_confidences(index)
    threshold = options.threshold or least_confidence(index.description.model)
    if options.choose:
        known = [value for name in options.understood for value in found[name]]
        threshold = choose(known, [v for name, of in found.items() if name not in options.understood for v in of])
    print("\n".join(table(found, options.understood, threshold)))


if __name__ == "__main__":
    main()
