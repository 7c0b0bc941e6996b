"""Speech to unit vectors: recogniser, adaptor and text encoder in a row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from clsr.features import FRAME_S, fbank, stack_frames
from clsr.models.adaptor import mix_rows
from clsr.models.paraformer import Paraformer
from clsr.models.text_encoder import TextEncoder
from clsr.padding import pad
from clsr.vocabulary import Vocabulary, Word

BEST = 8  # best tokens kept of each position: enough for mixtures of three and lists of eight transcripts
MAX_BATCH_FRAMES = 1600  # stacked frames in a batch, padding included: 96 s

Codes = Literal["soft", "hard"]


class Recognition(NamedTuple):
    """What was heard in one utterance."""

    tokens: np.ndarray  # (U, K) output indices, best first
    scores: np.ndarray  # (U, K) their logits
    times: list[tuple[float, float]]  # of each token, in seconds


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
    """

    def __init__(self, paraformer: Paraformer, text_encoder: TextEncoder, vocabulary: Vocabulary):
        super().__init__()
        self.paraformer = paraformer
        self.text_encoder = text_encoder
        self.vocabulary = vocabulary

    @property
    def code_table(self) -> Tensor:
        """The text encoder's embedding row of each output index, ``(V, E)``."""
        return self.text_encoder.table[self.vocabulary.text_ids]

    def encode(self, waveforms: Sequence[np.ndarray], codes: Codes = "soft") -> SpeechEncoding:
        """Encode 16 kHz waveforms ``(N_i,)`` into unit vectors; batch size and order change nothing.

        Args:
            waveforms: mono, float32.
            codes: "soft" mixes the rows of the best three tokens, "hard" takes the best (the paper's codes: the
                vector is then that of the transcript).
        """
        recognitions = self.recognise(waveforms)
        indices = [r.tokens[:, 0].tolist() for r in recognitions]
        words = [self.vocabulary.words(row, r.times) for row, r in zip(indices, recognitions, strict=True)]
        return SpeechEncoding(
            self.embed(recognitions, codes).numpy(),
            [" ".join(word.text for word in row) for row in words],
            [[self.vocabulary.text_ids[i] for i in row] for row in indices],
            words,
        )

    @torch.inference_mode()
    def recognise(self, waveforms: Sequence[np.ndarray]) -> list[Recognition]:
        """Recognise 16 kHz waveforms ``(N_i,)``, in the order given."""
        device = self.paraformer.cmvn.shift.device
        features = [stack_frames(fbank(waveform)) for waveform in waveforms]
        results: list[Recognition | None] = [None] * len(features)
        for batch in _batches([len(rows) for rows in features]):
            rows, lengths = pad([features[i] for i in batch])
            heard = self.paraformer.recognise(rows.to(device), lengths.to(device))
            best = heard.logits.topk(min(BEST, heard.logits.shape[2]), dim=2)
            values, tokens = best.values.float().cpu().numpy(), best.indices.cpu().numpy()
            times = (heard.times * FRAME_S).cpu().tolist()
            for row, (i, length) in enumerate(zip(batch, heard.token_lengths.tolist(), strict=True)):
                spans = [(begin, end) for begin, end in times[row][:length]]
                results[i] = Recognition(tokens[row, :length], values[row, :length], spans)
        return [result for result in results if result is not None]

    @torch.inference_mode()
    def embed(self, recognitions: Sequence[Recognition], codes: Codes = "soft") -> Tensor:
        """Turn recognitions into unit vectors ``(B, E)`` on the CPU, through hard or soft codes."""
        adaptor = self.paraformer.config.adaptor
        k = adaptor.top_k if codes == "soft" else 1
        table = self.code_table
        vectors = torch.empty(len(recognitions), table.shape[1])
        for batch in _batches([len(r.tokens) + 1 for r in recognitions]):
            tokens, lengths = pad([torch.from_numpy(recognitions[i].tokens[:, :k].astype(np.int64)) for i in batch])
            scores, _ = pad([torch.from_numpy(recognitions[i].scores[:, :k]) for i in batch])
            rows = mix_rows(scores.to(table.device) / adaptor.gamma, tokens.to(table.device), table)
            vectors[batch] = self.text_encoder(rows, lengths.to(table.device)).float().cpu()
        return vectors


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
