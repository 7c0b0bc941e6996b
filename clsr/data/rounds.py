"""Batches dealt out to devices, the same whether or not training was interrupted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from torch.utils.data import Sampler

from clsr.errors import InputError

if TYPE_CHECKING:
    from pytorch_lightning import Trainer

Item = TypeVar("Item")


def rounds(batches: Iterable[Sequence[Item]], devices: int) -> Iterator[list[list[Item]]]:
    """Deal batches out in rounds of one for each device: nothing is dropped, nothing comes twice, and nobody waits.

    Where the last batches are fewer than the devices, their items are dealt out evenly; where even these are fewer,
    the round before is dealt out anew with them.

    >>> list(rounds([["a", "b"], ["c"], ["d", "e", "f"]], 2))
    [[['a', 'b'], ['c']], [['d', 'f'], ['e']]]
    >>> list(rounds([["a", "b"], ["c"], ["d"]], 2))
    [[['a', 'c'], ['b', 'd']]]

    Raises:
        InputError: there are fewer items than devices.
    """
    held: list[list[Item]] | None = None  # the last whole round, until it is known that another item comes
    group: list[list[Item]] = []
    for batch in batches:
        group.append(list(batch))
        if len(group) == devices:
            if held:
                yield held
            held, group = group, []
    left = [item for batch in group for item in batch]
    if left and len(left) < devices:
        left, held = [item for batch in held or [] for item in batch] + left, None
    if held:
        yield held
    if left:
        if len(left) < devices:
            raise InputError(f"{len(left)} utterances for {devices} devices: train on fewer (trainer.devices)")
        yield [left[device::devices] for device in range(devices)]


class DeviceBatches(Sampler[Any]):
    """The batches of one device, from a round of the epoch on.

    Args:
        batches: of all devices, in an order that depends on seed and epoch alone; called once an epoch.
        device: whose batches, from 0.
        devices: their number.
        first: rounds left out, since they were trained on before an interruption.
        make: what a batch is handed on as.
    """

    def __init__(self, batches: Callable[[], Iterable[Sequence[Any]]], device: int, devices: int, first: int = 0,
                 make: Callable[[list], Any] = list):  # fmt: skip
        self.batches = batches
        self.device = device
        self.devices = devices
        self.first = first
        self.make = make

    def __iter__(self) -> Iterator[Any]:
        for number, batches in enumerate(rounds(self.batches(), self.devices)):
            if number >= self.first:
                yield self.make(batches[self.device])


class Progress:
    """Where in an epoch training stands: what a data module keeps with each training state."""

    def __init__(self) -> None:
        self.done = 0  # rounds of the epoch, by the state that training goes on from

    def take(self) -> int:
        """Return the rounds to leave out, once: the next epoch starts at its beginning."""
        done, self.done = self.done, 0
        return done

    def state(self, trainer: Trainer | None) -> dict[str, int]:
        """Return the rounds of the epoch that have been trained on."""
        return {"rounds": trainer.fit_loop.epoch_loop.batch_progress.current.completed if trainer else 0}

    def restore(self, state: dict[str, int]) -> None:
        """Go on where training stood."""
        self.done = state["rounds"]


def place(trainer: Trainer | None) -> tuple[int, int]:
    """Return which device this process serves, from 0, and how many there are."""
    return (trainer.global_rank, trainer.world_size) if trainer else (0, 1)
