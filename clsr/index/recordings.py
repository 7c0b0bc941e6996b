"""The table of recordings of an index, beside the table of windows: what was indexed, and how sure the system was.

The confidence of speech is the geometric mean of the probabilities that a system gives its own best tokens. Speech in
a language that it does not know gets tokens of low probability, and so do music and many voices at once. Internal.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from clsr.audio.pauses import Span
from clsr.errors import InputError
from clsr.index.filters import quote
from clsr.index.tables import (
    CONFIDENCE_COLUMN,
    RECORDINGS,
    SUMMARY_COLUMNS,
    IndexTables,
    confirmed,
    reading,
    recordings_schema,
    writing,
)
from clsr.index.windows import covered_s

if TYPE_CHECKING:
    from lancedb.table import LanceTable

    from clsr.lance import TableReader

INTERRUPTED = "indexing was interrupted; index it again to go on"
UNKNOWN = "not indexed yet"
LONGEST_PAUSE_S = 3.0  # in speech; where no word is recognised for longer, nobody speaks
EDGE_S = 0.5  # between the words of a window and its borders: words begin before they are loud
ROUNDING_S = 1e-4  # of seconds that lie in no window
# Below it a recording is flagged, by the scheme of the system; docs/results/flags.md says how they were chosen.
LEAST_CONFIDENCE = {"": 0.53, "whisper": 0.56, "faster-whisper": 0.56}
FLAG = "probably not speech in the model's language"


@dataclass(frozen=True)
class RecordingStatus:
    """The state of one recording in the index; it accounts for every second.

    Seconds with words and the pauses between them are indexed, all other decoded seconds are silent: where no word is
    recognised for more than three seconds, and a recording without a word as a whole. One that failed has its reason,
    and the seconds of it that could not be decoded are neither indexed nor silent. A partial one was read to its end,
    but bytes of it could not be decoded; its reason says how many. Of others the reason says what there is to know: a
    header that is wrong, channels of opposite phase.

    ``confidence``, 0 to 1, is the geometric mean of the probabilities of the tokens that were recognised; ``None``
    where there are none, and in indices of version 0.1. A recording below the threshold of its system is ``flagged``:
    it is probably not speech in the model's language.
    """

    path: str
    status: Literal["indexed", "silent", "partial", "failed"]
    duration_s: float
    indexed_s: float = 0.0
    silent_s: float = 0.0
    windows: int = 0
    reason: str | None = None
    confidence: float | None = None
    flagged: bool = False

    def to_json(self) -> str:
        """The status as one line of JSON; without confidence and flag where the confidence is not known."""
        values = asdict(self)
        if self.confidence is None:
            del values["confidence"], values["flagged"]
        return json.dumps(values, ensure_ascii=False)


class WindowSummary(NamedTuple):
    """What the entry of a recording needs to know of a window."""

    start_s: float
    end_s: float
    characters: int  # of its transcript; 0 where nothing was recognised
    confidence: float | None = None  # of its tokens, 0 to 1; None where there are none, or it is not known
    spoken: tuple[Span, ...] | None = None  # where its words are; None is all of it


MOST_SHARE = 0.1  # of the recordings, above which their loss is doubtful
LATEST_NS = 2**63 - 1


def stored_ns(modified_ns: int) -> int:
    """The date of a file as the table holds it: the years 1678 to 2262, the nearest of them for dates beyond.

    >>> stored_ns(2**70) == LATEST_NS, stored_ns(5)
    (True, 5)
    """
    return max(-LATEST_NS, min(modified_ns, LATEST_NS))


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
    state: str = "begun"  # or "indexed", "silent", "partial", "failed"
    duration_s: float = 0.0
    indexed_s: float = 0.0
    silent_s: float = 0.0
    windows: int = 0
    reason: str = ""
    confidence: float | None = None  # 0 to 1; None where it is not known

    @property
    def checksum(self) -> str:
        """BLAKE2b of all fields, 16 hexadecimal digits: LanceDB itself does not notice damage.

        A confidence that is not known is left out, as in entries of version 0.1.
        """
        values = self[:-1] if self.confidence is None else self
        return hashlib.blake2b(json.dumps(values).encode(), digest_size=8).hexdigest()

    def is_flagged(self, least: float) -> bool:
        """Whether the confidence is known, and below the threshold."""
        return self.confidence is not None and self.confidence < least

    def to_status(self, least_confidence: float = 0.0) -> RecordingStatus:
        """The entry as a status.

        Args:
            least_confidence: below it the recording is flagged.
        """
        state: Any = "failed" if self.state == "begun" else self.state
        return RecordingStatus(
            self.recording,
            state,
            self.duration_s,
            self.indexed_s,
            self.silent_s,
            self.windows,
            INTERRUPTED if self.state == "begun" else self.reason or None,
            self.confidence,
            self.is_flagged(least_confidence),
        )

    def of_windows(self, windows: Sequence[WindowSummary], decoded_s: float) -> RecordingEntry:
        """The entry with the seconds, the number and the confidence of its windows.

        Args:
            windows: all that were encoded.
            decoded_s: seconds of it that were decoded.
        """
        spoken = [span for w in windows if w.characters for span in w.spoken or ((w.start_s, w.end_s),)]
        if spoken:  # what is left before the first word and after the last one is a pause, or silent
            spoken += [(edge_s, edge_s) for edge_s in (min(w.start_s for w in windows), max(w.end_s for w in windows))]
        indexed_s = min(decoded_s, covered_s(joined(spoken)))
        if decoded_s - indexed_s < ROUNDING_S:
            indexed_s = decoded_s
        return self._replace(
            indexed_s=indexed_s,
            silent_s=decoded_s - indexed_s,
            windows=len(windows),
            confidence=recording_confidence(windows),
        )


class RecordingsTable:
    """The table of recordings of one index; each call that writes is one transaction.

    Args:
        tables: of the index.
    """

    def __init__(self, tables: IndexTables) -> None:
        self.tables = tables
        self.location = tables.location
        self._read: tuple[TableReader, int, Mapping[str, RecordingEntry]] | None = None  # a version, and its entries

    def read(self) -> Mapping[str, RecordingEntry]:
        """All entries by recording; the same object as before while the table is unchanged.

        Raises:
            InputError: the table is damaged.
        """
        table = self.tables.reader(RECORDINGS)
        if table is None:
            return {}
        with reading(self.location):
            version = table.version  # read first: a later version is then read again at the next call
            if self._read and self._read[0] is table and self._read[1] == version:
                return self._read[2]
            rows = table.scan(table.schema.names).to_pylist()
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

        storable = [entry._replace(modified_ns=stored_ns(entry.modified_ns)) for entry in entries]
        rows = [entry._asdict() | {"checksum": entry.checksum} for entry in storable]
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
    confidence = [name for name in windows.schema.names if name == CONFIDENCE_COLUMN]
    rows = query.select([*SUMMARY_COLUMNS, *confidence]).to_list()
    found = [window_summary(row) for row in rows]
    decoded_s = covered_s((window.start_s, window.end_s) for window in found)
    return entry.of_windows(found, decoded_s)._replace(duration_s=max(entry.duration_s, decoded_s))


def window_summary(row: Mapping[str, Any]) -> WindowSummary:
    """What a window's row says of it; a row of version 0.1 has no confidence."""
    start_s, end_s = row["start_s"], row["end_s"]
    words = [(word["start_s"], word["end_s"]) for word in row["words"]]
    if words:
        words.append((start_s, start_s))  # edges: what is nearer to a word than half a second belongs to it
        words.append((end_s, end_s))
    spoken = joined(words, EDGE_S) or None
    return WindowSummary(start_s, end_s, len(row["text"]), row.get(CONFIDENCE_COLUMN), spoken)


def joined(spans: Iterable[Span], longest_pause_s: float = LONGEST_PAUSE_S) -> tuple[Span, ...]:
    """Spans of time in order, those joined that lie no further apart than a pause; those of no length are left out.

    >>> joined([(1.0, 2.0), (4.5, 5.0), (19.0, 20.0)])
    ((1.0, 5.0), (19.0, 20.0))
    """
    found: list[Span] = []
    for start_s, end_s in sorted(spans):
        if found and start_s - found[-1][1] <= longest_pause_s + ROUNDING_S:
            found[-1] = (found[-1][0], max(found[-1][1], end_s))
        else:
            found.append((start_s, end_s))
    return tuple(span for span in found if span[1] > span[0])


def confidence_of(log_probability: float) -> float | None:
    """The confidence, 0 to 1, that a mean log probability of tokens stands for; ``None`` for NaN.

    >>> confidence_of(-0.5), confidence_of(math.nan)
    (0.606531, None)
    """
    return None if math.isnan(log_probability) else round(math.exp(min(0.0, log_probability)), 6)


def recording_confidence(windows: Iterable[WindowSummary]) -> float | None:
    """The confidence of a recording: the geometric mean over its windows, long transcripts counting more.

    >>> recording_confidence([WindowSummary(0, 30, 300, 0.9), WindowSummary(30, 60, 100, 0.1)])
    0.519615
    """
    known = [w for w in windows if w.confidence is not None and w.characters]
    total = sum(w.characters for w in known)
    if not total:
        return None
    logs = sum(w.characters * math.log(max(w.confidence or 0.0, 1e-9)) for w in known)
    return confidence_of(logs / total)


def least_confidence(system: str) -> float:
    """The confidence below which recordings are flagged, by the reference of the system: SCHEME:PLACE, or a folder."""
    scheme, colon, _ = system.partition(":")
    return LEAST_CONFIDENCE.get(scheme if colon else "", 0.0)


class MissingRecordings(NamedTuple):
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

        >>> str(MissingRecordings(["a.wav"], 1.5, 20, ""))
        '1 of 20 recordings with 1.50 hours of speech'
        """
        return f"{len(self.paths)} of {self.total} recordings with {self.hours:.2f} hours of speech"


def find_missing(entries: Mapping[str, RecordingEntry]) -> MissingRecordings:
    """The recordings of an index whose files are gone."""
    paths = sorted(path for path in entries if not Path(path).exists())
    hours = sum(entries[path].indexed_s for path in paths) / 3600
    folders = dict.fromkeys(str(Path(path).parent) for path in paths)
    return MissingRecordings(
        paths, hours, len(entries), next((folder for folder in folders if not _has_files(folder)), "")
    )


def _has_files(folder: str) -> bool:
    try:
        with os.scandir(folder) as files:
            return any(True for _ in files)
    except OSError:
        return False
