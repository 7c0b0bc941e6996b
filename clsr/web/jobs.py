"""Indexing in the background: jobs wait their turn, and each reports its progress."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from typing import Literal

from clsr.errors import InputError
from clsr.index.progress import Watch
from clsr.index.recordings import RecordingStatus

WAITING_JOBS = 32
KEPT_JOBS = 50

_log = logging.getLogger("clsr")


class Busy(InputError):
    """Too much is waiting already."""


@dataclass
class FileProgress:
    """Progress of one recording."""

    path: Path
    status: Literal["waiting", "indexing", "indexed", "silent", "partial", "failed"] = "waiting"
    duration_s: float = 0.0
    share: float = 0.0  # of it that is done, 0 to 1
    reason: str | None = None

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
    state: Literal["waiting", "running", "done", "failed"] = "waiting"
    error: str | None = None  # why no recording could be indexed
    seconds: float = 0.0  # it took

    @property
    def done(self) -> int:
        """Recordings that are finished."""
        return sum(file.status not in ("waiting", "indexing") for file in self.files)

    @property
    def share(self) -> float:
        """Share of the recordings that is done, 0 to 1, the one at work by its share."""
        return sum(1.0 if file.status not in ("waiting", "indexing") else file.share for file in self.files) / max(
            1, len(self.files)
        )

    @property
    def active(self) -> bool:
        """Whether anything is still to come."""
        return self.state in ("waiting", "running")


class IndexingQueue:
    """Runs jobs in one background thread, one at a time, first come, first served.

    Args:
        index: bring the index up to date with recordings, reporting on each as ``Index.add`` does.
    """

    def __init__(self, index: Callable[[Sequence[Path], Watch], object]) -> None:
        self._index = index
        self._numbers = itertools.count(1)
        self._jobs: dict[int, Job] = {}
        self._queue: Queue[Job] = Queue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def start(self, paths: Sequence[Path]) -> Job:
        """Queue recordings to be indexed.

        Raises:
            Busy: too many jobs wait.
        """
        with self._lock:
            if sum(job.active for job in self._jobs.values()) >= WAITING_JOBS:
                raise Busy(f"{WAITING_JOBS} indexing jobs are waiting; try again when one is done")
            job = Job(next(self._numbers), [FileProgress(path) for path in paths])
            self._jobs[job.id] = job
            for old in [old for old in self._jobs.values() if not old.active][:-KEPT_JOBS]:
                del self._jobs[old.id]
            self._queue.put(job)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="indexing", daemon=True)
                self._thread.start()
        return job

    def jobs(self) -> list[Job]:
        """All jobs remembered, newest first."""
        with self._lock:
            return list(self._jobs.values())[::-1]

    def _work(self) -> None:
        while True:
            self._run(self._queue.get())

    def _run(self, job: Job) -> None:
        job.state, start = "running", time.monotonic()
        files = {file.path: file for file in job.files}
        try:
            self._index(list(files), lambda path, state: files[path].note(state))
            job.state = "done"
        except InputError as error:  # of the index or the model, not of a recording
            job.error, job.state = str(error), "failed"
        except Exception:
            _log.exception("indexing failed")
            job.error, job.state = "indexing failed; the server's log says why", "failed"
        job.seconds = time.monotonic() - start
