"""Joint training: the recogniser learns from transcripts and, through the frozen text encoder, from questions."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytorch_lightning as pl
import torch
from torch import Tensor

from clsr.audio.features import FRAME_S
from clsr.byte_pairs import TextVocabulary
from clsr.checkpoint import PASSAGE_PROJECTION, current_commit, load_passage_projection, save_checkpoint
from clsr.checkpoint_folder import Meta
from clsr.config import LossConfig, TrainingConfig
from clsr.data.datamodule import SpeechBatch, SpeechDataModule, split_batch
from clsr.data.splits import Split, read_splits, require_pairs
from clsr.errors import InputError
from clsr.models.adaptor import PassageProjection, expand_codes, training_codes
from clsr.models.cif import merge_repeats
from clsr.models.paraformer import Paraformer
from clsr.models.text_encoder import TextEncoder, load_text_encoder
from clsr.text.folder import Side
from clsr.training.asr import (
    AsrModule,
    accuracy,
    fit_cmvn,
    make_encoders,
    start_paraformer,
    weights_of,
)
from clsr.training.devices import device_count
from clsr.training.fit import LOG_EVERY, Origin, fit
from clsr.training.gradient_cache import ForwardPass, forward_in_parts
from clsr.training.lora import add_adapters, merged
from clsr.training.pairs import PairBank, RecallMeter, contrast_with_bank, sides_of
from clsr.vocabulary import Vocabulary

log = logging.getLogger("clsr")


class JointModule(AsrModule):
    """Train a recogniser on transcripts and questions at once; the text encoder only passes gradients on."""

    def __init__(self, paraformer: Paraformer, vocabulary: TextVocabulary, text_encoder: TextEncoder,
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
        assert isinstance(self.vocabulary, Vocabulary)
        return self.text_encoder.word_embeddings[self.vocabulary.text_ids]

    def training_step(self, batch: SpeechBatch, step: int) -> Tensor:
        """Return the total loss of a batch, the contrastive one over the utterances that have a question."""
        weights = ramped(self.config.loss, self.global_step)
        # Devices meet where vectors are gathered: one whose passages have no question must come there too.
        contrasted = weights.nll_weight > 0 and (device_count() > 1 or bool((batch.pair_rows >= 0).any()))
        parts = split_batch(batch, self._part_frames) if self._part_frames else [batch]
        forward = partial(self.forward_pass, with_vectors=contrasted)
        found = forward(batch) if len(parts) == 1 else forward_in_parts(forward, parts)
        losses = dict(found.losses)
        if contrasted:
            losses["nll"] = self.contrastive(found)
        if len(parts) == 1 and (self.global_step + 1) % LOG_EVERY == 0:  # a step that Lightning writes down
            self.log_dict(cif_gradients(self.paraformer, losses, weights), batch_size=len(batch.ids))
        return self.report(losses, found.accuracy, len(batch.ids), weights)

    def forward_pass(self, batch: SpeechBatch, with_vectors: bool = True) -> ForwardPass:
        """Take a batch through the model: the recogniser's losses of all that is spoken, and the vectors of pairs."""
        output = self.paraformer(batch.features, batch.frame_lengths, batch.targets, batch.target_lengths)
        asked = batch.question_rows
        questions = asked >= 0 if asked is not None else torch.zeros_like(batch.pair_rows, dtype=torch.bool)
        passages = (batch.pair_rows >= (0 if device_count() == 1 else -1)) & ~questions
        losses, right = self.losses(output, batch), accuracy(output, batch)
        sides: list[tuple[Tensor, Side]] = [(passages, "passage"), (questions, "question")]  # in the order of a batch
        if not with_vectors:
            sides = [(torch.zeros_like(passages), "passage")]
        elif asked is None:
            sides = sides[:1]
        vectors = [self._vectors(output.logits[of], output.token_lengths[of], side) for of, side in sides]
        rows = torch.cat([batch.pair_rows[of] for of, _ in sides])
        asked = torch.cat([asked[of] for of, _ in sides]) if asked is not None else None
        return ForwardPass(losses, right, torch.cat(vectors), rows, asked)

    def _vectors(self, logits: Tensor, token_lengths: Tensor, side: Side) -> Tensor:
        """Return the vectors ``(P, E)`` of passages, or of spoken questions, from the decoder's logits."""
        if not len(logits):
            return self.text_encoder.word_embeddings.new_zeros(0, self.text_encoder.width)
        adaptor = self.config.model.adaptor
        if isinstance(self.vocabulary, Vocabulary):
            codes = training_codes(logits, self.codebook, adaptor)
        else:
            best = logits.topk(adaptor.top_k if adaptor.codes == "top_k" else 1, dim=2)
            tokens, scores = best.indices, best.values
            if self.config.model.cif.firings_per_token > 1:
                times = scores.new_zeros(*scores.shape[:2], 2)
                tokens, scores, token_lengths, *_ = merge_repeats(tokens, scores, token_lengths, times)
            codes, token_lengths = self._expanded(tokens, scores, token_lengths)
        vectors = self.text_encoder(codes, token_lengths, side)
        return self._as_passages(vectors) if side == "passage" else vectors

    def _expanded(self, tokens: Tensor, scores: Tensor, token_lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return the codes of best outputs ``(B, U, K)`` and of their scores, and how many there are."""
        lengths, adaptor = token_lengths.tolist(), self.config.model.adaptor
        outputs = [row[:length] for row, length in zip(tokens.cpu().numpy(), lengths, strict=True)]
        values = [row[:length] for row, length in zip(scores, lengths, strict=True)]
        embeddings = self.text_encoder.word_embeddings
        return expand_codes(outputs, values, self.vocabulary, embeddings, adaptor, scores.shape[2])

    def _as_passages(self, vectors: Tensor) -> Tensor:
        return vectors if self.passage_projection is None else self.passage_projection(vectors)

    def contrastive(self, found: ForwardPass) -> Tensor:
        """Return the contrastive loss of the pairs of a batch, or of the batches of all devices."""
        loss = self.config.loss
        sides = sides_of(found.vectors, found.rows, found.question_rows, gather=loss.negatives != "batch")
        return contrast_with_bank(sides, self.bank, loss, self._as_passages)

    def validation_step(self, batch: SpeechBatch, step: int) -> None:
        """Count word errors, and keep the vectors of a development batch."""
        output = self.paraformer.recognise(batch.features, batch.frame_lengths)
        self.count_errors(batch, output)
        adaptor = self.config.model.adaptor
        if adaptor.codes == "soft":  # what is trained without the quantiser is chosen without it
            codes, lengths = (
                training_codes(self.paraformer.logits(output.states), self.codebook, adaptor),
                output.token_lengths,
            )
        else:
            best = output.tokens[:, :, : adaptor.top_k], output.log_probabilities[:, :, : adaptor.top_k]
            codes, lengths = self._expanded(*best, output.token_lengths)
        vectors = self._as_passages(self.text_encoder(codes, lengths, "passage"))
        if batch.question_rows is not None:
            as_questions = self.text_encoder(codes, lengths, "question")
            vectors = torch.where((batch.question_rows >= 0)[:, None], as_questions, vectors)
        self.meter.add(vectors, batch.pair_rows, batch.question_rows)

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
    nothing. Each loss takes a backward pass of its own, so steps in parts (``gradient_cache``), where that would be
    one more pass over every part, do not log it.
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
        InputError: a split has no questions; codes do not suit the vocabulary; gradient caching is set on several
            devices.
    """
    if config.trainer.chunk_s and config.trainer.devices > 1:
        raise InputError(
            f"trainer.chunk_s {config.trainer.chunk_s:g} with trainer.devices {config.trainer.devices}: gradients are "
            "cached on one device only; on several, take loss.negatives gathered"
        )
    codes = config.model.adaptor.codes
    if config.model.decoder.kind == "whisper" and codes not in ("top_k", "hard"):
        raise InputError(f"model.adaptor.codes {codes}: byte pairs are words of several rows: take top_k or hard")
    if not config.loss.nll_weight:
        log.warning("loss.nll_weight is 0: nothing is learnt from questions")
    pl.seed_everything(config.seed, verbose=False)
    splits = read_splits(data, config.data.questions)
    require_pairs(splits, data)
    text_encoder = load_text_encoder(config.text_encoder)
    vocabulary, paraformer, units = start_paraformer(config, splits[0], text_encoder, start)
    batches = SpeechDataModule(*splits, make_encoders(vocabulary, config, units, paraformer), config.data, config.seed)
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
