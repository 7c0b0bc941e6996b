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


def equal_groups(batches: Iterable[Sequence[Item]], size: int) -> Iterator[list[list[Item]]]:
    """Group batches by ``size``: no item is dropped, none comes twice, and no group is smaller.

    The items of an incomplete last group are shared out evenly. Where there are fewer items than batches in a group,
    they are shared out together with those of the group before.

    >>> list(equal_groups([["a", "b"], ["c"], ["d", "e", "f"]], 2))
    [[['a', 'b'], ['c']], [['d', 'f'], ['e']]]
    >>> list(equal_groups([["a", "b"], ["c"], ["d"]], 2))
    [[['a', 'c'], ['b', 'd']]]

    Raises:
        InputError: there are fewer items than a group has batches.
    """
    previous: list[list[Item]] | None = None  # the last whole group, until it is known that another item comes
    group: list[list[Item]] = []
    for batch in batches:
        group.append(list(batch))
        if len(group) == size:
            if previous:
                yield previous
            previous, group = group, []
    left = [item for batch in group for item in batch]
    if left and len(left) < size:
        left, previous = [item for batch in previous or [] for item in batch] + left, None
    if previous:
        yield previous
    if left:
        if len(left) < size:
            raise InputError(
                f"{len(left)} utterances or pairs for {size} batches: lower trainer.devices or trainer.accumulate"
            )
        yield [left[number::size] for number in range(size)]


class Rank(NamedTuple):
    """Which batches of a group are this device's.

    Attributes:
        device: from 0.
        devices: their number.
        accumulate: batches that each device takes for a step.
    """

    device: int = 0
    devices: int = 1
    accumulate: int = 1


def training_rank(trainer: Trainer | None) -> Rank:
    """Return this device's rank in training."""
    return Rank(trainer.global_rank, trainer.world_size, trainer.accumulate_grad_batches) if trainer else Rank()


def validation_rank(trainer: Trainer | None) -> Rank:
    """Return this device's rank in validation."""
    return Rank(trainer.global_rank, trainer.world_size) if trainer else Rank()


class DeviceBatches(Sampler[Any]):
    """The batches of one device in an epoch: as many as each other device has, and a whole number of steps.

    Args:
        batches: of all devices, in an order that depends on seed and epoch alone; called once an epoch.
        rank: which of them are this device's.
        first: batches skipped, since they were trained on before an interruption.
        make: what a batch is handed on as.
    """

    def __init__(self, batches: Callable[[], Iterable[Sequence[Any]]], rank: Rank, first: int = 0,
                 make: Callable[[list], Any] = list):  # fmt: skip
        self.batches = batches
        self.rank = rank
        self.first = first
        self.make = make

    def __iter__(self) -> Iterator[Any]:
        device, devices, accumulate = self.rank
        own = (
            batch
            for of_step in equal_groups(self.batches(), devices * accumulate)
            for batch in of_step[device * accumulate : (device + 1) * accumulate]
        )
        return (self.make(batch) for batch in islice(own, self.first, None))


class EpochProgress:
    """Batches of the epoch that are done: a data module keeps it with each training state, to resume from."""

    def __init__(self) -> None:
        self.done = 0  # batches of the epoch, by the state that training resumes from

    def take(self) -> int:
        """Return the batches to skip, once: the next epoch starts at its beginning."""
        done, self.done = self.done, 0
        return done

    def state(self, trainer: Trainer | None) -> dict[str, int]:
        """Return the batches of the epoch that have been trained on."""
        return {"batches": trainer.fit_loop.epoch_loop.batch_progress.current.completed if trainer else 0}

    def restore(self, state: dict[str, int]) -> None:
        """Resume where training stood."""
        self.done = state["batches"]
