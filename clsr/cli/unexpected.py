"""The last line of defence: an error that nobody thought of, in one line and a file."""

from __future__ import annotations

import os
import platform
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path


def describe_unexpected(error: BaseException) -> str:
    """One line about an error that is a fault of clsr; its traceback is written to a file that the line names.

    Nothing of the command line is written: a token may be among it.
    """
    kind = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}".rstrip(": ")
    text = f"Python {platform.python_version()}, {platform.platform()}\n\n{''.join(traceback.format_exception(error))}"
    log = _write(text)
    where = f"with its log {log}" if log else "with what --debug shows"
    return f"unexpected error ({kind}): this is a fault of clsr; please report it to its authors, {where}"


def _write(text: str) -> Path | None:
    name = time.strftime(f"error-%Y%m%d-%H%M%S-{os.getpid()}.log")
    for folder in _folders():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8", errors="backslashreplace")
        except (OSError, RuntimeError):  # not writable, or nobody's home
            continue
        return folder / name
    return None


def _folders() -> Iterator[Path]:
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    if not state.startswith("~") or os.path.expanduser("~") != "~":
        yield Path(os.path.expanduser(state)) / "clsr"
    try:
        yield Path(tempfile.gettempdir())
    except OSError:  # there is none
        yield Path.cwd()
