"""File names whose letters are composed (NFC) or taken apart (NFD): one looks like the other, and finds it."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path


def spellings(name: str) -> list[str]:
    """A name as it is, composed and taken apart, each once.

    >>> [ascii(one) for one in spellings("a\\u00e9")]
    ["'a\\\\xe9'", "'ae\\\\u0301'"]
    """
    return list(dict.fromkeys([name, *(unicodedata.normalize(form, name) for form in ("NFC", "NFD"))]))


def as_on_disk(path: Path) -> Path:
    """A path as the disk has it where that differs only in how letters are composed; else the path itself.

    Systems write names differently: a name typed on one is often not, byte by byte, that of a file copied from another.
    """
    if str(path).isascii() or _exists(path):
        return path
    found = Path(path.anchor)
    for part in path.parts[1:] if path.anchor else path.parts:
        found = found / _entry(found, part)
    return found if _exists(found) else path


def _entry(folder: Path, name: str) -> str:
    if name.isascii() or _exists(folder / name):
        return name
    wanted = unicodedata.normalize("NFC", name)
    try:
        return next((one for one in os.listdir(folder) if unicodedata.normalize("NFC", one) == wanted), name)
    except OSError:
        return name


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name that no disk can have: reported by who opens it
        return False
