"""Tensors of a safetensors file, mapped into memory: only the pages that are used are read."""

from __future__ import annotations

import json
import math
import mmap
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

_KINDS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}  # bfloat16 is the upper half of a float32


class MappedWeights(Mapping[str, np.ndarray]):
    """The floating-point tensors of a file by name, as float32; those that are float32 in the file are not copied.

    Args:
        path: of the file.

    Raises:
        ValueError, KeyError, TypeError: the file is damaged.
        OSError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self._mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        length = int.from_bytes(self._mapped[:8], "little")
        header = json.loads(self._mapped[8 : 8 + length])
        self._raw = {
            name: self._view(8 + length, **entry)
            for name, entry in header.items()
            if name != "__metadata__" and entry["dtype"] in _KINDS
        }

    def _view(self, start: int, dtype: str, shape: list[int], data_offsets: list[int]) -> np.ndarray:
        first, end = data_offsets
        kind, count = np.dtype(_KINDS[dtype]), math.prod(shape)
        if end - first != count * kind.itemsize:
            raise ValueError(f"a tensor of shape {shape} has {end - first} bytes")
        return np.frombuffer(self._mapped, kind, count, start + first).reshape(shape)

    def __getitem__(self, name: str) -> np.ndarray:
        return _as_float32(self._raw[name])

    def rows(self, name: str, indices: np.ndarray) -> np.ndarray:
        """Rows of a matrix, without the rest of it.

        Args:
            name: of the matrix, ``(N, D)``.
            indices: of the rows, ``(T,)``.

        Returns:
            ``(T, D)``.
        """
        return _as_float32(self._raw[name][indices])

    def __iter__(self) -> Iterator[str]:
        return iter(self._raw)

    def __len__(self) -> int:
        return len(self._raw)

    def shape(self, name: str) -> tuple[int, ...]:
        """Sizes of a tensor."""
        return self._raw[name].shape


def _as_float32(values: np.ndarray) -> np.ndarray:
    if values.dtype == np.uint16:
        return (values.astype(np.uint32) << 16).view(np.float32)
    return values.astype(np.float32, copy=False)
