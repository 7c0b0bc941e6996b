"""Standard output and error as they may be: closed, full, or in an encoding that lacks characters."""

from __future__ import annotations

import codecs
import io
import json
import logging
import os
import sys
from contextlib import suppress
from typing import TextIO

ESCAPES = "clsr-escapes"  # name of the handler of characters that an encoding lacks


def prepare_streams() -> None:
    """Make sure that whatever is printed cannot fail for its characters, nor for a stream that is closed.

    Characters that the encoding lacks are written as JSON writes them (``\\\\u8b1b``), so that JSON stays JSON.
    """
    _open_descriptors()
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115  # open until the process ends
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    codecs.register_error(ESCAPES, _escape)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=ESCAPES)
    logging.raiseExceptions = False  # a full disk behind standard error is not worth a traceback a line


def say(text: str) -> None:
    """Print a line on standard error, if there is anybody to read it."""
    with suppress(OSError, ValueError):
        print(f"clsr: {text}", file=sys.stderr, flush=True)


def silence(stream: TextIO) -> None:
    """Send the rest of a stream that cannot be written to nowhere, so that the end of the process is quiet."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def silence_if_broken(stream: TextIO) -> None:
    """``silence`` a stream that cannot be written, such as a file on a full disk."""
    try:
        stream.flush()
    except (OSError, ValueError):
        silence(stream)


def _open_descriptors() -> None:
    """Open the first three file descriptors: else a file of the index takes their place, and gets what is printed."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest that is free


def _escape(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end
