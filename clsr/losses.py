"""Losses: pure functions of tensors, each a mean over what it counts."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from clsr.padding import length_mask
from clsr.vocabulary import BLANK


def token_cross_entropy(logits: Tensor, targets: Tensor, target_lengths: Tensor, smoothing: float = 0.0) -> Tensor:
    """Return the cross entropy of tokens, a mean over all tokens of the batch, in nats.

    Args:
        logits: ``(B, U, V)``.
        targets: ``(B, U)``, anything on padding.
        target_lengths: ``(B,)``.
        smoothing: probability spread evenly over the vocabulary, 0 to 1.
    """
    mask = length_mask(target_lengths, targets.shape[1])
    return F.cross_entropy(logits[mask], targets[mask], label_smoothing=smoothing)


def quantity_loss(quantities: Tensor, target_lengths: Tensor) -> Tensor:
    """Return how far the firing weights are from the number of tokens: ``sum |quantity - U| / sum U``.

    The mean absolute error of CIF (arXiv:1905.11235), per token, so that long utterances do not outweigh
    the other losses. Both arguments are ``(B,)``.
    """
    return (quantities - target_lengths).abs().sum() / target_lengths.sum()


def ctc_loss(logits: Tensor, frame_lengths: Tensor, targets: Tensor, target_lengths: Tensor) -> Tensor:
    """Return the connectionist temporal classification loss (Graves et al. 2006), per unit of text, in nats.

    An utterance with more units than predictions has no alignment; it adds nothing.

    Args:
        logits: ``(B, T, C)``, index 0 being the blank.
        frame_lengths: ``(B,)``.
        targets: units, ``(B, S)``.
        target_lengths: ``(B,)``.
    """
    log_probabilities = logits.log_softmax(2).transpose(0, 1)
    total = F.ctc_loss(
        log_probabilities, targets, frame_lengths, target_lengths, BLANK, reduction="sum", zero_infinity=True
    )
    return total / target_lengths.sum()


def contrastive_loss(similarity: Tensor, own: Tensor, temperature: float) -> Tensor:
    """Return the negative log likelihood of the right candidate of each row, a mean over rows, in nats.

    Args:
        similarity: cosines of queries with candidates, ``(B, P)``; minus infinity takes a candidate out.
        own: column of the right candidate, ``(B,)``.
        temperature: divisor of the cosines, above 0.
    """
    return F.cross_entropy(similarity / temperature, own)


def batch_nll(speech: Tensor, questions: Tensor, temperature: float) -> Tensor:
    """Return the symmetric NLL of CLSR over the pairs of a batch: half passage to question, half the other way.

    ``speech`` and ``questions`` are unit vectors ``(B, E)``, row ``i`` of one belonging to row ``i`` of the other.
    """
    similarity = speech @ questions.T
    own = torch.arange(len(speech), device=speech.device)
    return (contrastive_loss(similarity, own, temperature) + contrastive_loss(similarity.T, own, temperature)) / 2


def bank_nll(speech: Tensor, own: Tensor, questions: Tensor, passages: Tensor, temperature: float) -> Tensor:
    """Return the symmetric NLL against all frozen questions and gold passages of the training set.

    Passage to question: each spoken passage against every question. Question to passage: each of their questions
    against the spoken passages of the batch and the text of every other passage.

    Args:
        speech: unit vectors of spoken passages, ``(B, E)``.
        own: row of each one's question and gold passage in the bank, ``(B,)``; a row may occur twice.
        questions: unit vectors of all questions, ``(N, E)``, row ``i`` belonging to passage ``i``.
        passages: unit vectors of all passage texts, ``(N, E)``.
        temperature: divisor of the cosines, above 0.
    """
    to_question = contrastive_loss(speech @ questions.T, own, temperature)
    asked = questions[own]
    texts = (asked @ passages.T).index_fill(1, own, -torch.inf)  # in the batch they are speech, not text
    # Another voice of the same passage is no wrong answer.
    same = (own[:, None] == own[None]) & ~torch.eye(len(own), dtype=torch.bool, device=own.device)
    candidates = torch.cat([(asked @ speech.T).masked_fill(same, -torch.inf), texts], 1)
    positions = torch.arange(len(own), device=own.device)
    return (to_question + contrastive_loss(candidates, positions, temperature)) / 2
