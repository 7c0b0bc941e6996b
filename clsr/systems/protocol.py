"""What is measured, CLSR and each of its rivals, behind one protocol: hear, transcribe, encode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol, TypeVar

import numpy as np
from torch import Tensor

Side = Literal["question", "passage"]

Heard = TypeVar("Heard")


class Rival(Protocol[Heard]):
    """A system that finds spoken passages for questions, typed or spoken.

    Speech is heard once; every row of the report that the system has starts from that, so that what rows share is
    computed and timed once.

    Attributes:
        rows: names of its rows in a report.
    """

    rows: tuple[str, ...]

    def hear(self, waveforms: Sequence[np.ndarray]) -> list[Heard]:
        """Do what all rows share with 16 kHz waveforms ``(N_i,)``: one item each, in the order given."""
        ...

    def transcribe(self, heard: Sequence[Heard]) -> list[str] | None:
        """Return the transcript of each, or None from a system that writes none."""
        ...

    def encode(self, heard: Sequence[Heard], row: str, side: Side) -> Tensor:
        """Return the unit vectors ``(B, E)`` of one row, on the CPU."""
        ...

    def encode_text(self, texts: Sequence[str], side: Side) -> Tensor:
        """Return the unit vectors ``(B, E)`` of texts, typed questions above all, on the CPU."""
        ...
