"""Recordings -> blocks of samples, decoded in a process of its own: what a file does to a decoder stays there."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

import clsr
from clsr.audio.decoding_worker import BLOCK, CLAIMED, END, FAILURE, HEADER, MOST_BYTES, PROMISED, READY, RUIN, SOUND
from clsr.audio.waveform import Remarks
from clsr.errors import InputError

START_S = 60.0  # for a process to be ready, on a machine that is busy

_COMMAND = (sys.executable, "-m", "clsr.audio.decoding_worker")
_ROOT = Path(clsr.__file__).resolve().parents[1]


class Decoder:
    """Decodes recordings in a process of its own, one at a time, started when first needed and again after it died.

    A crash, a hang or a hunger for memory in a decoder ends that process alone, and becomes an ``InputError`` that
    names the file. Any thread may ask; while one stream is being taken, other threads wait for their turn.

    Attributes:
        remarks: on the last stream that was taken to its end.

    Args:
        timeout_s: longest wait for the next block.
        memory_bytes: memory that the process may take, 256 MiB or more.
        ahead_s: seconds of sound that it decodes before they are taken.
    """

    def __init__(self, timeout_s: float = 10.0, memory_bytes: int = 1 << 30, ahead_s: float = 60.0) -> None:
        self.timeout_s = timeout_s
        self.memory_bytes = memory_bytes
        self.ahead_s = ahead_s
        self.remarks = Remarks()
        self._process: subprocess.Popen[bytes] | None = None
        self._turn = threading.Lock()
        self._thread: int | None = None  # whose turn it is
        self._busy = False  # whether answers to the last request are still to come

    def __enter__(self) -> Decoder:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """End the process; a stream that is being taken fails, and a later one would start another process."""
        process = self._process
        if process is not None:
            process.kill()
            if self._turn.acquire(blocking=False):  # else who has the turn will see the end and clear up
                try:
                    self._clear_up()
                finally:
                    self._turn.release()

    def stream(self, path: str | Path, start_s: float = 0.0, end_s: float | None = None) -> Iterator[np.ndarray]:
        """The blocks of ``stream_waveform``: mono ``(n,)`` float32 at 16 kHz, of at most ten seconds each.

        A stream that is left before its end costs the process, and the next one its start.

        Raises:
            InputError: as ``stream_waveform``, or the decoder crashed, hung or wanted too much memory.
            RuntimeError: this thread has not finished its last stream.
        """
        with self._asked({"path": str(path), "start_s": start_s, "end_s": end_s, "want": SOUND}):
            self.remarks = Remarks()
            while (answer := self._answer(str(path)))[0] == BLOCK:
                if answer[1]:  # an empty one is a sign of life
                    yield np.frombuffer(answer[1], dtype="<f4")
            if answer[0] == END:
                self.remarks = _read_remarks(answer[1])

    def read_waveform(self, path: str | Path, start_s: float = 0.0, end_s: float | None = None) -> np.ndarray:
        """The waveform ``(N,)`` of ``clsr.audio.waveform.read_waveform``; N is for the caller to bound.

        Raises:
            InputError: as ``stream``.
        """
        return np.concatenate(list(self.stream(path, start_s, end_s)))

    def claimed_s(self, path: str | Path) -> float | None:
        """Length in seconds that the header of a recording claims, true or not; ``None`` where nothing is to be had."""
        return self._length_s(path, CLAIMED)

    def promised_s(self, path: str | Path) -> float | None:
        """Length in seconds of ``promised_duration_s``, without decoding; ``None`` where nothing is to be had."""
        return self._length_s(path, PROMISED)

    def _length_s(self, path: str | Path, which: str) -> float | None:
        try:
            with self._asked({"path": str(path), "start_s": 0.0, "end_s": None, "want": which}):
                return json.loads(self._answer(str(path))[1])
        except InputError:
            return None

    @contextmanager
    def _asked(self, request: dict[str, Any]) -> Iterator[None]:
        """Wait for the turn and send a request; a process that is left before its last answer is ended."""
        if not self._turn.acquire(blocking=False):
            if self._thread == threading.get_ident():
                raise RuntimeError("this thread has not finished its last stream; take or close it first")
            self._turn.acquire()
        self._thread = threading.get_ident()
        self._busy = True
        try:
            request["cwd"] = None if os.path.isabs(request["path"]) else os.getcwd()
            self._send(json.dumps(request).encode() + b"\n")
            yield
        finally:
            if self._busy:
                self._clear_up()
            self._thread = None
            self._turn.release()

    def _answer(self, path: str) -> tuple[bytes, bytearray]:
        """Kind and content of the next answer.

        Raises:
            InputError: it is a failure, or there is none.
        """
        try:
            kind, content = self._receive(self.timeout_s)
        except TimeoutError:
            raise InputError(f"{path}: decoding hung for {self.timeout_s:g} s; convert it to wav or flac") from None
        except EOFError:
            raise InputError(f"{path}: {self._cause_of_death()}; convert it to wav or flac") from None
        self._busy = kind in (BLOCK, RUIN)
        if kind in (FAILURE, RUIN):
            raise InputError(content.decode(errors="surrogateescape"))
        return kind, content

    def _send(self, line: bytes) -> None:
        """Hand a request over; a process that died between requests is replaced.

        A pipe takes a line for some time after its reader was killed: only what is acknowledged has come in.

        Raises:
            RuntimeError: no process gets ready.
        """
        if self._process is None or not self._took(line):
            self._clear_up()
            self._start()
            if not self._took(line):
                self._give_up()

    def _took(self, line: bytes) -> bool:
        try:
            os.write(self._process.stdin.fileno(), line)  # type: ignore[union-attr]
        except OSError:
            return False
        return self._is_ready()

    def _start(self) -> None:
        """Start the process and wait until it is ready.

        Raises:
            RuntimeError: it does not get ready.
        """
        limits = (str(self.timeout_s), str(self.memory_bytes), str(self.ahead_s))
        threads = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
        self._process = subprocess.Popen(
            [*_COMMAND, *limits], bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            cwd=_ROOT, env=os.environ | threads,
        )  # fmt: skip
        if not self._is_ready():
            self._give_up()

    def _is_ready(self) -> bool:
        try:
            return self._receive(START_S)[0] == READY
        except (EOFError, TimeoutError):
            return False

    def _give_up(self) -> NoReturn:
        self._clear_up()
        raise RuntimeError(f"the decoding process does not start: {' '.join(_COMMAND)}")

    def _receive(self, within_s: float) -> tuple[bytes, bytearray]:
        deadline_s = time.monotonic() + within_s
        kind, size = HEADER.unpack(self._read(HEADER.size, deadline_s))
        if size > MOST_BYTES or (kind == BLOCK and size % 4):  # what decodes a stranger's bytes is not trusted
            raise EOFError
        return kind, self._read(size, deadline_s)

    def _read(self, size: int, deadline_s: float) -> bytearray:
        """So many bytes of the process.

        Raises:
            TimeoutError: they have not come by the deadline.
            EOFError: the process has ended.
        """
        assert self._process is not None and self._process.stdout is not None
        pipe = self._process.stdout.fileno()
        waiting = select.poll()
        waiting.register(pipe, select.POLLIN)
        content = bytearray()
        while len(content) < size:
            if not waiting.poll(max(0.0, deadline_s - time.monotonic()) * 1000):
                raise TimeoutError
            part = os.read(pipe, size - len(content))
            if not part:
                raise EOFError
            content += part
        return content

    def _cause_of_death(self) -> str:
        assert self._process is not None
        with suppress(subprocess.TimeoutExpired, ValueError):  # a signal without a name
            status = self._process.wait(timeout=1.0)
            if status < 0:
                return f"decoding crashed ({signal.Signals(-status).name})"
            return f"decoding ended with exit status {status}"
        return "decoding broke off"

    def _clear_up(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                pipe.close()  # type: ignore[union-attr]


def _read_remarks(content: bytearray) -> Remarks:
    """The remarks of the process, which decodes a stranger's bytes and is not trusted."""
    remarks = Remarks()
    with suppress(ValueError, TypeError, KeyError):
        given = json.loads(content)
        remarks.losses, remarks.notes = ([str(line) for line in given[name]] for name in ("losses", "notes"))
        remarks.changes = {str(kind): str(message) for kind, message in dict(given["changes"]).items()}
    return remarks
