"""Paths, folders and patterns -> audio files; a file's content and date."""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from clsr.audio.spelling import as_on_disk, spellings
from clsr.audio.waveform import AUDIO_SUFFIXES
from clsr.errors import InputError


class FileState(NamedTuple):
    """Size and date of a file: they differ when it has changed."""

    size_bytes: int
    modified_ns: int


def find_recordings(paths: str | Path | Iterable[str | Path]) -> list[Path]:
    """Absolute paths of the audio files named, and of those inside the folders named, each once.

    A file that is named itself is taken whatever its suffix; inside folders, searched to any depth, and of what a
    pattern names, those with the suffix of an audio file, hidden ones left out. A pattern has ``*``, ``?``, ``[...]``
    or ``**`` for folders of any depth; where a file of that very name exists, it is that file. A name finds its file
    whether its letters are composed (NFC) or taken apart (NFD).

    Raises:
        InputError: a path is missing, or a folder or pattern leads to no audio file.
    """
    found: dict[Path, None] = {}
    for path in map(as_on_disk, map(Path, [paths] if isinstance(paths, str | Path) else paths)):
        if path.is_dir():
            files = _inside(path)
        elif path.exists():
            files = [path]
        elif glob.has_magic(str(path)):
            files = list(_matching(str(path)))
        else:
            raise InputError(f"{path}: no such file or folder; check the path")
        if not files:
            where = "in this folder" if path.is_dir() else "of this pattern"
            raise InputError(f"{path}: no audio file {where}; looked for {' '.join(AUDIO_SUFFIXES)}")
        found.update((file.resolve(), None) for file in files)
    return list(found)


def printable(path: str | Path) -> str:
    """A path as text that can be written anywhere: bytes of it that are no UTF-8 become question marks."""
    return str(path).encode(errors="replace").decode()


def file_state(path: Path) -> FileState:
    """Size and date of a file."""
    state = path.stat()
    return FileState(state.st_size, state.st_mtime_ns)


def size_bytes(path: Path) -> int:
    """Size of a file; 0 of one that is gone or cannot be looked at, which is reported when it is read."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def content_hash(path: Path) -> str:
    """Fingerprint of a file's bytes: BLAKE2b, 32 hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=16)
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _inside(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("[!.]*") if file.suffix.lower() in AUDIO_SUFFIXES and file.is_file())


def _matching(pattern: str) -> Iterator[Path]:
    for name in sorted({name for one in spellings(pattern) for name in glob.glob(one, recursive=True)}):
        path = Path(name)
        if path.is_dir():
            yield from _inside(path)
        elif path.suffix.lower() in AUDIO_SUFFIXES:
            yield path
