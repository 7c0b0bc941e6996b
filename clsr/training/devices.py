"""Training on several devices at once: means over what all of them hold, with the gradients of a single one."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, distributed
from torch.distributed.nn.functional import all_gather

Item = TypeVar("Item")


def device_count() -> int:
    """Return how many processes train together."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def share(count: Tensor) -> Tensor | float:
    """Return what turns this device's mean over ``count`` things into its part of the mean over those of all devices.

    Gradients are averaged over devices, whatever the sizes of their batches. With ``n_r`` things on device ``r`` of
    ``R``, the factor ``R n_r / sum n`` makes that average the gradient of the mean over all of them.
    """
    devices = device_count()
    if devices == 1:
        return 1.0
    total = count.detach().clone().float()
    distributed.all_reduce(total)
    return devices * count / total.clamp(min=1)


def gather_rows(rows: Tensor) -> Tensor:
    """Return the rows ``(N_r, ...)`` of all devices, ``(sum N, ...)``, device by device; gradients find their way back.

    A loss of the gathered rows is the same on each device, and the gradients of their own rows that come from all
    devices add up; so it needs no ``share``.
    """
    devices = device_count()
    if devices == 1:
        return rows
    counts = [torch.zeros((), dtype=torch.long, device=rows.device) for _ in range(devices)]
    distributed.all_gather(counts, torch.tensor(len(rows), device=rows.device))
    lengths = [int(count) for count in counts]
    padding = rows.new_zeros(max(lengths) - len(rows), *rows.shape[1:])
    gathered = all_gather(torch.cat([rows, padding]))  # collectives want equal shapes
    return torch.cat([of_device[:length] for of_device, length in zip(gathered, lengths, strict=True)])


def gather_items(items: list[Item]) -> list[Item]:
    """Return the items of all devices, device by device."""
    devices = device_count()
    if devices == 1:
        return items
    lists: list[list[Item]] = [[] for _ in range(devices)]
    distributed.all_gather_object(lists, items)
    return [item for of_device in lists for item in of_device]
