"""Lengths and masks: a mask is True on what is real and False on padding, everywhere."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def length_mask(lengths: Tensor, size: int | None = None) -> Tensor:
    """Turn lengths ``(B,)`` into a mask ``(B, size)``, True before each length.

    >>> length_mask(torch.tensor([1, 3])).tolist()
    [[True, False, False], [True, True, True]]
    """
    if size is None:
        size = int(lengths.max()) if len(lengths) else 0
    return torch.arange(size, device=lengths.device) < lengths[:, None]


def pad(rows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Stack rows ``(T_i, ...)`` of different length into ``(B, T, ...)``, zero past each length, and the lengths."""
    lengths = torch.tensor([len(row) for row in rows])
    return torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True), lengths
