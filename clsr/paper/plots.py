"""Figures of a training run and of evaluations."""

import csv
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clsr.errors import InputError
from clsr.evaluation.report import read_report
from clsr.evaluation.scores import Report
from clsr.paper.drawing import finish_axes, image_format, new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Curve = tuple[list[float], list[float]]
"""The steps at which a quantity was logged, and its values there."""


def learning_curve(metrics_csvs: Sequence[Path], output: Path) -> None:
    """Draw word error rate, development recall and losses against the training step.

    One panel has every column that ends in ``wer``, in percent, one every column that has ``recall`` in its name, in
    percent too, and one every column that has ``loss`` in its name; a panel without curves is left out. Runs share the
    axes, each counting its own steps, and are named by their folders.

    Args:
        metrics_csvs: what Lightning's CSVLogger wrote, one file a run.
        output: PNG or SVG file to write; its folder is made where needed.

    Raises:
        InputError: a file is missing or has no ``step`` column, no file has anything to draw, or the suffix is of no
            figure.
    """
    image_format(output)
    curves: dict[str, dict[str, Curve]] = {"word error rate (%)": {}, "recall (%)": {}, "loss": {}}
    for run, file in zip(_run_names(metrics_csvs), metrics_csvs):
        for name, (steps, values) in _read_metrics(file).items():
            label = f"{run} {name}".strip()
            if name.endswith("wer"):
                curves["word error rate (%)"][label] = steps, [100 * value for value in values]
            elif "recall" in name:
                curves["recall (%)"][label] = steps, [100 * value for value in values]
            elif "loss" in name:
                curves["loss"][label] = steps, values
    drawn = {title: lines for title, lines in curves.items() if lines}
    if not drawn:
        raise InputError(
            f"{metrics_csvs[0]}: no column with a word error rate, a recall or a loss: name a training's metrics.csv"
        )
    figure = new_figure(9, 3.5 * len(drawn))
    panels = figure.subplots(len(drawn), 1, sharex=True, squeeze=False)[:, 0]
    for panel, (title, lines) in zip(panels, drawn.items()):
        for label, (steps, values) in lines.items():
            marker = "o" if len(steps) <= 50 else ""  # a curve of one point is to be seen too
            panel.plot(steps, values, marker=marker, markersize=3, linewidth=1.2, label=label)
        panel.set_ylabel(title)
        panel.set_ylim(bottom=0)
        finish_axes(panel)
    panels[-1].set_xlabel("training step")
    save_figure(figure, output)


def recall_bars(reports: Sequence[Path], output: Path) -> None:
    """Draw Q-C recall@1, 5 and 10 of every row with their 95 % intervals, one panel a report.

    Args:
        reports: folders that `clsr.evaluation.report.write_report` wrote, or their report.json files.
        output: PNG or SVG file to write; its folder is made where needed.

    Raises:
        InputError: a report cannot be read, or has no row with Q-C recall, or the suffix is of no figure.
    """
    image_format(output)
    contents = [read_report(path) for path in reports]
    for path, report in zip(reports, contents):
        if all(row.q2c is None for row in report.rows):
            raise InputError(f"{path}: no row was measured on questions, so there is no recall to draw: leave it out")
    most = max(sum(row.q2c is not None for row in report.rows) for report in contents)
    figure = new_figure(max(9, 1.4 * most), 3.5 * len(contents))  # names of rows are to stand side by side
    panels = figure.subplots(len(contents), 1, squeeze=False)[:, 0]
    for panel, name, report in zip(panels, _run_names(reports), contents):
        _draw_recall(panel, report)
        panel.set_title(f"{name}: {report.set}" if name else report.set, loc="left", fontsize=10)
    save_figure(figure, output)


def _draw_recall(axes: "Axes", report: Report) -> None:
    """Three bars a row, each with its value above and its interval as a whisker."""
    measured = [(row.name, row.q2c.intervals) for row in report.rows if row.q2c is not None]
    shades = {
        "recall@1": "#08519c",
        "recall@5": "#4292c6",
        "recall@10": "#9ecae1",
    }  # one hue: each holds the one before
    for at, (metric, shade) in enumerate(shades.items()):
        intervals = [metrics[metric] for _, metrics in measured]
        values = [100 * interval.value for interval in intervals]
        whiskers = [
            [100 * (interval.value - interval.low) for interval in intervals],
            [100 * (interval.high - interval.value) for interval in intervals],
        ]
        places = [row + 0.27 * (at - 1) for row in range(len(measured))]
        axes.bar(
            places, values, width=0.25, color=shade, yerr=whiskers, capsize=2, error_kw={"linewidth": 0.8}, label=metric
        )
        for place, value, interval in zip(places, values, intervals):
            axes.text(place, 100 * interval.high + 1.5, f"{value:.1f}", ha="center", fontsize=6)
    axes.set_xticks(range(len(measured)), [name for name, _ in measured])
    axes.set_ylim(0, 112)  # room for the figures above bars of 100 %
    axes.set_yticks(range(0, 101, 20))
    axes.set_ylabel("Q-C recall (%)")
    finish_axes(axes)


def _read_metrics(file: Path) -> dict[str, Curve]:
    """The logged quantities of one metrics.csv; a row without a value for one adds nothing to it."""
    series: dict[str, Curve] = {}
    try:
        with file.open(newline="", encoding="utf-8") as lines:
            for row in csv.DictReader(lines):
                step = float(row.pop("step"))
                for name, value in row.items():
                    if value:
                        steps, values = series.setdefault(name, ([], []))
                        steps.append(step)
                        values.append(float(value))
    except OSError as error:
        raise InputError(f"{file}: {error.strerror}: name a metrics.csv that training wrote") from error
    except (KeyError, ValueError, TypeError) as error:
        raise InputError(f"{file}: not a table of numbers with a step column ({error!r}): train again") from error
    return series


def _run_names(paths: Sequence[Path]) -> list[str]:
    """What tells the paths apart: their folders without what all begin or end with; nothing where there is one path."""
    if len(paths) == 1:
        return [""]
    files = [path.resolve() for path in paths]
    folders = [file if file.is_dir() else file.parent for file in files]
    names = folders if len(set(folders)) == len(paths) else files
    shared = os.path.commonpath(names)
    parts = [Path(os.path.relpath(name, shared)).parts for name in names]
    while all(parts) and len({own[-1] for own in parts}) == 1:
        parts = [own[:-1] for own in parts]
    return [os.path.join(*own) if own else "." for own in parts]
