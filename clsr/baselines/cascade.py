"""Cascades of the model's own transcripts: text first, then the text encoder as for any other text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from clsr.models.speech_encoder import Recognition, SpeechEncoder


class Hypothesis(NamedTuple):
    """One reading of an utterance."""

    tokens: tuple[int, ...]  # output indices
    probability: float  # among the readings it was listed with


def transcripts(encoder: SpeechEncoder, recognitions: Sequence[Recognition]) -> list[str]:
    """Return the best transcript of each utterance."""
    return [encoder.vocabulary.decode(recognition.tokens[:, 0].tolist()) for recognition in recognitions]


def encode_transcripts(encoder: SpeechEncoder, recognitions: Sequence[Recognition]) -> Tensor:
    """Return the vector of each best transcript, split into pieces anew: unit rows ``(B, E)``."""
    return encoder.text_encoder.encode(transcripts(encoder, recognitions))


def encode_n_best(encoder: SpeechEncoder, recognitions: Sequence[Recognition], n: int = 8) -> Tensor:
    """Return the mean vector of the ``n`` best transcripts of each utterance, weighted by probability: ``(B, E)``."""
    lists = [n_best(recognition, n) for recognition in recognitions]
    texts = [encoder.vocabulary.decode(hypothesis.tokens) for hypotheses in lists for hypothesis in hypotheses]
    vectors = encoder.text_encoder.encode(texts)
    owner = torch.tensor([i for i, hypotheses in enumerate(lists) for _ in hypotheses])
    weight = torch.tensor([hypothesis.probability for hypotheses in lists for hypothesis in hypotheses])
    means = torch.zeros(len(lists), vectors.shape[1]).index_add_(0, owner, vectors * weight[:, None])
    return torch.nn.functional.normalize(means, dim=1)


def n_best(recognition: Recognition, n: int) -> list[Hypothesis]:
    """Return the ``n`` most probable transcripts, best first; positions are independent of each other.

    Probabilities are renormalised over the list. Exact as long as ``n`` is at most the number of tokens kept of
    each position.
    """
    beam: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]
    for tokens, scores in zip(recognition.tokens.tolist(), recognition.scores.tolist(), strict=True):
        longer = [(total + s, (*row, t)) for total, row in beam for t, s in zip(tokens, scores, strict=True)]
        beam = sorted(longer, reverse=True)[:n]
    totals = np.array([total for total, _ in beam])
    weights = np.exp(totals - totals.max())
    return [Hypothesis(row, float(w)) for (_, row), w in zip(beam, weights / weights.sum(), strict=True)]
