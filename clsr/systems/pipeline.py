"""Pipelines: a recogniser from elsewhere writes text, and a text encoder takes it as any other text."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor

from clsr.model import Side
from clsr.models.text_encoder import TextEncoder
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

    def encode_text(self, texts: Sequence[str], side: Side) -> Tensor:
        """Return the vectors ``(B, E)`` of texts."""
        return self.text_encoder.encode(texts, side)
