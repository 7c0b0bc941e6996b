"""Tests of tools/second_guesses.py: ranks of the right tokens, counted by hand."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "tools" / "second_guesses.py"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("second_guesses", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def places(*best: str) -> list[list[int]]:
    """Tokens of each place by their digits, best first."""
    return [[int(digit) for digit in of_place] for of_place in best]


@pytest.mark.parametrize(
    ("likely", "reference", "counts"),
    [
        (places("12", "23", "31"), [1, 2, 3], {}),  # all right
        (places("12", "32", "31"), [1, 2, 3], {"substituted": 1, 2: 1}),
        (
            places("12", "345", "61"),
            [1, 2, 5],
            {"substituted": 2},
        ),  # 2 and 5 are in no place of theirs: 5 is one too early
        (places("12", "347", "615"), [1, 7, 5], {"substituted": 2, 3: 2}),
        (places("12", "31"), [1, 2, 3], {"deleted or inserted": 1}),  # 2 is missing
        (places("12", "91", "23", "92", "31"), [1, 2, 3], {"deleted or inserted": 2}),  # two nines too many
        ([], [1, 2, 3], {"deleted or inserted": 3}),
    ],
)
def test_counts(tool: ModuleType, likely: Sequence[Sequence[int]], reference: list[int], counts: dict) -> None:
    assert +tool.count(likely, reference) == {"reference": 3, **counts}


def test_shares_of_pooled_counts(tool: ModuleType) -> None:
    total = tool.count(places("12", "347", "615"), [1, 7, 5]) + tool.count(places("42", "51"), [2, 3])
    total += tool.count(places("1"), [1]) + tool.count([], [1, 2, 3, 4])
    assert total["reference"] == 10 and total["substituted"] == 4
    assert tool.shares(total) == [40.0, 40.0, 25.0, 75.0, 75.0]
    assert tool.shares(tool.count(places("12"), [1])) == [0.0, 0.0, 0.0, 0.0, 0.0]
