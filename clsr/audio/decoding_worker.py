"""The process behind ``clsr.audio.decoding``: requests on standard input, blocks of samples on standard output.

A request is a line of JSON: ``path``, ``cwd`` (folder that the path counts from), ``start_s``, ``end_s`` and ``want``
(the sound, or only the length that the header claims, or that which can be relied on). Answers are ``HEADER`` (kind,
bytes to follow) and what follows; the first one to a request confirms it, the last one is an end, a claim or a failure.
An end has the remarks on what was read, a JSON object of two lists. The process ends when its standard input does.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import struct
import sys
import threading
from contextlib import suppress
from typing import Any

from clsr.audio import waveform as audio
from clsr.errors import InputError

HEADER = struct.Struct("<cI")
READY, BLOCK, END, CLAIM, FAILURE, RUIN = b"R", b"B", b"E", b"C", b"F", b"X"  # after a ruin, the process is not used
SOUND, CLAIMED, PROMISED = "sound", "claimed", "promised"  # what is wanted of a recording
MOST_BYTES = max(round(audio.BLOCK_S * audio.SAMPLE_RATE) * 4, 1 << 16)  # of what follows a header

CODE_BYTES = 128 << 20  # of libraries, mapped rather than allocated
GRACE_S = 5.0  # after which a process that hangs ends by itself: the parent may be gone


def main(timeout_s: float, memory_bytes: int, ahead_s: float) -> None:
    """Answer requests until standard input ends.

    Args:
        timeout_s: longest time between two answers.
        memory_bytes: memory that the process may take.
        ahead_s: seconds of sound that are decoded before they are taken.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # meant for the parent
    _limit_memory(memory_bytes)
    output = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # nothing that a library prints comes between answers
    requests: queue.Queue[dict[str, Any]] = queue.Queue()
    answers: queue.Queue[tuple[bytes, bytes]] = queue.Queue(max(1, round(ahead_s / audio.BLOCK_S)))
    threading.Thread(target=_read, args=(requests,), daemon=True).start()
    threading.Thread(target=_write, args=(output, answers), daemon=True).start()
    answers.put((READY, b""))
    while True:
        request = requests.get()
        answers.put((READY, b""))
        answers.join()  # sent before the file can end the process: without it, the parent knows a request was not taken
        _answer(request, answers, timeout_s + GRACE_S)


def _answer(request: dict[str, Any], answers: queue.Queue[tuple[bytes, bytes]], limit_s: float) -> None:
    path = request["path"]
    signal.setitimer(signal.ITIMER_REAL, limit_s)  # the signal ends the process, whatever a library is doing
    try:
        if request["cwd"] is not None:
            os.chdir(request["cwd"])
        if request["want"] != SOUND:
            length_s = audio.claimed_duration_s if request["want"] == CLAIMED else audio.promised_duration_s
            last = CLAIM, json.dumps(length_s(path)).encode()
        else:
            remarks = audio.Remarks()
            for block in audio.stream_progress(path, request["start_s"], request["end_s"], remarks):
                signal.setitimer(signal.ITIMER_REAL, 0)
                answers.put((BLOCK, block.astype("<f4", copy=False).tobytes()))
                signal.setitimer(signal.ITIMER_REAL, limit_s)
            last = END, json.dumps(vars(remarks)).encode()[:MOST_BYTES]
    except InputError as error:
        last = FAILURE, _text(str(error))
    except MemoryError:
        last = RUIN, _text(f"{path}: decoding needs too much memory; the file is damaged, or convert it to wav or flac")
    except Exception as error:  # whatever one file does to a decoder, the others are still decoded
        last = RUIN, _text(f"{path}: cannot be read as audio ({error!r}); convert it to wav or flac")
    signal.setitimer(signal.ITIMER_REAL, 0)
    answers.put(last)


def _text(message: str) -> bytes:
    return " ".join(message.split("\n")).encode(errors="surrogateescape")[:MOST_BYTES]


def _read(requests: queue.Queue[dict[str, Any]]) -> None:
    with suppress(OSError):
        for line in sys.stdin.buffer:
            requests.put(json.loads(line))
    os._exit(0)  # at once, in the middle of a file too


def _write(output: int, answers: queue.Queue[tuple[bytes, bytes]]) -> None:
    with suppress(OSError), open(output, "wb", buffering=0) as file:
        while True:
            kind, content = answers.get()
            answer = memoryview(HEADER.pack(kind, len(content)) + content)
            while answer:
                answer = answer[file.write(answer) :]
            answers.task_done()
    os._exit(0)


def _limit_memory(memory_bytes: int) -> None:
    import resource

    for kind, limit in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_DATA, max(memory_bytes - CODE_BYTES, CODE_BYTES)),
        (resource.RLIMIT_AS, memory_bytes + 4 * CODE_BYTES),  # shared and reserved memory counts here
    ):
        with suppress(OSError, ValueError):  # a lower limit may stand already, and not every system knows each
            resource.setrlimit(kind, (limit, limit))


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
