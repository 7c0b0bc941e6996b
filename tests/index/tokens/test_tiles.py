"""Tiles cover each window exactly and hold every word once."""

import random

from clsr.index.tokens.tiles import tiles_of
from clsr.vocabulary import Word


def said(start_s: float, end_s: float) -> list[Word]:
    """A word a second, named by its second, of which the middle lies in a span."""
    return [Word(str(s), s, s + 1.0) for s in range(100) if start_s <= s + 0.5 < end_s]


def test_seconds_are_taken_once_of_first_windows() -> None:
    spans = [(0.0, 40.0), (30.0, 70.0), (35.0, 75.0)]
    tiles = tiles_of(spans, [said(*span) for span in spans])
    assert [(tile.start_s, tile.end_s, tile.window) for tile in tiles] == [
        (0, 30, 0), (30, 35, 0), (35, 40, 0), (40, 70, 1), (70, 75, 2)
    ]  # fmt: skip


def test_longer_windows_give_the_words() -> None:
    spans = [(0.0, 10.0), (7.5, 17.5), (0.0, 40.0)]
    assert {tile.window for tile in tiles_of(spans, [said(*span) for span in spans])} == {2}


def test_every_window_is_a_row_of_whole_tiles() -> None:
    draw = random.Random(0)
    for _ in range(50):
        spans = []
        for _ in range(draw.randint(1, 6)):
            start_s = draw.randint(0, 50) / 2
            spans.append((start_s, start_s + draw.randint(2, 40) / 2))
        words = [said(*span) for span in spans]
        tiles = tiles_of(spans, words)
        for (start_s, end_s), of_window in zip(spans, words, strict=True):
            inside = [tile for tile in tiles if start_s <= tile.start_s and tile.end_s <= end_s]
            held = [words[tile.window][place].text for tile in inside for place in tile.words]
            assert held == [word.text for word in of_window]


def test_windows_without_words_have_no_tiles() -> None:
    assert tiles_of([(0.0, 4.0)], [[]]) == []
    assert tiles_of([], []) == []
