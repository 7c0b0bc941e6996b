#!/usr/bin/env python3
"""Print a Markdown table over seeds: the mean of each figure, and in brackets the lowest and highest seed.

Usage: tools/seed_table.py EXP [EXP ...], each the experiment folder of one seed with measures/SET/report.json.
"""

import sys
from pathlib import Path

from clsr.evaluation.report import Report, Row, differences, read_report

FIGURES = (("q2c", "recall@1"), ("q2c", "recall@10"), ("q2c", "mrr@10"), ("c2q", "recall@1"))
HEADER = (
    "| set | row | WER | Q-C R@1 | Q-C R@10 | Q-C MRR@10 | C-Q R@1 |\n| --- | --- | ---: | ---: | ---: | ---: | ---: |"
)


def over_seeds(values: list[float], signed: bool = False) -> str:
    """Return mean, lowest and highest of shares, in percent."""
    form = "{:+.1f}" if signed else "{:.1f}"
    mean, low, high = (form.format(100 * v) for v in (sum(values) / len(values), min(values), max(values)))
    return f"{mean} [{low}, {high}]"


def row_line(name: str, rows: list[Row]) -> str:
    """Return the figures of one system on one set."""
    wer = over_seeds([row.wer.total.value for row in rows if row.wer]) if rows[0].wer else "–"
    retrievals = [[row.retrieval(direction) for row in rows] for direction, _ in FIGURES]
    cells = [
        over_seeds([retrieval.intervals[metric].value for retrieval in per_seed if retrieval])
        for (_, metric), per_seed in zip(FIGURES, retrievals, strict=True)
    ]
    return f"| {name} | {rows[0].name} | {wer} | {' | '.join(cells)} |"


def gain_lines(name: str, reports: list[Report]) -> list[str]:
    """Return what clsr-soft gains over its rivals, and on how many seeds the interval leaves out 0."""
    lines = []
    for index, first in enumerate(differences(reports[0])):
        if (first.direction, first.metric) == ("q2c", "recall@1"):
            per_seed = [differences(report)[index] for report in reports]
            gain = over_seeds([difference.interval.value for difference in per_seed], signed=True)
            clear = sum(difference.interval.low > 0 for difference in per_seed)
            bounds = ", ".join(f"[{100 * d.interval.low:+.1f}, {100 * d.interval.high:+.1f}]" for d in per_seed)
            lines.append(f"| {name} | {first.a} − {first.b} | {gain} | {bounds} | {clear} of {len(reports)} |")
    return lines


def main(experiments: list[Path]) -> None:
    """Print both tables."""
    names = sorted(path.parent.name for path in experiments[0].glob("measures/*/report.json"))
    reports = {name: [read_report(exp / "measures" / name) for exp in experiments] for name in names}
    print(f"{len(experiments)} seeds: mean [lowest, highest], in percent.\n\n{HEADER}")
    for name, of_set in reports.items():
        for index in range(len(of_set[0].rows)):
            print(row_line(name, [report.rows[index] for report in of_set]))
    print("\n| set | Q-C R@1, difference | points | 95 % paired-bootstrap interval of each seed | above 0 |")
    print("| --- | --- | ---: | --- | ---: |")
    for name, of_set in reports.items():
        print("\n".join(gain_lines(name, of_set)))


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])
