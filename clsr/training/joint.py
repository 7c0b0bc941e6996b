"""Joint training: the recogniser learns from transcripts and, through the frozen text encoder, from questions."""

from __future__ import annotations

from pathlib import Path

import pytorch_lightning as pl
from torch import Tensor

from clsr.checkpoint import Meta, current_commit, save_checkpoint
from clsr.config import TrainingConfig
from clsr.data.datamodule import SpeechBatch, SpeechDataModule, Split, data_digest
from clsr.losses import bank_nll, batch_nll
from clsr.models.adaptor import top_k_codes, training_codes
from clsr.models.paraformer import Paraformer
from clsr.models.text_encoder import TextEncoder, load_text_encoder
from clsr.training.asr import AsrModule, asr_losses, fit_cmvn, make_encoders, read_splits, start_paraformer, weights_of
from clsr.training.fit import fit
from clsr.training.lora import add_adapters, merged
from clsr.training.pairs import PairBank, RecallMeter, require_pairs
from clsr.vocabulary import Vocabulary


class JointModule(AsrModule):
    """Train a recogniser on transcripts and questions at once; the text encoder only passes gradients on."""

    def __init__(self, paraformer: Paraformer, vocabulary: Vocabulary, text_encoder: TextEncoder,
                 config: TrainingConfig, splits: tuple[Split, Split]):  # fmt: skip
        train, dev = splits
        super().__init__(paraformer, vocabulary, config, dev)
        self.text_encoder = text_encoder
        self.bank = PairBank(train.pairs, text_encoder)
        self.dev_bank = PairBank(dev.pairs, text_encoder)
        self.meter = RecallMeter()

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        """Leave the frozen text encoder out of training states."""
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {name: value for name, value in state.items() if name.startswith("paraformer.")}

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        """Accept states without the text encoder."""
        checkpoint["state_dict"] |= {f"text_encoder.{k}": v for k, v in self.text_encoder.state_dict().items()}

    @property
    def code_table(self) -> Tensor:
        """The text encoder's embedding row of each output index, ``(V, E)``."""
        return self.text_encoder.table[self.vocabulary.text_ids]

    def training_step(self, batch: SpeechBatch, step: int) -> Tensor:
        """Return the total loss of a batch, the contrastive one over the utterances that have a question."""
        output = self.paraformer(batch.features, batch.frame_lengths, batch.targets, batch.target_lengths)
        losses = asr_losses(output, batch, self.config.loss)
        asked = batch.pair_rows >= 0
        if self.config.loss.nll_weight > 0 and asked.any():
            codes = training_codes(output.logits[asked], self.code_table, self.config.model.adaptor)
            speech = self.text_encoder(codes, batch.target_lengths[asked])
            losses["nll"] = self._nll(speech, batch.pair_rows[asked])
        return self.report(losses, output, batch)

    def _nll(self, speech: Tensor, rows: Tensor) -> Tensor:
        questions = self.bank.questions.to(speech)
        if self.config.loss.negatives == "batch":
            return batch_nll(speech, questions[rows], self.config.loss.temperature)
        return bank_nll(speech, rows, questions, self.bank.passages.to(speech), self.config.loss.temperature)

    def validation_step(self, batch: SpeechBatch, step: int) -> None:
        """Count word errors, and keep the vectors of a development batch."""
        super().validation_step(batch, step)
        heard = self.paraformer.recognise(batch.features, batch.frame_lengths)
        adaptor = self.config.model.adaptor
        codes = top_k_codes(heard.logits, self.code_table, adaptor.top_k, adaptor.gamma)
        self.meter.add(self.text_encoder(codes, heard.token_lengths), batch.pair_rows)

    def on_validation_epoch_end(self) -> None:
        """Log word error rate and recall."""
        super().on_validation_epoch_end()
        self.log("dev/recall@1", self.meter.recall_at_1(self.dev_bank.questions), prog_bar=True)


def train_joint(config: TrainingConfig, data: Path, output: Path, start: Path | None = None) -> None:
    """Train recogniser and retrieval together and write the checkpoint.

    Args:
        config: settings.
        data: folder with retrieval sets ``train`` and ``dev``.
        output: checkpoint folder.
        start: recogniser to start from; without one, training starts from nothing (the paper's first rows).

    Raises:
        InputError: a split has no questions.
    """
    pl.seed_everything(config.seed, verbose=False)
    splits = read_splits(data)
    require_pairs(splits, data)
    text_encoder = load_text_encoder(config.text_encoder)
    vocabulary, paraformer, units = start_paraformer(config, splits[0], text_encoder, start)
    batches = SpeechDataModule(*splits, make_encoders(vocabulary, config, units), config.data, config.seed)
    if start is None:
        fit_cmvn(paraformer.cmvn, batches)
    adapted = add_adapters(paraformer, config, start)
    module = JointModule(paraformer, vocabulary, text_encoder, config, splits)
    state, metrics = fit(module, batches, config, output, "dev/recall@1")
    digest = data_digest(splits[0])
    meta = Meta("joint", config.text_encoder, text_encoder.fingerprint, units, digest, current_commit(), metrics)
    save_checkpoint(output, merged(adapted, weights_of(state)), config, vocabulary, meta)
