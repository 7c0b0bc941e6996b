"""The files of this machine that the page may use: recordings of the allowed folders, and uploads."""

from __future__ import annotations

import filecmp
import itertools
import os
import re
import time
import unicodedata
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from clsr.audio.files import find_recordings, why_no_recording
from clsr.audio.waveform import AUDIO_SUFFIXES
from clsr.errors import InputError

NAME_BYTES = 150  # of an uploaded file's name, without suffix
LISTED_FOLDERS = 200
PART_S = 3600.0  # since anything was written into an upload that has broken off


class Missing(InputError):
    """There is no such recording, or the client may not see it: the answer is the same."""


class Folders:
    """The folders that recordings may be indexed from, each under a label: the last part of its path.

    A recording or folder is named ``label/sub/file.wav``. Absolute paths, ``..`` and links that lead out of the folder
    name nothing.

    Args:
        allowed: folders whose recordings may be indexed.
        uploads: folder for uploaded recordings; made when the first one comes.
    """

    def __init__(self, allowed: Sequence[Path], uploads: Path) -> None:
        self.labels: dict[str, Path] = {}
        for folder in allowed:
            if not folder.is_dir():
                raise InputError(f"{folder}: no such folder; name one that recordings may be taken from")
            self.labels[_new_label(folder.resolve().name or "root", self.labels)] = folder.resolve()
        self.uploads = uploads.resolve()

    def find(self, name: str) -> Path:
        """Path of the recording or folder of this name, links resolved.

        Raises:
            Missing: there is none inside the folders.
        """
        missing = Missing("no such recording or folder among those allowed; name one of those listed")
        label, *parts = name.split("/")
        if label not in self.labels or any(part in ("", ".", "..") or "\\" in part or "\0" in part for part in parts):
            raise missing
        root = self.labels[label]
        try:
            path = root.joinpath(*parts).resolve()
            if path.is_relative_to(root) and path.exists():
                return path
        except (OSError, RuntimeError):  # a name too long, a loop of links
            pass
        raise missing

    def recordings(self, names: Iterable[str]) -> list[Path]:
        """Paths of the recordings named, and of those in the folders named, each once.

        Raises:
            Missing: a name leads nowhere, to no recording, or to a folder without any.
        """
        found: dict[Path, None] = {}
        for name in names:
            path = self.find(name)
            if path.is_file() and why_no_recording(path):
                raise Missing(f"{Path(name).name} is no recording, by its name and its content; name another file")
            try:
                files = [file for file in find_recordings([path]) if self._holds(file)]
            except InputError:
                files = []
            if not files:
                raise Missing(f"{Path(name).name}: no recording in this folder; name another one")
            found.update(dict.fromkeys(files))
        return list(found)

    def listing(self) -> list[str]:
        """Names of the folders allowed and of their subfolders, hidden ones left out, sorted; 200 at most."""
        return list(
            itertools.islice(itertools.chain.from_iterable(map(self._below, sorted(self.labels))), LISTED_FOLDERS)
        )

    def name(self, path: Path) -> str:
        """Public name of a recording: ``label/sub/file.wav``, or its file name where it lies elsewhere."""
        for label, root in self.labels.items():
            if path.is_relative_to(root):
                return "/".join([label, *path.relative_to(root).parts])
        return path.name

    def keep_upload(self, part: Path, name: str) -> Path:
        """Give an uploaded file, complete and in the folder for uploads, its name there.

        A file that is there with the same name and content is kept, and another of that name gets a number.

        Raises:
            InputError: the name is none of a recording.
        """
        stem, suffix = os.path.splitext(safe_name(name))
        for number in itertools.count(1):
            path = self.uploads / (f"{stem}{suffix}" if number == 1 else f"{stem} ({number}){suffix}")
            try:
                os.link(part, path)  # not rename, which would overwrite
            except FileExistsError:
                if path.is_symlink() or not filecmp.cmp(part, path, shallow=False):
                    continue
            part.unlink()
            return path
        raise AssertionError("unreachable")

    def uploaded(self) -> list[Path]:
        """The recordings in the folder for uploads, links left out, sorted."""
        if not self.uploads.is_dir():
            return []
        files = (path for path in self.uploads.iterdir() if path.suffix.lower() in AUDIO_SUFFIXES)
        return sorted(path for path in files if path.name[0] != "." and path.is_file() and not path.is_symlink())

    def clear_parts(self) -> None:
        """Delete what uploads have left that broke off; one that another server receives is younger."""
        for part in self.uploads.glob(".*.part"):
            with suppress(OSError):
                if time.time() - part.stat().st_mtime > PART_S:
                    part.unlink()

    def _holds(self, file: Path) -> bool:
        return any(file.is_relative_to(root) for root in self.labels.values())

    def _below(self, label: str) -> Iterable[str]:
        yield label
        root = self.labels[label]
        for folder, subfolders, _ in os.walk(root):
            subfolders[:] = sorted(name for name in subfolders if _is_below(root, Path(folder) / name))
            yield from ("/".join([label, *(Path(folder) / name).relative_to(root).parts]) for name in subfolders)


def _is_below(root: Path, folder: Path) -> bool:
    """Whether a folder may be offered: it is not hidden, and no link that leads out of the root."""
    try:
        return not folder.name.startswith(".") and folder.resolve().is_relative_to(root)
    except (OSError, RuntimeError):
        return False


def safe_name(name: str) -> str:
    """A name that any file system takes: the last part of the path given, letters and digits of any script kept.

    >>> safe_name("../../etc/Vortrag <1>.WAV")
    'Vortrag _1_.wav'

    Raises:
        InputError: it does not end as recordings do.
    """
    stem, suffix = os.path.splitext(unicodedata.normalize("NFC", re.split(r"[/\\]", name)[-1]))
    if suffix.lower() not in AUDIO_SUFFIXES:
        raise InputError(f"an upload's name ends in one of {' '.join(AUDIO_SUFFIXES)}; convert it, or name it so")
    stem = re.sub(r"[^\w ()+,=@.-]", "_", stem).strip(" .")
    stem = stem.encode()[:NAME_BYTES].decode(errors="ignore")
    return (stem or "recording") + suffix.lower()


def _new_label(name: str, taken: Iterable[str]) -> str:
    names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    return next(label for label in names if label not in taken)
