"""ASR pre-training: a recogniser of the text encoder's pieces."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor

from clsr.audio.features import Cmvn, stack_frames
from clsr.byte_pairs import BytePairVocabulary, TextVocabulary
from clsr.checkpoint import current_commit, load_recogniser_weights, restore, save_checkpoint
from clsr.checkpoint_folder import Meta, load_config, load_vocabulary, read_meta, require_text_pieces
from clsr.config import LossConfig, TrainingConfig
from clsr.data.datamodule import Encoders, SpeechBatch, SpeechDataModule
from clsr.data.feature_cache import Extract, FeatureCache
from clsr.data.splits import Split, read_splits
from clsr.errors import InputError
from clsr.metrics.word_errors import WordErrors, pool, word_errors
from clsr.models.frontend import Frontend, ReleasedFrontend
from clsr.models.paraformer import DecoderOutput, Paraformer, TrainingOutput
from clsr.models.precision import lays_out_bfloat16, lower_part
from clsr.models.text_encoder import TextEncoder, load_text_encoder
from clsr.padding import length_mask
from clsr.training.devices import gather_items, share
from clsr.training.extension import add_rows, extended, missing_pieces, say_what_is_missing
from clsr.training.fit import Origin, fit, optimizers
from clsr.training.lora import add_adapters, merged
from clsr.training.losses import ctc_loss, quantity_loss, token_cross_entropy
from clsr.training.mwer import mwer
from clsr.vocabulary import BLANK, UNKNOWN, Vocabulary, fold_accents

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def asr_losses(output: TrainingOutput, batch: SpeechBatch, weights: LossConfig) -> dict[str, Tensor]:
    """Return the recogniser's losses by name, each before its weight.

    Where there are more firings than tokens, the place of the cross entropy is taken by that of all alignments (CTC).
    """
    merges = output.logits.shape[1] > batch.targets.shape[1]
    losses = {
        "ce": ctc_loss(output.logits.float(), output.token_lengths, batch.targets, batch.target_lengths)
        if merges
        else token_cross_entropy(output.logits, batch.targets, batch.target_lengths, weights.label_smoothing),
        "mae": quantity_loss(output.quantities, batch.target_lengths),
    }
    if output.ctc_logits is not None and weights.ctc_weight > 0:
        upsampling = output.ctc_logits.shape[1] // batch.features.shape[1]
        losses["ctc"] = ctc_loss(
            output.ctc_logits, batch.frame_lengths * upsampling, batch.ctc_targets, batch.ctc_lengths
        )
    return losses


def accuracy(output: TrainingOutput, batch: SpeechBatch) -> Tensor:
    """Return the share of tokens that the first pass got right; where outputs are merged, anywhere in the utterance."""
    mask = length_mask(batch.target_lengths, batch.targets.shape[1])
    if output.first_pass.shape != batch.targets.shape:
        fired = length_mask(output.token_lengths, output.first_pass.shape[1])
        outputs = output.first_pass.masked_fill(~fired, -1)
        return (outputs[:, None] == batch.targets[:, :, None]).any(2)[mask].float().mean()
    return (output.first_pass == batch.targets)[mask].float().mean()


def loss_counts(batch: SpeechBatch) -> dict[str, Tensor]:
    """Return how many things each of the recogniser's losses is a mean over: tokens, utterances or CTC units."""
    tokens = batch.target_lengths.sum()
    utterances = torch.tensor(len(batch.ids), device=tokens.device)
    return {"ce": tokens, "mae": tokens, "mwer": utterances, "ctc": batch.ctc_lengths.sum()}


def draw_outputs(targets: Tensor, size: int, count: int) -> Tensor:
    """Return the blank, all targets ``(B, U)`` and ``count`` random ones of ``size`` outputs: ascending, ``(C,)``."""
    drawn = torch.randint(size, (count,), device=targets.device)
    blank = torch.full((1,), BLANK, device=targets.device)
    return torch.cat([blank, targets.flatten(), drawn]).unique()


def total_loss(losses: dict[str, Tensor], weights: LossConfig) -> Tensor:
    """Return ``(1 - a - b) L_ASR + a L_MAE + b L_NLL`` (CLSR, the last equation of its method), CTC added."""
    asr = losses["ce"] + weights.mwer_weight * losses["mwer"] if "mwer" in losses else losses["ce"]
    total = (1 - weights.mae_weight - weights.nll_weight) * asr + weights.mae_weight * losses["mae"]
    if "nll" in losses:
        total = total + weights.nll_weight * losses["nll"]
    if "ctc" in losses:
        total = total + weights.ctc_weight * losses["ctc"]
    return total


class AsrModule(pl.LightningModule):
    """Train a Paraformer on transcripts."""

    def __init__(self, paraformer: Paraformer, vocabulary: TextVocabulary, config: TrainingConfig, dev: Split):
        super().__init__()
        self.paraformer = paraformer
        self.vocabulary = vocabulary
        self.config = config
        self.references = {utterance.id: fold_accents(utterance.text or "") for utterance in dev.speech}
        self.errors: list[WordErrors] = []
        if config.loss.mwer_weight > 0 and config.model.cif.firings_per_token > 1:
            raise InputError("loss.mwer_weight: MWER needs model.cif.firings_per_token 1: set either")
        if config.loss.mwer_weight > 0 and config.loss.sampled_outputs:
            raise InputError("loss.sampled_outputs: MWER needs all outputs: set it to 0, or loss.mwer_weight to 0")
        if paraformer.ctc is not None and not config.loss.ctc_weight:
            paraformer.ctc.requires_grad_(False)  # several devices wait for the gradient of all that has one

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return Adam with warm-up and decay."""
        return optimizers(self, self.config)

    def training_step(self, batch: SpeechBatch, step: int) -> Tensor:
        """Return the total loss of a batch."""
        outputs = None
        if count := self.config.loss.sampled_outputs:
            outputs = draw_outputs(batch.targets, self.paraformer.decoder.output_layer.out_features, count)
            batch = batch._replace(targets=torch.searchsorted(outputs, batch.targets))
        output = self.paraformer(batch.features, batch.frame_lengths, batch.targets, batch.target_lengths, outputs)
        return self.report(self.losses(output, batch), accuracy(output, batch), len(batch.ids), self.config.loss)

    def losses(self, output: TrainingOutput, batch: SpeechBatch) -> dict[str, Tensor]:
        """Return the recogniser's losses by name, each before its weight: this device's parts of the means."""
        loss, losses = self.config.loss, asr_losses(output, batch, self.config.loss)
        if loss.mwer_weight > 0:
            count, draw = loss.mwer_candidates, loss.mwer_draw
            losses["mwer"] = mwer(output.logits, batch.targets, batch.target_lengths, self.vocabulary, count, draw)
        counts = loss_counts(batch)
        return {name: value * share(counts[name]) for name, value in losses.items()}

    def report(self, losses: dict[str, Tensor], accuracy: Tensor, size: int, weights: LossConfig) -> Tensor:
        """Log the losses and the first-pass accuracy of a batch of ``size`` utterances; return the total loss."""
        losses["loss"] = total_loss(losses, weights)
        # Watch the accuracy and not the cross entropy where the sampler is on: the decoder may copy what it is given.
        values = {name: loss.detach() for name, loss in losses.items()} | {"accuracy": accuracy}
        self.log_dict({f"train/{name}": value for name, value in values.items()}, batch_size=size)
        self.log("loss", losses["loss"].detach(), prog_bar=True, logger=False, batch_size=size)
        return losses["loss"]

    def validation_step(self, batch: SpeechBatch, step: int) -> None:
        """Count the word errors of a development batch."""
        self.count_errors(batch, self.paraformer.recognise(batch.features, batch.frame_lengths))

    def count_errors(self, batch: SpeechBatch, output: DecoderOutput) -> None:
        """Count the word errors of what was recognised."""
        for i, utterance_id in enumerate(batch.ids):
            tokens = output.tokens[i, : output.token_lengths[i], 0].tolist()
            self.errors.append(word_errors(self.references[utterance_id], self.vocabulary.decode(tokens)))

    def on_validation_epoch_end(self) -> None:
        """Log the pooled word error rate."""
        self.log("dev/wer", pool(gather_items(self.errors)).value, prog_bar=True)
        self.errors.clear()


def ctc_units(units: str, vocabulary: TextVocabulary) -> list[str]:
    """Return what the auxiliary CTC predicts, by index, blank first."""
    if units == "none":
        return []
    if units == "pieces":
        return list(vocabulary.pieces)
    characters = {c for piece in vocabulary.pieces[UNKNOWN + 1 :] for c in piece.removeprefix("##")}
    return [vocabulary.pieces[0], *sorted(characters)]


def make_encoders(
    vocabulary: TextVocabulary, config: TrainingConfig, units: list[str], paraformer: Paraformer
) -> Encoders:
    """Return how transcripts become targets of the decoder and of the auxiliary CTC (no units: no targets).

    The features are those of filter banks, or of the recogniser's own front end where that is a released encoder.
    """
    features = front_end(paraformer.frontend, config)
    if config.model.ctc.units != "characters":
        return Encoders(vocabulary.encode, vocabulary.encode if units else lambda text: [], *features)
    index = {character: i for i, character in enumerate(units)}
    return Encoders(vocabulary.encode, lambda text: [index[c] for c in fold_accents(text) if c in index], *features)


def front_end(frontend: Frontend, config: TrainingConfig) -> tuple[Extract | None, Extract | None]:
    """Return what a released front end makes of a waveform, and the same through a cache on disk; None for neither.

    What is made anew at each step, of altered waveforms, is bfloat16 where training is, if the processor is fast at it.
    """
    if not isinstance(frontend, ReleasedFrontend):
        return None, None
    frozen = copy.deepcopy(frontend).eval()  # on the CPU, where batches are prepared; training moves the other
    fast = frozen
    if config.trainer.precision == "bf16-mixed" and lays_out_bfloat16():
        fast = lower_part(copy.deepcopy(frozen), "bf16", torch.device("cpu"))

    def extract(waveform: np.ndarray) -> Tensor:
        return fast.extract([waveform])[0]

    def extract_exactly(waveform: np.ndarray) -> Tensor:
        return frozen.extract([waveform])[0]

    folder = config.data.feature_dir
    return extract, FeatureCache(Path(folder), extract_exactly, frozen.fingerprint) if folder else None


def train_asr(config: TrainingConfig, data: Path, output: Path, start: Path | None = None) -> None:
    """Train a recogniser and write its checkpoint.

    Args:
        config: settings.
        data: folder with ``train`` and ``dev``, each a retrieval set or a Kaldi data directory.
        output: checkpoint folder.
        start: checkpoint to start from; its sizes are kept, and its vocabulary unless that is extended.
    """
    pl.seed_everything(config.seed, verbose=False)
    train, dev = read_splits(data)
    text_encoder = load_text_encoder(config.text_encoder)
    vocabulary, paraformer, units = start_paraformer(config, train, text_encoder, start)
    encoders = make_encoders(vocabulary, config, units, paraformer)
    batches = SpeechDataModule(train, dev, encoders, config.data, config.seed)
    if start is None:
        fit_cmvn(paraformer.cmvn, batches)
    adapted = add_adapters(paraformer, config, start)
    module = AsrModule(paraformer, vocabulary, config, dev)
    origin = Origin.of((train, dev), text_encoder, start)
    state, metrics = fit(module, batches, config, output, "dev/wer", origin)
    if isinstance(vocabulary, BytePairVocabulary):
        vocabulary.count_words(utterance.text or "" for utterance in train.utterances)
    meta = Meta("asr", config.text_encoder, text_encoder.fingerprint, units, origin.data, current_commit(), metrics)
    save_checkpoint(output, merged(adapted, weights_of(state)), config, vocabulary, meta)


def start_paraformer(
    config: TrainingConfig, train: Split, text_encoder: TextEncoder, start: Path | None
) -> tuple[TextVocabulary, Paraformer, list[str]]:
    """Return vocabulary, recogniser and CTC units: fresh ones, or those of a checkpoint, extended if set so."""
    tokenizer = text_encoder.tokenizer
    texts = [utterance.text or "" for utterance in train.speech]
    if start is None:
        whole = config.vocabulary == "whole"
        vocabulary = Vocabulary.whole(tokenizer) if whole else Vocabulary.of_texts(texts, tokenizer)
        units = ctc_units(config.model.ctc.units, vocabulary)
        return vocabulary, Paraformer(config.model, len(vocabulary), len(units)), units
    require_text_pieces(start)
    if config.model.decoder.kind == "whisper":
        return start_released(config, tokenizer, start)
    was = load_config(start).model.ctc.units
    if config.model.ctc.units not in (was, "none"):
        raise InputError(
            f"model.ctc.units is {config.model.ctc.units}, but {start} has {was}: leave it out, or take none"
        )
    vocabulary, units = Vocabulary.load(start / "vocabulary.txt", tokenizer), read_meta(start).ctc_units
    weights = load_recogniser_weights(start)
    if units and config.model.ctc.units == "none":  # training continues without it
        units, weights = [], {name: weight for name, weight in weights.items() if not name.startswith("ctc.")}
    missing, pieces = missing_pieces(texts, vocabulary)
    extend = config.vocabulary == "extend"
    say_what_is_missing(missing, pieces, extend, start)
    if missing and extend:
        vocabulary = extended(vocabulary, missing)
        new_units = ctc_units(config.model.ctc.units, vocabulary) if units else []
        units = [*units, *(unit for unit in new_units if unit not in units)]
        weights = add_rows(weights, len(vocabulary), units, config.model.ctc.upsampling)
    paraformer = Paraformer(config.model, len(vocabulary), len(units))
    restore(paraformer, weights, start)
    return vocabulary, paraformer, units


def start_released(
    config: TrainingConfig, tokenizer: Tokenizer, start: Path
) -> tuple[TextVocabulary, Paraformer, list[str]]:
    """Return what ``start_paraformer`` does, of a checkpoint with a released decoder: its pieces write any text."""
    if config.model.ctc.units != "none":
        raise InputError(f"model.ctc.units is {config.model.ctc.units}: beside a released decoder it has to be none")
    vocabulary = load_vocabulary(start, tokenizer)
    paraformer = Paraformer(config.model, len(vocabulary), 0, vocabulary.never)
    restore(paraformer, load_recogniser_weights(start), start)
    return vocabulary, paraformer, []


def fit_cmvn(cmvn: Cmvn, batches: SpeechDataModule, utterances: int = 500) -> None:
    """Take the normalisation statistics from an even spread of training utterances."""
    ids = sorted(batches.train_set.utterances)
    chosen = ids[:: max(1, len(ids) // utterances)]
    cmvn.fit(stack_frames(batches.train_set.frames(i)[0]) for i in chosen)


def weights_of(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the recogniser's weights out of a module's state."""
    prefix = "paraformer."
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
