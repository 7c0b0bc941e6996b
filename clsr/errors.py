"""The one exception for faults in what the user gave, and what is safe to read and to show."""

import unicodedata
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

BREAKS = {"\u2028", "\u2029"}  # of lines and paragraphs, which are no control characters


class InputError(Exception):
    """A file, line, id or setting that the user can mend.

    The message is one line: what is wrong, where (file, line or id), and what to do. The command line prints
    it to standard error and exits with status 2.
    """


@contextmanager
def reporting(report: Callable[[str], None]) -> Iterator[None]:
    """Report an ``InputError`` raised within, and go on behind it.

    >>> faults = []
    >>> with reporting(faults.append):
    ...     raise InputError("table.tsv:3: q7: has no words")
    >>> faults
    ['table.tsv:3: q7: has no words']
    """
    try:
        yield
    except InputError as error:
        report(str(error))


def each_once(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON each of whose names is there once, as ``object_pairs_hook`` of ``json.loads``.

    Raises:
        ValueError: one is there twice: the first of its values would be lost.
    """
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{name} is there twice: keep one of them")
        found[name] = value
    return found


def printable_line(text: str) -> str:
    """Text as one line that a terminal only shows: what it would obey, or break the line at, is written as an escape.

    These are control characters and those that turn the direction of writing. File names may hold them.

    >>> printable_line("a\\n\\x1b[2J.wav")
    'a\\\\n\\\\x1b[2J.wav'
    """
    return "".join(_escaped(character) if _is_obeyed(character) else character for character in text)


def _is_obeyed(character: str) -> bool:
    turns = unicodedata.bidirectional(character) in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
    return unicodedata.category(character) == "Cc" or character in BREAKS or turns


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()
