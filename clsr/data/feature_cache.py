"""What a frozen front end makes of waveforms, kept on disk by content."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from clsr.errors import InputError

Extract = Callable[[np.ndarray], Tensor]
"""A front end: a 16 kHz waveform ``(N,)`` to rows ``(T, F)``."""


class FeatureCache:
    """A front end that computes nothing twice: rows are kept as float16 by the content of the waveform.

    Any number of processes may use a folder at once: a file appears whole or not at all.

    Args:
        folder: of the cache; made where it is missing.
        extract: the front end.
        fingerprint: of its weights.
    """

    def __init__(self, folder: Path, extract: Extract, fingerprint: str):
        self.folder = folder / fingerprint
        self.extract = extract

    def __call__(self, waveform: np.ndarray) -> Tensor:
        """Return rows ``(T, F)`` of a waveform ``(N,)``, from the folder where they are there."""
        digest = hashlib.sha256(np.ascontiguousarray(waveform).data).hexdigest()
        path = self.folder / digest[:2] / f"{digest}.npy"
        if path.exists():
            return torch.from_numpy(np.load(path))
        rows = self.extract(waveform).half()
        partial = path.with_suffix(f".{os.getpid()}.partial")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                np.save(file, rows.numpy())
            os.replace(partial, path)
        except OSError as error:
            raise InputError(
                f"data.feature_dir: {path.parent} cannot be written ({error.strerror}): make room, or leave it out"
            ) from error
        return rows
