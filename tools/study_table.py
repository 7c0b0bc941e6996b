#!/usr/bin/env python3
"""Print a Markdown table of a study: a line for each change, figures over seeds as mean, lowest and highest.

A study holds NAME/seed*/measures/SET/report.json and model/logs. Gains are of clsr-soft over the cascade of the same
model, with the 95 % interval of a bootstrap over questions and seeds. The last column has the gradients at CIF, of the
weighted losses, means over the steps of training; or, with --against, the last two have what the cascade and
clsr-soft find first more often than those of that change, from the same seeds.
"""

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from clsr.evaluation.report import read_report
from clsr.evaluation.scores import Report, Retrieval

DRAWS = 10_000
LOSSES = ("ce", "mae", "nll")
ROWS = ("cascade", "clsr-soft")


def over_seeds(values: list[float]) -> str:
    """Return mean, lowest and highest of shares, in percent."""
    mean, low, high = (100 * v for v in (sum(values) / len(values), min(values), max(values)))
    return f"{mean:.1f} [{low:.1f}, {high:.1f}]"


def retrieval(report: Report, name: str) -> Retrieval:
    """Return what the questions found in a row."""
    found = next(row for row in report.rows if row.name == name).q2c
    assert found is not None
    return found


def difference(reports: Sequence[Report], name: str, others: Sequence[Report], other: str) -> str:
    """Return how much more often a row finds first what another does, with an interval over questions and seeds.

    Args:
        reports: one of each seed.
        name: a row of these.
        others: as many, of the same seeds and questions.
        other: a row of these.
    """
    mine, theirs = (
        np.stack([retrieval(report, row).values("recall@1") for report in side])
        for side, row in ((reports, name), (others, other))
    )
    gains, chance = mine - theirs, np.random.default_rng(0)
    seeds, questions = gains.shape
    means = [
        gains[chance.integers(seeds, size=seeds)][:, chance.integers(questions, size=questions)].mean()
        for _ in range(DRAWS)
    ]
    low, high = np.percentile(means, [2.5, 97.5])
    return f"{100 * gains.mean():+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"


def gradients(folders: list[Path]) -> str:
    """Return the mean norm of each weighted loss' gradient at CIF, over steps and seeds."""
    cells = []
    for loss in LOSSES:
        norms = []
        for folder in folders:
            with (folder / "model" / "logs" / "csv" / "metrics.csv").open(encoding="utf-8", newline="") as file:
                norms += [float(n) for row in csv.DictReader(file) if (n := row.get(f"train/cif_gradient_{loss}"))]
        cells.append(f"{np.mean(norms):.3f}" if norms else "–")
    return " / ".join(cells)


def line(name: str, runs: dict[str, Path], split: str, against: dict[str, Path] | None) -> str:
    """Return the table line of a change on a set, from its folder of each seed and those to compare it with."""
    reports = [read_report(folder / "measures" / split) for folder in runs.values()]
    errors = [next(row.wer.total.value for row in report.rows if row.wer) for report in reports]
    cells = [over_seeds(errors)]
    if all(row.q2c is None for report in reports for row in report.rows):  # transcripts alone
        return f"| {name} | {len(runs)} | {' | '.join(cells + ['–'] * (len(ROWS) + (2 if against is None else 3)))} |"
    for row in ROWS:
        cells.append(over_seeds([retrieval(report, row).intervals["recall@1"].value for report in reports]))
    cells.append(difference(reports, "clsr-soft", reports, "cascade"))
    if against is None:
        cells.append(gradients(list(runs.values())))
    elif both := [seed for seed in runs if seed in against]:
        mine, theirs = ([read_report(side[seed] / "measures" / split) for seed in both] for side in (runs, against))
        cells += [difference(mine, row, theirs, row) for row in ROWS]
    else:
        cells += ["–"] * len(ROWS)
    return f"| {name} | {len(runs)} | {' | '.join(cells)} |"


def main() -> None:
    """Print a table for each set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME", help="changes, in this order (all)")
    parser.add_argument("--against", metavar="NAME", help="the change that others are compared with")
    options = parser.parse_args()
    last = [f"{row} − {options.against}" for row in ROWS] if options.against else ["gradient at CIF: CE / MAE / NLL"]
    header = ["change", "seeds", "WER", *(f"{row} R@1" for row in ROWS), "gain", *last]
    for split in sorted({path.parent.name for path in options.study.glob("*/seed*/measures/*/report.json")}):
        runs: dict[str, dict[str, Path]] = {}
        for path in sorted(options.study.glob(f"*/seed*/measures/{split}/report.json")):
            runs.setdefault(path.parents[3].name, {})[path.parents[2].name] = path.parents[2]
        print(f"\n{split}\n\n| {' | '.join(header)} |\n| --- |{' ---: |' * (len(header) - 1)}")
        for name in options.names or runs:
            if name in runs:
                print(line(name, runs[name], split, runs.get(options.against, {}) if options.against else None))


if __name__ == "__main__":
    main()
