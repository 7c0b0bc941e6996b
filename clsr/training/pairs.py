"""Questions and the passages that answer them, in training: frozen banks, and recall on the development set."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from clsr.config import LossConfig
from clsr.data.splits import Pair
from clsr.models.text_encoder import TextEncoder
from clsr.training.devices import gather_items, gather_rows, share
from clsr.training.losses import batch_nll
from clsr.vocabulary import normalise


class PairBank:
    """Frozen vectors of questions and of the texts that answer them, row by row: ``(N, E)`` each; groups ``(N,)``."""

    def __init__(self, pairs: list[Pair], text_encoder: TextEncoder):
        self.questions = text_encoder.encode([pair.question for pair in pairs], "question")
        self.passages = text_encoder.encode([normalise(pair.passage) for pair in pairs], "passage")
        self.groups = groups_of(pairs)

    def on(self, device: torch.device) -> PairBank:
        """Move to the device and stay there: a bank takes longer to copy than to be searched."""
        if self.questions.device != device:
            self.questions, self.passages = self.questions.to(device), self.passages.to(device)
            self.groups = self.groups.to(device)
        return self


def groups_of(pairs: Sequence[Pair]) -> Tensor:
    """Return the group of each pair, ``(N,)``."""
    return torch.tensor([pair.group for pair in pairs], dtype=torch.long)


class RecallMeter:
    """Collects passages batch by batch and says how many questions find one of theirs first."""

    def __init__(self) -> None:
        self.passages: list[Tensor] = []
        self.rows: list[Tensor] = []

    def add(self, passages: Tensor, rows: Tensor) -> None:
        """Add unit vectors ``(B, E)`` and the row of a question about each, ``(B,)``, -1 where there is none."""
        self.passages.append(passages.float().cpu())
        self.rows.append(rows.cpu())

    def recall_at_1(self, questions: Tensor, groups: Tensor) -> float:
        """Return the share of questions ``(N, E)`` whose best passage, on any device, is of their group ``(N,)``.

        Questions whose passages were not added do not count. Starts anew.
        """
        passages, rows = torch.cat(gather_items(self.passages)), torch.cat(gather_items(self.rows))
        self.passages.clear()
        self.rows.clear()
        found = torch.where(rows >= 0, groups[rows.clamp(min=0)], -1)
        counted = torch.isin(groups, found)
        best = (questions[counted] @ passages.T).argmax(1)
        return (found[best] == groups[counted]).float().mean().item()


def contrast(passages: Tensor, questions: Tensor, groups: Tensor, loss: LossConfig) -> Tensor:
    """Return the symmetric NLL of pairs whose both sides are learnt: of a batch, or of those of all devices.

    Args:
        passages: unit vectors ``(B, E)``.
        questions: unit vectors ``(B, E)``, row by row.
        groups: of the pairs, ``(B,)``.
        loss: temperature and negatives; there is no bank of what changes with every step.
    """
    if loss.negatives == "gathered":
        passages, questions, groups = (gather_rows(rows) for rows in (passages, questions, groups))
        return batch_nll(passages, questions, loss.temperature, groups)
    count = torch.tensor(len(passages), device=passages.device)
    return batch_nll(passages, questions, loss.temperature, groups) * share(count)
