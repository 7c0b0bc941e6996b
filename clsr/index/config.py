"""How an index is built and searched; cheap to import, since these are options too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from clsr.config import Precision
from clsr.errors import InputError

WindowMode = Literal["dense", "bm25", "hybrid"]
"""What windows are ranked by: vectors, words, or both."""
WINDOW_MODES: tuple[WindowMode, ...] = get_args(WindowMode)

Mode = Literal[WindowMode, "maxsim"]
"""What windows are ranked by; with "maxsim", the best by vectors are ranked again by the vectors of their tokens."""
MODES: tuple[Mode, ...] = get_args(Mode)

HitUnit = Literal["tokens", "segment", "window", "recording"]
"""What a hit is: a run of words around the tokens that matched, speech between pauses, a window, or a recording."""
HIT_UNITS: tuple[HitUnit, ...] = get_args(HitUnit)


@dataclass
class IndexConfig:
    """How recordings are cut into windows and encoded.

    Args:
        windows: lengths of the windows in seconds, with or without the step: 40, 10,40 or 40/20; or speech, speech:20,
            which cuts at pauses. By default an index keeps the windows it has, and a new one gets 40.
        batch_s: seconds of audio that a thread encodes at once; memory grows with it, not with the length of a
            recording.
        approximate_from: number of windows from which an approximate index of the vectors is built; 0 never builds one.
        token_vectors: store the vectors of tokens too, for mode maxsim; an index that has them keeps them up to date.
    """

    windows: Annotated[str | None, "CUT"] = None
    batch_s: float = 160.0
    approximate_from: int = 100_000
    token_vectors: bool = False

    def __post_init__(self) -> None:
        if self.windows is not None:
            from clsr.index.windows import join_cuts, parse_cuts  # which import numpy

            self.windows = join_cuts(parse_cuts(str(self.windows)))
        if not self.batch_s > 0:
            raise InputError(f"batch_s is {self.batch_s}: give more than 0")
        if self.approximate_from < 0:
            raise InputError(f"approximate_from is {self.approximate_from}: give 0 (never) or more")


@dataclass(frozen=True)
class RayConfig:
    """Where and how widely recordings are encoded.

    Args:
        address: address of a Ray cluster, such as auto or ray://host:10001; by default Ray starts on this machine.
        workers: number of Ray's workers, each with a model of its own; 0 is one per GPU, or per processor where there
            is no GPU.
        cpus: processors of a worker; torch takes as many threads.
        precision: number format that a worker computes in.
    """

    address: Annotated[str | None, "ADDRESS"] = None
    workers: int = 0
    cpus: int = 1
    precision: Precision = "auto"

    def __post_init__(self) -> None:
        if self.workers < 0 or self.cpus < 1:
            raise InputError(
                f"workers is {self.workers}, cpus {self.cpus}: give 0 or more workers, 1 or more cpus each"
            )
