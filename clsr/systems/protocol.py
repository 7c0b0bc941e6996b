"""Protocols of CLSR and every other system: of what is measured (`System`), and of what an index is built with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np
from torch import Tensor

from clsr.models.interleaved import PartsEncoding
from clsr.models.recogniser import Recognition
from clsr.models.speech_encoder import Codes, SpeechEncoding
from clsr.models.text_encoder import TextEncoder
from clsr.text.folder import Side

Recognised = TypeVar("Recognised")


class System(Protocol[Recognised]):
    """A system that finds spoken passages for questions, typed or spoken.

    Speech is recognised once; every row that the system has in a report starts from that. What rows share is thus
    computed and timed once.

    Attributes:
        rows: names of its rows in a report.
    """

    rows: tuple[str, ...]

    def recognise(self, waveforms: Sequence[np.ndarray]) -> list[Recognised]:
        """Do what all rows share with 16 kHz waveforms ``(N_i,)``: one item each, in the order given."""
        ...

    def transcribe(self, recognised: Sequence[Recognised]) -> list[str] | None:
        """Return the transcript of each, or None from a system that writes none."""
        ...

    def encode(self, recognised: Sequence[Recognised], row: str, side: Side) -> Tensor:
        """Return the unit vectors ``(B, E)`` of one row, on the CPU."""
        ...

    def encode_text(self, texts: Sequence[str], side: Side) -> Tensor:
        """Return the unit vectors ``(B, E)`` of texts, typed questions above all, on the CPU."""
        ...


@runtime_checkable
class PartsSystem(System[Recognised], Protocol[Recognised]):
    """A system that also takes questions of text and speech in turn."""

    def encode_parts(
        self,
        inputs: Sequence[Sequence[str | Recognised]],
        row: str,
        side: Side,
        seed: int | None = None,
    ) -> Tensor:
        """Return the unit vectors ``(B, E)`` of one row, on the CPU.

        Args:
            inputs: the parts of each: texts, and what was recognised in speech.
            row: name of the row.
            side: what the inputs stand for.
            seed: of the order that tokens are put into; by default they stay in theirs.
        """
        ...


class SpeechRecogniser(Protocol):
    """What writes down speech: a model of ours, or a released recogniser."""

    def transcribe(self, waveforms: Sequence[np.ndarray]) -> list[Recognition]:
        """Transcribe 16 kHz waveforms ``(N_i,)`` with the times of tokens and words."""
        ...

    def join(self, texts: Iterable[str]) -> str:
        """Join transcripts of successive pieces of a recording."""
        ...


class SpeechSystem(SpeechRecogniser, Protocol):
    """What an index is built with: speech to transcripts, words with times, and unit vectors.

    The vectors of inter-pausal units are the text encoder's, of their words.

    Attributes:
        text_encoder: encodes typed queries, and the words of inter-pausal units.
    """

    text_encoder: TextEncoder

    def encode(self, waveforms: Sequence[np.ndarray], codes: Codes = "soft", side: Side = "passage") -> SpeechEncoding:
        """Encode 16 kHz waveforms ``(N_i,)``; a system without codes takes its transcripts.

        Args:
            waveforms: of windows or spoken queries.
            codes: of a CLSR model, soft or hard.
            side: what they stand for.
        """
        ...

    def encode_parts(
        self, inputs: Sequence[Sequence[str | np.ndarray]], codes: Codes = "soft", side: Side = "passage"
    ) -> PartsEncoding:
        """Encode texts and speech in turn, each input into one vector.

        Args:
            inputs: the parts of each: texts, and 16 kHz waveforms ``(N,)``.
            codes: as for ``encode``.
            side: what the inputs stand for.
        """
        ...

    def encode_part_tokens(
        self, inputs: Sequence[Sequence[str | np.ndarray]], codes: Codes = "soft", side: Side = "passage"
    ) -> list[Tensor]:
        """Encode the tokens of texts and speech in turn: unit rows ``(U, D)`` of each input, on the CPU.

        Args:
            inputs: the parts of each, as for ``encode_parts``.
            codes: as for ``encode``.
            side: what the inputs stand for.
        """
        ...

    def as_passages(self, vectors: Tensor) -> Tensor:
        """Project unit vectors of texts ``(B, E)`` to where passages are."""
        ...
