"""Tests of clsr/corpora/holdout.py."""

import hashlib

import pytest

from clsr.corpora.holdout import held_out
from clsr.errors import InputError


def test_groups_of_smallest_digest_make_the_share() -> None:
    order = sorted("ABCDE", key=lambda name: hashlib.sha1(name.encode()).digest())
    rows = [name for name in "ABCDE" for _ in range(4)]  # 20
    assert held_out(rows, 0.01) == set(order[:1])
    assert held_out(rows, 0.2) == set(order[:1])  # 4 of 20
    assert held_out(rows, 0.21) == set(order[:2])
    assert held_out(reversed(rows), 0.5) == set(order[:3])
    assert held_out(rows, 0.99) == set(order[:4])  # one is left


def test_digests_worked_out_elsewhere() -> None:
    """``printf A | sha1sum`` starts with 6d, B with ae, C with 32."""
    assert held_out(["A", "B", "C"], 0.3) == {"C"}
    assert held_out(["A", "B", "C"], 0.6) == {"C", "A"}


def test_one_group_cannot_be_divided() -> None:
    with pytest.raises(InputError, match="A: all rows are of one group"):
        held_out(["A", "A"], 0.5)
    with pytest.raises(InputError, match="nothing: all rows"):
        held_out([], 0.5)
