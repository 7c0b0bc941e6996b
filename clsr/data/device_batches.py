"""Batches dealt out to devices, the same whether or not training was interrupted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from torch.utils.data import Sampler

from clsr.errors import InputError

if TYPE_CHECKING:
    from pytorch_lightning import Trainer

Item = TypeVar("Item")


def rounds(batches: Iterable[Sequence[Item]], size: int) -> Iterator[list[list[Item]]]:
    """Deal batches out in rounds of ``size``: nothing is dropped, nothing comes twice, and no round is smaller.

    Where the last batches are fewer, their items are dealt out evenly; where even these are fewer, the round before is
    dealt out anew with them.

    >>> list(rounds([["a", "b"], ["c"], ["d", "e", "f"]], 2))
    [[['a', 'b'], ['c']], [['d', 'f'], ['e']]]
    >>> list(rounds([["a", "b"], ["c"], ["d"]], 2))
    [[['a', 'c'], ['b', 'd']]]

    Raises:
        InputError: there are fewer items than a round needs.
    """
    held: list[list[Item]] | None = None  # the last whole round, until it is known that another item comes
    group: list[list[Item]] = []
    for batch in batches:
        group.append(list(batch))
        if len(group) == size:
            if held:
                yield held
            held, group = group, []
    left = [item for batch in group for item in batch]
    if left and len(left) < size:
        left, held = [item for batch in held or [] for item in batch] + left, None
    if held:
        yield held
    if left:
        if len(left) < size:
            raise InputError(
                f"{len(left)} utterances or pairs for {size} batches: lower trainer.devices or trainer.accumulate"
            )
        yield [left[number::size] for number in range(size)]


class Place(NamedTuple):
    """Which batches of a round are this device's.

    Attributes:
        device: from 0.
        devices: their number.
        accumulate: batches that each device takes for a step.
    """

    device: int = 0
    devices: int = 1
    accumulate: int = 1


def training_place(trainer: Trainer | None) -> Place:
    """Return this device's place in training."""
    return Place(trainer.global_rank, trainer.world_size, trainer.accumulate_grad_batches) if trainer else Place()


def measuring_place(trainer: Trainer | None) -> Place:
    """Return this device's place in measurements."""
    return Place(trainer.global_rank, trainer.world_size) if trainer else Place()


class DeviceBatches(Sampler[Any]):
    """The batches of one device in an epoch: as many as each other device has, and a whole number of steps.

    Args:
        batches: of all devices, in an order that depends on seed and epoch alone; called once an epoch.
        place: which of them are this device's.
        first: batches left out, since they were trained on before an interruption.
        make: what a batch is handed on as.
    """

    def __init__(self, batches: Callable[[], Iterable[Sequence[Any]]], place: Place, first: int = 0,
                 make: Callable[[list], Any] = list):  # fmt: skip
        self.batches = batches
        self.place = place
        self.first = first
        self.make = make

    def __iter__(self) -> Iterator[Any]:
        device, devices, accumulate = self.place
        own = (
            batch
            for of_step in rounds(self.batches(), devices * accumulate)
            for batch in of_step[device * accumulate : (device + 1) * accumulate]
        )
        return (self.make(batch) for batch in islice(own, self.first, None))


class Progress:
    """Where in an epoch training stands: what a data module keeps with each training state."""

    def __init__(self) -> None:
        self.done = 0  # batches of the epoch, by the state that training goes on from

    def take(self) -> int:
        """Return the batches to leave out, once: the next epoch starts at its beginning."""
        done, self.done = self.done, 0
        return done

    def state(self, trainer: Trainer | None) -> dict[str, int]:
        """Return the batches of the epoch that have been trained on."""
        return {"batches": trainer.fit_loop.epoch_loop.batch_progress.current.completed if trainer else 0}

    def restore(self, state: dict[str, int]) -> None:
        """Go on where training stood."""
        self.done = state["batches"]
