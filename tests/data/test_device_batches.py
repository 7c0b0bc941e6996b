"""Dealing batches out: all devices take as many, and every item comes once."""

import random

import pytest

from clsr.data.device_batches import DeviceBatches, Rank, equal_groups
from clsr.errors import InputError


@pytest.mark.parametrize("devices", [1, 2, 3, 5])
def test_nothing_is_dropped_doubled_or_waited_for(devices: int):
    draw = random.Random(devices)
    for _ in range(300):
        sizes = [draw.randint(1, 4) for _ in range(draw.randint(1, 12))]
        numbers = iter(range(sum(sizes)))
        batches = [[next(numbers) for _ in range(size)] for size in sizes]
        if sum(sizes) < devices:
            with pytest.raises(
                InputError, match=f"{sum(sizes)} utterances or pairs for {devices} batches: lower trainer.devices"
            ):
                list(equal_groups(batches, devices))
            continue
        dealt = list(equal_groups(batches, devices))
        assert all(len(round_) == devices and all(round_) for round_ in dealt)
        assert sorted(item for round_ in dealt for batch in round_ for item in batch) == list(range(sum(sizes)))


def test_one_device_gets_the_batches_as_they_are():
    batches = [["a", "b"], ["c"], ["d", "e"]]
    assert list(equal_groups(batches, 1)) == [[batch] for batch in batches]


def test_whole_groups_keep_their_batches():
    assert list(equal_groups(["ab", "cd", "ef", "gh"], 2)) == [[["a", "b"], ["c", "d"]], [["e", "f"], ["g", "h"]]]


def test_a_device_resumes_after_finished_groups():
    batches = [[i] for i in range(7)]
    whole = list(DeviceBatches(lambda: batches, Rank(1, 2)))
    assert whole == [[1], [3], [5]]  # the other has [4, 6] then
    assert list(DeviceBatches(lambda: batches, Rank(1, 2), first=2)) == whole[2:]
    assert list(DeviceBatches(lambda: batches, Rank(1, 2), first=3)) == []
    assert next(iter(DeviceBatches(lambda: batches, Rank(0, 2), make=tuple))) == (0,)


def test_no_batches_make_no_groups():
    assert list(equal_groups([], 2)) == []


@pytest.mark.parametrize("count", [4, 7, 9])
def test_an_epoch_has_whole_accumulated_steps(count: int):
    batches = [[i, -i] for i in range(1, count + 1)]
    shares = [list(DeviceBatches(lambda: batches, Rank(device, 2, 2))) for device in range(2)]
    assert len(shares[0]) == len(shares[1]) and len(shares[0]) % 2 == 0
    dealt = sorted(i for of_device in shares for batch in of_device for i in batch)
    assert dealt == sorted(i for batch in batches for i in batch)
    assert shares[0][:2] == batches[:2] and shares[1][:2] == batches[2:4]  # two each for a step
