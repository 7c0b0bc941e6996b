"""Recordings, one after the other -> windows, encoded in batches over recordings and written in transactions."""

from __future__ import annotations

import ctypes
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from clsr.audio.decoding import Decoder
from clsr.errors import InputError
from clsr.index.files import content_hash, file_state, printable
from clsr.index.progress import Progress
from clsr.index.recordings import Entry, RecordingStatus
from clsr.index.rows import Row, to_arrow, to_rows, window_id
from clsr.index.schema import IndexDescription, brief
from clsr.index.spans import covered_s
from clsr.index.windows import Cutting, Sound, Span, parse_cuts

if TYPE_CHECKING:
    import pyarrow

    from clsr.models.speech_encoder import SpeechEncoder

COMMIT_AUDIO_S = 600.0  # a transaction holds windows of so much audio,
COMMIT_WALL_S = 10.0  # or of so much time: what a kill can cost

_log = logging.getLogger("clsr")


@dataclass
class Work:
    """A recording that is being indexed."""

    path: Path
    entry: Entry
    there: dict[str, bool]  # windows that the index has already, and whether with words
    claimed_s: float | None  # its length, if its header is right
    windows: list[tuple[float, float, bool]] = field(default_factory=list)  # encoded: start, end, with words
    lost: list[Span] = field(default_factory=list)  # windows that the model failed on
    waiting: int = 0  # windows that are cut, but not encoded
    heard_s: float = 0.0
    whole: bool = False  # whether all windows are cut
    begun: bool = False  # whether the index says that it is being written
    reason: str = ""

    @property
    def encoded_s(self) -> float:
        """How far into the recording windows are encoded."""
        return max((end_s for _, end_s, _ in self.windows), default=0.0)

    @property
    def share(self) -> float:
        """Of the recording that is encoded, as far as its length is known."""
        length_s = self.heard_s if self.whole else max(self.claimed_s or 0.0, self.heard_s)
        return min(1.0, self.encoded_s / length_s) if length_s else 0.0

    def as_begun(self) -> Entry:
        """What the index says of it while it is being written."""
        return self.entry._replace(state="begun", duration_s=self.claimed_s or 0.0)

    def as_done(self) -> Entry:
        """What the index says of it when all its windows are written."""
        spans = [(start_s, end_s) for start_s, end_s, _ in self.windows]
        lost_s = covered_s(spans + self.lost) - covered_s(spans)
        entry = self.entry.of_windows(self.windows, self.heard_s - lost_s)
        duration_s = max(self.heard_s, self.claimed_s or 0.0) if self.reason else self.heard_s
        state = "failed" if self.reason else "indexed" if entry.indexed_s else "silent"
        return entry._replace(state=state, duration_s=duration_s, reason=self.reason)


class Writes(Protocol):
    """What takes down what was encoded: ``clsr.index.writer.IndexWriter``."""

    known: dict[str, Entry]

    def there(self, entry: Entry) -> dict[str, bool]:
        """Windows that need not be encoded: ids, and whether with words."""

    def commit(self, begun: Sequence[Entry], rows: pyarrow.Table | None, done: Sequence[Entry] = ()) -> None:
        """Take down recordings that are begun, windows, and recordings that are done with them."""

    def note(self, entry: Entry) -> None:
        """Take down something about a recording whose windows stay as they are."""


class Indexer:
    """Takes recordings one after the other; what is to be encoded is gathered over them, however short they are."""

    def __init__(
        self, speech_encoder: SpeechEncoder, built_with: IndexDescription, writer: Writes, decoder: Decoder,
        batch_s: float, progress: Progress,
    ) -> None:  # fmt: skip
        self.speech_encoder = speech_encoder
        self.fingerprint = built_with.fingerprint
        self.cut = built_with.windows
        self.writer = writer
        self.decoder = decoder
        self.batch_s = batch_s
        self.progress = progress
        self.statuses: dict[Path, RecordingStatus] = {}
        self._at_work: list[Work] = []
        self._unread: list[Entry] = []  # recordings of which nothing could be heard
        self._batch: list[tuple[Work, Sound]] = []
        self._rows: list[Row] = []  # encoded, to be written
        self._rows_s = 0.0
        self._committed_at = time.monotonic()

    def take(self, path: Path) -> None:
        """Bring the index up to date with a recording, or gather what is to be done for it."""
        self.progress.begin(path)
        refused = refuse_name(path)
        if refused is not None:
            self.statuses[path] = refused
            self.progress.end(path, refused)
            return
        known = self.writer.known.get(str(path))
        try:
            entry = unchanged(path, known, self.cut)
            if entry is not None:
                if entry != known:
                    self.writer.note(entry)
                self._end(path, entry)
                return
            state = file_state(path)  # before it is read: what is written meanwhile then has another date
            entry = Entry(str(path), content_hash(path), *state, self.cut)
        except OSError as error:
            self._give_up(path, known, f"{path}: cannot be read ({error.strerror}); check the path and its permissions")
            return
        work = Work(path, entry, self.writer.there(entry), self.decoder.claimed_s(path))
        self._at_work.append(work)
        self._hear(work)
        if not work.heard_s:
            self._at_work.remove(work)
            self._give_up(path, known, work.reason)

    def flush(self) -> None:
        """Encode and write all that was gathered."""
        self._encode()
        self._commit()

    def _hear(self, work: Work) -> None:
        cutting = Cutting(parse_cuts(self.cut))
        try:
            for sound in cutting.windows(self.decoder.stream(work.path)):
                work.heard_s = cutting.heard_s
                said = work.there.get(window_id(str(work.path), (sound.start_s, sound.end_s)))
                if said is None:
                    self._gather(work, sound)
                else:
                    work.windows.append((sound.start_s, sound.end_s, said))
        except InputError as error:
            work.reason = str(error)
        work.heard_s, work.whole = cutting.heard_s, True

    def _gather(self, work: Work, sound: Sound) -> None:
        work.waiting += 1
        self._batch.append((work, sound))
        if sum(sound.end_s - sound.start_s for _, sound in self._batch) >= self.batch_s:
            self._encode()

    def _encode(self) -> None:
        batch, self._batch = self._batch, []
        if not batch:
            return
        try:
            self._encode_together(batch)
        except Exception:  # whatever one window does to the model, the others go on
            _log.debug("%d windows from %s on", len(batch), batch[0][0].path, exc_info=True)
            for one in batch:
                self._encode_alone(*one)
        _release_memory()
        for work in {id(work): work for work, _ in batch}.values():
            self.progress.encoded(work.path, work.share, work.encoded_s)
        if self._rows_s >= COMMIT_AUDIO_S or time.monotonic() - self._committed_at >= COMMIT_WALL_S:
            self._commit()

    def _encode_together(self, batch: Sequence[tuple[Work, Sound]]) -> None:
        encoding = self.speech_encoder.encode([sound.waveform for _, sound in batch])
        entries, sounds = [work.entry for work, _ in batch], [sound for _, sound in batch]
        rows = to_rows(entries, sounds, encoding, self.fingerprint, self.speech_encoder.text_encoder)
        for (work, sound), row in zip(batch, rows, strict=True):
            work.waiting -= 1
            work.windows.append((sound.start_s, sound.end_s, bool(row["text"])))
            self._rows_s += sound.end_s - sound.start_s
        self._rows += rows

    def _encode_alone(self, work: Work, sound: Sound) -> None:
        try:
            self._encode_together([(work, sound)])
        except Exception as error:
            work.waiting -= 1
            work.lost.append((sound.start_s, sound.end_s))
            work.reason = f"{work.path}: {type(error).__name__} at {sound.start_s:.1f} s: {brief(error)}"

    def _commit(self) -> None:
        """Write what is encoded, and tell of the recordings that are done with it."""
        begun = [work for work in self._at_work if not work.begun]
        done = [work for work in self._at_work if work.whole and not work.waiting]
        rows = to_arrow(self._rows) if self._rows else None
        entries = [work.as_done() for work in done] + self._unread
        if not (begun or rows or entries):
            return
        self.writer.commit([work.as_begun() for work in begun], rows, entries)
        self._rows, self._rows_s, self._unread, self._committed_at = [], 0.0, [], time.monotonic()
        for work in begun:
            work.begun = True
        self._at_work = [work for work in self._at_work if work not in done]
        for entry in entries:
            self._end(Path(entry.recording), entry)

    def _give_up(self, path: Path, known: Entry | None, reason: str) -> None:
        """Nothing of the recording can be heard: the index keeps what it has of it, if anything."""
        entry = known or Entry(str(path), "", 0, 0, self.cut)
        self._unread.append(entry._replace(state="failed", reason=reason))

    def _end(self, path: Path, entry: Entry) -> None:
        self.statuses[path] = entry.to_status()
        self.progress.end(path, self.statuses[path])


def refuse_name(path: Path) -> RecordingStatus | None:
    """The status of a recording whose name cannot be written down, since it is no UTF-8; else ``None``."""
    name = printable(path)
    if name == str(path):
        return None
    return RecordingStatus(name, "failed", 0.0, reason=f"{name}: its name is not UTF-8; rename it")


def unchanged(path: Path, known: Entry | None, cut: str) -> Entry | None:
    """What is known of a recording if it need not be indexed, with the date that its file has now; else ``None``.

    The content is looked at only where size or date differ.

    Raises:
        OSError: the file cannot be read.
    """
    if known is None or known.state not in ("indexed", "silent") or known.cut != cut:
        return None
    state = file_state(path)
    if state == (known.size_bytes, known.modified_ns):
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
