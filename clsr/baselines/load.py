"""A system to measure by its reference: the folder of a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from clsr.baselines.own import load_own
from clsr.baselines.parabge import KIND as PARABGE
from clsr.baselines.parabge import ParaBgeRival, load_parabge
from clsr.baselines.protocol import Rival
from clsr.checkpoint import read_meta


def load_rival(reference: str, text_encoder: str | None = None) -> Rival[Any]:
    """Load a system to measure.

    Raises:
        InputError: nothing loadable is there.
    """
    folder = Path(reference)
    if read_meta(folder).kind == PARABGE:
        return ParaBgeRival(*load_parabge(folder))
    return load_own(folder, text_encoder)
