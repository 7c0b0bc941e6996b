"""What is measured, and how; cheap to import, since these are options too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from clsr.config import Precision
from clsr.errors import InputError
from clsr.index.config import WindowMode


@dataclass(frozen=True)
class EvaluationConfig:
    """What to measure.

    Args:
        text_encoder: text encoder of the transcripts of a model that brings none; by default the offline one.
        seed: seed of the bootstrap and of noise.
        rows: names of the rows to measure; all by default.
        snr_db: signal-to-noise ratio of white noise added to the passages, in dB; none is added by default.
        question_snr_db: signal-to-noise ratio of white noise added to spoken questions, in dB; none by default.
        shuffle: order test on questions of text and speech in turn: shuffle their parts, the positions of their tokens,
            or both; the report says so in a tag.
        tags: what the report says of itself: dataset, seed of the training, ... Tables and figures go by them.
        precision: number format that CLSR models compute in; one other than float32 is a tag of the report.
        device: device that they compute on: cpu, cuda, cuda:1.
    """

    text_encoder: str | None = None
    seed: int = 0
    rows: Annotated[tuple[str, ...], "ROW"] = ()
    snr_db: float | None = None
    question_snr_db: float | None = None
    shuffle: Literal["parts", "positions", "both"] | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    precision: Precision = "float32"
    device: str = "cpu"

    def wants(self, row: str) -> bool:
        """Is this row wanted?"""
        return not self.rows or row in self.rows


@dataclass(frozen=True)
class LongFormConfig:
    """How a model is measured on questions about long recordings.

    Args:
        window_s: length of a window, in seconds.
        hop_s: time from the start of one window to the next, in seconds; at most window_s.
        top_k: numbers of windows returned; each is measured.
        modes: what windows are ranked by: dense (vectors), bm25 (words), hybrid (both); each is measured.
        others: folders of further recordings, which answer no question; they are searched with all the others.
        words: file of transcripts with the times of words, as clsr transcribe --json prints them. Windows are then cut
            out of these, and no recording is recognised again.
        row: system of the model that searches; by default its last one: clsr-soft, parabge.
        whole: give the whole recording to the answerer too.
        typed: put the questions as text, where they are spoken too.
        seed: seed of the bootstrap.
        tags: what the report says of itself: dataset, seed of the training, ...
    """

    window_s: float = 40.0
    hop_s: float = 20.0
    top_k: Annotated[tuple[int, ...], "K"] = (1, 3, 5)
    modes: Annotated[tuple[WindowMode, ...], "MODE"] = ("dense",)
    others: Annotated[tuple[str, ...], "DIR"] = ()
    words: str | None = None
    row: str | None = None
    whole: bool = False
    typed: bool = False
    seed: int = 0
    tags: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 < self.hop_s <= self.window_s:
            raise InputError(f"hop_s is {self.hop_s}, window_s {self.window_s}: give 0 < hop_s <= window_s")
        if not self.top_k or min(self.top_k) < 1:
            raise InputError(f"top_k is {self.top_k}: give numbers of 1 or more")
