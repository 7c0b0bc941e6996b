"""Run a stage: from a module and batches to a checkpoint folder, resumed where it was interrupted."""

from __future__ import annotations

import csv
import json
import logging
import math
import os
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, LearningRateMonitor, ModelCheckpoint, TQDMProgressBar
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor

from clsr.checkpoint import average
from clsr.checkpoint_folder import fingerprint
from clsr.config import TrainingConfig
from clsr.data.splits import Split, data_digest
from clsr.errors import InputError
from clsr.extras import how_to_install, missing
from clsr.models.cif import FiringError
from clsr.models.text_encoder import TextEncoder
from clsr.settings import read_checkpoint_settings, write_yaml
from clsr.training.curve import LearningCurve, Patience
from clsr.training_record import TrainingRecord, begin_record, write_training

log = logging.getLogger("clsr")

LOG_EVERY = 50  # steps


def optimizers(module: pl.LightningModule, settings: TrainingConfig) -> OptimizerLRSchedulerConfig:
    """Return Adam and its schedule in Lightning's form: linear warm-up, then the same rate, or a cosine to a hundredth.

    Weights of a release have a rate of their own.
    """
    config = settings.optimizer
    named = [(name, parameter) for name, parameter in module.named_parameters() if parameter.requires_grad]
    own = [parameter for name, parameter in named if not _is_released(name, settings)]
    released = [parameter for name, parameter in named if _is_released(name, settings)]
    parameters: list[dict[str, Any]] = [{"params": own}]
    if released:
        parameters.append({"params": released, "lr": config.learning_rate * config.released_share})
    fused = settings.trainer.precision == "32-true"  # Lightning clips no gradients of a fused one in mixed precision
    optimizer = torch.optim.AdamW(
        parameters, config.learning_rate, betas=(0.9, 0.98), weight_decay=config.weight_decay, fused=fused
    )

    def factor(step: int) -> float:
        if step < config.warmup_steps:
            return (step + 1) / config.warmup_steps
        if config.schedule == "constant":
            return 1.0
        done = (step - config.warmup_steps) / max(1, config.max_steps - config.warmup_steps)
        return 0.01 + 0.99 * 0.5 * (1 + torch.cos(torch.tensor(min(1.0, done) * torch.pi)).item())

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _is_released(name: str, settings: TrainingConfig) -> bool:
    """Say whether a parameter of a training module comes from a release."""
    decoder = ("paraformer.decoder.layers.", "paraformer.decoder.after_norm.")
    kept = (*decoder, "paraformer.frontend.") if settings.model.decoder.kind == "whisper" else "paraformer.frontend."
    return name.startswith(kept)


class Origin(NamedTuple):
    """What a run is made of, beside its settings.

    Attributes:
        data: digest of the training data.
        dev: digest of the development data.
        text_encoder: fingerprint of the text encoder.
        start: fingerprint of the checkpoint it starts from; empty where there is none.
        record: what the trainings before this one took.
    """

    data: str
    dev: str
    text_encoder: str
    start: str
    record: TrainingRecord = TrainingRecord("nothing")

    @classmethod
    def of(cls, splits: tuple[Split, Split], text_encoder: TextEncoder, start: Path | None) -> Origin:
        """Return the origin of a run on two splits that starts from a checkpoint, or from nothing."""
        data, dev = (data_digest(split) for split in splits)
        started = fingerprint(start) if start is not None else ""
        return cls(data, dev, text_encoder.fingerprint, started, begin_record(start))

    @property
    def digests(self) -> dict[str, str]:
        """What a run that is resumed must have kept, by name."""
        return {name: value for name, value in self._asdict().items() if name != "record"}


def fit(
    module: pl.LightningModule,
    data: pl.LightningDataModule,
    config: TrainingConfig,
    output: Path,
    monitor: str,
    origin: Origin,
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Train a module, resuming from ``output/state/last.ckpt`` if an interrupted run left one.

    Args:
        module: what to train; its state is what ends up in the checkpoint.
        data: batches.
        config: settings of the stage.
        output: folder for states, logs (CSV and TensorBoard), the record of the training (``training.json``) and, by
            the caller, the checkpoint.
        monitor: development metric that says which states are best; lower is better unless it holds "recall".
        origin: data and start, which a run that is resumed must have kept.

    Returns:
        The mean of the best states, and the metrics of the best.

    Raises:
        InputError: the folder holds a run with other settings, data or start; or there are too few devices.
    """
    claim(output, config, origin)
    mode = "max" if "recall" in monitor else "min"
    states = output / "state"
    keep = ModelCheckpoint(
        states, "step-{step}", monitor=monitor, mode=mode, save_top_k=max(1, config.trainer.average),
        auto_insert_metric_name=False,
    )  # fmt: skip
    # A second one and no save_last, which writes last.ckpt only when the present state is among the best.
    resume = ModelCheckpoint(states, "last", enable_version_counter=False)
    csv, finite, curve = CSVLogger(output, "logs", version="csv"), FiniteLoss(output), LearningCurve(monitor)
    stop = [Patience(monitor, mode=mode, patience=config.trainer.patience)] if config.trainer.patience else []
    try:
        trainer = _trainer(config, csv, [finite, curve, keep, resume, *stop])
    except MisconfigurationException as error:
        raise InputError(f"trainer.devices {config.trainer.devices}: {' '.join(str(error).split())}") from error
    last = states / "last.ckpt"
    if last.exists():
        log.info("%s: resuming an interrupted run", output)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*(num_workers|batch_size|sync_dist|mid-epoch|LeafSpec|tree).*")
        warnings.filterwarnings("ignore", message=".*(logs directory|Checkpoint directory).*")
        warnings.filterwarnings("ignore", module="lhotse.*")
        if last.exists():  # the CSV logger starts its file anew, without what was logged before the interruption
            steps = torch.load(last, map_location="cpu", weights_only=False)["global_step"]
            rows = read_rows(output / "logs" / "csv" / "metrics.csv", steps)
            csv.experiment.metrics = rows
        try:
            trainer.fit(module, data, ckpt_path=last if last.exists() else None, weights_only=False)
        except SystemExit:  # what Lightning makes of Ctrl-C
            raise KeyboardInterrupt from None
        except InputError:
            raise
        except Exception as error:  # weights that are no numbers fail in many ways
            finite.require_weights(trainer, module, error)
            raise
    if not trainer.is_global_zero:  # what is left, the checkpoint, is written by the first process
        sys.exit(0)
    best = _best(keep, output)
    questions = config.data.questions if "recall" in monitor else ""
    write_training(output, curve.record(origin.record, any(one.is_over for one in stop), questions))
    return best


def claim(output: Path, config: TrainingConfig, origin: Origin) -> None:
    """Write settings and origin into the folder, or see that they are the ones of the run already there."""
    if int(os.environ.get("LOCAL_RANK", "0")):  # started by the first process, which has seen to it
        return
    settings, made_of = output / "config.yaml", output / "origin.json"
    if settings.exists() and (output / "state" / "last.ckpt").exists():
        other = ["settings"] if read_checkpoint_settings(TrainingConfig, settings) != config else []
        if made_of.exists():
            was = json.loads(made_of.read_text(encoding="utf-8"))
            other += [name.replace("_", " ") for name, value in origin.digests.items() if was.get(name) != value]
        if other:
            raise InputError(f"{output}: holds a run with other {other[0]}: name another --output, or delete it first")
        return
    try:
        output.mkdir(parents=True, exist_ok=True)
        made_of.write_text(json.dumps(origin.digests) + "\n", encoding="utf-8")
        write_yaml(settings, config)
    except OSError as error:
        raise InputError(f"{output}: cannot be written ({error.strerror}): name another --output") from error


def read_rows(metrics: Path, steps: int) -> list[dict[str, str]]:
    """Read the rows of a ``metrics.csv`` about its first steps: what came later is trained, and written, again."""
    if not metrics.exists():
        return []
    with metrics.open(encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if int(row["step"]) < steps]


def steps_between(max_steps: int, validate_every: int) -> int:
    """Return the steps between equally spaced measurements, the last of them at the end: no steps are thrown away.

    (Where no such spacing exists, fewer steps are left after the last one than there are measurements.)

    >>> steps_between(1000, 600), steps_between(1000, 250), steps_between(100, 600)
    (500, 250, 100)
    """
    return max_steps // math.ceil(max_steps / max(1, validate_every))


class FiniteLoss(Callback):
    """Ends a run whose loss or weights are no numbers any more, before such a state is kept, and says what to try.

    Where looking at the loss would make the processor wait for a device, only every fiftieth is looked at, and the one
    before each measurement.
    """

    def __init__(self, output: Path):
        self.output = output
        self.last = "none"  # finite loss
        self._loss: Tensor | None = None  # of the last batch

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look at the loss of a batch."""
        self._loss = outputs["loss"] if isinstance(outputs, Mapping) else outputs
        if pl_module.device.type == "cpu" or (batch_idx + 1) % LOG_EVERY == 0:
            self._require_loss(trainer)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look at the last loss before the state is measured, and kept."""
        self._require_loss(trainer)

    def require_weights(self, trainer: pl.Trainer, module: pl.LightningModule, error: Exception) -> None:
        """Say what to try where an error has come of weights that are no numbers, or that make no tokens."""
        if not all(bool(torch.isfinite(parameter).all()) for parameter in module.parameters()):
            raise InputError(self._message(trainer, "the weights are no numbers any more")) from error
        if isinstance(error, FiringError):
            raise InputError(self._message(trainer, f"no tokens are fired any more ({error})")) from error

    def _require_loss(self, trainer: pl.Trainer) -> None:
        if self._loss is None:
            return
        value = float(self._loss)
        if not math.isfinite(value):
            raise InputError(self._message(trainer, "the loss is no number any more"))
        self.last = f"{value:.4g} at step {trainer.global_step}"

    def _message(self, trainer: pl.Trainer, what: str) -> str:
        rate = trainer.optimizers[0].param_groups[0]["lr"] if trainer.optimizers else math.nan
        return (
            f"{self.output}: {what} at step {trainer.global_step} (last finite loss: {self.last}; "
            f"learning rate {rate:.3g}): lower optimizer.learning_rate or raise optimizer.warmup_steps, and train "
            "into another --output"
        )


class _Seeds(Callback):
    """Seeds each batch by its number and device, so that a resumed run draws what an uninterrupted one would."""

    def __init__(self, seed: int):
        self.seed = seed

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seed what dropout, sampler and candidates are drawn from."""
        place = [self.seed, trainer.fit_loop.epoch_loop.total_batch_idx, trainer.global_rank]
        torch.manual_seed(int(np.random.SeedSequence(place).generate_state(1)[0]))


class _ProgressBar(TQDMProgressBar):
    """Lightning's bar without the name of the log folder."""

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict:
        """Return what stands behind the bar."""
        return {name: value for name, value in super().get_metrics(trainer, pl_module).items() if name != "v_num"}


def _trainer(config: TrainingConfig, csv: CSVLogger, callbacks: list[Callback]) -> pl.Trainer:
    accumulate = config.trainer.accumulate
    if config.trainer.threads:
        torch.set_num_threads(config.trainer.threads)
    for name in ("pytorch_lightning.utilities.rank_zero", "pytorch_lightning.accelerators.cuda"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return pl.Trainer(
        max_steps=config.optimizer.max_steps,
        max_epochs=-1,
        # Counted in batches, where steps are meant.
        val_check_interval=accumulate * steps_between(config.optimizer.max_steps, config.trainer.validate_every),
        accumulate_grad_batches=accumulate,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        gradient_clip_val=config.optimizer.clip_norm,
        precision=config.trainer.precision,
        devices=config.trainer.devices,
        accelerator="auto",
        use_distributed_sampler=False,
        reload_dataloaders_every_n_epochs=1,
        callbacks=[*callbacks, _Seeds(config.seed), LearningRateMonitor("step"), _ProgressBar(refresh_rate=50)],
        logger=[csv, *_tensorboard(csv.root_dir)],
        log_every_n_steps=LOG_EVERY,
        enable_model_summary=False,
    )


def _tensorboard(folder: str) -> list[TensorBoardLogger]:
    if absent := missing(["tensorboard"]):
        log.info("%s; the curves are in metrics.csv alone", how_to_install(absent))
        return []
    return [TensorBoardLogger(folder, "", version="tensorboard")]


def _best(keep: ModelCheckpoint, output: Path) -> tuple[dict[str, Tensor], dict[str, float]]:
    if not keep.best_k_models:  # Lightning knows them by their full paths
        raise InputError(f"{output}: no measured state is left, as after moving the folder: delete it, and train again")
    loaded = [torch.load(path, map_location="cpu", weights_only=False) for path in keep.best_k_models]
    states: list[Mapping[str, Tensor]] = [state["state_dict"] for state in loaded]
    assert keep.monitor is not None
    best = {keep.monitor: float(keep.best_model_score)} if keep.best_model_score is not None else {}
    return average(states), best
