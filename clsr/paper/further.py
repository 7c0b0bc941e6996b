"""Figures that the paper's columns have no place for: they stand in a line below a table."""

from collections.abc import Callable, Sequence

from clsr.evaluation.scores import ReportRow
from clsr.metrics.recall import SUCCESSES
from clsr.paper.cells import over_seeds
from clsr.paper.results import Condition

SEVERAL = (
    "Where a passage answers several questions, C-Q R@k is the share of them among the first k, and success@k the "
    "share of passages with any of them there. The paper does not say which it reports. Its C-Q R@1 falls from 67.84 "
    "on Spoken-SQuAD*, with one question a passage, to 50.63 on Spoken-SQuAD, with several. This suggests recall: "
    "success does not fall with more questions a passage."
)


def further_figures(conditions: Sequence[Condition], systems: Sequence[str]) -> list[str]:
    """Word error rates by Whisper's normaliser, and success where passages answer several questions."""
    rates = _by_system(conditions, systems, _english_rate)
    successes = _by_system(conditions, systems, _success)
    lines = [f"WER by Whisper's English normaliser: {rates}."] if rates else []
    return [*lines, SEVERAL, f"C-Q success@1: {successes}."] if successes else lines


def _english_rate(row: ReportRow) -> float | None:
    return 100 * row.wer.english.value if row.wer and row.wer.english else None


def _success(row: ReportRow) -> float | None:
    found = row.c2q and row.c2q.intervals.get(SUCCESSES[0])
    return 100 * found.value if found else None


def _by_system(
    conditions: Sequence[Condition], systems: Sequence[str], figure: Callable[[ReportRow], float | None]
) -> str:
    """A figure of each system on each set that has it, over seeds."""
    parts = []
    for condition in conditions:
        found = {n: [figure(row) for row in condition.rows[n].values()] for n in systems if n in condition.rows}
        known = {n: [value for value in values if value is not None] for n, values in found.items()}
        cells = [f"{name} {over_seeds(values)}" for name, values in known.items() if values]
        parts += [f"{condition.label}: {', '.join(cells)}"] if cells else []
    return "; ".join(parts)
