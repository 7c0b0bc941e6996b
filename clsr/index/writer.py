"""Encoded windows -> the tables of an index; a kill at any moment loses no acknowledged write. Internal."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from clsr.index.approximate import build_approximate
from clsr.index.filters import quote
from clsr.index.recordings import RecordingEntry, RecordingsTable, WindowSummary, window_summary
from clsr.index.tables import (
    CONFIDENCE_COLUMN,
    SUMMARY_COLUMNS,
    TEXT_COLUMN,
    IndexTables,
    confirmed,
    full_text_config,
    writing,
)

if TYPE_CHECKING:
    from lancedb.table import LanceTable

COMPACT_EVERY = 100  # transactions: each adds a file or two that every search opens
OLD_VERSIONS = timedelta(hours=1)  # kept for readers that still have them open


class IndexWriter:
    """Writes windows and entries of recordings, and compacts the tables so that searches stay fast.

    A recording is entered as begun before its first window is written. The transaction that writes this window removes
    what the index had of it before, if anything. After the last it is entered as done. Windows are never written twice:
    whoever resumes a
    recording asks which are ``there``.

    Args:
        tables: of the index, opened for this writer alone; the caller is the ``only_writer``.
        approximate_from: windows from which on an approximate index of vectors is built; 0 never builds one.

    Raises:
        InputError: the index is damaged or of an earlier version.
    """

    def __init__(self, tables: IndexTables, approximate_from: int = 0) -> None:
        tables.upgrade()
        self.tables = tables
        self.location = tables.location
        self.approximate_from = approximate_from
        self._recordings = RecordingsTable(tables)
        self.known = dict(self._recordings.read())
        self._commits = 0
        self._table: LanceTable | None = tables.windows  # None until the first window, which has the width of vectors

    def there(self, entry: RecordingEntry) -> dict[str, WindowSummary]:
        """Windows of a recording in the index with this content and cut, by id."""
        if entry.recording not in self.known or self._table is None:
            return {}
        columns = ["id", *SUMMARY_COLUMNS, CONFIDENCE_COLUMN]
        query = self._table.search().where(f"{_of(entry)} AND NOT ({_other_than(entry)})").select(columns)
        return {row["id"]: window_summary(row) for row in query.to_list()}

    def commit(self, begun: Sequence[RecordingEntry], rows: Any, done: Sequence[RecordingEntry] = ()) -> None:
        """Write windows; on return they are on the disk and every search finds them.

        Args:
            begun: recordings of which these are the first windows of this run.
            rows: windows, a ``pyarrow.Table``; ``None`` is none.
            done: recordings of which these were the last.

        Raises:
            InputError: the index cannot be written; what was there before is whole.
        """
        stale = [entry.recording for entry in begun if self._has_others(entry)]
        self._enter([entry for entry in begun if self.known.get(entry.recording) != entry])
        if rows is not None and self._table is None:
            with writing(self.location):
                self._table = self.tables.make_windows(rows.schema)
        if self._table is not None and (stale or rows is not None):
            self._forget_tokens(stale)
            with confirmed(self.location, self._table, rows.num_rows if rows is not None else 0):
                self._write(self._table, stale, rows)
        self._enter(done)
        self._commits += 1
        if self._commits % COMPACT_EVERY == 0:
            self.compact()

    def note(self, entry: RecordingEntry) -> None:
        """Write the entry of a recording whose windows stay unchanged.

        Raises:
            InputError: the index cannot be written.
        """
        self._enter([entry])

    def prune(self, recordings: Sequence[str]) -> None:
        """Remove recordings with all their windows.

        Raises:
            InputError: the index cannot be written.
        """
        if recordings:
            self._forget_tokens(recordings)
            with writing(self.location):
                if self._table is not None:  # first: an entry without windows is harmless, windows without are not
                    self._table.delete(f"recording IN ({', '.join(map(quote, recordings))})")
            self._recordings.remove(recordings)
            self._commits += 1

    def compact(self) -> None:
        """Join the small files that transactions leave, and bring full-text and approximate indices up to date.

        Raises:
            InputError: the index cannot be written.
        """
        if self._table is None or not self._commits:
            return
        with writing(self.location):
            if not any(index.columns == [TEXT_COLUMN] for index in self._table.list_indices()):
                self._table.create_index(TEXT_COLUMN, config=full_text_config())
            for table in (self._table, self.tables.recordings, self.tables.tokens):
                if table is not None:
                    table.optimize(cleanup_older_than=OLD_VERSIONS)

    def finish(self) -> None:
        """``compact``, and build the approximate index if the table is large enough.

        Raises:
            InputError: the index cannot be written.
        """
        self.compact()
        if self._table is not None and self._commits and 0 < self.approximate_from <= self._table.count_rows():
            with writing(self.location):
                build_approximate(self._table)

    def _enter(self, entries: Sequence[RecordingEntry]) -> None:
        self._recordings.write(entries)
        self.known.update({entry.recording: entry for entry in entries})

    def _forget_tokens(self, recordings: Sequence[str]) -> None:
        """Delete token vectors before their windows are: those of other words would be found by their times."""
        table = self.tables.tokens if recordings else None
        if table is not None:
            with writing(self.location):
                table.delete(f"recording IN ({', '.join(map(quote, recordings))})")

    def _write(self, table: LanceTable, stale: Sequence[str], rows: Any) -> None:
        """Add windows and delete those of stale recordings, in one transaction."""
        condition = f"recording IN ({', '.join(map(quote, stale))})"
        if rows is None:
            table.delete(condition)
        elif stale:
            merge = table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
            merge.when_not_matched_by_source_delete(condition).execute(rows)
        else:
            table.add(rows)

    def _has_others(self, entry: RecordingEntry) -> bool:
        """Whether the index has windows of another content or cut of the recording."""
        if entry.recording not in self.known or self._table is None:
            return False
        return self._table.count_rows(f"{_of(entry)} AND ({_other_than(entry)})") > 0


def _of(entry: RecordingEntry) -> str:
    return f"recording = {quote(entry.recording)}"


def _other_than(entry: RecordingEntry) -> str:
    return f"content_hash != {quote(entry.content_hash)} OR cut != {quote(entry.cut)}"
