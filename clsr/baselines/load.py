"""A system to measure by its reference: the folder of a checkpoint, or the scheme and folder of a released rival."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from clsr.baselines.clap import KIND as CLAP
from clsr.baselines.clap import ClapRival, load_clap
from clsr.baselines.own import load_own
from clsr.baselines.parabge import KIND as PARABGE
from clsr.baselines.parabge import ParaBgeRival, load_parabge
from clsr.baselines.protocol import Rival
from clsr.baselines.speechdpr import KIND as SPEECHDPR
from clsr.baselines.speechdpr import load_speechdpr
from clsr.checkpoint import read_meta


def load_rival(reference: str, text_encoder: str | None = None) -> Rival[Any]:
    """Load a system to measure.

    Args:
        reference: a checkpoint folder, or ``clap:FOLDER`` with released weights.
        text_encoder: reference of the text encoder that transcripts go to, where a system brings none.

    Raises:
        InputError: nothing loadable is there.
    """
    scheme, colon, place = reference.partition(":")
    if colon and scheme == CLAP:
        return ClapRival(load_clap(Path(place)))
    folder = Path(reference)
    kind = read_meta(folder).kind
    if kind == PARABGE:
        return ParaBgeRival(*load_parabge(folder))
    if kind == SPEECHDPR:
        return load_speechdpr(folder)
    if kind == CLAP:
        return ClapRival(load_clap(folder))
    return load_own(folder, text_encoder)
