"""Indexing in the background: jobs wait their turn, and each reports its progress."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from queue import Queue
from typing import Literal

from clsr.errors import InputError
from clsr.index.location import IndexLocked
from clsr.index.progress import Watch
from clsr.index.recordings import RecordingStatus
from clsr.web.searches import Busy

WAITING_JOBS = 32
KEPT_JOBS = 50
LOCK_WAIT_S = 0.5  # until the index is tried again that another process is writing

_log = logging.getLogger("clsr")


class JobCancelled(Exception):
    """The job at work is not wanted any more."""


class ServerStops(Exception):
    """The job at work goes on when the server is started again, as far as it is of uploads."""


@dataclass
class FileProgress:
    """Progress of one recording."""

    path: Path
    status: Literal["waiting", "indexing", "indexed", "partial", "silent", "failed", "cancelled"] = "waiting"
    duration_s: float = 0.0
    share: float = 0.0  # of it that is done, 0 to 1
    reason: str | None = None

    @property
    def finished(self) -> bool:
        """Whether nothing more will be done about it."""
        return self.status not in ("waiting", "indexing")

    def note(self, state: float | RecordingStatus) -> None:
        """Record the share done, or the final status."""
        if isinstance(state, RecordingStatus):
            self.duration_s, self.reason, self.share = state.duration_s, state.reason, 1.0
            self.status = state.status
        else:
            self.status, self.share = "indexing", state


@dataclass
class Job:
    """Recordings to be indexed one after the other."""

    id: int
    files: list[FileProgress]
    state: Literal["waiting", "running", "done", "failed", "cancelled"] = "waiting"
    error: str | None = None  # why no recording could be indexed, or what it waits for
    seconds: float = 0.0  # it took
    unwanted: threading.Event = field(default_factory=threading.Event)

    @property
    def done(self) -> int:
        """Recordings that are finished."""
        return sum(file.finished for file in self.files)

    @property
    def share(self) -> float:
        """Share of the recordings that is done, 0 to 1, the one at work by its share."""
        return sum(1.0 if file.finished else file.share for file in self.files) / max(1, len(self.files))

    @property
    def active(self) -> bool:
        """Whether anything is still to come."""
        return self.state in ("waiting", "running")

    @property
    def unfinished(self) -> list[Path]:
        """Recordings that are not finished."""
        return [file.path for file in self.files if not file.finished]

    def end_cancelled(self) -> None:
        """Leave the recordings that are not finished."""
        for file in self.files:
            if not file.finished:
                file.status = "cancelled"
        self.state, self.error = "cancelled", None


class IndexingQueue:
    """Runs jobs in one background thread, one at a time, first come, first served.

    Args:
        index: bring the index up to date with recordings, reporting on each as ``Index.add`` does.
        discard: called with the recordings that a cancelled job has not finished.
    """

    def __init__(
        self,
        index: Callable[[Sequence[Path], Watch], object],
        discard: Callable[[Sequence[Path]], object] = lambda paths: None,
    ) -> None:
        self._index = index
        self._discard = discard
        self._numbers = itertools.count(1)
        self._jobs: dict[int, Job] = {}
        self._queue: Queue[Job] = Queue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self._idle = threading.Event()
        self._idle.set()

    def start(self, paths: Sequence[Path]) -> Job:
        """Queue recordings to be indexed.

        Raises:
            Busy: too many jobs wait.
        """
        with self._lock:
            self._require_room()
            job = Job(next(self._numbers), [FileProgress(path) for path in paths])
            self._jobs[job.id] = job
            for old in [old for old in self._jobs.values() if not old.active][:-KEPT_JOBS]:
                del self._jobs[old.id]
            self._queue.put(job)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="indexing", daemon=True)
                self._thread.start()
        return job

    def require_room(self) -> None:
        """Find out whether another job may wait.

        Raises:
            Busy: it may not.
        """
        with self._lock:
            self._require_room()

    def jobs(self) -> list[Job]:
        """All jobs remembered, newest first."""
        with self._lock:
            return list(self._jobs.values())[::-1]

    def cancel(self, id_: int) -> Job | None:
        """Stop a job; what it has indexed stays. ``None``: there is no such job. One that has ended stays as it is."""
        with self._lock:
            job = self._jobs.get(id_)
            if job is None or not job.active:
                return job
            job.unwanted.set()  # the job at work sees it when it next reports progress
            if job.state == "running":
                return job
            unfinished = job.unfinished
            job.end_cancelled()
        self._discard(unfinished)
        return job

    def close(self, within_s: float) -> bool:
        """Stop the job at work, and begin no other; whether it ended in time."""
        self._closing.set()
        return self._idle.wait(within_s)

    def _require_room(self) -> None:
        if sum(job.active for job in self._jobs.values()) >= WAITING_JOBS:
            raise Busy(f"{WAITING_JOBS} indexing jobs are waiting; try again when one is done")

    def _work(self) -> None:
        while True:
            job = self._queue.get()
            with self._lock:
                if not job.active or self._closing.is_set():
                    continue
                job.state = "running"
                self._idle.clear()
            self._run(job)
            self._idle.set()

    def _run(self, job: Job) -> None:
        start = time.monotonic()
        try:
            self._run_when_unlocked(job)
            job.state, job.error = "done", None
        except JobCancelled:
            unfinished = job.unfinished
            job.end_cancelled()
            self._discard(unfinished)
        except ServerStops:
            job.state = "waiting"
        except InputError as error:  # of the index or the model, not of a recording
            job.error, job.state = str(error), "failed"
        except Exception:
            _log.exception("indexing failed")
            job.error, job.state = "indexing failed; the server's log says why", "failed"
        job.seconds = time.monotonic() - start

    def _run_when_unlocked(self, job: Job) -> None:
        """Index as soon as no other process writes into the index."""
        files = {file.path: file for file in job.files}

        def watch(path: Path, state: float | RecordingStatus) -> None:
            files[path].note(state)
            job.error = None
            self._stop_if_wanted(job)

        while True:
            self._stop_if_wanted(job)
            try:
                self._index(job.unfinished, watch)
                return
            except IndexLocked as error:
                job.error = str(error)
                job.unwanted.wait(LOCK_WAIT_S)

    def _stop_if_wanted(self, job: Job) -> None:
        if job.unwanted.is_set():
            raise JobCancelled
        if self._closing.is_set():
            raise ServerStops
