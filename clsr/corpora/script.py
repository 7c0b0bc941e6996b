"""The frame of a recipe's own scripts: a command line, log lines, and bad input reported in one line."""

import logging
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence

from clsr.errors import InputError


def run_script(parser: ArgumentParser, work: Callable[[Namespace], None]) -> None:
    """Read the command line and do the work; an ``InputError`` ends the script with one line and status 2."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        work(parser.parse_args())
    except InputError as error:
        parser.exit(2, f"error: {error}\n")


def stop_at(faults: Sequence[str]) -> None:
    """Print every fault in a line of its own and end the script with status 2, if there is any.

    Raises:
        SystemExit: there is one.
    """
    for fault in faults:
        print(f"error: {fault}", file=sys.stderr)
    if faults:
        sys.exit(2)


def positive(text: str) -> int:
    """Return the number that an option gives, 1 or more.

    Raises:
        ValueError: it is none, or below 1.
    """
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value
