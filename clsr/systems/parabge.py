"""ParaBGE: Paraformer's speech encoder beside the frozen text encoder, aligned by contrast alone (CLSR, Table 4)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from clsr.audio.features import Cmvn
from clsr.checkpoint import current_commit, load_text_side, load_weights, restore, save_checkpoint
from clsr.checkpoint_folder import Meta, load_config
from clsr.config import ModelConfig, TrainingConfig
from clsr.data.datamodule import Encoders, SpeechBatch, SpeechDataModule
from clsr.data.splits import Split, read_splits, require_pairs
from clsr.models.encoder import SanmEncoder
from clsr.models.frontend import make_frontend
from clsr.models.text_encoder import TextEncoder, load_text_encoder
from clsr.padding import pad
from clsr.text.folder import Side
from clsr.training.asr import fit_cmvn, front_end
from clsr.training.fit import Origin, fit, optimizers
from clsr.training.pairs import PairBank, RecallMeter, contrast_with_bank, sides_of

KIND = "parabge"
NO_TARGETS = Encoders(lambda text: [0], lambda text: [])  # of what learns no transcripts
STARTED_FROM = ("frontend.", "cmvn.", "encoder.")  # parts of a recogniser


class ParaBge(nn.Module):
    """SAN-M encoder, mean over frames, and a linear map into the space of the text encoder.

    Args:
        config: sizes of the encoder.
        text_width: width of the text encoder, E.
    """

    def __init__(self, config: ModelConfig, text_width: int):
        super().__init__()
        self.frontend = make_frontend(config)
        self.cmvn = Cmvn(self.frontend.size)
        self.encoder = SanmEncoder(self.frontend.size, config.encoder)
        self.projection = nn.Linear(config.encoder.width, text_width)

    def forward(self, features: Tensor, frame_lengths: Tensor) -> Tensor:
        """Turn rows ``(B, T, F)`` of the front end into unit vectors ``(B, E)``."""
        frames = self.frames(features, frame_lengths)
        return nn.functional.normalize(self.projection(frames.sum(1) / frame_lengths[:, None]), dim=1)

    def frames(self, features: Tensor, frame_lengths: Tensor) -> Tensor:
        """Turn rows ``(B, T, F)`` of the front end into frames ``(B, T, D)``, zero past each length."""
        return self.encoder(self.cmvn(self.frontend(features, frame_lengths)), frame_lengths)[0]

    @torch.inference_mode()
    def frame_vectors(self, waveform: np.ndarray) -> Tensor:
        """Return each stacked frame of a 16 kHz waveform in the space of the text encoder, ``(T, E)``, 60 ms a row.

        Their mean has the direction of the waveform's vector: the projection is linear.
        """
        return self.projection(self.frames(*pad(self.frontend.extract([waveform]))))[0]

    @torch.inference_mode()
    def encode(self, waveforms: Sequence[np.ndarray]) -> Tensor:
        """Turn 16 kHz waveforms ``(N_i,)`` into unit vectors ``(B, E)``."""
        vectors = [self(*pad(self.frontend.extract([waveform]))) for waveform in waveforms]
        return torch.cat(vectors)


class ParaBgeModule(pl.LightningModule):
    """Train ParaBGE; the text encoder is frozen, so its vectors are a bank."""

    def __init__(self, model: ParaBge, text_encoder: TextEncoder, config: TrainingConfig, splits: tuple[Split, Split]):
        super().__init__()
        self.model = model
        self.config = config
        self.bank = PairBank(splits[0].pairs, text_encoder)
        self.dev_bank = PairBank(splits[1].pairs, text_encoder)
        self.meter = RecallMeter()

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return Adam with warm-up and decay."""
        return optimizers(self, self.config)

    def training_step(self, batch: SpeechBatch, step: int) -> Tensor:
        """Return the symmetric NLL of a batch; spoken questions go through the same encoder as passages."""
        loss_config = self.config.loss
        vectors = self.model(batch.features, batch.frame_lengths)
        sides = sides_of(vectors, batch.pair_rows, batch.question_rows, gather=loss_config.negatives != "batch")
        loss = contrast_with_bank(sides, self.bank, loss_config)
        self.log("train/nll", loss.detach(), prog_bar=True, batch_size=len(batch.ids))
        return loss

    def validation_step(self, batch: SpeechBatch, step: int) -> None:
        """Keep the vectors of a development batch."""
        self.meter.add(self.model(batch.features, batch.frame_lengths), batch.pair_rows, batch.question_rows)

    def on_validation_epoch_end(self) -> None:
        """Log the share of questions whose own passage comes first."""
        self.log("dev/recall@1", self.meter.recall_at_1(self.dev_bank.questions, self.dev_bank.groups), prog_bar=True)


def train_parabge(config: TrainingConfig, data: Path, output: Path, start: Path | None = None) -> None:
    """Train ParaBGE and write its checkpoint.

    Args:
        config: settings; the encoder's sizes count here.
        data: folder with retrieval sets ``train`` and ``dev``.
        output: checkpoint folder.
        start: recogniser whose encoder it starts from, as the paper's does.
    """
    pl.seed_everything(config.seed, verbose=False)
    splits = read_splits(data, config.data.questions)
    require_pairs(splits, data)
    text_encoder = load_text_encoder(config.text_encoder)
    model = ParaBge(config.model, text_encoder.width)
    batches = begin(model, splits, config, start)
    origin = Origin.of(splits, text_encoder, start)
    state, metrics = fit(
        ParaBgeModule(model, text_encoder, config, splits), batches, config, output, "dev/recall@1", origin
    )
    weights = {name.removeprefix("model."): value for name, value in state.items()}
    meta = Meta(KIND, config.text_encoder, text_encoder.fingerprint, [], origin.data, current_commit(), metrics)
    save_checkpoint(output, weights, config, None, meta)


def begin(model: ParaBge, splits: tuple[Split, Split], config: TrainingConfig, start: Path | None) -> SpeechDataModule:
    """Return the batches of two splits, for a model that has begun as it is to begin.

    It begins with front end, normalisation and encoder of a recogniser, or with the statistics of the batches.
    """
    if start is not None:
        weights = {name: value for name, value in load_weights(start).items() if name.startswith(STARTED_FROM)}
        fresh = {name: value for name, value in model.state_dict().items() if name.startswith("projection.")}
        restore(model, weights | fresh, start)
    features, cached = front_end(model.frontend, config)
    encoders = NO_TARGETS._replace(features=features, cached=cached)
    batches = SpeechDataModule(*splits, encoders, config.data, config.seed)
    if start is None:
        fit_cmvn(model.cmvn, batches)
    return batches


def load_parabge(folder: Path | str) -> tuple[ParaBge, TextEncoder]:
    """Load ParaBGE and its text encoder from a checkpoint folder, ready for inference."""
    text_encoder = load_text_side(folder)
    model = ParaBge(load_config(folder).model, text_encoder.width)
    restore(model, load_weights(folder), folder)
    return model.eval(), text_encoder


class ParaBgeSystem:
    """ParaBGE behind `System`; to recognise is to encode: there is no text in between.

    Args:
        model: the speech encoder.
        text_encoder: the frozen text encoder, for typed questions.
    """

    rows: tuple[str, ...] = ("parabge",)

    def __init__(self, model: ParaBge, text_encoder: TextEncoder):
        self.model = model
        self.text_encoder = text_encoder

    def recognise(self, waveforms: Sequence[np.ndarray]) -> list[Tensor]:
        """Encode 16 kHz waveforms ``(N_i,)`` into unit vectors ``(E,)``."""
        return list(self.model.encode(waveforms))

    def transcribe(self, recognised: Sequence[Tensor]) -> None:
        """Write no transcript."""

    def encode(self, recognised: Sequence[Tensor], row: str, side: Side) -> Tensor:
        """Return the vectors ``(B, E)``, of questions as of passages."""
        return torch.stack(list(recognised))

    def encode_text(self, texts: Sequence[str], side: Side) -> Tensor:
        """Return the text encoder's vectors ``(B, E)``."""
        return self.text_encoder.encode(texts, side)
