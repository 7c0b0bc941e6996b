"""Verification of an index: each row against its checksum and the entry of its recording. Internal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from clsr.audio.decoding import Decoder
from clsr.audio.files import file_state
from clsr.audio.waveform import falls_short
from clsr.errors import InputError
from clsr.index.recordings import INTERRUPTED, RecordingEntry, RecordingsTable, stored_ns, window_summary
from clsr.index.rows import WindowRow, checksum
from clsr.index.tables import CONFIDENCE_COLUMN, SUMMARY_COLUMNS, IndexTables, reading
from clsr.index.tokens.verification import token_faults

NORM_TOLERANCE = 1e-3
SECONDS_TOLERANCE = 1e-3


class Verdict(NamedTuple):
    """The faults of an index, one line each."""

    damage: list[str]  # of the index itself
    stale: list[str]  # recordings that are gone, have changed, or were not indexed to their end


def verify_tables(tables: IndexTables, fingerprint: str) -> Verdict:
    """Read all of an index and list what is damaged or out of date.

    Each window has to match its checksum, have a unit vector, be of the model that built the index and there once; each
    recording has to have the windows that it was entered with, of one content and cut, and its seconds have to add up.
    Token vectors, where the index has them, have to match their checksums, and are out of date where windows have none.
    The full-text and approximate indices, which can be made again from the rows, are not looked at. Of the recordings,
    size and date have to be those that were indexed, and the seconds those that their headers or frames promise.

    Args:
        tables: of the index.
        fingerprint: of the model that built it.
    """
    damage: list[str] = []
    try:
        entries = RecordingsTable(tables).read()
    except InputError as error:
        return Verdict([str(error)], [])
    found: dict[str, list[WindowRow]] = {}
    seen: set[str] = set()
    try:
        for row in _rows(tables):
            lacking = [name for name, value in row.items() if value is None and name != CONFIDENCE_COLUMN]
            if lacking:
                damage.append(f"{tables.location}: a window lacks its {lacking[0]}; delete the folder, index again")
                continue
            damage += [f"{row['id']}: {fault}" for fault in _row_faults(row, fingerprint, seen)]
            kept = {name: row[name] for name in ("content_hash", "cut", *SUMMARY_COLUMNS)}
            kept[CONFIDENCE_COLUMN] = row.get(CONFIDENCE_COLUMN)
            found.setdefault(row["recording"], []).append(kept)
    except InputError as error:
        damage.append(str(error))
        return Verdict(damage, _stale(entries))
    try:
        damaged_tokens, stale_tokens = token_faults(tables)
    except InputError as error:
        damaged_tokens, stale_tokens = [str(error)], []
    damage += damaged_tokens
    damage += [
        f"{path}: has windows, but is not among the recordings; index it again" for path in set(found) - set(entries)
    ]
    for path, entry in entries.items():
        damage += [f"{path}: {fault}; index it again" for fault in _entry_faults(entry, found.get(path, []))]
    return Verdict(damage, _stale(entries) + stale_tokens)


def _rows(tables: IndexTables) -> Iterator[WindowRow]:
    table = tables.windows
    with reading(tables.location):
        for batch in table.search().to_batches(1024) if table is not None else ():
            yield from batch.to_pylist()


def _row_faults(row: WindowRow, fingerprint: str, seen: set[str]) -> Iterator[str]:
    if row["id"] in seen:
        yield "is there twice"
    seen.add(row["id"])
    if checksum(row) != row["checksum"]:
        yield "does not match its checksum: the index is damaged; delete the folder, index again"
    if row["fingerprint"] != fingerprint:
        yield f"is of model {row['fingerprint']}, the index of {fingerprint}; delete the folder, index again"
    if row["text"] and abs(float(np.linalg.norm(row["vector"])) - 1) > NORM_TOLERANCE:
        yield "has a vector that is not of norm 1"


def _entry_faults(entry: RecordingEntry, windows: list[WindowRow]) -> Iterator[str]:
    """The faults of a recording; the windows of an unfinished one are not counted."""
    if entry.state == "begun":  # before its first window is written, those of its content before are there
        return
    if any((row["content_hash"], row["cut"]) != (entry.content_hash, entry.cut) for row in windows):
        if entry.state != "failed":  # which keeps what was there before
            yield "has windows of other contents or cuts"
        return
    if len(windows) != entry.windows:
        yield f"has {len(windows)} windows where {entry.windows} were written"
        return
    counted = entry.of_windows(
        [window_summary(row) for row in windows],
        entry.duration_s,
    )
    whole = [window_summary(row)._replace(spoken=None) for row in windows]  # as before silence within them was told
    before_s = entry.of_windows(whole, entry.duration_s).indexed_s
    if min(abs(seconds - entry.indexed_s) for seconds in (counted.indexed_s, before_s)) > SECONDS_TOLERANCE:
        yield f"has {counted.indexed_s:.3f} s indexed where {entry.indexed_s:.3f} s were written"
    if entry.state != "failed" and abs(entry.indexed_s + entry.silent_s - entry.duration_s) > SECONDS_TOLERANCE:
        yield f"has {entry.indexed_s:.3f} s indexed and {entry.silent_s:.3f} s silent of {entry.duration_s:.3f} s"


def _stale(entries: Mapping[str, RecordingEntry]) -> list[str]:
    with Decoder() as decoder:
        reasons = {path: _why_stale(entry, decoder) for path, entry in sorted(entries.items())}
    return [f"{path}: {reason}" for path, reason in reasons.items() if reason]


def _why_stale(entry: RecordingEntry, decoder: Decoder) -> str:
    try:
        state = file_state(Path(entry.recording))
    except OSError:
        return "its file is gone; put it back, or remove it with clsr index --prune"
    if entry.state == "begun":
        return INTERRUPTED
    found = (state.size_bytes, stored_ns(state.modified_ns))
    if entry.state != "failed" and found != (entry.size_bytes, stored_ns(entry.modified_ns)):
        return "its file has changed since it was indexed; index it again"
    if entry.state in ("indexed", "silent"):  # of others it is known what is missing
        promised_s = decoder.promised_s(entry.recording)
        if falls_short(entry.duration_s, promised_s):
            return (
                f"its file promises {promised_s:.1f} s, {entry.duration_s:.1f} s were indexed; if a player plays more, "
                "convert it to wav or flac and index that"
            )
    return ""
