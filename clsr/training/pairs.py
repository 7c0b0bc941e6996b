"""Questions and the passages that answer them, in training: frozen banks, and recall on the development set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from clsr.config import LossConfig
from clsr.data.splits import Pair
from clsr.models.text_encoder import TextEncoder
from clsr.training.devices import gather_items, gather_rows, share
from clsr.training.losses import bank_nll, batch_nll
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
        self.questions: list[Tensor] = []  # spoken
        self.question_rows: list[Tensor] = []

    def add(self, vectors: Tensor, rows: Tensor, question_rows: Tensor | None = None) -> None:
        """Add unit vectors ``(B, E)``: of passages, and of recorded questions.

        Args:
            vectors: of utterances.
            rows: row of a question about each, ``(B,)``, -1 where there is none.
            question_rows: row of the question that each is, ``(B,)``, -1 for a passage; None for passages alone.
        """
        vectors, rows = vectors.float().cpu(), rows.cpu()
        if question_rows is not None:
            question_rows = question_rows.cpu()
            spoken = question_rows >= 0
            self.questions.append(vectors[spoken])
            self.question_rows.append(question_rows[spoken])
            vectors, rows = vectors[~spoken], rows[~spoken]
        self.passages.append(vectors)
        self.rows.append(rows)

    def recall_at_1(self, questions: Tensor, groups: Tensor) -> float:
        """Return the share of questions ``(N, E)`` whose best passage, on any device, is of their group ``(N,)``.

        A recorded question that was added stands in for its text. Questions whose passages were not added do not
        count. Starts anew.
        """
        passages, rows = torch.cat(gather_items(self.passages)), torch.cat(gather_items(self.rows))
        if spoken := gather_items(self.questions):
            questions = questions.cpu().clone()
            questions[torch.cat(gather_items(self.question_rows))] = torch.cat(spoken)
        for kept in (self.passages, self.rows, self.questions, self.question_rows):
            kept.clear()
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


class Sides(NamedTuple):
    """The two sides of the pairs of a batch, row by row."""

    passages: Tensor  # (P, E) unit vectors of spoken passages
    rows: Tensor  # (P,) rows of their questions in the bank
    questions: Tensor | None  # (P, E) unit vectors of these questions where they are spoken


def sides_of(vectors: Tensor, rows: Tensor, asked: Tensor | None, gather: bool = False) -> Sides:
    """Split the vectors of a batch into passages that have a question, and their questions.

    Args:
        vectors: of utterances, ``(B, E)``; spoken questions come in the order of their passages.
        rows: row of a question about each, ``(B,)``, -1 where there is none.
        asked: row of the question that each is, ``(B,)``, -1 for a passage; None where questions are typed.
        gather: take the pairs of all devices together.
    """
    if gather:
        vectors, rows = gather_rows(vectors), gather_rows(rows)
        asked = gather_rows(asked) if asked is not None else None
    return Sides(vectors[rows >= 0], rows[rows >= 0], vectors[asked >= 0] if asked is not None else None)


def contrast_with_bank(sides: Sides, bank: PairBank, loss: LossConfig,
                       as_passages: Callable[[Tensor], Tensor] = lambda vectors: vectors) -> Tensor:  # fmt: skip
    """Return the symmetric NLL of spoken passages and their questions, typed or spoken; 0 without any.

    Args:
        sides: of the pairs: of all devices, unless negatives are those of the batch.
        bank: all questions and passages of the training set.
        loss: temperature and negatives.
        as_passages: projects the bank's passages to where spoken ones are.
    """
    passages, rows, questions = sides
    part = share(torch.tensor(len(rows), device=rows.device)) if loss.negatives == "batch" else 1.0
    if not len(rows):
        return passages.sum()  # 0
    bank = bank.on(passages.device)
    if loss.negatives == "bank":
        texts = as_passages(bank.passages)
        return bank_nll(passages, rows, bank.questions, texts, loss.temperature, bank.groups, questions)
    questions = bank.questions[rows] if questions is None else questions
    return batch_nll(passages, questions, loss.temperature, bank.groups[rows]) * part
