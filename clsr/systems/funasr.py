"""FunASR's released Paraformers as the recogniser of a pipeline.

A folder is read by our own import (`clsr.funasr.release`), whose networks are tested against FunASR's: FunASR
itself takes ten seconds and 800 MB to import, and its loader may ask the network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from clsr.checkpoint import load_recogniser
from clsr.funasr.release import import_release
from clsr.systems.cascade import transcripts

SCHEME = "funasr"


def load_funasr(folder: Path) -> Callable[[Sequence[np.ndarray]], list[str]]:
    """Return what transcribes 16 kHz waveforms ``(N_i,)`` with a released Paraformer.

    Raises:
        InputError: the folder is missing, incomplete, or holds another model.
    """
    with TemporaryDirectory() as imported:
        import_release(folder, Path(imported))
        recogniser = load_recogniser(imported)
    return lambda waveforms: transcripts(recogniser, recogniser.recognise(waveforms))
