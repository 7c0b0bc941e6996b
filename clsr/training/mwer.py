"""Candidates of the minimum word error rate loss: other transcripts of an utterance, and how wrong each is."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from clsr.byte_pairs import TextVocabulary
from clsr.metrics.word_errors import word_errors
from clsr.padding import length_mask
from clsr.training.losses import mwer_loss, sampled_mwer_loss
from clsr.vocabulary import UNKNOWN

MASKED = 0.15  # share of tokens whose best guess is hidden from a candidate

Draw = Literal["mask", "sample"]


class Candidates(NamedTuple):
    """Transcripts drawn from the decoder's output."""

    tokens: Tensor  # (B, N, U)
    log_probabilities: Tensor  # (B, N), of whole transcripts; minus infinity for a double of one before ("mask")


def draw_candidates(logits: Tensor, token_lengths: Tensor, count: int, draw: Draw) -> Candidates:
    """Draw ``count`` transcripts of each utterance, all of the same number of tokens.

    "mask" starts with the best transcript; in the others some positions, one at least, have their best token hidden
    and are replaced by the next best (Paraformer, arXiv:2206.08317). "sample" draws every token from its distribution.

    Args:
        logits: ``(B, U, V)``; padding and unknown are never drawn.
        token_lengths: ``(B,)``, at least 1.
        count: N, at least 2.
        draw: how.
    """
    known = logits.clone()
    known[..., : UNKNOWN + 1] = -torch.inf
    log_probabilities = known.log_softmax(2)
    mask = length_mask(token_lengths, logits.shape[1])
    with torch.no_grad():
        tokens = _sampled(log_probabilities, count) if draw == "sample" else _masked(log_probabilities, mask, count)
        tokens = tokens * mask[:, None]
    chosen = log_probabilities[:, None].expand(-1, count, -1, -1).gather(3, tokens[..., None].clamp(min=UNKNOWN + 1))
    totals = (chosen.squeeze(3) * mask[:, None]).sum(2)
    return Candidates(tokens, totals.masked_fill(_doubles(tokens), -torch.inf) if draw == "mask" else totals)


def _sampled(log_probabilities: Tensor, count: int) -> Tensor:
    batch, size, _ = log_probabilities.shape
    drawn = torch.multinomial(log_probabilities.exp().flatten(0, 1), count, replacement=True)
    return drawn.view(batch, size, count).transpose(1, 2)


def _masked(log_probabilities: Tensor, mask: Tensor, count: int) -> Tensor:
    best, second = log_probabilities.topk(2, dim=2).indices.unbind(2)
    lottery = torch.rand(len(mask), count, mask.shape[1], device=mask.device).masked_fill(~mask[:, None], 2.0)
    hidden = (lottery < MASKED) | (lottery == lottery.amin(2, keepdim=True))
    hidden[:, 0] = False
    return torch.where(hidden, second[:, None], best[:, None])


def _doubles(tokens: Tensor) -> Tensor:
    """Mark the candidates that equal one before them, ``(B, N)``."""
    same = (tokens[:, :, None] == tokens[:, None]).all(3)  # (B, N, N)
    return same.tril(-1).any(2)


def mwer(logits: Tensor, targets: Tensor, token_lengths: Tensor, vocabulary: TextVocabulary, count: int,
         draw: Draw) -> Tensor:  # fmt: skip
    """Return the loss of expected word errors of a batch, of words and not pieces: what is learnt is what is reported.

    Args:
        logits: ``(B, U, V)``.
        targets: right tokens, ``(B, U)``, anything on padding.
        token_lengths: ``(B,)``, at least 1.
        vocabulary: joins tokens into words.
        count: candidates of each utterance.
        draw: how they are drawn.
    """
    candidates = draw_candidates(logits, token_lengths, count, draw)
    errors = torch.empty(candidates.log_probabilities.shape)
    lengths = token_lengths.tolist()
    for i, (rows, target) in enumerate(zip(candidates.tokens.tolist(), targets.tolist(), strict=True)):
        reference = vocabulary.decode(target[: lengths[i]])
        for n, row in enumerate(rows):
            errors[i, n] = word_errors(reference, vocabulary.decode(row[: lengths[i]])).errors
    loss = sampled_mwer_loss if draw == "sample" else mwer_loss
    return loss(candidates.log_probabilities, errors.to(logits.device))
