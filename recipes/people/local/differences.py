#!/usr/bin/env python
"""Print paired differences between rows of reports on the same questions, with bootstrap intervals.

A row is FOLDER:ROW, as in `exp/measures/5:clsr-soft`; the first is compared with each of the others. Several seeds of a
row are FOLDER,FOLDER:ROW; their metrics are averaged for each question before questions are drawn again.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from clsr.corpora.script import run_script
from clsr.errors import InputError
from clsr.evaluation.report import read_report
from clsr.evaluation.scores import Retrieval
from clsr.metrics.recall import paired_difference

METRICS = ("recall@1", "recall@5", "recall@10")


def read_row(text: str) -> list[Retrieval]:
    """What a row found for each question, by seed.

    Raises:
        InputError: there is no such row, or its rankings are lost.
    """
    folders, _, row = text.rpartition(":")
    found = []
    for folder in folders.split(","):
        rows = {one.name: one.q2c for one in read_report(Path(folder)).rows}
        retrieval = rows.get(row)
        if not retrieval or not retrieval.queries:
            raise InputError(f"{folder}: no row {row} with rankings.jsonl beside it; rows: {', '.join(rows)}")
        found.append(retrieval)
    return found


def values(seeds: Sequence[Retrieval], metric: str) -> np.ndarray:
    """The metric of each question ``(Q,)``, averaged over seeds."""
    return np.mean([retrieval.values(metric) for retrieval in seeds], axis=0)


def compare(rows: Sequence[str], seed: int) -> None:
    """Print a line of Markdown for each pair.

    Raises:
        InputError: two rows are not about the same questions.
    """
    first, *others = [(text, read_row(text)) for text in rows]
    print("| difference | R@1 | R@5 | R@10 |\n| --- | --- | --- | --- |")
    for text, seeds in others:
        if seeds[0].query_ids != first[1][0].query_ids:
            raise InputError(f"{text}: is about other questions than {first[0]}")
        cells = []
        for metric in METRICS:
            found = paired_difference(values(first[1], metric), values(seeds, metric), seed=seed)
            star = " *" if found.low > 0 or found.high < 0 else ""
            cells.append(f"{100 * found.value:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]{star}")
        print(f"| {first[0]} - {text} | {' | '.join(cells)} |")


def main() -> None:
    """Read the command line and print the differences."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "rows", nargs="+", metavar="FOLDER:ROW", help="at least two; the first is compared with the rest"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap (0)")
    run_script(parser, lambda args: compare(args.rows, args.seed))


if __name__ == "__main__":
    main()
