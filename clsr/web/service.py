"""What the page and the API do: search, index, take uploads, name recordings. No word of HTTP here."""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from clsr.audio.decoding import Decoder
from clsr.audio.waveform import SAMPLE_RATE
from clsr.errors import InputError
from clsr.index.config import HitUnit, Mode
from clsr.index.filters import Filter
from clsr.index.index import Index
from clsr.index.location import IndexLocked
from clsr.index.progress import Watch
from clsr.index.recordings import RecordingEntry, RecordingStatus, least_confidence
from clsr.search.hit import Hit
from clsr.search.query import Query, read_query_parts, read_spoken_query
from clsr.search.retriever import Retriever
from clsr.transcribe import Transcript
from clsr.web.config import ServiceConfig
from clsr.web.folders import Folders, Missing
from clsr.web.jobs import IndexingQueue, Job
from clsr.web.searches import BUSY_SEARCHES, Busy, SearchQueue

Profile = list[tuple[float, float, float]]


class Recording(NamedTuple):
    """A recording of the index. Its public ``id`` stands for its path and does not reveal it."""

    id: str
    name: str
    path: Path
    duration_s: float
    windows: int


class FoundHit(NamedTuple):
    """A hit, its recording, and the score of every window of that recording."""

    hit: Hit
    recording: Recording
    profile: Profile


class Found(NamedTuple):
    """The result of a search."""

    question: str  # as typed, or as recognised
    hits: list[FoundHit]
    seconds: float  # it took, without waiting for its turn


class SearchService:
    """One index, to search and to add to; any number of threads may call it."""

    def __init__(self, config: ServiceConfig) -> None:
        self.index_dir = config.index_dir.resolve()
        self.index = Index.open_or_create(
            self.index_dir, config.model, config.indexing, config.device, config.precision, config.text_encoder
        )
        self.index.model.text_encoder  # noqa: B018  # a model that cannot search is found out now
        self._indexing = config.indexing
        uploads = config.upload_dir or self.index_dir.with_name(f"{self.index_dir.name}-uploads")
        self.folders = Folders(config.allowed, uploads)
        self._indexer = IndexingQueue(self._index, self._discard)
        self._searches = SearchQueue()
        self._decoding = SearchQueue()  # of spoken questions: a file that hangs delays no typed one
        self.decoder = Decoder()  # for files from anyone
        self._loading = threading.RLock()
        self._retriever: Retriever | None = None
        self._catalogue: tuple[Mapping[str, RecordingEntry], dict[str, Recording]] = ({}, {})
        self._longest_upload_s = config.longest_upload_s
        self._accepted: set[Path] = set()  # uploads that came since the start, which may be deleted when they fail
        if config.resumes_uploads:
            self._resume_uploads()

    def submit_search(
        self,
        question: Query,
        top_k: int = 10,
        mode: Mode | None = None,
        recordings: Sequence[str] = (),
        client: str = "",
        unit: HitUnit = "window",
    ) -> Future[Found]:
        """Search when it is the client's turn; ``recordings`` are ids, none for all. A cancelled one is dropped.

        Raises:
            Busy: too many are waiting.
        """
        options = (top_k, mode, recordings, unit)
        if not isinstance(question, Path | list):
            return self._searches.submit(client, lambda: self.search(question, *options))
        return self._decoding.submit(client, lambda: self._search_spoken(self._decoded(question), client, options))

    @property
    def busy(self) -> bool:
        """Whether a search would wait for a second or more before it is its turn."""
        return max(len(self._searches), len(self._decoding)) >= BUSY_SEARCHES

    def search(
        self, question: Query, top_k: int = 10, mode: Mode | None = None, recordings: Sequence[str] = (),
        unit: HitUnit = "window",
    ) -> Found:  # fmt: skip
        """Best moments, each with the scores over its whole recording; one call at a time.

        Raises:
            Missing: nothing is indexed yet, or there is no such recording.
            InputError: the question is at fault.
        """
        retriever = self._open_retriever()
        start = time.perf_counter()
        only = Filter([self.recording(id_).path for id_ in recordings]) if recordings else None
        query = retriever.encode(self._decoded(question))
        hits = retriever.search(query, top_k, mode, only, unit=unit)
        known = {str(recording.path): recording for recording in self.recordings()}
        found_in = {hit.recording for hit in hits} & set(known)
        profiles = retriever.profiles(query, found_in, mode)
        found = [FoundHit(hit, known[hit.recording], profiles[hit.recording]) for hit in hits if hit.recording in known]
        return Found(query.text, found, time.perf_counter() - start)

    def _search_spoken(
        self, question: Query, client: str, options: tuple[int, Mode | None, Sequence[str], HitUnit]
    ) -> Found:
        return self._searches.submit(client, lambda: self.search(question, *options)).result()

    def _decoded(self, question: Query) -> Query:
        if isinstance(question, list):
            return [*read_query_parts(question, "the question", self.decoder.read_waveform)]
        return read_spoken_query(question, self.decoder.read_waveform) if isinstance(question, Path) else question

    def recordings(self) -> list[Recording]:
        """The recordings of the index by name."""
        return sorted(self._recordings().values(), key=lambda recording: (recording.name, recording.id))

    def recording(self, id_: str) -> Recording:
        """The recording of this id.

        Raises:
            Missing: the index has none.
        """
        recording = self._recordings().get(id_)
        if recording is None:
            raise Missing("no such recording in the index; name one of those listed")
        return recording

    def transcript(self, id_: str) -> Transcript:
        """What the index has of the recording of this id, under its public name.

        Raises:
            Missing: the index has none.
        """
        recording = self.recording(id_)
        return replace(self.index.transcript(recording.path), audio=recording.name)

    def status(self, id_: str) -> RecordingStatus:
        """What the index holds of the recording of this id.

        Raises:
            Missing: the index has none.
        """
        entry = self.index.entries()[str(self.recording(id_).path)]
        return entry.to_status(least_confidence(self.index.description.model))

    def playable(self, id_: str) -> Recording:
        """The recording of this id, if its file is where it was indexed and is no link put there since.

        Raises:
            Missing: it is not.
        """
        recording = self.recording(id_)
        try:
            there = recording.path.is_file() and recording.path.resolve() == recording.path
        except (OSError, RuntimeError):
            there = False
        if not there:
            raise Missing("this recording is in the index, but its file is gone; put it back, or index again")
        return recording

    def start_indexing(self, names: Sequence[str]) -> Job:
        """Index recordings and folders, named as ``Folders.find`` has it, in the background.

        Raises:
            Missing: a name leads nowhere.
            Busy: too many jobs wait.
        """
        return self._indexer.start(self.folders.recordings(names))

    def new_upload(self) -> Path:
        """An empty file to receive an upload, in the folder for uploads, hidden from indexing."""
        self.folders.uploads.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".", suffix=".part", dir=self.folders.uploads)
        os.close(handle)
        return Path(name)

    def index_uploads(self, uploads: Sequence[tuple[Path, str]]) -> Job:
        """Keep uploads, complete files in the folder for uploads with the names given them, and index them.

        Raises:
            InputError: a name is none of a recording, or there is no room.
            Busy: too many jobs wait.
        """
        self._indexer.require_room()
        before = set(self.folders.uploaded())
        paths = [self.folders.keep_upload(part, name) for part, name in uploads]
        self._accepted.update(path for path in paths if path not in before)
        return self._indexer.start(paths)

    def is_upload(self, recording: Recording) -> bool:
        """Whether a recording lies in the folder for uploads, and may be removed."""
        return recording.path.parent == self.folders.uploads

    def remove_upload(self, id_: str) -> None:
        """Delete an upload, its file and what the index has of it.

        Raises:
            Missing: there is no such recording, or it is no upload.
            Busy: something is being indexed.
        """
        recording = self.recording(id_)
        if not self.is_upload(recording):
            raise Missing("this recording is no upload; only uploads can be removed here")
        if any(recording.path in job.unfinished for job in self.jobs() if job.active):
            raise Busy("this recording is being indexed; cancel that first")
        try:
            self.index.remove([recording.path])
        except IndexLocked:
            raise Busy("something is being indexed; remove this recording when that is done") from None
        recording.path.unlink(missing_ok=True)
        self._accepted.discard(recording.path)

    def cancel(self, job_id: int) -> Job:
        """Stop an indexing job: what it has indexed stays, and uploads that it has not finished are deleted.

        Raises:
            Missing: there is no such job.
        """
        job = self._indexer.cancel(job_id)
        if job is None:
            raise Missing("no such job; it may have ended long ago")
        return job

    def close(self, within_s: float = 1.0) -> bool:
        """Stop what goes on in the background; whether all of it has ended in time."""
        ended = [queue.close(within_s) for queue in (self._searches, self._indexer)]
        self.decoder.close()
        return all([*ended, self._decoding.close(within_s)])

    def jobs(self) -> list[Job]:
        """Indexing jobs, newest first."""
        return self._indexer.jobs()

    def without_paths(self, message: str) -> str:
        """A message as others may read it: paths of this machine are shortened to names."""
        known = [self.index_dir, self.index.model.path, self.folders.uploads, *self.folders.labels.values()]
        for folder in sorted(known, key=lambda folder: -len(str(folder))):
            message = message.replace(f"{folder}/", "").replace(str(folder), folder.name)
        return " ".join(map(_without_folders, message.split()))

    def _index(self, paths: Sequence[Path], watch: Watch) -> None:
        # An existing index keeps its own windows.
        self.index.config = replace(self._indexing, windows=None) if self.index.exists else self._indexing
        ended: dict[Path, RecordingStatus] = {}

        def noted(path: Path, state: float | RecordingStatus) -> None:
            if isinstance(state, RecordingStatus):
                ended[path] = state
            watch(path, state)

        try:
            taken = [path for path in paths if not self._refuses(path, noted)]
            if taken:
                self.index.add(taken, noted)
        finally:
            self._discard([path for path, end in ended.items() if end.status == "failed" and not end.windows])

    def _refuses(self, path: Path, watch: Watch) -> bool:
        """Whether a recording is gone, or an upload that is too long; its status is reported then."""
        reason = None
        if not path.exists():
            reason = f"{path}: its file is gone"
        elif path.parent == self.folders.uploads and self._is_too_long(path, watch):
            reason = f"{path}: longer than {self._longest_upload_s / 60:g} minutes; cut it into parts"
        if reason:
            watch(path, RecordingStatus(str(path), "failed", 0.0, reason=reason))
        return bool(reason)

    def _is_too_long(self, path: Path, watch: Watch) -> bool:
        """Decode until it is known: headers claim what they like, and a few kilobytes may be hours of silence."""
        seconds = 0.0
        with Decoder() as decoder, suppress(InputError):  # what cannot be decoded is reported by the index
            for block in decoder.stream(path):
                watch(path, 0.0)
                seconds += len(block) / SAMPLE_RATE
                if seconds > self._longest_upload_s:
                    return True
        return False

    def _discard(self, paths: Sequence[Path]) -> None:
        """Delete uploads of which nothing can be found, and what the index has of them."""
        uploads = [path for path in paths if path in self._accepted]
        for path in uploads:
            path.unlink(missing_ok=True)
            self._accepted.discard(path)
        if uploads and self.index.exists:
            with suppress(IndexLocked):  # an entry without a file does no harm
                self.index.remove(uploads)

    def _resume_uploads(self) -> None:
        """Index uploads that were accepted before the last stop, and not indexed by then."""
        self.folders.clear_parts()
        uploads = self.folders.uploaded()
        known = self.index.entries() if uploads else {}
        waiting = [path for path in uploads if str(path) not in known or known[str(path)].state == "begun"]
        if waiting:
            self._indexer.start(waiting)

    def _open_retriever(self) -> Retriever:
        with self._loading:
            if self._retriever is None:
                if self.index.tables.windows is None:
                    raise Missing("nothing is indexed yet; add recordings first")
                self._retriever = Retriever(self.index, self.index.model)
            return self._retriever

    def _recordings(self) -> dict[str, Recording]:
        """Recordings by id; made again only when the index has changed."""
        entries = self.index.entries()
        if self._catalogue[0] is not entries:
            self._catalogue = (entries, {recording.id: recording for recording in _list(entries, self.folders)})
        return self._catalogue[1]


def _without_folders(word: str) -> str:
    """The last part of a word that is an absolute path of the server; those of the API are everyone's."""
    bare = word.lstrip("('\"")
    return word.rsplit("/", 1)[-1] if bare.startswith("/") and not bare.startswith("/api/") else word


def recording_id(path: str) -> str:
    """Public id of a recording: 16 hexadecimal digits that do not reveal its path."""
    return hashlib.blake2b(path.encode(errors="surrogateescape"), digest_size=8).hexdigest()


def _list(entries: Mapping[str, RecordingEntry], folders: Folders) -> list[Recording]:
    """The recordings that have windows in the index."""
    kept = [entry for entry in entries.values() if entry.windows or entry.state == "begun"]
    paths = [Path(entry.recording) for entry in kept]
    return [
        Recording(recording_id(str(path)), folders.name(path), path, entry.duration_s, entry.windows)
        for path, entry in zip(paths, kept, strict=True)
    ]
