"""Speech to transcripts with times: a Paraformer and what its outputs stand for. No text encoder is needed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from clsr.audio.features import FRAME_S
from clsr.byte_pairs import START, BytePairVocabulary, TextVocabulary
from clsr.models.paraformer import Paraformer
from clsr.padding import pad
from clsr.prefix_search import PrefixSearch
from clsr.vocabulary import ReleaseVocabulary, Word

MIN_PROBABILITY = 0.05  # less likely length hypotheses are dropped: each costs a pass of the text encoder
MAX_BATCH_FRAMES = 1600  # stacked frames in a batch, padding included: 96 s
GPU_FRAMES = 32 * MAX_BATCH_FRAMES  # on an accelerator, which small batches leave idle


class LengthHypothesis(NamedTuple):
    """One hypothesis of an utterance: what the decoder writes with one number of tokens, or a path of the search."""

    tokens: np.ndarray  # (U, K) output indices, best first
    scores: np.ndarray  # (U, K) their log probabilities
    times: list[tuple[float, float]]  # of each token, in seconds
    probability: float = 1.0  # among the length hypotheses of the utterance
    states: Tensor | None = None  # (U, D), what the output layer takes; where `Recogniser.keeps_states`

    @property
    def best(self) -> list[int]:
        """The best output index of each position."""
        return self.tokens[:, 0].tolist()

    @property
    def confidence(self) -> float:
        """The mean log probability of the best tokens; NaN where there are none."""
        return float(self.scores[:, 0].mean()) if len(self.scores) else math.nan


LengthHypotheses = list[LengthHypothesis]
"""Those of one utterance, the likeliest first: its best tokens are the transcript."""


class Recognition(NamedTuple):
    """What a recogniser writes down of one utterance."""

    text: str
    token_ids: list[int]  # of the system that recognises; of a CLSR model, those of its text encoder
    times: list[tuple[float, float]]  # of each token, in seconds
    words: list[Word]
    confidence: float  # mean log probability of a token; NaN where there is none
    word_confidences: list[float]  # of each word, 0 to 1


class Recogniser(nn.Module):
    """Speech in, transcripts with times out.

    Args:
        paraformer: the network.
        vocabulary: what its outputs stand for: pieces of a text encoder, or a release's own tokens.

    Attributes:
        keeps_states: whether recognitions hold what the output layer takes, from which all logits can be made again.
    """

    keeps_states = False

    def __init__(self, paraformer: Paraformer, vocabulary: TextVocabulary | ReleaseVocabulary):
        super().__init__()
        self.paraformer = paraformer
        self.vocabulary = vocabulary
        self.search: PrefixSearch | None = None
        if isinstance(vocabulary, BytePairVocabulary) and vocabulary.word_counts:
            self.search = PrefixSearch(vocabulary.pieces, vocabulary.word_counts, paraformer.config.search, START)

    @torch.inference_mode()
    def recognise(self, waveforms: Sequence[np.ndarray]) -> list[LengthHypotheses]:
        """Recognise 16 kHz waveforms ``(N_i,)``, in the order given."""
        device = self.paraformer.cmvn.shift.device
        features = self.paraformer.frontend.extract(waveforms)
        results: list[LengthHypotheses] = [[] for _ in features]
        for batch in batches(
            [len(rows) for rows in features], MAX_BATCH_FRAMES if device.type == "cpu" else GPU_FRAMES
        ):
            rows, lengths = pad([features[i] for i in batch])
            decode = self._search if self.search else self._length_hypotheses
            for i, hypotheses in zip(batch, decode(rows.to(device), lengths.to(device)), strict=True):
                results[i] = _likely(hypotheses)
        return results

    def _length_hypotheses(self, features: Tensor, lengths: Tensor) -> Iterator[LengthHypotheses]:
        """Return what the decoder writes with each number of tokens tried, by utterance."""
        output = self.paraformer.length_hypotheses(features, lengths)
        values, tokens = output.log_probabilities.cpu().numpy(), output.tokens.cpu().numpy()
        times = (output.times * FRAME_S).cpu().tolist()
        states = output.states.cpu() if self.keeps_states else None
        probabilities, token_lengths = output.scores.softmax(0).tolist(), output.token_lengths.tolist()
        for row in range(len(lengths)):
            yield [
                LengthHypothesis(
                    tokens[n, row, : of_rows[row]],
                    values[n, row, : of_rows[row]],
                    [(begin, end) for begin, end in times[n][row][: of_rows[row]]],
                    probabilities[n][row],
                    None if states is None else states[n, row, : of_rows[row]],
                )
                for n, of_rows in enumerate(token_lengths)
            ]

    def _search(self, features: Tensor, lengths: Tensor) -> Iterator[LengthHypotheses]:
        """Return the paths that the search for words finds, by utterance."""
        assert self.search is not None
        output = self.paraformer.firings(features, lengths)
        values, tokens = output.log_probabilities.float().cpu().numpy(), output.tokens.cpu().numpy()
        times = (output.times * FRAME_S).cpu().tolist()
        for row, count in enumerate(output.token_lengths.tolist()):
            paths = self.search(tokens[row, :count], values[row, :count])
            weights = np.exp([path.score - paths[0].score for path in paths])
            yield [
                LengthHypothesis(
                    path.tokens,
                    path.scores,
                    [(times[row][first][0], times[row][last][1]) for first, last in path.spans],
                    float(weight / weights.sum()),
                )
                for path, weight in zip(paths, weights, strict=True)
            ]

    def transcribe(self, waveforms: Sequence[np.ndarray]) -> list[Recognition]:
        """Transcribe 16 kHz waveforms ``(N_i,)``; tokens that stand for no speech are left out."""
        return [self._recognition(hypotheses[0]) for hypotheses in self.recognise(waveforms)]

    def _recognition(self, best: LengthHypothesis) -> Recognition:
        kept = [row for row, index in enumerate(best.best) if index not in self.vocabulary.marks]
        return Recognition(
            self.vocabulary.decode(best.best),
            [self.vocabulary.token_ids[best.best[row]] for row in kept],
            [best.times[row] for row in kept],
            self.vocabulary.words(best.best, best.times),
            best.confidence,
            word_confidences(partial(self.vocabulary.words, best.best), best.scores[:, 0].tolist()),
        )

    def join(self, texts: Iterable[str]) -> str:
        """Join transcripts of successive pieces of a recording."""
        return self.vocabulary.join(texts)

    def transcripts(self, utterances: Sequence[LengthHypotheses]) -> list[str]:
        """Return the best transcript of each utterance."""
        return [self.vocabulary.decode(hypotheses[0].best) for hypotheses in utterances]

    def words(self, utterances: Sequence[LengthHypotheses]) -> list[list[Word]]:
        """Return the words of each best transcript, with their times."""
        return [self.vocabulary.words(hypotheses[0].best, hypotheses[0].times) for hypotheses in utterances]


def word_confidences(
    words: Callable[[Sequence[tuple[float, float]]], Sequence[Word]], log_probabilities: Sequence[float]
) -> list[float]:
    """Return the confidence of each word, 0 to 1: the geometric mean of the probabilities of its tokens.

    Args:
        words: makes the words of an utterance from a start and an end for each of its tokens.
        log_probabilities: of the tokens.
    """
    numbered = words([(number, number + 1) for number in range(len(log_probabilities))])  # times that count tokens
    spans = [slice(int(word.start_s), int(word.end_s)) for word in numbered]
    return [math.exp(float(np.mean(log_probabilities[span]))) for span in spans]


def _likely(hypotheses: Sequence[LengthHypothesis]) -> LengthHypotheses:
    """Return the hypotheses worth keeping, likeliest first (ties in order); their probabilities sum to 1."""
    kept = sorted((h for h in hypotheses if h.probability >= MIN_PROBABILITY), key=lambda h: -h.probability)
    total = sum(h.probability for h in kept)
    return [h._replace(probability=h.probability / total) for h in kept]


def batches(lengths: Sequence[int], most: int = MAX_BATCH_FRAMES) -> Iterator[list[int]]:
    """Group indices of similar lengths: little padding, and at most ``most`` frames in a batch."""
    batch: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batch and lengths[batch[0]] * (len(batch) + 1) > most:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch
