#!/usr/bin/env python3
"""Print a Markdown table of a study: a line for each change, figures over seeds as mean, lowest and highest.

Usage: tools/study_table.py STUDY [NAME ...], with STUDY/NAME/seed*/measures/SET/report.json and model/logs.
Gains are of clsr-soft over the cascade of the same model, with the 95 % interval of a bootstrap over questions and
seeds. Gradients at CIF are means over the steps of training, of the weighted losses.
"""

import csv
import sys
from pathlib import Path

import numpy as np

from clsr.evaluation.report import Report, Retrieval, read_report

DRAWS = 10_000
LOSSES = ("ce", "mae", "nll")
HEADER = "| change | seeds | WER | cascade R@1 | clsr-soft R@1 | gain | gradient at CIF: CE / MAE / NLL |"


def over_seeds(values: list[float]) -> str:
    """Return mean, lowest and highest of shares, in percent."""
    mean, low, high = (100 * v for v in (sum(values) / len(values), min(values), max(values)))
    return f"{mean:.1f} [{low:.1f}, {high:.1f}]"


def retrieval(report: Report, name: str) -> Retrieval:
    """Return what the questions found in a row."""
    found = next(row for row in report.rows if row.name == name).q2c
    assert found is not None
    return found


def gain(reports: list[Report]) -> str:
    """Return what soft codes gain over the cascade, with an interval over questions and seeds."""
    soft, plain = (
        np.stack([retrieval(report, name).values("recall@1") for report in reports])
        for name in ("clsr-soft", "cascade")
    )
    gains, chance = soft - plain, np.random.default_rng(0)
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


def line(name: str, folders: list[Path], split: str) -> str:
    """Return the table line of a change on a set."""
    reports = [read_report(folder / "measures" / split) for folder in folders]
    errors = [row.wer.total.value for report in reports for row in report.rows if row.name == "cascade" and row.wer]
    cells = [over_seeds(errors)]
    for row in ("cascade", "clsr-soft"):
        cells.append(over_seeds([retrieval(report, row).intervals["recall@1"].value for report in reports]))
    return f"| {name} | {len(folders)} | {' | '.join(cells)} | {gain(reports)} | {gradients(folders)} |"


def main(study: Path, names: list[str]) -> None:
    """Print a table for each set."""
    for split in sorted({path.parent.name for path in study.glob("*/seed*/measures/*/report.json")}):
        print(f"\n{split}\n\n{HEADER}\n| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
        for name in names or sorted(path.name for path in study.iterdir()):
            done = sorted(path.parents[2] for path in study.glob(f"{name}/seed*/measures/{split}/report.json"))
            if done:
                print(line(name, done, split))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
