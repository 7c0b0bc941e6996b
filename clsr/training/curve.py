"""The learning curve of a training, kept while it runs."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, EarlyStopping

from clsr.data.datamodule import SpeechBatch
from clsr.training.devices import gather_items
from clsr.training_record import CurvePoint, TrainingRecord


class LearningCurve(Callback):
    """Notes each measurement on the development set, with the seconds and the examples of all devices until then.

    A resumed run continues the curve of the interrupted one; what that did after its last measurement is done again,
    and does not count twice.

    Args:
        monitor: development metric.
    """

    def __init__(self, monitor: str):
        self.monitor = monitor
        self.points: list[CurvePoint] = []
        self._resumed = CurvePoint(0, 0.0, 0.0, 0)  # the last point of the interrupted run
        self._begun = 0.0
        self._examples = 0  # of this device, since then

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._begun = time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the utterances, or pairs of texts, of a batch."""
        self._examples += len(batch.ids) if isinstance(batch, SpeechBatch) else len(batch)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note a measurement."""
        seconds = self._resumed.seconds + time.perf_counter() - self._begun
        examples = self._resumed.examples + sum(gather_items([self._examples]))
        value = float(trainer.callback_metrics[self.monitor])
        self.points.append(CurvePoint(trainer.global_step, value, round(seconds, 3), examples))

    def state_dict(self) -> dict[str, Any]:
        """Return the curve so far."""
        return {"points": [tuple(point) for point in self.points]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue a curve."""
        self.points = [CurvePoint(*point) for point in state_dict["points"]]
        self._resumed = self.points[-1] if self.points else self._resumed

    def record(self, begun: TrainingRecord, converged: bool, questions: str) -> TrainingRecord:
        """Return the record of a training that has ended.

        Args:
            begun: its start and what was before it.
            converged: whether its metric had stopped rising.
            questions: typed, spoken, or empty.
        """
        return replace(begun, metric=self.monitor, questions=questions, converged=converged, curve=self.points)


class Patience(EarlyStopping):
    """Ends training when the metric has not improved in so many measurements, for good: no resumed run goes on."""

    @property
    def is_over(self) -> bool:
        """Whether the metric has stopped improving."""
        return self.wait_count >= self.patience

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """End a run at once that had ended before."""
        trainer.should_stop = trainer.should_stop or self.is_over
