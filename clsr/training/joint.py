"""Joint training: the recogniser learns from transcripts and, through the frozen text encoder, from questions."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from torch import Tensor

from clsr.audio.features import FRAME_S
from clsr.checkpoint import PASSAGE_PROJECTION, Meta, current_commit, load_passage_projection, save_checkpoint
from clsr.config import LossConfig, TrainingConfig
from clsr.data.datamodule import SpeechBatch, SpeechDataModule, split_batch
from clsr.data.splits import Split, read_splits, require_pairs
from clsr.errors import InputError
from clsr.models.adaptor import PassageProjection, best_codes, centred, training_codes
from clsr.models.paraformer import Paraformer, TrainingOutput
from clsr.models.text_encoder import TextEncoder, load_text_encoder
from clsr.training.asr import (
    AsrModule,
    accuracy,
    fit_cmvn,
    loss_counts,
    make_encoders,
    start_paraformer,
    total_loss,
    weights_of,
)
from clsr.training.devices import device_count, gather_rows, share
from clsr.training.fit import LOG_EVERY, Origin, fit
from clsr.training.lora import add_adapters, merged
from clsr.training.losses import bank_nll, batch_nll
from clsr.training.pairs import PairBank, RecallMeter, about_mean
from clsr.vocabulary import Vocabulary

log = logging.getLogger("clsr")


class _Cache(NamedTuple):
    """What a step leaves to ``backward``."""

    batch: SpeechBatch
    parts: list[SpeechBatch]
    seeds: list[int]
    sizes: list[int]  # rows of ``speech`` that each part has
    speech: Tensor  # vectors of the passages that are asked for, with their gradient
    weights: LossConfig


class JointModule(AsrModule):
    """Train a recogniser on transcripts and questions at once; the text encoder only passes gradients on."""

    def __init__(self, paraformer: Paraformer, vocabulary: Vocabulary, text_encoder: TextEncoder,
                 config: TrainingConfig, splits: tuple[Split, Split],
                 passage_projection: PassageProjection | None = None):  # fmt: skip
        train, dev = splits
        super().__init__(paraformer, vocabulary, config, dev)
        self.text_encoder = text_encoder
        self.passage_projection = passage_projection
        self.bank = PairBank(train.pairs, text_encoder)
        self.dev_bank = PairBank(dev.pairs, text_encoder)
        self.meter = RecallMeter()
        if passage_projection is not None and not config.loss.nll_weight:
            passage_projection.requires_grad_(False)  # several devices wait for the gradient of all that has one
        self._part_frames = int(config.trainer.chunk_s / FRAME_S)
        self._cache: _Cache | None = None

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        """Leave the frozen text encoder out of training states."""
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {n: value for n, value in state.items() if not n.startswith("text_encoder.")}

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        """Accept states without the text encoder."""
        checkpoint["state_dict"] |= {f"text_encoder.{k}": v for k, v in self.text_encoder.state_dict().items()}

    @property
    def codebook(self) -> Tensor:
        """The text encoder's word embedding of each output index, ``(V, E)``."""
        return self.text_encoder.word_embeddings[self.vocabulary.text_ids]

    def training_step(self, batch: SpeechBatch, step: int) -> Tensor:
        """Return the total loss of a batch, the contrastive one over the utterances that have a question."""
        weights = ramped(self.config.loss, self.global_step)
        parts = split_batch(batch, self._part_frames) if self._part_frames else [batch]
        if len(parts) > 1 and weights.nll_weight > 0:
            return self._cached_step(batch, parts, weights)
        output = self._recogniser_output(batch)
        losses = self.losses(output, batch)
        if weights.nll_weight > 0 and (device_count() > 1 or (batch.pair_rows >= 0).any()):
            losses["nll"] = self._nll(*self._speech(output, batch))
        if (self.global_step + 1) % LOG_EVERY == 0:  # a step that Lightning writes down
            self.log_dict(cif_gradients(self.paraformer, losses, weights), batch_size=len(batch.ids))
        return self.report(losses, accuracy(output, batch), len(batch.ids), weights)

    def _recogniser_output(self, batch: SpeechBatch) -> TrainingOutput:
        return self.paraformer(batch.features, batch.frame_lengths, batch.targets, batch.target_lengths)

    def _speech(self, output: TrainingOutput, batch: SpeechBatch) -> tuple[Tensor, Tensor]:
        """Return vectors of the passages that are asked for (on several devices of all), and their questions' rows."""
        # Devices meet where vectors are gathered: one whose passages nobody asks for must come there too.
        kept = batch.pair_rows >= (0 if device_count() == 1 else -1)
        if not kept.any():
            return self.codebook.new_zeros(0, self.text_encoder.width), batch.pair_rows[kept]
        codes = training_codes(output.logits[kept], self.codebook, self.config.model.adaptor)
        return self._as_passages(self.text_encoder(codes, batch.target_lengths[kept])), batch.pair_rows[kept]

    def _as_passages(self, vectors: Tensor) -> Tensor:
        return vectors if self.passage_projection is None else self.passage_projection(vectors)

    def _nll(self, speech: Tensor, rows: Tensor) -> Tensor:
        """Return the contrastive loss of speech ``(B, E)`` and the rows of its questions ``(B,)``, -1 for none."""
        loss = self.config.loss
        if loss.negatives != "batch":
            speech, rows = gather_rows(speech), gather_rows(rows)
        speech, rows = speech[rows >= 0], rows[rows >= 0]
        part = share(torch.tensor(len(rows), device=rows.device)) if loss.negatives == "batch" else 1.0
        if not len(rows):
            return speech.sum()  # 0
        bank = self.bank.on(speech.device)
        questions, passages = bank.questions, bank.passages
        if loss.centre or loss.negatives == "bank":
            passages = self._as_passages(passages)
        if loss.centre:
            questions = bank.centred_questions
            passages, mean = bank.centred_passages if self.passage_projection is None else about_mean(passages)
            speech = centred(speech, mean)
        if loss.negatives == "bank":
            return bank_nll(speech, rows, questions, passages, loss.temperature, bank.groups)
        return batch_nll(speech, questions[rows], loss.temperature, bank.groups[rows]) * part

    def _cached_step(self, batch: SpeechBatch, parts: list[SpeechBatch], weights: LossConfig) -> Tensor:
        """Return the contrastive loss of a batch that does not fit into memory whole (arXiv:2101.06983).

        All parts are encoded without gradients, and the loss is taken of their vectors; ``backward`` then goes through
        the recogniser part by part, with the gradient of the vectors known.
        """
        seeds = torch.randint(2**31, (len(parts),)).tolist()  # the second pass drops what the first one dropped
        losses: dict[str, Tensor] = {}
        right = torch.zeros((), device=self.device)
        vectors: list[Tensor] = []
        rows: list[Tensor] = []
        with torch.no_grad():
            for part, seed in zip(parts, seeds, strict=True):
                output, own = self._part_losses(part, batch, seed)
                losses = {name: losses.get(name, 0.0) + value for name, value in own.items()}
                right += accuracy(output, part) * part.target_lengths.sum() / batch.target_lengths.sum()
                for kept, values in zip((vectors, rows), self._speech(output, part), strict=True):
                    kept.append(values)
        speech = torch.cat(vectors).requires_grad_()
        losses["nll"] = self._nll(speech, torch.cat(rows))
        self._cache = _Cache(batch, parts, seeds, [len(of_part) for of_part in rows], speech, weights)
        self.report(losses, right, len(batch.ids), weights)
        return weights.nll_weight * losses["nll"]

    def _part_losses(
        self, part: SpeechBatch, batch: SpeechBatch, seed: int
    ) -> tuple[TrainingOutput, dict[str, Tensor]]:
        """Return the output for a part of a batch, and what its losses add to the means over the batch."""
        torch.manual_seed(seed)
        output = self._recogniser_output(part)
        counts, totals = loss_counts(part), loss_counts(batch)
        return output, {n: value * counts[n] / totals[n].clamp(min=1) for n, value in self.losses(output, part).items()}

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Compute gradients; of a cached step, part by part."""
        super().backward(loss, *args, **kwargs)
        cache, self._cache = self._cache, None
        if cache is None:
            return
        assert cache.speech.grad is not None
        gradients = cache.speech.grad.split(cache.sizes)
        for part, seed, gradient in zip(cache.parts, cache.seeds, gradients, strict=True):
            with self.trainer.precision_plugin.forward_context():
                output, losses = self._part_losses(part, cache.batch, seed)
                total = total_loss(losses, cache.weights) / self.trainer.accumulate_grad_batches
                speech, _ = self._speech(output, part)
            (total + (speech * gradient).sum()).backward()

    def validation_step(self, batch: SpeechBatch, step: int) -> None:
        """Count word errors, and keep the vectors of a development batch."""
        output = self.paraformer.recognise(batch.features, batch.frame_lengths)
        self.count_errors(batch, output)
        adaptor = self.config.model.adaptor
        codes = best_codes(output.tokens, output.log_probabilities, self.codebook, adaptor, adaptor.top_k)
        self.meter.add(self._as_passages(self.text_encoder(codes, output.token_lengths)), batch.pair_rows)

    def on_validation_epoch_end(self) -> None:
        """Log word error rate and recall."""
        super().on_validation_epoch_end()
        self.log("dev/recall@1", self.meter.recall_at_1(self.dev_bank.questions, self.dev_bank.groups), prog_bar=True)


def ramped(weights: LossConfig, step: int) -> LossConfig:
    """Return the weights of a step, counted from 0: that of the contrastive loss grows over its first steps."""
    share = min(1.0, (step + 1) / weights.nll_ramp_steps) if weights.nll_ramp_steps else 1.0
    return replace(weights, nll_weight=weights.nll_weight * share)


def cif_gradients(paraformer: Paraformer, losses: dict[str, Tensor], weights: LossConfig) -> dict[str, Tensor]:
    """Return the norm of the gradient that each loss, weighted, sends to the firing weights' own parameters.

    What an adaptor does to CIF shows here first: the paper's straight-through codes send either far too much or
    nothing.
    """
    shares = {"ce": 1 - weights.mae_weight - weights.nll_weight, "mae": weights.mae_weight, "nll": weights.nll_weight}
    parameters = [weight for weight in paraformer.predictor.parameters() if weight.requires_grad]
    norms: dict[str, Tensor] = {}
    if not parameters:  # frozen beside adapters
        return norms
    for name, weight in shares.items():
        if name in losses and losses[name].requires_grad:
            found = torch.autograd.grad(weight * losses[name], parameters, retain_graph=True, allow_unused=True)
            squares = [gradient.square().sum() for gradient in found if gradient is not None]
            norms[f"train/cif_gradient_{name}"] = torch.stack(squares).sum().sqrt() if squares else torch.tensor(0.0)
    return norms


def train_joint(config: TrainingConfig, data: Path, output: Path, start: Path | None = None) -> None:
    """Train recogniser and retrieval together and write the checkpoint.

    Args:
        config: settings.
        data: folder with retrieval sets ``train`` and ``dev``.
        output: checkpoint folder.
        start: recogniser to start from; without one, training starts from nothing (the paper's first rows).

    Raises:
        InputError: a split has no questions; gradient caching is asked for on several devices.
    """
    if config.trainer.chunk_s and config.trainer.devices > 1:
        raise InputError(
            f"trainer.chunk_s {config.trainer.chunk_s:g} with trainer.devices {config.trainer.devices}: gradients are "
            "cached on one device only; on several, take loss.negatives gathered"
        )
    if not config.loss.nll_weight:
        log.warning("loss.nll_weight is 0: nothing is learnt from questions")
    pl.seed_everything(config.seed, verbose=False)
    splits = read_splits(data)
    require_pairs(splits, data)
    text_encoder = load_text_encoder(config.text_encoder)
    vocabulary, paraformer, units = start_paraformer(config, splits[0], text_encoder, start)
    batches = SpeechDataModule(*splits, make_encoders(vocabulary, config, units), config.data, config.seed)
    if start is None:
        fit_cmvn(paraformer.cmvn, batches)
    adapted = add_adapters(paraformer, config, start)
    passage_projection = start_passage_projection(config, text_encoder, start)
    module = JointModule(paraformer, vocabulary, text_encoder, config, splits, passage_projection)
    origin = Origin.of(splits, text_encoder, start)
    state, metrics = fit(module, batches, config, output, "dev/recall@1", origin)
    meta = Meta("joint", config.text_encoder, text_encoder.fingerprint, units, origin.data, current_commit(), metrics)
    weights = merged(adapted, weights_of(state)) | {n: value for n, value in state.items() if n == PASSAGE_PROJECTION}
    save_checkpoint(output, weights, config, vocabulary, meta)


def start_passage_projection(
    config: TrainingConfig, text_encoder: TextEncoder, start: Path | None
) -> PassageProjection | None:
    """Return the passage projection to train: that of the start, else the identity; None where it is off."""
    if not config.model.adaptor.passage_projection:
        return None
    found = load_passage_projection(start, text_encoder.width) if start is not None else None
    return found or PassageProjection(text_encoder.width)
