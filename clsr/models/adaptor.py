"""Token logits to text-encoder inputs: codes are rows, or mixtures of rows, of its embedding matrix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from clsr.byte_pairs import TextVocabulary
from clsr.config import AdaptorConfig
from clsr.padding import length_mask, pad


def hard_codes(logits: Tensor, codebook: Tensor) -> Tensor:
    """Look up the row of the best token: ``(B, U, V)`` logits and a ``(V, E)`` codebook give ``(B, U, E)``."""
    return codebook[logits.argmax(2)]


def top_k_codes(logits: Tensor, codebook: Tensor, k: int, gamma: float = 1.0) -> Tensor:
    """Mix the rows of the ``k`` best tokens by ``softmax(logits / gamma)``, renormalised over the ``k``: ``(B, U, E)``.

    The recogniser's doubt enters the vector; with ``k = 1`` these are hard codes.
    """
    best = logits.topk(min(k, logits.shape[2]), dim=2)
    return mix_rows(best.values / gamma, best.indices, codebook)


def mix_rows(scores: Tensor, tokens: Tensor, codebook: Tensor) -> Tensor:
    """Mix rows ``tokens (B, U, K)`` of a ``(V, E)`` codebook by the softmax of ``scores (B, U, K)``: ``(B, U, E)``.

    Tokens below 0 have no part in a mixture.
    """
    scores, tokens = scores.masked_fill(tokens < 0, -torch.inf), tokens.clamp(min=0)
    return (scores.softmax(2)[:, :, None].to(codebook.dtype) @ codebook[tokens]).squeeze(2)


def soft_codes(logits: Tensor, codebook: Tensor, gamma: float) -> Tensor:
    """Mix all rows by ``softmax(logits / gamma)``: ``(B, U, E)``."""
    return (logits / gamma).softmax(2) @ codebook


def straight_through_codes(logits: Tensor, codebook: Tensor, gamma: float) -> Tensor:
    """Return hard codes with the gradient of soft ones (CLSR, equations of the adaptor; Bengio et al. 2013)::

        code = row(argmax d) + sg-difference of softmax(d / gamma) W

    The bracket below is exactly zero, so the value is exactly the embedding row.
    """
    soft = soft_codes(logits, codebook, gamma)
    return hard_codes(logits, codebook) + (soft - soft.detach())


def adaptor_input(logits: Tensor, kind: Literal["logits", "probabilities"]) -> Tensor:
    """Return what mixtures take the softmax of, ``(B, U, V)``.

    CLSR calls the decoder's output ``D`` a probability distribution and writes it as logits; both can be had. Log
    probabilities would be the same as logits: they differ by a constant a token, which no softmax sees. A softmax of
    probabilities is nearly even unless gamma is small.
    """
    return logits if kind == "logits" else logits.softmax(2)


def best_codes(tokens: Tensor, log_probabilities: Tensor, codebook: Tensor, config: AdaptorConfig, k: int) -> Tensor:
    """Return the codes of inference, ``(B, U, E)``: mixtures of the ``k`` best rows, whatever training sent through.

    They need the best outputs alone, never logits of the whole vocabulary; ``k = 1`` gives hard codes.

    Args:
        tokens: rows of the best outputs, best first, ``(B, U, K)``.
        log_probabilities: theirs, ``(B, U, K)``.
        codebook: ``(V, E)``.
        config: input and temperature of the mixtures.
        k: outputs mixed.
    """
    scores = log_probabilities[:, :, :k]
    scores = scores.exp() if config.input == "probabilities" else scores
    return mix_rows(scores / config.gamma, tokens[:, :, :k], codebook)


def expand_codes(tokens: Sequence[np.ndarray], scores: Sequence[Tensor],
                 vocabulary: TextVocabulary, embeddings: Tensor, config: AdaptorConfig,
                 k: int) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return the codes of utterances through the text encoder's rows: ``(B, R, E)``, and their lengths ``(B,)``.

    Args:
        tokens: best outputs of each utterance, best first, ``(U_i, K)``.
        scores: their logits or log probabilities, ``(U_i, K)``; gradients pass.
        vocabulary: which rows stand for outputs.
        embeddings: word embeddings of the text encoder.
        config: input and temperature of the mixtures.
        k: outputs mixed.
    """
    rows = [vocabulary.code_rows(outputs[:, :k]) for outputs in tokens]
    ids, lengths = pad([torch.from_numpy(row.text_ids) for row in rows])
    mixed = [of_tokens[torch.from_numpy(row.positions)] for of_tokens, row in zip(scores, rows, strict=True)]
    device = embeddings.device
    codes = best_codes(ids.to(device), pad(mixed)[0].to(device), embeddings, config, k)
    return codes, lengths.to(device)


def pool_codes(codes: Tensor, lengths: Tensor, factor: int) -> tuple[Tensor, Tensor]:
    """Average each ``factor`` codes that follow one another: ``(B, ceil(U / factor), E)``, and their lengths.

    The last mean of an utterance is over what is left.

    >>> pool_codes(torch.tensor([[[1.0], [3.0], [5.0], [0.0]]]), torch.tensor([3]), 2)
    (tensor([[[2.], [5.]]]), tensor([2]))

    Args:
        codes: ``(B, U, E)``, anything on padding.
        lengths: ``(B,)``.
        factor: 1 or more; 1 changes nothing.
    """
    if factor == 1:
        return codes, lengths
    batch, size, _ = codes.shape
    short = -(-size // factor)
    mask = length_mask(lengths, size)[:, :, None].to(codes.dtype)
    padding = (0, 0, 0, short * factor - size)
    sums, counts = (
        nn.functional.pad(rows, padding).reshape(batch, short, factor, -1).sum(2) for rows in (codes * mask, mask)
    )
    return sums / counts.clamp(min=1), (lengths + factor - 1) // factor


def training_codes(logits: Tensor, codebook: Tensor, config: AdaptorConfig) -> Tensor:
    """Return the codes that joint training sends through the text encoder, ``(B, U, E)``."""
    scores = adaptor_input(logits, config.input)
    if config.codes == "top_k":
        return top_k_codes(scores, codebook, config.top_k, config.gamma)
    if config.codes == "soft":
        return soft_codes(scores, codebook, config.gamma)
    if config.codes == "straight_through":
        return straight_through_codes(scores, codebook, config.gamma)
    return hard_codes(scores, codebook)


class PassageProjection(nn.Linear):
    """Linear projection of passage vectors, starting from the identity; questions stay as the text encoder has them.

    It adapts a frozen text encoder to a domain, for transcripts as for codes, and so belongs to every system that is
    compared.
    """

    def __init__(self, width: int):
        super().__init__(width, width, bias=False)
        nn.init.eye_(self.weight)

    def forward(self, vectors: Tensor) -> Tensor:
        """Project unit vectors ``(B, E)`` to unit vectors."""
        return nn.functional.normalize(super().forward(vectors), dim=1)
