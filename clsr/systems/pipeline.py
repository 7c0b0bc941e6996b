"""Pipelines: a recogniser from elsewhere writes text, and a text encoder takes it as any other text."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor

from clsr.models.interleaved import CodedSpeech, encode_interleaved
from clsr.models.text_encoder import TextEncoder, weighted_means
from clsr.systems.whisper_recogniser import TextHypothesis, WhisperRecogniser
from clsr.text.folder import Side
from clsr.vocabulary import normalise


class Pipeline:
    """A recogniser and a text encoder behind `System`.

    Transcripts are normalised, as the true ones are for the row ``text``: spelling alone shall make no difference.

    Args:
        write: transcribes 16 kHz waveforms ``(N_i,)``, none of them depending on the others.
        text_encoder: what encodes transcripts and typed questions.
        row: its name in a report.
    """

    def __init__(self, write: Callable[[Sequence[np.ndarray]], list[str]], text_encoder: TextEncoder, row: str):
        self.write = write
        self.text_encoder = text_encoder
        self.rows: tuple[str, ...] = (row,)

    def recognise(self, waveforms: Sequence[np.ndarray]) -> list[str]:
        """Transcribe 16 kHz waveforms ``(N_i,)``."""
        return [normalise(text) for text in self.write(waveforms)]

    def transcribe(self, recognised: Sequence[str]) -> list[str]:
        """Return the transcripts."""
        return list(recognised)

    def encode(self, recognised: Sequence[str], row: str, side: Side) -> Tensor:
        """Return the vectors ``(B, E)`` of transcripts."""
        return self.text_encoder.encode(recognised, side)

    def encode_parts(self, inputs: Sequence[Sequence[str]], row: str, side: Side, seed: int | None = None) -> Tensor:
        """Return the vectors ``(B, E)`` of texts and transcripts in turn."""
        return encode_interleaved(self.text_encoder, inputs, side, seed)

    def encode_text(self, texts: Sequence[str], side: Side) -> Tensor:
        """Return the vectors ``(B, E)`` of texts."""
        return self.text_encoder.encode(texts, side)


class NBestPipeline:
    """Whisper with a beam and a text encoder behind `System`: the best transcript, and the mean of the n best.

    Args:
        recogniser: with a beam of at least ``n``.
        text_encoder: what encodes transcripts and typed questions.
        n: hypotheses whose vectors, weighted by probability, make the mean.
    """

    def __init__(self, recogniser: WhisperRecogniser, text_encoder: TextEncoder, n: int):
        self.recogniser = recogniser
        self.text_encoder = text_encoder
        self.n = n
        self.rows: tuple[str, ...] = (f"whisper-bge-beam{n}", f"whisper-bge-{n}best")

    def recognise(self, waveforms: Sequence[np.ndarray]) -> list[list[TextHypothesis]]:
        """Transcribe 16 kHz waveforms ``(N_i,)``."""
        lists = self.recogniser.n_best(waveforms, self.n)
        return [[TextHypothesis(normalise(text), probability) for text, probability in one] for one in lists]

    def transcribe(self, recognised: Sequence[list[TextHypothesis]]) -> list[str]:
        """Return the best transcripts."""
        return [hypotheses[0].text for hypotheses in recognised]

    def encode(self, recognised: Sequence[list[TextHypothesis]], row: str, side: Side) -> Tensor:
        """Return the vectors ``(B, E)`` of the best transcripts, or the mean vectors of the n-best lists."""
        if row == self.rows[0]:
            return self.text_encoder.encode(self.transcribe(recognised), side)
        vectors = self.text_encoder.encode([one.text for hypotheses in recognised for one in hypotheses], side)
        return weighted_means(vectors, [[one.probability for one in hypotheses] for hypotheses in recognised])

    def encode_parts(
        self, inputs: Sequence[Sequence[str | list[TextHypothesis]]], row: str, side: Side, seed: int | None = None
    ) -> Tensor:
        """Return the vectors ``(B, E)`` of texts and transcripts in turn, of the best or of combinations of n best."""
        n = 1 if row == self.rows[0] else self.n
        coded = [[part if isinstance(part, str) else self._coded(part[:n]) for part in parts] for parts in inputs]
        return encode_interleaved(self.text_encoder, coded, side, seed)

    def _coded(self, hypotheses: Sequence[TextHypothesis]) -> CodedSpeech:
        rows = [(one.probability, self.text_encoder.embed_text(one.text)) for one in hypotheses]
        return CodedSpeech(hypotheses[0].text, rows)

    def encode_text(self, texts: Sequence[str], side: Side) -> Tensor:
        """Return the vectors ``(B, E)`` of texts."""
        return self.text_encoder.encode(texts, side)
