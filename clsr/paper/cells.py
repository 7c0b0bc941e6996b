"""Text cells of the paper's tables: systems by their names, recalls and error rates over seeds."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from clsr.evaluation.scores import DIRECTIONS, Direction, ReportRow
from clsr.metrics.recall import Interval
from clsr.paper.results import BySeed

NOT_RUN = "not run"
ABSENT = "–"
NUMBERS = "In percent. Several seeds: mean [lowest, highest]. A single report: value [95 % bootstrap interval]."
FIGURES = tuple((direction, f"recall@{k}") for direction in DIRECTIONS for k in (1, 5, 10))


class SystemLabel(NamedTuple):
    """The name of a system, what its questions and contexts are, and what the paper prints instead.

    The paper's text encoder is BGE; a run may have another, so our names say "text encoder".
    """

    label: str
    paradigm: str
    typed: str = "Text"  # what it takes of a typed question
    spoken: str = "Speech"  # and of a spoken one
    context: str = "Speech"
    published: str = ""  # what the paper prints for a spoken question, where that is something else
    paper: str = ""  # the paper's name, where that is another


_PIPELINE = ("Pipeline", "Text", "Transcript", "Transcript")
SYSTEMS = {
    "text": SystemLabel("text encoder, oracle", "E2E", "Text", "Text", "Text", paper="BGE"),
    "clap": SystemLabel("CLAP", "E2E", published="Text"),
    "speechdpr": SystemLabel("SpeechDPR", "E2E"),
    "whisper-bge": SystemLabel("Whisper + text encoder", *_PIPELINE, paper="Whisper+BGE"),
    "whisper-bge-noisy": SystemLabel("Whisper + fine-tuned text encoder", *_PIPELINE, paper="Whisper+BGE*"),
    "whisper-bge-scratch": SystemLabel("small Whisper from nothing + text encoder", *_PIPELINE),
    "whisper-bge-scratch-noisy": SystemLabel("small Whisper from nothing + fine-tuned text encoder", *_PIPELINE),
    "funasr-bge": SystemLabel("FunASR + text encoder", *_PIPELINE),
    "parabge": SystemLabel("ParaBGE", "E2E"),
    "cascade": SystemLabel("CLSR's transcript + text encoder", *_PIPELINE),
    "cascade-8best": SystemLabel("CLSR's 8 best + text encoder", *_PIPELINE),
    "clsr": SystemLabel("CLSR, hard codes", "E2E", paper="CLSR"),
    "clsr-unquantised": SystemLabel("CLSR, all rows mixed", "E2E"),
    "clsr-soft": SystemLabel("CLSR, soft codes", "E2E"),
}
"""By row name, in the order of the paper's rows."""


def system_name(row: str) -> str:
    """The name of a system, with that of its row in a report."""
    return f"{SYSTEMS[row].label} ({row})" if row in SYSTEMS else row


def paper_name(row: str) -> str:
    """The paper's name of a system, marked as such."""
    return f"paper: {SYSTEMS[row].paper or SYSTEMS[row].label}"


def labelled(label: str, rows: Sequence[list[str]]) -> list[list[str]]:
    """Rows with a first cell more: the label in the first row, nothing below it."""
    return [[label if at == 0 else "", *row] for at, row in enumerate(rows)]


def printed(cell: str) -> str:
    """A cell of the paper, an absent value as ours."""
    return ABSENT if cell == "-" else cell


def retrieval_cells(name: str, rows: BySeed | None) -> list[str]:
    """Word error rate and six recalls; of a noise ratio at which a system was not run, that it was not."""
    if not rows:
        return [NOT_RUN] * (1 + len(FIGURES))
    rates = [100 * row.wer.total.value for row in rows.values() if row.wer]
    wer = "0" if name == "text" else over_seeds(rates) if rates else ABSENT
    return [wer, *[_retrieval_cell(rows.values(), direction, metric) for direction, metric in FIGURES]]


def _retrieval_cell(rows: Iterable[ReportRow], direction: Direction, metric: str) -> str:
    found = [retrieval.intervals[metric] for row in rows if (retrieval := row.retrieval(direction))]
    return interval_cell(found) or ABSENT


def training_cells(rows: BySeed) -> list[str]:
    """What the first training of a system started from, and steps, seconds and examples of all, means over seeds."""
    trainings = [row.training for row in rows.values() if row.training]
    if not trainings:
        return [ABSENT] * 4
    starts = ", ".join(sorted({training.start for training in trainings}))
    totals = [training.total for training in trainings]
    if not any(total.steps for total in totals):
        return [starts, *[ABSENT] * 3]
    figures = (sum(values) / len(totals) for values in zip(*totals, strict=True))
    limit = "" if all(training.converged for training in trainings) else " †"
    steps, *others = (f"{figure:,.0f}" for figure in figures)
    return [starts, steps + limit, *others]


def interval_cell(intervals: Sequence[Interval]) -> str:
    """One interval as it is, several as their mean with the lowest and the highest; in percent."""
    if len(intervals) == 1:
        return "{:.1f} [{:.1f}, {:.1f}]".format(*(100 * bound for bound in intervals[0]))
    return over_seeds([100 * interval.value for interval in intervals]) if intervals else ""


def over_seeds(values: Sequence[float]) -> str:
    """Mean of percentages with the lowest and the highest; a single one by itself."""
    average = f"{sum(values) / len(values):.1f}"
    return average if len(values) == 1 else f"{average} [{min(values):.1f}, {max(values):.1f}]"


def mean(values: Iterable[float | None]) -> float | None:
    """Mean of the values that are known; None without any."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
