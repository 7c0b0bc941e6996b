"""The table of recordings of an index, beside the table of windows. Internal."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from clsr.errors import InputError
from clsr.index.filters import quote
from clsr.index.tables import IndexTables, confirmed, reading, recordings_schema, writing
from clsr.index.windows import covered_s

if TYPE_CHECKING:
    from lancedb.table import LanceTable

INTERRUPTED = "indexing was interrupted; index it again to go on"
UNKNOWN = "not indexed yet"
ROUNDING_S = 1e-4  # of seconds that lie in no window


@dataclass(frozen=True)
class RecordingStatus:
    """The state of one recording in the index; it accounts for every second.

    Seconds inside some window with words are indexed, all other decoded seconds are silent; a recording without a word
    is silent as a whole. One that failed has its reason, and the seconds of it that could not be decoded are neither
    indexed nor silent.
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


class RecordingEntry(NamedTuple):
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
        """The entry as a status."""
        state: Any = "failed" if self.state == "begun" else self.state
        reason = INTERRUPTED if self.state == "begun" else self.reason or None
        return RecordingStatus(
            self.recording, state, self.duration_s, self.indexed_s, self.silent_s, self.windows, reason
        )

    def of_windows(self, windows: Sequence[tuple[float, float, bool]], decoded_s: float) -> RecordingEntry:
        """The entry with the seconds and the number of its windows.

        Args:
            windows: start and end of each in seconds, and whether words were recognised.
            decoded_s: seconds of it that were decoded.
        """
        indexed_s = min(decoded_s, covered_s((start_s, end_s) for start_s, end_s, has_words in windows if has_words))
        if decoded_s - indexed_s < ROUNDING_S:
            indexed_s = decoded_s
        return self._replace(indexed_s=indexed_s, silent_s=decoded_s - indexed_s, windows=len(windows))


class RecordingsTable:
    """The table of recordings of one index; each call that writes is one transaction.

    Args:
        tables: of the index.
    """

    def __init__(self, tables: IndexTables) -> None:
        self.tables = tables
        self.location = tables.location
        self._read: tuple[LanceTable, int, Mapping[str, RecordingEntry]] | None = None  # a version, and its entries

    def read(self) -> Mapping[str, RecordingEntry]:
        """All entries by recording; the same object as before while the table is unchanged.

        Raises:
            InputError: the table is damaged.
        """
        table = self.tables.recordings
        if table is None:
            return {}
        with reading(self.location):
            version = table.version  # read first: a later version is then read again at the next call
            if self._read and self._read[0] is table and self._read[1] == version:
                return self._read[2]
            rows = table.to_arrow().to_pylist()
            checksums = [row.pop("checksum") for row in rows]
        entries = [RecordingEntry(**row) for row in rows]
        damaged = [
            entry.recording for entry, written in zip(entries, checksums, strict=True) if entry.checksum != written
        ]
        if damaged:
            raise InputError(
                f"{self.location}: what it says of {damaged[0]} is damaged; delete the folder, index again"
            )
        found = {entry.recording: entry for entry in entries}
        self._read = (table, version, found)
        return found

    def write(self, entries: Iterable[RecordingEntry]) -> None:
        """Replace the entries of the same recordings.

        Raises:
            InputError: the index cannot be written.
        """
        import pyarrow

        rows = [entry._asdict() | {"checksum": entry.checksum} for entry in entries]
        if rows:
            with writing(self.location):
                table = self.tables.make_recordings()
            with confirmed(self.location, table, len(rows)):
                merge = table.merge_insert("recording").when_matched_update_all().when_not_matched_insert_all()
                merge.execute(pyarrow.Table.from_pylist(rows, schema=recordings_schema()))

    def remove(self, recordings: Iterable[str]) -> None:
        """Delete the entries of recordings.

        Raises:
            InputError: the index cannot be written.
        """
        named = ", ".join(map(quote, recordings))
        table = self.tables.recordings
        if named and table is not None:
            with writing(self.location):
                table.delete(f"recording IN ({named})")


def with_windows_found(entry: RecordingEntry, windows: LanceTable | None) -> RecordingEntry:
    """The entry; for an interrupted recording, with the counts of its windows in the table so far."""
    if entry.state != "begun" or windows is None:
        return entry
    same = f"content_hash = {quote(entry.content_hash)} AND cut = {quote(entry.cut)}"
    query = windows.search().where(f"recording = {quote(entry.recording)} AND {same}")
    rows = query.select(["start_s", "end_s", "text"]).to_list()
    found = [(row["start_s"], row["end_s"], bool(row["text"])) for row in rows]
    decoded_s = covered_s((start_s, end_s) for start_s, end_s, _ in found)
    return entry.of_windows(found, decoded_s)._replace(duration_s=max(entry.duration_s, decoded_s))
