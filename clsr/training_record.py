"""What a training took: its learning curve, and the steps, seconds and examples of all trainings that it goes back to.

A checkpoint folder has it as ``training.json``. A report and the paper's tables take it from there, so that a reader
sees which system started from nothing and for how long each was trained.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from clsr.checkpoint_folder import RELEASE, read_meta
from clsr.errors import InputError

FILE = "training.json"

Start = Literal["nothing", "release", "checkpoint"]
"""What the first of all trainings started from: random weights, a release, or a checkpoint without a record."""


class Cost(NamedTuple):
    """What trainings took together.

    Attributes:
        steps: of the optimizer.
        seconds: of the clock, measurements on the development set included.
        examples: utterances, or pairs of texts, each counted as often as it was seen.
    """

    steps: int = 0
    seconds: float = 0.0
    examples: int = 0


NO_COST = Cost()


class CurvePoint(NamedTuple):
    """A measurement on the development set, and what this training had taken by then."""

    step: int
    value: float
    seconds: float
    examples: int


@dataclass(frozen=True)
class TrainingRecord:
    """How a checkpoint was trained.

    Attributes:
        start: what the first training started from.
        before: cost of the trainings before this one.
        metric: development metric of the curve; empty where nothing was trained.
        questions: ``typed`` or ``spoken``; empty where no question was used.
        converged: whether the metric had stopped rising (``trainer.patience``) before the limit of steps.
        curve: measurements of this training, in order.
    """

    start: Start
    before: Cost = NO_COST
    metric: str = ""
    questions: str = ""
    converged: bool = False
    curve: list[CurvePoint] = field(default_factory=list)

    @property
    def total(self) -> Cost:
        """Cost of this training and of those before it."""
        if not self.curve:
            return self.before
        last, before = self.curve[-1], self.before
        return Cost(before.steps + last.step, before.seconds + last.seconds, before.examples + last.examples)

    @property
    def best(self) -> CurvePoint | None:
        """The first of the best measurements, whose weights are kept; of an error rate or a loss the lowest."""
        sign = 1 if "recall" in self.metric else -1
        return max(self.curve, key=lambda point: sign * point.value, default=None)

    def to_object(self) -> dict[str, Any]:
        """The record as JSON has it."""
        return asdict(self) | {
            "before": self.before._asdict(),
            "curve": [point._asdict() for point in self.curve],
        }

    @classmethod
    def from_object(cls, values: Mapping[str, Any]) -> TrainingRecord:
        """Read what ``to_object`` made.

        Raises:
            KeyError: a part is missing.
            TypeError: a part is of another kind.
            ValueError: it started from something unknown.
        """
        if values["start"] not in get_args(Start):
            raise ValueError(f"start {values['start']}")
        curve = [CurvePoint(**point) for point in values["curve"]]
        return cls(**{**values, "before": Cost(**values["before"]), "curve": curve})


def write_training(folder: Path, record: TrainingRecord) -> None:
    """Write the record beside a checkpoint."""
    (folder / FILE).write_text(json.dumps(record.to_object()) + "\n", encoding="utf-8")


def read_training(folder: Path) -> TrainingRecord | None:
    """Read the record beside a checkpoint; of a release, which has none, that it is one.

    Returns:
        ``None`` of a checkpoint of a version that kept no record.

    Raises:
        InputError: the record is damaged.
    """
    file = folder / FILE
    if file.is_file():
        try:
            return TrainingRecord.from_object(json.loads(file.read_text(encoding="utf-8")))
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{file}: damaged ({error!r}): copy the checkpoint again, or delete the file") from error
    if not (folder / "meta.json").is_file():
        return TrainingRecord("release")
    meta = read_meta(folder)
    return TrainingRecord("release") if meta.kind == RELEASE or meta.untrained else None


def begin_record(start: Path | None) -> TrainingRecord:
    """Return the record of a training that is about to start from a folder, or from random weights."""
    if start is None:
        return TrainingRecord("nothing")
    earlier = read_training(start)
    return TrainingRecord(earlier.start, earlier.total) if earlier else TrainingRecord("checkpoint")
