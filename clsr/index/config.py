"""How an index is built and searched, and what it was built with; cheap to import, since the first are options."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple, get_args

from clsr.config import Compression, Precision
from clsr.errors import InputError

if TYPE_CHECKING:
    from clsr.index.location import IndexLocation
    from clsr.model import Model

DESCRIPTION = "index.json"

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
        token_vectors: keep the vectors of tokens too, which mode maxsim compares. By default a new index has them, and
            others stay as they are.
    """

    windows: Annotated[str | None, "CUT"] = None
    batch_s: float = 160.0
    approximate_from: int = 100_000
    token_vectors: bool | None = None

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


class IndexDescription(NamedTuple):
    """What an index was built with: ``index.json`` beside its tables."""

    model: str  # checkpoint folder, or the reference of a released model
    fingerprint: str  # of the checkpoint, its text encoder included
    windows: str = "40/30"  # how recordings to come are cut, as clsr.index.windows.join_cuts writes it
    text_encoder: str = ""  # reference of the text encoder; empty for the model's own
    token_vectors: bool = False  # whether it keeps the vectors of tokens
    dimensions: int = 0  # numbers of a vector that are kept; 0 is all
    code_pooling: int = 1  # of the speech in windows, as clsr.config.Compression has it

    @classmethod
    def read(cls, location: IndexLocation) -> IndexDescription:
        """The description of an index.

        Raises:
            InputError: there is no index, or its description is damaged.
        """
        from clsr.index.windows import parse_cuts

        try:
            text = location.read_text(DESCRIPTION)
            if text is not None:
                description = cls(**json.loads(text))
                kinds = (str,) * 4 + (bool, int, int)
                if not all(isinstance(value, kind) for value, kind in zip(description, kinds, strict=True)):
                    raise TypeError("a value is of another kind")
                parse_cuts(description.windows)
                return description
        except (OSError, ValueError, TypeError, InputError) as error:
            raise InputError(
                f"{location}/{DESCRIPTION}: cannot be read ({error}); delete the folder and index again"
            ) from error
        raise InputError(f"{location}: no index here ({DESCRIPTION} is missing); make one with clsr index")

    def write(self, location: IndexLocation) -> None:
        """Write it beside the tables; it appears whole or not at all."""
        location.write_text(DESCRIPTION, json.dumps(self._asdict(), indent=2) + "\n")

    def open_model(self, device: str = "cpu", precision: Precision = "auto") -> Model:
        """The model as it was named then; whether it is the same is not looked at."""
        from clsr.model import Model

        text_encoder = self.text_encoder or None
        return Model(self.model, device, precision, text_encoder=text_encoder, compression=self.compression)

    @property
    def compression(self) -> Compression:
        """How the model makes sequences and vectors shorter."""
        return Compression(self.dimensions or None, self.code_pooling)
