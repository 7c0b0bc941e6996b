"""Post-training: the text encoder gets used to the recogniser's codes; the recogniser is frozen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor

from clsr.byte_pairs import TextVocabulary
from clsr.checkpoint import current_commit, load_passage_projection, load_weights, save_checkpoint
from clsr.checkpoint_folder import Meta, require_trained
from clsr.config import BUNDLED, TrainingConfig
from clsr.data.datamodule import SpeechBatch, SpeechDataModule
from clsr.data.splits import Split, read_splits, require_pairs
from clsr.errors import InputError
from clsr.models.adaptor import PassageProjection, expand_codes
from clsr.models.paraformer import Paraformer
from clsr.models.text_encoder import TextEncoder, load_text_encoder
from clsr.training.asr import make_encoders, start_paraformer
from clsr.training.fit import Origin, fit, optimizers
from clsr.training.pairs import PairBank, RecallMeter, contrast, groups_of, sides_of
from clsr.training.text import save_text_encoder


class PostModule(pl.LightningModule):
    """Fine-tune the text encoder on questions and spoken passages (CLSR, "post-train" of its ablation).

    Passages without a question teach nothing.
    """

    def __init__(self, paraformer: Paraformer, vocabulary: TextVocabulary, text_encoder: TextEncoder,
                 config: TrainingConfig, splits: tuple[Split, Split],
                 passage_projection: PassageProjection | None = None):  # fmt: skip
        super().__init__()
        self.paraformer = paraformer.requires_grad_(False)
        self.passage_projection = passage_projection.requires_grad_(False) if passage_projection is not None else None
        self.text_encoder = text_encoder.requires_grad_(True).train()
        self.vocabulary = vocabulary
        self.config = config
        self.train_pairs, self.dev_pairs = splits[0].pairs, splits[1].pairs
        self.groups = groups_of(self.train_pairs)
        self.meter = RecallMeter()

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return Adam with warm-up and decay."""
        return optimizers(self, self.config)

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        """Leave the frozen recogniser out of training states."""
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {name: value for name, value in state.items() if name.startswith("text_encoder.")}

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        """Accept states without the recogniser."""
        own = self.state_dict()
        checkpoint["state_dict"] |= {name: own[name] for name in own if not name.startswith("text_encoder.")}

    def _speech(self, batch: SpeechBatch) -> Tensor:
        """Return the vectors ``(B, E)`` of passages and of spoken questions."""
        self.paraformer.eval()
        with torch.no_grad():
            output = self.paraformer.recognise(batch.features, batch.frame_lengths)
        adaptor, lengths = self.config.model.adaptor, output.token_lengths.tolist()
        tokens = [row[:length] for row, length in zip(output.tokens.cpu().numpy(), lengths, strict=True)]
        scores = [row[:length] for row, length in zip(output.log_probabilities, lengths, strict=True)]
        embeddings = self.text_encoder.word_embeddings
        codes, lengths_of_codes = expand_codes(tokens, scores, self.vocabulary, embeddings, adaptor, adaptor.top_k)
        vectors = self.text_encoder(codes, lengths_of_codes, "passage")
        vectors = vectors if self.passage_projection is None else self.passage_projection(vectors)
        if batch.question_rows is None:
            return vectors
        as_questions = self.text_encoder(codes, lengths_of_codes, "question")
        return torch.where((batch.question_rows >= 0)[:, None], as_questions, vectors)

    def training_step(self, batch: SpeechBatch, step: int) -> Tensor:
        """Return the symmetric NLL of the pairs of a batch."""
        passages, pair_rows, questions = sides_of(self._speech(batch), batch.pair_rows, batch.question_rows)
        rows = pair_rows.tolist()
        if not rows:
            return passages.sum()  # 0
        if questions is None:
            prompt = self.text_encoder.prompts["question"]
            ids = [self.text_encoder.token_ids(prompt + self.train_pairs[row].question) for row in rows]
            questions = self.text_encoder.encode_ids(ids)
        loss = contrast(passages, questions, self.groups[rows].to(self.device), self.config.loss)
        self.log("train/nll", loss.detach(), prog_bar=True, batch_size=len(rows))
        return loss

    def validation_step(self, batch: SpeechBatch, step: int) -> None:
        """Keep the vectors of a development batch."""
        self.meter.add(self._speech(batch), batch.pair_rows, batch.question_rows)

    def on_validation_epoch_end(self) -> None:
        """Log the share of questions whose own passage comes first."""
        bank = PairBank(self.dev_pairs, self.text_encoder)
        self.log("dev/recall@1", self.meter.recall_at_1(bank.questions, bank.groups), prog_bar=True)


def train_post(config: TrainingConfig, data: Path, output: Path, start: Path | None = None) -> None:
    """Fine-tune the text encoder of a trained model; the checkpoint carries both.

    Args:
        config: settings; ``loss.temperature`` and the optimizer count here.
        data: folder with retrieval sets ``train`` and ``dev``.
        output: checkpoint folder.
        start: checkpoint to start from.

    Raises:
        InputError: no checkpoint to start from, or one whose recogniser is not trained.
    """
    if start is None:
        raise InputError("post-training needs a trained model: name it with --start")
    pl.seed_everything(config.seed, verbose=False)
    splits = read_splits(data, config.data.questions)
    require_pairs(splits, data)
    require_trained(start)  # the recogniser stays as it is here
    text_encoder = load_text_encoder(config.text_encoder)
    frozen = replace(config, vocabulary="corpus")  # rows added to a recogniser that learns nothing would stay noise
    vocabulary, paraformer, units = start_paraformer(frozen, splits[0], text_encoder, start)
    batches = SpeechDataModule(*splits, make_encoders(vocabulary, config, units, paraformer), config.data, config.seed)
    passage_projection = load_passage_projection(start, text_encoder.width)
    module = PostModule(paraformer, vocabulary, text_encoder, config, splits, passage_projection)
    origin = Origin.of(splits, text_encoder, start)
    state, metrics = fit(module, batches, config, output, "dev/recall@1", origin)
    save_text_encoder(text_encoder, state, output)
    bundled = load_text_encoder(str(output / BUNDLED))
    meta = Meta("post", config.text_encoder, bundled.fingerprint, units, origin.data, current_commit(), metrics)
    save_checkpoint(output, load_weights(start), config, vocabulary, meta)
