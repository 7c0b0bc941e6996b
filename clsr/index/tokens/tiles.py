"""Windows that overlap -> tiles, each part of a recording once. Internal."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from clsr.audio.pauses import Span
from clsr.vocabulary import Word


class Tile(NamedTuple):
    """A part of a recording between two borders of windows, and the window that its words are taken from."""

    start_s: float
    end_s: float
    window: int  # its number
    words: range  # their places in that window


def tiles_of(spans: Sequence[Span], words: Sequence[Sequence[Word]]) -> list[Tile]:
    """Cut a recording at all borders of its windows, so that each window is a row of whole tiles.

    A tile's words are those whose middle lies in it. They are taken from one window: the longest that has the tile, of
    equal ones the first. Tiles without words are left out.

    >>> said = [Word("so", 0.0, 10.0), Word("far", 32.0, 38.0)]
    >>> [(tile.start_s, tile.end_s, tile.words) for tile in tiles_of([(0.0, 40.0), (30.0, 70.0)], [said, said[1:]])]
    [(0.0, 30.0, range(0, 1)), (30.0, 40.0, range(1, 2))]

    Args:
        spans: start and end of each window, in seconds.
        words: of each window, in the order of speech.
    """
    borders = sorted({time_s for span in spans for time_s in span})
    found: dict[int, Tile] = {}
    taken: set[int] = set()
    for window in sorted(range(len(spans)), key=lambda i: (spans[i][0] - spans[i][1], spans[i][0])):
        first, end = (borders.index(time_s) for time_s in spans[window])
        of_word = [
            min(max(bisect_right(borders, (word.start_s + word.end_s) / 2) - 1, first), end - 1)
            for word in words[window]
        ]
        for at in range(first, end):
            inside = [place for place, tile in enumerate(of_word) if tile == at]
            if at not in taken and inside:
                found[at] = Tile(borders[at], borders[at + 1], window, range(inside[0], inside[-1] + 1))
            taken.add(at)
    return [found[at] for at in sorted(found)]
