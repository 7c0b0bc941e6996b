"""Recordings in a zip archive, as a publisher hands them out -> files with names of ours."""

from __future__ import annotations

import os
import re
import shutil
import zipfile
from pathlib import Path
from types import TracebackType

from clsr.errors import InputError

AUDIO = {".wav", ".flac", ".mp3", ".m4a", ".ogg"}


class AudioArchive:
    """An archive that stays packed: single recordings are copied out, to where the caller says.

    No name in the archive is ever used as a path, so that none can lead out of a folder.

    Args:
        path: of the zip file.

    Raises:
        InputError: there is no such file, it is no zip archive, or it holds no recording.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            raise InputError(f"{path}: no such file; name a zip archive of recordings")
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError) as error:
            raise InputError(f"{path}: is no whole zip archive ({error}); fetch it again") from error
        self.names = [entry.filename for entry in self._zip.infolist() if _is_audio(entry)]
        if not self.names:
            raise InputError(f"{path}: holds no recording ({', '.join(sorted(AUDIO))}); fetch it again")

    def __enter__(self) -> AudioArchive:
        """The archive itself, which is closed in the end."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close the file."""
        self._zip.close()

    def find(self, template: str, fields: dict[str, str]) -> dict[tuple[str, ...], list[str]]:
        r"""Return the names that a template describes, by the values of its fields.

        Args:
            template: what names end in, ``*`` standing for anything but ``/``: ``question/{id}.wav``.
            fields: the regular expression of each field, in the order of the key: ``{"id": r"\d+"}``.
        """
        parts = re.split(r"(\*|\{\w+\})", template)
        pattern = "".join(
            "[^/]*"
            if part == "*"
            else f"(?P<{part[1:-1]}>{fields[part[1:-1]]})"
            if part[1:-1] in fields
            else re.escape(part)
            for part in parts
        )
        found: dict[tuple[str, ...], list[str]] = {}
        for name in self.names:
            if match := re.fullmatch(rf"(?:.*/)?{pattern}", name, re.IGNORECASE):
                found.setdefault(tuple(match[field] for field in fields), []).append(name)
        return found

    def copy_out(self, name: str, file: Path) -> None:
        """Write a recording to a file, whole or not at all.

        Raises:
            InputError: the entry is damaged or encrypted, or the disk is full.
        """
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_name(f".{file.name}.{os.getpid()}.unfinished")
        try:
            with self._zip.open(name) as entry, open(unfinished, "wb") as copy:
                shutil.copyfileobj(entry, copy)
            os.replace(unfinished, file)
        except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError, OSError, ValueError) as error:
            raise InputError(f"{self.path}: {name}: cannot be read out ({error}); fetch the archive again") from error
        finally:
            unfinished.unlink(missing_ok=True)


def _is_audio(entry: zipfile.ZipInfo) -> bool:
    path = Path(entry.filename)
    return not entry.is_dir() and path.suffix.lower() in AUDIO and not path.name.startswith(".")
