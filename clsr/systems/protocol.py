"""One protocol for CLSR and every baseline: recognise, transcribe, encode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

import numpy as np
from torch import Tensor

from clsr.model import Side

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
