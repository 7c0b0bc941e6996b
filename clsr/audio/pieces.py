"""A recording as pieces that follow one another, each recognised once, whatever windows overlap it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from clsr.audio.pauses import pieces
from clsr.audio.waveform import SAMPLE_RATE
from clsr.vocabulary import Word


@dataclass
class Piece:
    """A part of a recording between two quiet moments.

    Attributes:
        start_s: where it begins in the recording.
        waveform: 16 kHz, ``(N,)``.
        words: recognised in it, with times from the start of the recording; ``None`` before it is recognised.
        confidence: mean log probability of its tokens; NaN without any.
    """

    start_s: float
    waveform: np.ndarray
    words: Sequence[Word] | None = None
    confidence: float = float("nan")

    @property
    def end_s(self) -> float:
        """Where it ends in the recording."""
        return self.start_s + len(self.waveform) / SAMPLE_RATE


class PieceStream:
    """Cuts a recording into pieces while its blocks pass by; what the pieces are does not depend on the blocks.

    Args:
        longest_s: of a piece.
    """

    def __init__(self, longest_s: float) -> None:
        self._longest_s = longest_s
        self._pieces: list[Piece] = []
        self._rest = np.empty(0, np.float32)
        self._first = 0  # sample of the recording with which the rest begins

    def follow(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Pass on the blocks ``(n,)`` of the recording, which may fail on the way."""
        try:
            for block in blocks:
                self._rest = np.concatenate([self._rest, block])
                self._cut(whole=False)
                yield block
        finally:
            self._cut(whole=True)

    def overlapping(self, start_s: float, end_s: float) -> list[Piece] | None:
        """The pieces of a span; ``None`` while the last of them is not cut yet."""
        if self._rest.size and end_s > self._first / SAMPLE_RATE:
            return None
        return [piece for piece in self._pieces if piece.start_s < end_s and start_s < piece.end_s]

    def take(self) -> list[Piece]:
        """The pieces cut so far, which are forgotten."""
        taken, self._pieces = self._pieces, []
        return taken

    def forget(self, before_s: float) -> None:
        """Drop the pieces that end before."""
        self._pieces = [piece for piece in self._pieces if piece.end_s > before_s]

    def _cut(self, whole: bool) -> None:
        cut = pieces(self._rest, self._longest_s)
        if not whole:
            cut = cut[:-1]  # the last may go on
        for first, waveform in cut:
            self._pieces.append(Piece((self._first + first) / SAMPLE_RATE, waveform.copy()))
        passed = sum(len(waveform) for _, waveform in cut)
        self._rest, self._first = self._rest[passed:], self._first + passed
