from collections.abc import Sequence
from typing import Any

import torch

from clsr.search.passage_cache import PassageCache


class Counting:
    """Encodes a text as its length and its number of spaces, and records the texts of each call."""

    def __init__(self) -> None:
        self.encoded: list[list[str]] = []

    def encode(self, texts: Sequence[str], kind: str) -> torch.Tensor:
        self.encoded.append(list(texts))
        return torch.tensor([[len(text), text.count(" ")] for text in texts], dtype=torch.float32).view(-1, 2)


def test_passages_are_encoded_once_in_query_order() -> None:
    inner: Any = Counting()
    memory = PassageCache(inner)
    assert memory.encode(["a b", "cat", "a b"], "passage").tolist() == [[3, 1], [3, 0], [3, 1]]
    assert memory.encode(["dogs", "cat"], "passage").tolist() == [[4, 0], [3, 0]]
    assert memory.encode(["cat"], "passage").tolist() == [[3, 0]]
    assert inner.encoded == [["a b", "cat"], ["dogs"]]
    assert memory.encode([], "passage").shape == (0, 2)


def test_questions_are_not_remembered() -> None:
    inner: Any = Counting()
    memory = PassageCache(inner)
    for _ in range(2):
        assert memory.encode(["cat"], "question").tolist() == [[3, 0]]
    memory.encode(["cat"], "passage")
    assert inner.encoded == [["cat"]] * 3


def test_oldest_are_dropped_and_large_requests_encoded() -> None:
    inner: Any = Counting()
    memory = PassageCache(inner, texts=2)
    assert memory.encode(["a", "bb", "ccc"], "passage").tolist() == [[1, 0], [2, 0], [3, 0]]
    memory.encode(["bb", "ccc"], "passage")
    memory.encode(["a"], "passage")
    memory.encode(["bb"], "passage")
    assert inner.encoded == [["a", "bb", "ccc"], ["a"], ["bb"]]
