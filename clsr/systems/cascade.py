"""Cascades of the model's own transcripts: text first, then a text encoder as for any other text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor

from clsr.models.recogniser import Reading, Recogniser, Recognition
from clsr.models.speech_encoder import SpeechEncoder, weighted_means
from clsr.models.text_encoder import TextEncoder
from clsr.vocabulary import ReleaseVocabulary, Vocabulary


class Cascade(NamedTuple):
    """What makes text of a recogniser's tokens, and what encodes that text, where no ``SpeechEncoder`` has both."""

    vocabulary: Vocabulary | ReleaseVocabulary
    text_encoder: TextEncoder


class Hypothesis(NamedTuple):
    """One reading of an utterance."""

    tokens: tuple[int, ...]  # output indices
    probability: float  # among the readings it was listed with


def transcripts(encoder: Recogniser | Cascade, recognitions: Sequence[Recognition]) -> list[str]:
    """Return the best transcript of each utterance."""
    return [encoder.vocabulary.decode(recognition[0].best) for recognition in recognitions]


def encode_transcripts(encoder: SpeechEncoder | Cascade, recognitions: Sequence[Recognition]) -> Tensor:
    """Return the vector of each best transcript, split into pieces anew: unit rows ``(B, E)``."""
    return encoder.text_encoder.encode(transcripts(encoder, recognitions))


def encode_n_best(encoder: SpeechEncoder | Cascade, recognitions: Sequence[Recognition], n: int = 8) -> Tensor:
    """Return the mean vector of the ``n`` best transcripts of each utterance, weighted by probability: ``(B, E)``."""
    lists = [n_best(recognition, n) for recognition in recognitions]
    texts = [encoder.vocabulary.decode(hypothesis.tokens) for hypotheses in lists for hypothesis in hypotheses]
    vectors = encoder.text_encoder.encode(texts)
    return weighted_means(vectors, [[hypothesis.probability for hypothesis in hypotheses] for hypotheses in lists])


def n_best(recognition: Recognition, n: int) -> list[Hypothesis]:
    """Return the ``n`` most probable transcripts over all readings, best first; positions are independent.

    Probabilities are renormalised over the list. Exact as long as ``n`` is at most the number of tokens kept of
    each position.
    """
    found = [(total, row) for reading in recognition for total, row in _best_of(reading, n)]
    found = sorted(found, reverse=True)[:n]
    totals = np.array([total for total, _ in found])
    weights = np.exp(totals - totals.max())
    return [Hypothesis(row, float(w)) for (_, row), w in zip(found, weights / weights.sum(), strict=True)]


def _best_of(reading: Reading, n: int) -> list[tuple[float, tuple[int, ...]]]:
    """Return the ``n`` most probable transcripts of a reading with their log probabilities.

    The best of them has the probability of the reading: that is how readings are weighed against each other.
    """
    beam: list[tuple[float, tuple[int, ...]]] = [(float(np.log(reading.probability)), ())]
    for tokens, scores in zip(reading.tokens.tolist(), reading.scores.tolist(), strict=True):
        longer = [
            (total + s - scores[0], (*row, t)) for total, row in beam for t, s in zip(tokens, scores, strict=True)
        ]
        beam = sorted(longer, reverse=True)[:n]
    return beam
