"""Recordings -> windows, encoded in batches over recordings and written in transactions. Internal."""

from __future__ import annotations

import ctypes
import logging
import math
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from clsr.audio.decoding import Decoder
from clsr.audio.files import content_hash, file_state, printable
from clsr.audio.pauses import Span
from clsr.audio.pieces import Piece, PieceStream
from clsr.audio.waveform import Remarks
from clsr.errors import InputError
from clsr.index.progress import ProgressBar
from clsr.index.recordings import (
    RecordingEntry,
    RecordingStatus,
    WindowSummary,
    least_confidence,
    stored_ns,
    window_summary,
)
from clsr.index.rows import WindowRow, to_arrow, to_rows, window_id
from clsr.index.tables import brief
from clsr.index.windows import AudioWindow, WindowStream, covered_s, parse_cuts
from clsr.models.sounding import encode_sounding
from clsr.systems.cascade import CascadeEncoder
from clsr.threads import start_pool
from clsr.transcribe import PIECE_S

if TYPE_CHECKING:
    import pyarrow

    from clsr.model import Model
    from clsr.models.speech_encoder import SpeechEncoding

COMMIT_AUDIO_S = 600.0  # a transaction holds windows of so much audio,
COMMIT_WALL_S = 10.0  # or of so much time: what a kill can cost
MOST_THREADS = 4  # that encode batches at once, each a batch of its own: memory grows with them

_log = logging.getLogger("clsr")


@dataclass
class PendingRecording:
    """A recording that is being indexed."""

    path: Path
    entry: RecordingEntry
    there: dict[str, WindowSummary]  # windows already in the index
    claimed_s: float | None  # its length, if its header is right
    windows: list[WindowSummary] = field(default_factory=list)  # encoded
    lost: list[Span] = field(default_factory=list)  # windows that the model failed on
    waiting: int = 0  # windows cut and not yet encoded
    decoded_s: float = 0.0
    to_come_from_s: float = 0.0  # earliest start of the windows that are not cut yet
    whole: bool = False  # whether all windows are cut
    pieces: PieceStream = field(default_factory=lambda: PieceStream(PIECE_S))  # where windows share a recognition
    begun: bool = False  # whether its entry in the index is "begun"
    reason: str = ""  # why it failed
    remarks: Remarks = field(default_factory=Remarks)  # once it was read to its end

    @property
    def encoded_s(self) -> float:
        """Seconds of the recording up to which windows are encoded."""
        return max((window.end_s for window in self.windows), default=0.0)

    @property
    def share(self) -> float:
        """Share of the recording that is encoded, if its length is known."""
        length_s = self.decoded_s if self.whole else max(self.claimed_s or 0.0, self.decoded_s)
        return min(1.0, self.encoded_s / length_s) if length_s else 0.0

    def as_begun(self) -> RecordingEntry:
        """Its entry while it is being written."""
        return self.entry._replace(state="begun", duration_s=self.claimed_s or 0.0)

    def as_done(self) -> RecordingEntry:
        """Its entry once all its windows are written."""
        spans = [(window.start_s, window.end_s) for window in self.windows]
        lost_s = covered_s(spans + self.lost) - covered_s(spans)
        entry = self.entry.of_windows(self.windows, self.decoded_s - lost_s)
        duration_s = max(self.decoded_s, self.claimed_s or 0.0) if self.reason else self.decoded_s
        whole_state = "indexed" if entry.indexed_s else "silent"
        state = "failed" if self.reason else "partial" if self.remarks.losses else whole_state
        reason = self.reason or "; ".join(self.remarks.losses + self.remarks.notes)
        return entry._replace(state=state, duration_s=duration_s, reason=reason)


Gathered = tuple[PendingRecording, AudioWindow]
Encoded = WindowRow | Exception  # an error, where the model failed on the window


class WindowSink(Protocol):
    """Storage for encoded windows: ``clsr.index.writer.IndexWriter``."""

    known: dict[str, RecordingEntry]

    def there(self, entry: RecordingEntry) -> dict[str, WindowSummary]:
        """Windows already stored, by id."""

    def commit(
        self, begun: Sequence[RecordingEntry], rows: pyarrow.Table | None, done: Sequence[RecordingEntry] = ()
    ) -> None:
        """Store begun recordings, windows, and recordings that are complete with them."""

    def note(self, entry: RecordingEntry) -> None:
        """Store the entry of a recording whose windows stay unchanged."""


class Indexer:
    """Takes recordings one after the other and gathers their windows into batches; threads encode these.

    While threads encode, the caller's thread decodes the recordings that follow and writes what is encoded. Batches are
    those of one thread, and so is what is written.
    """

    def __init__(
        self, model: Model, cut: str, sink: WindowSink, decoder: Decoder, batch_s: float, progress: ProgressBar
    ) -> None:
        self.model = model
        self.cut = cut
        self.sink = sink
        self.decoder = decoder
        self.progress = progress
        self.statuses: dict[Path, RecordingStatus] = {}
        encoder = model.speech_encoder
        # A cascade recognises each second once; a CLSR model encodes each window by itself.
        self._cascade = encoder if isinstance(encoder, CascadeEncoder) else None
        threads = _threads_for(model)
        # Batches that share pieces take turns, since a piece is recognised once; threads then share out the pieces.
        self._threads, self.batch_s = (1, batch_s * threads) if self._cascade else (threads, batch_s)
        self._pool = start_pool(self._threads)
        self._encoding: deque[tuple[list[Gathered], Future[list[Encoded]]]] = deque()  # in the order of the windows
        self._at_work: list[PendingRecording] = []
        self._unread: list[RecordingEntry] = []  # recordings of which nothing could be decoded
        self._batch: list[Gathered] = []
        self._rows: list[WindowRow] = []  # encoded, to be written
        self._rows_s = 0.0
        self._committed_at = time.monotonic()

    def __enter__(self) -> Indexer:
        return self

    def __exit__(self, *_: Any) -> None:
        self._pool.shutdown(cancel_futures=True)

    def take(self, path: Path) -> None:
        """Update the entry of an unchanged recording, or gather the windows of a new or changed one."""
        self.progress.begin(path)
        refused = refuse_name(path)
        if refused is not None:
            self.statuses[path] = refused
            self.progress.end(path, refused)
            return
        known = self.sink.known.get(str(path))
        try:
            entry = unchanged(path, known, self.cut)
            if entry is not None:
                if entry != known:
                    self.sink.note(entry)
                self._end(path, entry)
                return
            state = file_state(path)  # taken before reading: a write meanwhile changes the date
            entry = RecordingEntry(str(path), content_hash(path), *state, self.cut)
        except OSError as error:
            self._give_up(path, known, f"{path}: cannot be read ({error.strerror}); check the path and its permissions")
            return
        work = PendingRecording(path, entry, self.sink.there(entry), self.decoder.claimed_s(path))
        self._at_work.append(work)
        self._cut(work)
        if not work.decoded_s:
            self._at_work.remove(work)
            self._give_up(path, known, work.reason)

    def flush(self) -> None:
        """Encode and write all gathered windows."""
        self._encode()
        while self._encoding:
            self._take_over(*self._encoding.popleft())
        self._commit()

    def _cut(self, work: PendingRecording) -> None:
        stream = WindowStream(parse_cuts(self.cut))
        try:
            blocks = self.decoder.stream(work.path)
            for window in stream.windows(work.pieces.follow(blocks) if self._cascade else blocks):
                work.decoded_s, work.to_come_from_s = stream.decoded_s, stream.to_come_from_s
                known = work.there.get(window_id(str(work.path), (window.start_s, window.end_s)))
                if known is None:
                    self._gather(work, window)
                else:
                    work.windows.append(known)
            work.remarks = self.decoder.remarks
        except InputError as error:
            work.reason = str(error)
        work.decoded_s, work.to_come_from_s, work.whole = stream.decoded_s, math.inf, True

    def _gather(self, work: PendingRecording, window: AudioWindow) -> None:
        work.waiting += 1
        self._batch.append((work, window))
        if sum(window.end_s - window.start_s for _, window in self._batch) >= self.batch_s:
            self._encode()

    def _encode(self) -> None:
        """Give the gathered windows to a thread, and take over what threads have encoded."""
        batch, self._batch = self._complete()
        if batch:
            pieces = [work.pieces.overlapping(window.start_s, window.end_s) or [] for work, window in batch]
            self._encoding.append((batch, self._pool.submit(self._encoded, batch, pieces)))
        while self._encoding and (len(self._encoding) > self._threads or self._encoding[0][1].done()):
            self._take_over(*self._encoding.popleft())

    def _take_over(self, batch: Sequence[Gathered], encoded: Future[list[Encoded]]) -> None:
        """Wait for the rows of a batch, and write them if it is time to."""
        for (work, window), row in zip(batch, encoded.result(), strict=True):
            work.waiting -= 1
            if isinstance(row, Exception):
                work.lost.append((window.start_s, window.end_s))
                work.reason = f"{work.path}: {type(row).__name__} at {window.start_s:.1f} s: {brief(row)}"
            else:
                work.windows.append(window_summary(row))
                self._rows.append(row)
                self._rows_s += window.end_s - window.start_s
        _release_memory()
        for work in {id(work): work for work, _ in batch}.values():
            self.progress.encoded(work.path, work.share, work.encoded_s)
            left = [window.start_s for one, window in self._batch if one is work]
            work.pieces.forget(min([*left, work.to_come_from_s]))
        if self._rows_s >= COMMIT_AUDIO_S or time.monotonic() - self._committed_at >= COMMIT_WALL_S:
            self._commit()

    def _complete(self) -> tuple[list[Gathered], list[Gathered]]:
        """Gathered windows that can be encoded, and those with a piece that still goes on."""
        if self._cascade is None:
            return self._batch, []
        now: list[Gathered] = []
        later: list[Gathered] = []
        for work, window in self._batch:
            cut = work.pieces.overlapping(window.start_s, window.end_s) is not None
            (now if cut else later).append((work, window))
        return now, later

    def _encoded(self, batch: Sequence[Gathered], pieces: Sequence[Sequence[Piece]]) -> list[Encoded]:
        """The row of each window, in a thread of the pool; a window that the model fails on stops no other."""
        try:
            return list(self._to_rows(batch, pieces))
        except Exception as error:
            if len(batch) == 1:
                return [error]
            _log.debug("%d windows from %s on", len(batch), batch[0][0].path, exc_info=True)
            return [row for one, of_one in zip(batch, pieces, strict=True) for row in self._encoded([one], [of_one])]

    def _to_rows(self, batch: Sequence[Gathered], pieces: Sequence[Sequence[Piece]]) -> list[WindowRow]:
        if self._cascade:
            encoding = _encode_shared(self._cascade, batch, pieces)
        else:
            encoder = self.model.speech_encoder
            waveforms = [window.waveform for _, window in batch]
            encoding = encode_sounding(encoder.encode, encoder.text_encoder, waveforms)
        entries, windows = [work.entry for work, _ in batch], [window for _, window in batch]
        text_encoder = self.model.speech_encoder.text_encoder
        return to_rows(entries, windows, encoding, self.model.fingerprint, text_encoder)

    def _commit(self) -> None:
        """Write the encoded windows, and report the recordings that are complete."""
        begun = [work for work in self._at_work if not work.begun]
        done = [work for work in self._at_work if work.whole and not work.waiting]
        rows = to_arrow(self._rows) if self._rows else None
        entries = [work.as_done() for work in done] + self._unread
        if not (begun or rows or entries):
            return
        self.sink.commit([work.as_begun() for work in begun], rows, entries)
        self._rows, self._rows_s, self._unread, self._committed_at = [], 0.0, [], time.monotonic()
        for work in begun:
            work.begun = True
        self._at_work = [work for work in self._at_work if work not in done]
        for entry in entries:
            self._end(Path(entry.recording), entry)

    def _give_up(self, path: Path, known: RecordingEntry | None, reason: str) -> None:
        """Record that nothing can be decoded; the index keeps earlier windows of the recording."""
        entry = known or RecordingEntry(str(path), "", 0, 0, self.cut)
        self._unread.append(entry._replace(state="failed", reason=reason))

    def _end(self, path: Path, entry: RecordingEntry) -> None:
        self.statuses[path] = entry.to_status(least_confidence(self.model.reference))
        self.progress.end(path, self.statuses[path])


def _encode_shared(
    cascade: CascadeEncoder, batch: Sequence[Gathered], pieces: Sequence[Sequence[Piece]]
) -> SpeechEncoding:
    """Encode windows from pieces of their recordings, which overlapping windows share."""
    cascade.recognise_pieces(list({id(piece): piece for of_one in pieces for piece in of_one}.values()))
    found = [
        cascade.cut_out(of_one, window.start_s, window.end_s) for of_one, (_, window) in zip(pieces, batch, strict=True)
    ]
    return cascade.encode_recognised(found)


def _threads_for(model: Model) -> int:
    """How many batches are encoded at once.

    Small networks use two processors better for two batches than for one. On an accelerator, a second thread prepares
    what is computed next.
    """
    import torch

    return min(MOST_THREADS, torch.get_num_threads()) if torch.device(model.device).type == "cpu" else 2


def refuse_name(path: Path) -> RecordingStatus | None:
    """The failed status of a recording whose name is not UTF-8; else ``None``."""
    name = printable(path)
    if name == str(path):
        return None
    return RecordingStatus(name, "failed", 0.0, reason=f"{name}: its name is not UTF-8; rename it")


def unchanged(path: Path, known: RecordingEntry | None, cut: str) -> RecordingEntry | None:
    """The entry of an unchanged recording, with the current date of its file; else ``None``.

    The content is compared only where size or date differ.

    Raises:
        OSError: the file cannot be read.
    """
    if known is None or known.state not in ("indexed", "silent", "partial") or known.cut != cut:
        return None
    state = file_state(path)
    if (state.size_bytes, stored_ns(state.modified_ns)) == (known.size_bytes, stored_ns(known.modified_ns)):
        return known
    if known.content_hash != content_hash(path):
        return None
    return known._replace(size_bytes=state.size_bytes, modified_ns=state.modified_ns)


def _release_memory() -> None:
    """Give freed memory back to the system.

    glibc keeps it for later, in pieces that fit windows of other lengths less and less: over hours they add up.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
