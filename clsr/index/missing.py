"""Recordings of an index whose files are gone: deleted, or on a disk that is not there today."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from clsr.index.recordings import RecordingEntry

MOST_SHARE = 0.1  # of the recordings, above which their loss is doubtful


class Missing(NamedTuple):
    """Recordings whose files are gone.

    Attributes:
        paths: theirs, sorted.
        hours: of speech in them.
        total: number of recordings in the index.
        folder: one that is missing or empty, though recordings were in it; empty where there is none.
    """

    paths: list[str]
    hours: float
    total: int
    folder: str

    @property
    def doubt(self) -> str:
        """Why the files may not be gone for good; empty where nothing speaks for that."""
        if self.folder:
            return f"{self.folder} is missing or empty"
        if len(self.paths) > MOST_SHARE * self.total:
            return "that is more than a tenth"
        return ""

    def __str__(self) -> str:
        """How much they are.

        >>> str(Missing(["a.wav"], 1.5, 20, ""))
        '1 of 20 recordings with 1.50 hours of speech'
        """
        return f"{len(self.paths)} of {self.total} recordings with {self.hours:.2f} hours of speech"


def find_missing(entries: Mapping[str, RecordingEntry]) -> Missing:
    """The recordings of an index whose files are gone."""
    paths = sorted(path for path in entries if not Path(path).exists())
    hours = sum(entries[path].indexed_s for path in paths) / 3600
    folders = dict.fromkeys(str(Path(path).parent) for path in paths)
    return Missing(paths, hours, len(entries), next((folder for folder in folders if not _has_files(folder)), ""))


def _has_files(folder: str) -> bool:
    try:
        with os.scandir(folder) as files:
            return any(True for _ in files)
    except OSError:
        return False
