"""What an index holds of each recording: a LanceDB table beside that of the windows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from clsr.errors import InputError
from clsr.index.files import find_recordings, printable
from clsr.index.filters import quote
from clsr.index.location import Place, to_place
from clsr.index.schema import (
    RECORDINGS,
    confirmed,
    open_or_make,
    open_table,
    read_description,
    reading,
    recordings_schema,
    writing,
)
from clsr.index.spans import covered_s

INTERRUPTED = "indexing was interrupted; index it again to go on"
UNKNOWN = "not indexed yet"
ROUNDING_S = 1e-4  # of seconds that lie in no window


@dataclass(frozen=True)
class RecordingStatus:
    """What the index holds of one recording, every second of it accounted for.

    Seconds inside some window with words are indexed, all others that were heard silent; a recording without a word is
    silent as a whole. One that failed has its reason, and of it neither indexed nor silent are the seconds that could
    not be heard.
    """

    path: str
    status: Literal["indexed", "silent", "failed"]
    duration_s: float
    indexed_s: float = 0.0
    silent_s: float = 0.0
    windows: int = 0
    reason: str | None = None

    def to_json(self) -> str:
        """The status as one line of JSON."""
        return json.dumps(asdict(self), ensure_ascii=False)


class Entry(NamedTuple):
    """A row of the table of recordings.

    ``state`` is "begun" from before the first window is written until all are: what the table of windows then has of
    the recording is right, but may not be all.
    """

    recording: str  # absolute path
    content_hash: str
    size_bytes: int
    modified_ns: int  # date of the file
    cut: str  # how it was cut
    state: str = "begun"  # or "indexed", "silent", "failed"
    duration_s: float = 0.0
    indexed_s: float = 0.0
    silent_s: float = 0.0
    windows: int = 0
    reason: str = ""

    @property
    def checksum(self) -> str:
        """BLAKE2b of all fields, 16 hexadecimal digits: LanceDB itself does not notice damage."""
        return hashlib.blake2b(json.dumps(self).encode(), digest_size=8).hexdigest()

    def to_status(self) -> RecordingStatus:
        """The entry as others see it."""
        state: Any = "failed" if self.state == "begun" else self.state
        reason = INTERRUPTED if self.state == "begun" else self.reason or None
        return RecordingStatus(
            self.recording, state, self.duration_s, self.indexed_s, self.silent_s, self.windows, reason
        )

    def of_windows(self, windows: Sequence[tuple[float, float, bool]], heard_s: float) -> Entry:
        """The entry with what windows say: start, end, and whether anything was recognised in them.

        Args:
            windows: of the recording.
            heard_s: seconds of it that were decoded.
        """
        indexed_s = min(heard_s, covered_s((start_s, end_s) for start_s, end_s, said in windows if said))
        if heard_s - indexed_s < ROUNDING_S:
            indexed_s = heard_s
        return self._replace(indexed_s=indexed_s, silent_s=heard_s - indexed_s, windows=len(windows))


class RecordingsTable:
    """The table of recordings of one index; each call that writes is one transaction.

    Args:
        index_dir: folder of the index.
    """

    def __init__(self, index_dir: Place) -> None:
        self.index_dir = index_dir

    def read(self) -> dict[str, Entry]:
        """All entries by recording.

        Raises:
            InputError: the table is damaged.
        """
        table = open_table(self.index_dir, RECORDINGS)
        with reading(self.index_dir):
            rows = table.to_arrow().to_pylist() if table is not None else []
            checksums = [row.pop("checksum") for row in rows]
        entries = [Entry(**row) for row in rows]
        damaged = [entry.recording for entry, told in zip(entries, checksums, strict=True) if entry.checksum != told]
        if damaged:
            raise InputError(
                f"{self.index_dir}: what it says of {damaged[0]} is damaged; delete the folder, index again"
            )
        return {entry.recording: entry for entry in entries}

    def write(self, entries: Iterable[Entry]) -> None:
        """Put entries in place of those of the same recordings.

        Raises:
            InputError: the index cannot be written.
        """
        import pyarrow

        rows = [entry._asdict() | {"checksum": entry.checksum} for entry in entries]
        if rows:
            with writing(self.index_dir):
                table = open_or_make(self.index_dir, RECORDINGS, recordings_schema())
            with confirmed(self.index_dir, table, len(rows)):
                merge = table.merge_insert("recording").when_matched_update_all().when_not_matched_insert_all()
                merge.execute(pyarrow.Table.from_pylist(rows, schema=recordings_schema()))

    def remove(self, recordings: Iterable[str]) -> None:
        """Forget recordings.

        Raises:
            InputError: the index cannot be written.
        """
        named = ", ".join(map(quote, recordings))
        table = open_table(self.index_dir, RECORDINGS)
        if named and table is not None:
            with writing(self.index_dir):
                table.delete(f"recording IN ({named})")


def statuses(index_dir: str | Path, recordings: Iterable[str | Path] = ()) -> list[RecordingStatus]:
    """What the index holds of each recording, by path; of one whose indexing was cut off, what is there of it so far.

    Args:
        index_dir: folder of the index.
        recordings: files, folders and patterns to be told about; none is all that the index knows. Those that it does
            not know have failed, with that as the reason.

    Raises:
        InputError: there is no index, or it is damaged; a path is missing.
    """
    read_description(index_dir)
    entries = RecordingsTable(place := to_place(index_dir)).read()
    paths = [str(path) for path in find_recordings(recordings)] or sorted(entries)
    return [
        _as_found(entries[path], place).to_status()
        if path in entries
        else RecordingStatus(printable(path), "failed", 0.0, reason=UNKNOWN)
        for path in paths
    ]


def _as_found(entry: Entry, index_dir: Place) -> Entry:
    """An entry whose recording was being written when its writer ended, with what the windows say."""
    table = open_table(index_dir) if entry.state == "begun" else None
    if table is None:
        return entry
    same = f"content_hash = {quote(entry.content_hash)} AND cut = {quote(entry.cut)}"
    where = f"recording = {quote(entry.recording)} AND {same}"
    query = table.search().where(where).select(["start_s", "end_s", "text"])
    windows = [(row["start_s"], row["end_s"], bool(row["text"])) for row in query.to_list()]
    heard_s = covered_s((start_s, end_s) for start_s, end_s, _ in windows)
    found = entry.of_windows(windows, heard_s)
    return found._replace(duration_s=max(entry.duration_s, heard_s))
