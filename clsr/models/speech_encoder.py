"""Speech to unit vectors: recogniser, adaptor and text encoder in a row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from clsr.features import FRAME_S, fbank, stack_frames
from clsr.models.adaptor import PassageMap, mix_rows
from clsr.models.paraformer import Paraformer
from clsr.models.text_encoder import TextEncoder
from clsr.padding import pad
from clsr.vocabulary import Vocabulary, Word

BEST = 8  # best tokens kept of each position: enough for mixtures of three and lists of eight transcripts
MIN_PROBABILITY = 0.05  # readings less likely are forgotten: each costs a pass of the text encoder
MAX_BATCH_FRAMES = 1600  # stacked frames in a batch, padding included: 96 s

Codes = Literal["soft", "hard"]


class Reading(NamedTuple):
    """What may have been heard in an utterance: one of the numbers of tokens tried."""

    tokens: np.ndarray  # (U, K) output indices, best first
    scores: np.ndarray  # (U, K) their log probabilities
    times: list[tuple[float, float]]  # of each token, in seconds
    probability: float = 1.0  # among the readings of the utterance


Recognition = list[Reading]
"""The readings of one utterance, the likeliest first: its best tokens are the transcript."""


class SpeechEncoding(NamedTuple):
    """Spoken passages as vectors, and what was heard in them."""

    vectors: np.ndarray  # (B, E) float32, unit rows
    transcripts: list[str]
    token_ids: list[list[int]]  # of the text encoder
    words: list[list[Word]]


class SpeechEncoder(nn.Module):
    """CLSR: speech in, vectors in the space of a text encoder out, transcripts with times on the way.

    Args:
        paraformer: the recogniser.
        text_encoder: the frozen text encoder.
        vocabulary: the recogniser's output layer in the text encoder's pieces.
        passage_map: what joint training learnt to do with the vectors of passages, if anything.
    """

    def __init__(self, paraformer: Paraformer, text_encoder: TextEncoder, vocabulary: Vocabulary,
                 passage_map: PassageMap | None = None):  # fmt: skip
        super().__init__()
        self.paraformer = paraformer
        self.text_encoder = text_encoder
        self.vocabulary = vocabulary
        self.passage_map = passage_map

    @property
    def code_table(self) -> Tensor:
        """The text encoder's embedding row of each output index, ``(V, E)``."""
        return self.text_encoder.table[self.vocabulary.text_ids]

    def encode(self, waveforms: Sequence[np.ndarray], codes: Codes = "soft") -> SpeechEncoding:
        """Encode passages, 16 kHz waveforms ``(N_i,)``, into unit vectors; batch size and order change nothing.

        Args:
            waveforms: mono, float32.
            codes: "soft" mixes the rows of the best three tokens, and the vectors of the readings; "hard" takes
                the best of both (the paper's codes: the vector is then that of the transcript).
        """
        recognitions = self.recognise(waveforms)
        indices = [readings[0].tokens[:, 0].tolist() for readings in recognitions]
        words = [self.vocabulary.words(row, r[0].times) for row, r in zip(indices, recognitions, strict=True)]
        return SpeechEncoding(
            self.as_passages(self.embed(recognitions, codes)).numpy(),
            [" ".join(word.text for word in row) for row in words],
            [[self.vocabulary.text_ids[i] for i in row] for row in indices],
            words,
        )

    @torch.inference_mode()
    def recognise(self, waveforms: Sequence[np.ndarray]) -> list[Recognition]:
        """Recognise 16 kHz waveforms ``(N_i,)``, in the order given."""
        device = self.paraformer.cmvn.shift.device
        features = [stack_frames(fbank(waveform)) for waveform in waveforms]
        results: list[Recognition] = [[] for _ in features]
        for batch in _batches([len(rows) for rows in features]):
            rows, lengths = pad([features[i] for i in batch])
            heard = self.paraformer.readings(rows.to(device), lengths.to(device))
            best = heard.logits.topk(min(BEST, heard.logits.shape[3]), dim=3)
            log_probabilities = best.values.float() - heard.logits.float().logsumexp(3, keepdim=True)
            values, tokens = log_probabilities.cpu().numpy(), best.indices.cpu().numpy()
            times = (heard.times * FRAME_S).cpu().tolist()
            probabilities, token_lengths = heard.scores.softmax(0).tolist(), heard.token_lengths.tolist()
            for row, i in enumerate(batch):
                for n, lengths_n in enumerate(token_lengths):
                    length = lengths_n[row]
                    spans = [(begin, end) for begin, end in times[n][row][:length]]
                    reading = Reading(tokens[n, row, :length], values[n, row, :length], spans, probabilities[n][row])
                    results[i].append(reading)
        return [_likely(readings) for readings in results]

    @torch.inference_mode()
    def embed(self, recognitions: Sequence[Recognition], codes: Codes = "soft") -> Tensor:
        """Turn recognitions into unit vectors ``(B, E)`` on the CPU, through hard or soft codes."""
        if codes == "hard":
            return self._embed([readings[0] for readings in recognitions], 1)
        vectors = self._embed([r for readings in recognitions for r in readings], self.paraformer.config.adaptor.top_k)
        return weighted_means(vectors, [[r.probability for r in readings] for readings in recognitions])

    @torch.inference_mode()
    def as_passages(self, vectors: Tensor) -> Tensor:
        """Put unit vectors ``(B, E)``, of speech or of text, where passages belong: through the passage map, if any."""
        if self.passage_map is None:
            return vectors
        return self.passage_map(vectors.to(self.passage_map.weight.device)).cpu()

    def _embed(self, readings: Sequence[Reading], k: int) -> Tensor:
        """Turn readings into unit vectors ``(R, E)``, a token into a mixture of the rows of its ``k`` best."""
        table, adaptor = self.code_table, self.paraformer.config.adaptor
        vectors = torch.empty(len(readings), table.shape[1])
        for batch in _batches([len(r.tokens) + 1 for r in readings]):
            tokens, lengths = pad([torch.from_numpy(readings[i].tokens[:, :k].astype(np.int64)) for i in batch])
            scores, _ = pad([torch.from_numpy(readings[i].scores[:, :k]) for i in batch])
            scores = scores.exp() if adaptor.input == "probabilities" else scores
            rows = mix_rows(scores.to(table.device) / adaptor.gamma, tokens.to(table.device), table)
            vectors[batch] = self.text_encoder(rows, lengths.to(table.device)).float().cpu()
        return vectors


def weighted_means(vectors: Tensor, weights: Sequence[Sequence[float]]) -> Tensor:
    """Return the weighted mean of each group of successive vectors ``(R, E)``, as unit rows ``(B, E)``."""
    owner = torch.tensor([i for i, group in enumerate(weights) for _ in group], dtype=torch.long)
    weight = torch.tensor([w for group in weights for w in group])
    means = vectors.new_zeros(len(weights), vectors.shape[1]).index_add_(0, owner, vectors * weight[:, None])
    return nn.functional.normalize(means, dim=1)


def _likely(readings: Sequence[Reading]) -> Recognition:
    """Return the readings worth keeping, likeliest first (of equals, the first), their probabilities summing to 1."""
    kept = sorted((r for r in readings if r.probability >= MIN_PROBABILITY), key=lambda r: -r.probability)
    total = sum(r.probability for r in kept)
    return [r._replace(probability=r.probability / total) for r in kept]


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Group indices of alike lengths, so that padding stays small and a batch within ``MAX_BATCH_FRAMES``."""
    batch: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batch and lengths[batch[0]] * (len(batch) + 1) > MAX_BATCH_FRAMES:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch
