"""Training only: token embeddings mixed with the embeddings of the right tokens."""

from __future__ import annotations

import torch
from torch import Tensor

from clsr.config import SamplerConfig

ROUNDING = 1e-4  # 0.84 * 150 is 125.99999 in float32, and 126 tokens


def replacement_counts(wrong: Tensor, config: SamplerConfig) -> Tensor:
    """Return how many tokens of each utterance are replaced, ``(B,)``, from the wrong ones ``(B, U)``.

    ``positions="wrong"`` follows the equation of CLSR, ``ceil(ratio * errors)``; ``"random"`` follows its
    Algorithm 1 (and FunASR), ``floor(ratio * errors)``.
    """
    amount = wrong.sum(1) * config.ratio
    return ((amount - ROUNDING).ceil() if config.positions == "wrong" else (amount + ROUNDING).floor()).long()


def sample(tokens: Tensor, target_embeddings: Tensor, predictions: Tensor, targets: Tensor, mask: Tensor,
           config: SamplerConfig) -> Tensor:  # fmt: skip
    """Mix target embeddings into token embeddings (the sampler of Paraformer, arXiv:2206.08317; CLSR, Algorithm 1).

    The more the first pass got wrong, the more tokens are replaced by the embedding of the right one: at wrong
    positions (``positions="wrong"``, the equation) or anywhere (``"random"``, Algorithm 1). Padding never is.

    Args:
        tokens: token embeddings from CIF, ``(B, U, D)``.
        target_embeddings: rows of the output layer for the targets, ``(B, U, D)``.
        predictions: best token of the first pass, ``(B, U)``.
        targets: right tokens, ``(B, U)``.
        mask: True on tokens, ``(B, U)``.
        config: ratio and positions.

    Returns:
        Semantic embeddings ``(B, U, D)``.
    """
    wrong = (predictions != targets) & mask
    eligible = wrong if config.positions == "wrong" else mask
    lottery = torch.rand(targets.shape, device=targets.device).masked_fill(~eligible, 2.0)
    rank = lottery.argsort(1).argsort(1)
    replaced = (rank < replacement_counts(wrong, config)[:, None]) & eligible
    return torch.where(replaced[:, :, None], target_embeddings, tokens)
