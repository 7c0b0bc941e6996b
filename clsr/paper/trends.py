"""Figures of recall against what makes recognition harder: word errors (Figure 6 of the paper), and noise."""

from collections.abc import Iterable, Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from clsr.errors import InputError
from clsr.evaluation.report import read_report
from clsr.evaluation.scores import Report
from clsr.metrics.recall import Interval
from clsr.paper.drawing import finish_axes, image_format, new_figure, save_figure
from clsr.paper.results import (
    CLEAN,
    Condition,
    NoiseFamily,
    collect,
    condition_tags,
    noise_families,
    signal_to_noise,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RECALLS = ("recall@1", "recall@5", "recall@10")
_COLOURS = {"clsr-soft": "#08519c", "cascade": "#d95f02"}  # the rows of the figure of word errors
_MARKERS = {"as trained": "D", "earlier checkpoint": "o", "noise": "s", "unseen voice": "^"}
_NOISE_ROWS = {
    "text": "#969696", "clsr-soft": "#08519c", "clsr": "#6baed6", "cascade-8best": "#fdae6b", "cascade": "#d95f02",
    "whisper-bge": "#31a354", "whisper-bge-noisy": "#a1d99b", "whisper-bge-scratch": "#006d2c",
    "whisper-bge-scratch-noisy": "#74c476", "funasr-bge": "#e7298a", "parabge": "#756bb1", "clap": "#8c6d31",
    "speechdpr": "#000000",
}  # fmt: skip


class Point(NamedTuple):
    """Recall of one system in one evaluation, and the word errors of what it worked on.

    Attributes:
        row: the system.
        varied: what sets the evaluation apart, a key of the markers.
        condition: its tags without the seed: points that share it differ in the seed alone.
        wer: word error rate.
        recalls: intervals of Q-C recall@1, 5 and 10.
    """

    row: str
    varied: str
    condition: tuple[tuple[str, str], ...]
    wer: float
    recalls: dict[str, Interval]


def read_points(reports: Sequence[Path]) -> list[Point]:
    """Return a point for each report and each of the rows ``clsr-soft`` and ``cascade``, by rising word errors.

    Reports with noise in spoken questions are left out: word errors are those of passages alone.

    Raises:
        InputError: a report cannot be read, or none has both word errors and recall of these rows.
    """
    points = []
    for path in reports:
        report = read_report(path)
        tags = condition_tags(report, path)
        for row in report.rows if signal_to_noise(tags, "question_snr_db") == CLEAN else ():
            if row.name in _COLOURS and row.wer and row.q2c:
                recalls = {metric: row.q2c.intervals[metric] for metric in RECALLS}
                condition = tuple(tags.items())
                points.append(Point(row.name, _varied(report), condition, row.wer.total.value, recalls))
    if not points:
        raise InputError(f"{reports[0]}: no row {' or '.join(_COLOURS)} with word errors and recall: measure with one")
    return sorted(points, key=lambda point: point.wer)


def _varied(report: Report) -> str:
    """What made recognition harder: noise before an unseen voice before an earlier step of training."""
    if report.tags.get("snr_db", "clean") != "clean":
        return "noise"
    if "unseen" in report.tags.get("split", Path(report.set).name):
        return "unseen voice"
    return "earlier checkpoint" if "step" in report.tags else "as trained"


def rises(points: Sequence[Point], metric: str) -> list[tuple[Point, Point]]:
    """Return the pairs in which recall is significantly higher where there are more word errors.

    Significantly: the intervals do not overlap. A curve without such a pair falls within its intervals.
    """
    ordered = sorted(points, key=lambda point: point.wer)
    return [
        (fewer, more)
        for fewer, more in combinations(ordered, 2)
        if more.wer > fewer.wer and more.recalls[metric].low > fewer.recalls[metric].high
    ]


def describe_trend(points: Sequence[Point]) -> list[str]:
    """Say of each row and metric whether recall falls as word errors rise, in a line each.

    Where it does not, also whether it does among the evaluations that one thing sets apart: noise, voices, age.
    """
    lines = []
    for row in _COLOURS:
        of_row = [point for point in points if point.row == row]
        for metric in RECALLS if of_row else ():
            found = rises(of_row, metric)
            rates = [f"{100 * rate:.1f}" for rate in (of_row[0].wer, of_row[-1].wer)]
            start = f"{row} {metric}, {len(of_row)} points, WER {rates[0]} to {rates[1]} %:"
            if found:
                cells = ["WER {:.1f} %: {:.1f} [{:.1f}, {:.1f}]".format(
                    100 * p.wer, *(100 * bound for bound in p.recalls[metric])) for p in found[0]]  # fmt: skip
                alike = [pair for pair in found if pair[0].varied == pair[1].varied]
                within = f"{len(alike)} of them of one kind" if alike else "none of them of one kind of variation"
                pairs = f"{len(found)} pairs rise significantly ({' and '.join(cells)})"
                lines.append(f"{start} not monotone, {pairs}, {within}")
            else:
                lines.append(f"{start} monotone within its intervals")
    return lines


def wer_recall(reports: Sequence[Path], output: Path) -> list[str]:
    """Draw Q-C recall@1, 5 and 10 against the word error rate, a point a report, and say whether they fall with it.

    Colours are rows, markers what was varied. Where several seeds share a condition, they are faint points behind
    their mean. A line joins the conditions.

    Args:
        reports: folders of reports, or report.json files.
        output: PNG or SVG file.

    Returns:
        The lines of `describe_trend`.

    Raises:
        InputError: as `read_points`, or the suffix is of no figure.
    """
    image_format(output)
    points = read_points(reports)
    figure = new_figure(11, 4.2)
    panels = figure.subplots(1, len(RECALLS), sharey=True)
    for panel, metric in zip(panels, RECALLS):
        _draw_points(panel, points, metric)
        panel.set_title(f"Q-C {metric}", fontsize=10)
        panel.set_xlabel("word error rate (%)")
        panel.set_xlim(left=0)
        finish_axes(panel, legend=False)
    panels[0].set_ylabel("recall (%)")
    panels[0].set_ylim(0, 102)
    _name_points(panels[-1], points)
    save_figure(figure, output)
    return describe_trend(points)


def _draw_points(axes: "Axes", points: Sequence[Point], metric: str) -> None:
    for row, colour in _COLOURS.items():
        conditions: dict[tuple, list[Point]] = {}
        for point in points:
            if point.row == row:
                conditions.setdefault(point.condition, []).append(point)
        curve = []
        for seeds in conditions.values():
            alone = len(seeds) == 1
            for point in seeds:
                _draw_interval(axes, point, metric, alone)
            wer, recall = (100 * _mean(values) for values in (
                (p.wer for p in seeds), (p.recalls[metric].value for p in seeds)))  # fmt: skip
            curve.append((wer, recall))
            if not alone:
                axes.plot(
                    wer, recall, _MARKERS[seeds[0].varied], color=colour, mfc=_fill(row), markersize=5.5, zorder=4
                )
        if curve:
            axes.plot(*zip(*sorted(curve)), color=colour, linewidth=1, alpha=0.5, zorder=1)


def _draw_interval(axes: "Axes", point: Point, metric: str, whole: bool) -> None:
    """A point in percent with its interval; faint and small where it is one of several seeds."""
    value, low, high = (100 * bound for bound in point.recalls[metric])
    size, alpha, layer = (5.5, 1, 3) if whole else (3.5, 0.35, 2)
    whiskers = [_distances([value], [low]), _distances([value], [high])]
    colour, fill = _COLOURS[point.row], _fill(point.row)
    axes.errorbar(100 * point.wer, value, whiskers, fmt=_MARKERS[point.varied], capsize=2, markersize=size,
                  linewidth=0.9, color=colour, mfc=fill, alpha=alpha, zorder=layer)  # fmt: skip


def _fill(row: str) -> str:
    return "white" if row == "cascade" else _COLOURS[row]  # hollow, so that one point shows through another


def _name_points(axes: "Axes", points: Sequence[Point]) -> None:
    """A legend of rows by colour and of what was varied by marker, beside the last panel."""
    from matplotlib.lines import Line2D

    rows = [row for row in _COLOURS if any(point.row == row for point in points)]
    varied = [kind for kind in _MARKERS if any(point.varied == kind for point in points)]
    handles = [Line2D([], [], color=_COLOURS[row], marker="o", mfc=_fill(row), label=row) for row in rows]
    handles += [Line2D([], [], color="#525252", marker=_MARKERS[kind], linestyle="", label=kind) for kind in varied]
    axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.02, 1), frameon=False, fontsize=9)


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed)


def noise_curves(reports: Sequence[Path], output: Path) -> None:
    """Draw Q-C recall@1 of each row against the signal-to-noise ratio, clean speech at the right end.

    One panel for each set with noise in its passages, and for each with noise in its spoken questions. One report a
    condition: bars are its 95 % intervals; several seeds: bars go from the lowest to the highest.

    Args:
        reports: folders of reports, or report.json files.
        output: PNG or SVG file.

    Raises:
        InputError: a report cannot be read, none is tagged with noise, or the suffix is of no figure.
    """
    image_format(output)
    families = noise_families(collect(reports))
    if not families:
        raise InputError(f"{reports[0]}: no report with a tag snr_db or question_snr_db: measure with one")
    figure = new_figure(2 + 4.6 * len(families), 4.2)
    panels = figure.subplots(1, len(families), sharey=True, squeeze=False)[0]
    named: dict[str, object] = {}
    for panel, family in zip(panels, families):
        named |= _draw_family(panel, family)
        panel.set_title(f"{family.label}: noise in {family.noisy}", fontsize=10)
        panel.set_xlabel("signal-to-noise ratio (dB)")
        finish_axes(panel, legend=False)
    panels[0].set_ylabel("Q-C recall@1 (%)")
    panels[0].set_ylim(0, 102)
    order = [row for row in _NOISE_ROWS if row in named]
    panels[-1].legend([named[row] for row in order], order, loc="upper left", bbox_to_anchor=(1.02, 1),
                      frameon=False, fontsize=9)  # fmt: skip
    save_figure(figure, output)


def _draw_family(axes: "Axes", family: NoiseFamily) -> dict[str, object]:
    """A line a row; rows that share a ratio stand a little apart. Returns the drawn lines by row."""
    ratios = list(family.by_ratio)
    rows = [row for row in _NOISE_ROWS if any(row in c.rows for c in family.by_ratio.values())]
    drawn: dict[str, object] = {}
    for at, row in enumerate(rows):
        bars = {place: bar for place, ratio in enumerate(ratios) if (bar := _bar(family.by_ratio[ratio], row))}
        if bars:
            places = [place + 0.03 * (at - (len(rows) - 1) / 2) for place in bars]
            values, lows, highs = zip(*bars.values())
            whiskers = [_distances(values, lows), _distances(values, highs)]
            drawn[row] = axes.errorbar(places, values, yerr=whiskers, color=_NOISE_ROWS[row], marker="o",
                                       markersize=4, linewidth=1.3, capsize=2)  # fmt: skip
    axes.set_xticks(range(len(ratios)), ["clean" if ratio == CLEAN else f"{ratio:g}" for ratio in ratios])
    axes.set_xlim(-0.3, len(ratios) - 0.7)
    return drawn


def _distances(values: Iterable[float], bounds: Iterable[float]) -> list[float]:
    return [abs(bound - value) for value, bound in zip(values, bounds)]  # a mean of equal values may miss them by 1e-14


def _bar(condition: Condition, row: str) -> tuple[float, float, float] | None:
    """Recall@1 of a row in percent, and its bounds: the interval of one seed, the range of several."""
    found = [seed.q2c.intervals["recall@1"] for seed in condition.rows.get(row, {}).values() if seed.q2c]
    if not found:
        return None
    values = [100 * interval.value for interval in found]
    if len(found) == 1:
        return values[0], 100 * found[0].low, 100 * found[0].high
    return _mean(values), min(values), max(values)
