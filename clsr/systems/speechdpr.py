"""SpeechDPR: a speech encoder that learns to score as a cascade does, without labels of relevance.

Lin et al. 2024 distil a cascade of a recogniser and a text retriever into two speech encoders. Here the recogniser's
part of the cascade is done beforehand: the passages' texts in the training data are what it wrote down
(``clsr data transcribed``), and the frozen text encoder scores them. The speech encoder is that of ParaBGE; typed
questions come from the text encoder through a linear map, spoken ones from the speech encoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from clsr.checkpoint import current_commit, load_text_side, load_weights, restore, save_checkpoint
from clsr.checkpoint_folder import Meta, load_config
from clsr.config import ModelConfig, TrainingConfig
from clsr.data.datamodule import SpeechBatch
from clsr.data.splits import Split, at_speeds, read_splits, require_pairs
from clsr.models.adaptor import PassageProjection
from clsr.models.text_encoder import TextEncoder, load_text_encoder
from clsr.systems.parabge import ParaBge, begin
from clsr.text.folder import Side
from clsr.training.devices import share
from clsr.training.fit import Origin, fit, optimizers
from clsr.training.losses import cosines, score_distillation
from clsr.training.pairs import RecallMeter, groups_of
from clsr.vocabulary import normalise

KIND = "speechdpr"


class SpeechDpr(nn.Module):
    """Speech encoder, and a linear map from the identity for the vectors of typed questions.

    Args:
        config: sizes of the speech encoder.
        text_width: width of the text encoder, E.
    """

    def __init__(self, config: ModelConfig, text_width: int):
        super().__init__()
        self.speech = ParaBge(config, text_width)
        self.question_map = PassageProjection(text_width)

    def forward(self, features: Tensor, frame_lengths: Tensor, questions: Tensor) -> Tensor:
        """Score the passages of a batch, ``(B, T, F)``, for typed questions ``(Q, E)``: cosines ``(Q, B)``."""
        return cosines(self.question_map(questions), self.speech(features, frame_lengths))

    def score_spoken(self, features: Tensor, frame_lengths: Tensor, are_questions: Tensor) -> Tensor:
        """Score the passages of a batch, ``(B, T, F)``, for the spoken questions in it, marked ``(B,)``: ``(Q, P)``."""
        vectors = self.speech(features, frame_lengths)
        return cosines(vectors[are_questions], vectors[~are_questions])


class SpeechDprModule(pl.LightningModule):
    """Train SpeechDPR on the scores of its teacher; all of the teacher's vectors are computed at the start."""

    def __init__(
        self, model: SpeechDpr, text_encoder: TextEncoder, config: TrainingConfig, splits: tuple[Split, Split]
    ):
        super().__init__()
        self.model = model
        self.config = config
        train, dev = splits
        texts = {u.id: normalise(u.text or "") for u in at_speeds(train, config.data.augment.speeds).utterances}
        row_of = {text: row for row, text in enumerate(dict.fromkeys(texts.values()))}
        self.rows = {utterance_id: row_of[text] for utterance_id, text in texts.items()}
        self.transcripts = text_encoder.encode(list(row_of))
        self.questions = text_encoder.encode([pair.question for pair in train.pairs], "question")
        self.dev_questions = text_encoder.encode([pair.question for pair in dev.pairs], "question")
        self.dev_groups = groups_of(dev.pairs)
        self.meter = RecallMeter()

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return Adam with warm-up and decay."""
        return optimizers(self, self.config)

    def training_step(self, batch: SpeechBatch, step: int) -> Tensor:
        """Return the divergence from the teacher's choice, for each question about the batch, among its passages."""
        pairs = batch.pair_rows[batch.pair_rows >= 0].cpu()
        questions = self.questions[pairs].to(self.device)
        transcripts = self.transcripts[[self.rows[i] for i in batch.ids if i in self.rows]].to(self.device)
        if batch.question_rows is None:
            student = self.model(batch.features, batch.frame_lengths, questions)
        else:
            student = self.model.score_spoken(batch.features, batch.frame_lengths, batch.question_rows >= 0)
        if not len(pairs):
            return student.sum()  # 0
        loss = score_distillation(student, cosines(questions, transcripts), self.config.loss.temperature)
        loss = loss * share(torch.tensor(len(pairs), device=self.device))
        self.log("train/kl", loss.detach(), prog_bar=True, batch_size=len(pairs))
        return loss

    def validation_step(self, batch: SpeechBatch, step: int) -> None:
        """Keep the vectors of a development batch."""
        vectors = self.model.speech(batch.features, batch.frame_lengths)
        self.meter.add(vectors, batch.pair_rows, batch.question_rows)

    def on_validation_epoch_end(self) -> None:
        """Log the share of questions whose own passage comes first."""
        with torch.no_grad():
            questions = self.model.question_map(self.dev_questions.to(self.device)).cpu()
        self.log("dev/recall@1", self.meter.recall_at_1(questions, self.dev_groups), prog_bar=True)


def train_speechdpr(config: TrainingConfig, data: Path, output: Path, start: Path | None = None) -> None:
    """Train SpeechDPR and write its checkpoint.

    Args:
        config: settings; the encoder's sizes and ``loss.temperature`` count here.
        data: folder with retrieval sets ``train`` and ``dev``, their passages' texts being what the teacher wrote down.
        output: checkpoint folder.
        start: recogniser whose encoder it starts from.
    """
    pl.seed_everything(config.seed, verbose=False)
    splits = read_splits(data, config.data.questions)
    require_pairs(splits, data)
    text_encoder = load_text_encoder(config.text_encoder)
    model = SpeechDpr(config.model, text_encoder.width)
    batches = begin(model.speech, splits, config, start)
    origin = Origin.of(splits, text_encoder, start)
    module = SpeechDprModule(model, text_encoder, config, splits)
    state, metrics = fit(module, batches, config, output, "dev/recall@1", origin)
    weights = {name.removeprefix("model."): value for name, value in state.items()}
    meta = Meta(KIND, config.text_encoder, text_encoder.fingerprint, [], origin.data, current_commit(), metrics)
    save_checkpoint(output, weights, config, None, meta)


def load_speechdpr(folder: Path | str) -> SpeechDprSystem:
    """Load SpeechDPR and its text encoder from a checkpoint folder."""
    text_encoder = load_text_side(folder)
    model = SpeechDpr(load_config(folder).model, text_encoder.width)
    restore(model, load_weights(folder), folder)
    return SpeechDprSystem(model.eval(), text_encoder)


class SpeechDprSystem:
    """SpeechDPR behind `System`; to recognise is to encode: there is no text in between.

    Args:
        model: the speech encoder and the map of typed questions.
        text_encoder: the frozen text encoder, for typed questions.
    """

    rows: tuple[str, ...] = ("speechdpr",)

    def __init__(self, model: SpeechDpr, text_encoder: TextEncoder):
        self.model = model
        self.text_encoder = text_encoder

    def recognise(self, waveforms: Sequence[np.ndarray]) -> list[Tensor]:
        """Encode 16 kHz waveforms ``(N_i,)`` into unit vectors ``(E,)``."""
        return list(self.model.speech.encode(waveforms))

    def transcribe(self, recognised: Sequence[Tensor]) -> None:
        """Write no transcript."""

    def encode(self, recognised: Sequence[Tensor], row: str, side: Side) -> Tensor:
        """Return the vectors ``(B, E)``, of questions as of passages."""
        return torch.stack(list(recognised))

    @torch.inference_mode()
    def encode_text(self, texts: Sequence[str], side: Side) -> Tensor:
        """Return the text encoder's vectors ``(B, E)``, those of questions through the map."""
        vectors = self.text_encoder.encode(texts, side)
        return self.model.question_map(vectors) if side == "question" else vectors
