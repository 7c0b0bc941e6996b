"""Tests of clsr/corpora/one_to_one.py: every case is small enough to work out by hand."""

import random
from typing import NamedTuple

import pytest

from clsr.corpora.one_to_one import one_to_one, same_text


class Row(NamedTuple):
    id: str
    question: str
    context: str


def ids(rows: list[Row]) -> list[str]:
    return [row.id for row in rows]


def test_first_question_and_first_passage_are_kept() -> None:
    rows = [Row("a", "Q1", "P1"), Row("b", "Q2", "P1"), Row("c", "Q1", "P2"), Row("d", "Q3", "P3")]
    assert ids(one_to_one(rows)) == ["a", "d"]


def test_texts_of_dropped_pairs_are_free_again() -> None:
    rows = [Row("a", "Q1", "P1"), Row("b", "Q1", "P2"), Row("c", "Q2", "P2")]
    assert ids(one_to_one(rows)) == ["a", "c"]


def test_greedy_is_not_the_largest_possible() -> None:
    """Q1-P1 bars both others, which together would make two pairs."""
    rows = [Row("a", "Q1", "P1"), Row("b", "Q1", "P2"), Row("c", "Q2", "P1")]
    assert ids(one_to_one(rows)) == ["a"]


def test_an_id_counts_once() -> None:
    assert ids(one_to_one([Row("a", "Q1", "P1"), Row("a", "Q2", "P2")])) == ["a"]


def test_pairs_before_bar_their_texts() -> None:
    before = [Row("x", "q1 ", "P9"), Row("y", "Q8", "p3")]
    rows = [Row("a", "Q1", "P1"), Row("b", "Q2", "P2"), Row("c", "Q3", "P3")]
    assert ids(one_to_one(rows, before)) == ["b"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Who is it?", "who  is\tIT?"),
        ("Straße", "STRASSE"),
        ("１９９０年？", "1990年?"),  # full-width digits and question mark
        ("caf\u00e9", "cafe\u0301"),  # composed and not
        ("山\u3000水", "山 水"),  # ideographic space
        ("\ufb01ne", "fine"),  # ligature
    ],
)
def test_texts_that_are_equal(one: str, other: str) -> None:
    assert same_text(one) == same_text(other)
    assert len(one_to_one([Row("a", one, "P1"), Row("b", other, "P2")])) == 1
    assert len(one_to_one([Row("a", "Q1", one), Row("b", "Q2", other)])) == 1


@pytest.mark.parametrize(("one", "other"), [("who?", "who"), ("台灣", "台湾"), ("cafe", "café"), ("a b", "ab")])
def test_texts_that_are_not(one: str, other: str) -> None:
    assert len(one_to_one([Row("a", one, "P1"), Row("b", other, "P2")])) == 2


@pytest.mark.parametrize("seed", range(20))
def test_random_pairs_are_one_to_one_and_maximal(seed: int) -> None:
    draw = random.Random(seed)
    rows = [Row(str(i), f"Q{draw.randrange(8)}", f"P{draw.randrange(8)}") for i in range(30)]
    kept = one_to_one(rows)
    assert len({row.question for row in kept}) == len({row.context for row in kept}) == len(kept)
    questions, passages = {row.question for row in kept}, {row.context for row in kept}
    assert all(row.question in questions or row.context in passages for row in rows)
    assert kept == [row for row in rows if row in kept]  # in their order
    assert one_to_one(kept) == kept
