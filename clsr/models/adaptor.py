"""Token logits to text-encoder inputs: codes are rows, or mixtures of rows, of its embedding matrix."""

from __future__ import annotations

from torch import Tensor

from clsr.config import AdaptorConfig


def hard_codes(logits: Tensor, table: Tensor) -> Tensor:
    """Look up the row of the best token: ``(B, U, V)`` logits and a ``(V, E)`` table give ``(B, U, E)``."""
    return table[logits.argmax(2)]


def top_k_codes(logits: Tensor, table: Tensor, k: int, gamma: float = 1.0) -> Tensor:
    """Mix the rows of the ``k`` best tokens by ``softmax(logits / gamma)``, renormalised over the ``k``: ``(B, U, E)``.

    The recogniser's doubt enters the vector; with ``k = 1`` these are hard codes.
    """
    best = logits.topk(min(k, logits.shape[2]), dim=2)
    return mix_rows(best.values / gamma, best.indices, table)


def mix_rows(scores: Tensor, tokens: Tensor, table: Tensor) -> Tensor:
    """Mix rows ``tokens (B, U, K)`` of a ``(V, E)`` table by the softmax of ``scores (B, U, K)``: ``(B, U, E)``."""
    return (scores.softmax(2)[:, :, None] @ table[tokens]).squeeze(2)


def soft_codes(logits: Tensor, table: Tensor, gamma: float) -> Tensor:
    """Mix all rows by ``softmax(logits / gamma)``: ``(B, U, E)``."""
    return (logits / gamma).softmax(2) @ table


def straight_through_codes(logits: Tensor, table: Tensor, gamma: float) -> Tensor:
    """Return hard codes with the gradient of soft ones (CLSR, equations of the adaptor; Bengio et al. 2013)::

        code = row(argmax d) + sg-difference of softmax(d / gamma) W

    The bracket below is exactly zero, so the value is exactly the embedding row.
    """
    soft = soft_codes(logits, table, gamma)
    return hard_codes(logits, table) + (soft - soft.detach())


def training_codes(logits: Tensor, table: Tensor, config: AdaptorConfig) -> Tensor:
    """Return the codes that joint training sends through the text encoder, ``(B, U, E)``."""
    if config.codes == "top_k":
        return top_k_codes(logits, table, config.top_k, config.gamma)
    if config.codes == "soft":
        return soft_codes(logits, table, config.gamma)
    return straight_through_codes(logits, table, config.gamma)
