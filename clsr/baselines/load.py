"""A system to measure by its reference: the folder of a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from clsr.baselines.own import load_own
from clsr.baselines.parabge import KIND as PARABGE
from clsr.baselines.parabge import ParaBgeRival, load_parabge
from clsr.baselines.protocol import Rival
from clsr.baselines.speechdpr import KIND as SPEECHDPR
from clsr.baselines.speechdpr import load_speechdpr
from clsr.checkpoint import read_meta


def load_rival(reference: str, text_encoder: str | None = None) -> Rival[Any]:
    """Load a system to measure.

    Raises:
        InputError: nothing loadable is there.
    """
    folder = Path(reference)
    kind = read_meta(folder).kind
    if kind == PARABGE:
        return ParaBgeRival(*load_parabge(folder))
    if kind == SPEECHDPR:
        return load_speechdpr(folder)
    return load_own(folder, text_encoder)
