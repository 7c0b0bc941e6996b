"""Paths, folders and patterns -> audio files, and what was skipped; a file's content and date."""

from __future__ import annotations

import glob
import hashlib
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from clsr.audio.content import may_be_recording
from clsr.audio.spelling import as_on_disk, spellings
from clsr.audio.waveform import AUDIO_SUFFIXES
from clsr.errors import InputError

HIDDEN, NOT_AUDIO, UNREADABLE, LINK = "hidden", "not audio", "not readable", "links that lead to no file"
# Folders that a system hides: copies from a Mac in archives, the trash and previews of Windows and of network disks.
HIDDEN_FOLDERS = {"__macosx", "$recycle.bin", "recycler", "system volume information", "#recycle", "@eadir"}
NAMED = 5  # skipped files of a reason, at most, whose names are listed


class FileState(NamedTuple):
    """Size and date of a file: they differ when it has changed."""

    size_bytes: int
    modified_ns: int


class FoundFiles(NamedTuple):
    """The recordings that paths, folders and patterns lead to, and the files there that are none, by reason."""

    recordings: list[Path]
    skipped: dict[str, list[Path]]

    def summary(self) -> str:
        """The number of files skipped, by reason; empty where there are none.

        >>> FoundFiles([], {"hidden": [Path(".a.wav")], "not audio": [Path("b.txt"), Path("c.txt")]}).summary()
        '3 files skipped: 1 hidden, 2 not audio'
        """
        counts = {reason: len(paths) for reason, paths in self.skipped.items() if paths}
        if not counts:
            return ""
        total = sum(counts.values())
        by_reason = ", ".join(f"{count:,} {reason}" for reason, count in counts.items())
        return f"{total:,} {'file' if total == 1 else 'files'} skipped: {by_reason}"

    def names(self) -> list[str]:
        """A line for each reason, with the first files."""
        return [
            f"{reason}: {', '.join(printable(path) for path in paths[:NAMED])}{', ...' * (len(paths) > NAMED)}"
            for reason, paths in self.skipped.items()
            if paths
        ]


def find_recordings(paths: str | Path | Iterable[str | Path]) -> list[Path]:
    """Absolute paths of the audio files named, and of those inside the folders named, each once, as ``search_files``.

    Raises:
        InputError: a path is missing, or a folder or pattern leads to no audio file.
    """
    return search_files(paths).recordings


def search_files(paths: str | Path | Iterable[str | Path]) -> FoundFiles:
    """The audio files named, and those inside the folders named, each once; and the files that were skipped.

    A file that is named itself is taken whatever it holds. Inside folders, searched to any depth, and of what a pattern
    names, those are taken that begin as recordings do, or have the suffix of one. Hidden files and what lies in hidden
    folders are skipped, and so are links to folders. A pattern has ``*``, ``?``, ``[...]`` or ``**`` for folders of any
    depth; where a file of that very name exists, it is that file. A name finds its file whether its letters are
    composed (NFC) or taken apart (NFD).

    Raises:
        InputError: a path is missing, or a folder or pattern leads to no audio file.
    """
    found: dict[Path, None] = {}
    skipped: dict[Path, str] = {}
    for path in map(as_on_disk, map(Path, [paths] if isinstance(paths, str | Path) else paths)):
        if path.exists() and not path.is_dir():
            found[path.resolve()] = None
            continue
        if path.is_dir():
            here = _sorted_out(_inside(path))
        elif glob.has_magic(str(path)):
            here = _sorted_out(_matching(str(path)))
        else:
            raise InputError(f"{path}: no such file or folder; check the path")
        if not here.recordings:
            where = "in this folder" if path.is_dir() else "of this pattern"
            why = f" ({here.summary()})" if here.skipped else ""
            raise InputError(f"{path}: no audio file {where}{why}; name a file or a folder with recordings")
        found.update((file.resolve(), None) for file in here.recordings)
        skipped.update((file, reason) for reason, files in here.skipped.items() for file in files)
    by_reason: dict[str, list[Path]] = {}
    for file, reason in skipped.items():
        by_reason.setdefault(reason, []).append(file)
    return FoundFiles(list(found), by_reason)


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


def _sorted_out(files: Iterable[tuple[Path, str]]) -> FoundFiles:
    """Files with what is known against each already, apart by what they hold."""
    recordings: dict[Path, None] = {}
    skipped: dict[str, dict[Path, None]] = {}
    for path, known in files:
        if reason := known or why_no_recording(path):
            skipped.setdefault(reason, {})[path] = None
        else:
            recordings[path] = None
    return FoundFiles(list(recordings), {reason: list(paths) for reason, paths in skipped.items()})


def why_no_recording(path: Path) -> str:
    """Why a file is skipped in folders; empty for one that is a recording, by its content or its name."""
    if not path.is_file():
        return LINK if path.is_symlink() else NOT_AUDIO
    if path.suffix.lower() in AUDIO_SUFFIXES:
        return ""
    try:
        return "" if may_be_recording(path) else NOT_AUDIO
    except OSError:
        return UNREADABLE


def _inside(folder: Path, hidden: bool = False) -> Iterator[tuple[Path, str]]:
    """The files in a folder and below, in order of their paths, with the reason where one is known to be skipped."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        yield folder, UNREADABLE
        return
    for entry in entries:
        path, is_hidden = folder / entry.name, hidden or _is_hidden(entry.name)
        if entry.is_dir(follow_symlinks=False):
            yield from _inside(path, is_hidden)
        elif is_hidden:
            yield path, HIDDEN
        else:
            yield path, LINK if path.is_dir() else ""


def _matching(pattern: str) -> Iterator[tuple[Path, str]]:
    """The files of a pattern, and those of the folders that it names; a hidden one only where it names the dot."""
    named = {name for one in spellings(pattern) for name in glob.glob(one, recursive=True)}
    every = named
    if sys.version_info >= (3, 11):
        every = {n for one in spellings(pattern) for n in glob.glob(one, recursive=True, include_hidden=True)}
    spelt_out = set(Path(pattern).parts)
    for name in sorted(named | every):
        path = Path(name)
        hidden = name not in named or any(
            part.lower() in HIDDEN_FOLDERS and part not in spelt_out for part in path.parts
        )
        if path.is_dir():
            yield from _inside(path, hidden)
        else:
            yield path, HIDDEN if hidden else ""


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in HIDDEN_FOLDERS
