"""Text-encoder pre-training: questions and the texts that answer them, contrasted within a batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from clsr.checkpoint import current_commit, save_checkpoint
from clsr.checkpoint_folder import Meta
from clsr.config import BUNDLED, TrainingConfig
from clsr.data.device_batches import DeviceBatches, EpochProgress, Rank, training_rank, validation_rank
from clsr.data.splits import Pair, read_splits, require_pairs
from clsr.models.text_encoder import TextEncoder, load_text_encoder
from clsr.training.devices import gather_items
from clsr.training.fit import Origin, fit, optimizers
from clsr.training.pairs import contrast, groups_of
from clsr.training_record import TrainingRecord
from clsr.vocabulary import normalise

PAIRS_A_BATCH = 32


class PairDataset(Dataset[Pair]):
    """Question and passage text, row by row."""

    def __init__(self, pairs: list[Pair]):
        self.pairs = pairs

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, row: int) -> Pair:
        return self.pairs[row]


class PairDataModule(pl.LightningDataModule):
    """Batches of question and passage texts.

    Args:
        train: pairs to train on.
        dev: pairs to measure on.
        seed: of their order.
    """

    def __init__(self, train: list[Pair], dev: list[Pair], seed: int):
        super().__init__()
        self.train_pairs = train
        self.dev_pairs = dev
        self.seed = seed
        self._progress = EpochProgress()

    def train_dataloader(self) -> DataLoader:
        """This device's batches, in a new order each epoch."""
        epoch = self.trainer.current_epoch if self.trainer else 0
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.train_pairs))
        return self._loader(self.train_pairs, order.tolist(), training_rank(self.trainer), self._progress.take())

    def val_dataloader(self) -> DataLoader:
        """This device's development batches, in order."""
        return self._loader(self.dev_pairs, list(range(len(self.dev_pairs))), validation_rank(self.trainer), 0)

    def _loader(self, pairs: list[Pair], order: list[int], rank: Rank, first: int) -> DataLoader:
        batches = [order[start : start + PAIRS_A_BATCH] for start in range(0, len(order), PAIRS_A_BATCH)]
        sampler = DeviceBatches(lambda: batches, rank, first)
        return DataLoader(PairDataset(pairs), batch_sampler=sampler, collate_fn=list)

    def state_dict(self) -> dict[str, int]:
        """Return where in the epoch training stands."""
        return self._progress.state(self.trainer)

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Resume where training stood."""
        self._progress.restore(state_dict)


class TextModule(pl.LightningModule):
    """Fine-tune a text encoder on pairs of texts."""

    def __init__(self, text_encoder: TextEncoder, config: TrainingConfig):
        super().__init__()
        self.text_encoder = text_encoder.requires_grad_(True).train()
        self.config = config
        self.dev_vectors: tuple[list[Tensor], list[Tensor]] = ([], [])  # of questions and of passages
        self.dev_groups: list[int] = []

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return Adam with warm-up and decay."""
        return optimizers(self, self.config)

    def _vectors(self, batch: list[Pair]) -> tuple[Tensor, Tensor]:
        ids = self.text_encoder.token_ids
        prompts = self.text_encoder.prompts
        questions = self.text_encoder.encode_ids([ids(prompts["question"] + pair.question) for pair in batch])
        passages = self.text_encoder.encode_ids([ids(prompts["passage"] + normalise(pair.passage)) for pair in batch])
        return questions, passages

    def training_step(self, batch: list[Pair], step: int) -> Tensor:
        """Return the symmetric NLL of a batch."""
        questions, passages = self._vectors(batch)
        loss = contrast(passages, questions, groups_of(batch).to(self.device), self.config.loss)
        self.log("train/nll", loss.detach(), prog_bar=True, batch_size=len(batch))
        return loss

    def validation_step(self, batch: list[Pair], step: int) -> None:
        """Keep the vectors of a development batch."""
        for kept, vectors in zip(self.dev_vectors, self._vectors(batch), strict=True):
            kept.append(vectors.float().cpu())
        self.dev_groups.extend(pair.group for pair in batch)

    def on_validation_epoch_end(self) -> None:
        """Log the share of questions whose own passage comes first."""
        questions, passages = (torch.cat(gather_items(kept)) for kept in self.dev_vectors)
        groups = torch.tensor(gather_items(self.dev_groups))
        best = (questions @ passages.T).argmax(1)
        self.log("dev/recall@1", (groups[best] == groups).float().mean().item(), prog_bar=True)
        for kept in (*self.dev_vectors, self.dev_groups):
            kept.clear()


def train_text(config: TrainingConfig, data: Path, output: Path, start: Path | None = None) -> None:
    """Fine-tune a text encoder and write it as ``output/text_encoder``, a sentence-transformers folder.

    Args:
        config: settings; ``loss.temperature`` and the optimizer count here.
        data: folder with retrieval sets ``train`` and ``dev``.
        output: checkpoint folder.
        start: not used by this stage: it starts from ``config.text_encoder``.
    """
    pl.seed_everything(config.seed, verbose=False)
    splits = read_splits(data)
    require_pairs(splits, data)
    text_encoder = load_text_encoder(config.text_encoder)
    batches = PairDataModule(splits[0].pairs, splits[1].pairs, config.seed)
    origin = Origin.of(splits, text_encoder, None)._replace(record=TrainingRecord("release"))
    state, metrics = fit(TextModule(text_encoder, config), batches, config, output, "dev/recall@1", origin)
    save_text_encoder(text_encoder, state, output)
    bundled = load_text_encoder(str(output / BUNDLED))
    meta = Meta("text", str(output / BUNDLED), bundled.fingerprint, [], origin.data, current_commit(), metrics)
    save_checkpoint(output, {}, config, None, meta)


def save_text_encoder(text_encoder: TextEncoder, state: dict[str, Tensor], output: Path) -> None:
    """Write the trained text encoder of a module's state beside the checkpoint's other files."""
    prefix = "text_encoder."
    own = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    text_encoder.load_state_dict(own)
    text_encoder.save(output / BUNDLED)
