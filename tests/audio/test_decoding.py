"""Decoding in a process of its own: the same samples, whatever faults are injected into that process."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from clsr.audio import decoding
from clsr.audio import waveform as audio
from clsr.audio.decoding import Decoder
from clsr.audio.waveform import SAMPLE_RATE, write_waveform
from clsr.errors import InputError

# The worker, with a decoder that does what the name of the file says.
FAULTY_WORKER = """
import ctypes, os, signal, sys, time
sys.path.insert(0, os.getcwd())
import numpy as np
from clsr.audio import waveform as audio
from clsr.audio import decoding_worker

def hunger():
    eaten = []
    try:
        while True:
            eaten.append(np.ones(1 << 20))
    except MemoryError:
        lines = open("/proc/self/status").read().split("\\n")
        raise audio.InputError(next(line.split()[1] for line in lines if line.startswith("VmHWM")))

def too_much():
    np.ones(1 << 29)

def broken():
    raise RuntimeError("two\\nlines")

faults = {
    "segfault": lambda: os.kill(os.getpid(), signal.SIGSEGV), "abort": os.abort, "exit": lambda: os._exit(3),
    "sleep": lambda: time.sleep(60), "lock": lambda: ctypes.PyDLL(None).sleep(60),  # with the interpreter's lock
    "hunger": hunger, "too_much": too_much, "broken": broken, "print": lambda: os.write(1, b"noise"),
}
real = audio.stream_progress

def stream_progress(path, *span):
    blocks = real(path, *span)
    yield next(blocks)
    faults.get(os.path.basename(path).split(".")[0], lambda: None)()
    yield from blocks

audio.stream_progress = stream_progress
decoding_worker.main(float(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
"""

PARENT = """
import sys, time
from clsr.audio import decoding
decoding._COMMAND = (sys.executable, sys.argv[1])
decoder = decoding.Decoder(timeout_s=30.0)
decoder.claimed_s(sys.argv[2])
print(decoder._process.pid, flush=True)
for block in decoder.stream(sys.argv[2]):
    time.sleep(60)
"""


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """Noise of 25 s."""
    write_waveform(tmp_path / "good.wav", np.random.default_rng(0).uniform(-0.5, 0.5, 25 * SAMPLE_RATE))
    return tmp_path / "good.wav"


@pytest.fixture
def faulty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a worker whose decoder does what the name of the file says."""
    (tmp_path / "worker.py").write_text(FAULTY_WORKER)
    monkeypatch.setattr(decoding, "_COMMAND", (sys.executable, str(tmp_path / "worker.py")))
    return tmp_path


@pytest.fixture
def decoder() -> Iterator[Decoder]:
    with Decoder() as decoder:
        yield decoder


def gone(pid: int) -> bool:
    """Whether a process has ended within ten seconds; one whose status nobody fetched has."""
    for _ in range(100):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.1)
    return False


def test_blocks_are_those_of_audio(decoder: Decoder, good: Path) -> None:
    soundfile.write(good.with_name("b.flac"), np.random.default_rng(1).uniform(-0.5, 0.5, (500_000, 2)), 22_050)
    for path in (good, good.with_name("b.flac")):
        for span in ((0.0, None), (1.5, 3.25), (20.0, 99.0)):
            blocks, expected = list(decoder.stream(path, *span)), list(audio.stream_waveform(path, *span))
            assert len(blocks) == len(expected)
            assert all(np.array_equal(block, other) for block, other in zip(blocks, expected, strict=True))
            assert all(block.dtype == np.float32 and block.flags.writeable for block in blocks)
            assert np.array_equal(decoder.read_waveform(path, *span), np.concatenate(expected))


def test_faults_of_files_have_the_words_of_audio(decoder: Decoder, good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = good.with_name("ü bad.wav")
    bad.write_text("no sound")
    soundfile.write(good.with_name("nan.wav"), np.array([0.0, np.nan]), SAMPLE_RATE, subtype="FLOAT")
    os.mkfifo(good.with_name("pipe.wav"))
    monkeypatch.chdir(good.parent)
    for path in (bad, bad.name, good.with_name("nan.wav"), "pipe.wav", "no.wav", good.parent, "/dev/zero", "a\0b"):
        with pytest.raises(InputError) as expected:
            list(audio.stream_waveform(path))
        with pytest.raises(InputError) as caught:
            list(decoder.stream(path))
        assert str(caught.value) == str(expected.value)
        assert decoder.claimed_s(path) in (None, 2 / SAMPLE_RATE)
    assert sum(map(len, decoder.stream("good.wav"))) == 25 * SAMPLE_RATE
    with pytest.raises(InputError, match=r"0\.5 to 0\.5 s is not a span"):
        list(decoder.stream(good, 0.5, 0.5))


def test_claims_are_those_of_headers(decoder: Decoder, good: Path) -> None:
    assert decoder.claimed_s(good) == 25.0
    good.write_bytes(good.read_bytes()[:100_000])
    assert decoder.claimed_s(good) is not None


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("segfault", r"decoding crashed \(SIGSEGV\)"),
        ("abort", r"decoding crashed \(SIGABRT\)"),
        ("exit", "decoding ended with exit status 3"),
        ("sleep", r"decoding hung for 1 s; convert"),
        ("lock", r"decoding hung for 1 s; convert"),
        ("too_much", "decoding needs too much memory"),
        ("broken", r"cannot be read as audio \(RuntimeError\("),
    ],
)
def test_a_decoder_that_fails_costs_one_file(faulty: Path, good: Path, fault: str, reason: str) -> None:
    path = good.rename(faulty / f"{fault}.wav")
    with Decoder(timeout_s=1.0) as decoder:
        for _ in range(2):
            start = time.monotonic()
            with pytest.raises(InputError, match=rf"{fault}\.wav: {reason}") as caught:
                list(decoder.stream(path))
            assert "\n" not in str(caught.value)
            assert time.monotonic() - start < 10.0
            path.rename(good)
            assert sum(map(len, decoder.stream(good))) == 25 * SAMPLE_RATE
            good.rename(path)


@pytest.mark.slow
def test_a_decoder_that_fails_at_once_is_noticed(faulty: Path, good: Path) -> None:
    path = good.rename(faulty / "exit.wav")
    with Decoder() as decoder:
        for _ in range(20):
            with pytest.raises(InputError, match="decoding ended with exit status 3"):
                list(decoder.stream(path))


def test_what_a_library_prints_is_no_sound(faulty: Path, good: Path) -> None:
    with Decoder() as decoder:
        assert sum(map(len, decoder.stream(good.rename(faulty / "print.wav")))) == 25 * SAMPLE_RATE


@pytest.mark.parametrize("memory_mib", [512, 1024])
def test_memory_stays_below_its_limit(faulty: Path, good: Path, memory_mib: int) -> None:
    with Decoder(memory_bytes=memory_mib << 20) as decoder, pytest.raises(InputError) as caught:
        list(decoder.stream(good.rename(faulty / "hunger.wav")))
    assert memory_mib / 2 < int(str(caught.value)) / 1024 <= memory_mib


def test_a_process_that_does_not_start_is_said(monkeypatch: pytest.MonkeyPatch, good: Path) -> None:
    monkeypatch.setattr(decoding, "_COMMAND", (sys.executable, "-c", "raise SystemExit(1)"))
    with Decoder() as decoder, pytest.raises(RuntimeError, match="does not start"):
        list(decoder.stream(good))


@pytest.mark.parametrize("seen", [True, False])
def test_a_process_that_died_idle_is_replaced(decoder: Decoder, good: Path, seen: bool) -> None:
    """Whether it has gone when the next file is asked for, or is going and its pipe still takes the request."""
    for _ in range(1 if seen else 5):
        list(decoder.stream(good))
        assert decoder._process is not None
        os.kill(decoder._process.pid, signal.SIGKILL)
        if seen:
            assert gone(decoder._process.pid)
        assert sum(map(len, decoder.stream(good))) == 25 * SAMPLE_RATE


def test_a_process_that_dies_on_request_is_replaced(
    decoder: Decoder, good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pipe has taken the request: the write itself tells nothing."""
    worker = tmp_path / "worker.py"
    worker.write_text(
        "import struct, sys\nsys.stdout.buffer.write(struct.pack('<cI', b'R', 0))\nsys.stdout.flush()\n"
        "sys.stdin.buffer.readline()\n"
    )
    with monkeypatch.context() as first:
        first.setattr(decoding, "_COMMAND", (sys.executable, str(worker)))
        decoder._start()
    assert sum(map(len, decoder.stream(good))) == 25 * SAMPLE_RATE


def test_an_abandoned_stream_leaves_the_decoder_usable(decoder: Decoder, good: Path) -> None:
    stream = decoder.stream(good)
    next(stream)
    with pytest.raises(RuntimeError, match="not finished its last stream"):
        next(decoder.stream(good))
    stream.close()  # type: ignore[attr-defined]
    assert sum(map(len, decoder.stream(good))) == 25 * SAMPLE_RATE


def test_threads_take_turns(decoder: Decoder, good: Path) -> None:
    lengths = []
    threads = [threading.Thread(target=lambda: lengths.append(sum(map(len, decoder.stream(good))))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert lengths == [25 * SAMPLE_RATE] * 8


def test_one_process_serves_many_files(good: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with Decoder() as decoder:
        assert decoder._process is None  # started when first needed
        list(decoder.stream(good))
        process = decoder._process
        assert process is not None
        with pytest.raises(InputError):
            list(decoder.stream(good.with_name("no.wav")))
        list(decoder.stream(good))
        assert decoder._process is process
    assert process.returncode == -signal.SIGKILL  # fetched: no zombie
    assert len(os.listdir("/proc/self/fd")) == before
    decoder.close()


def test_closing_ends_a_stream_of_another_thread(good: Path) -> None:
    decoder = Decoder(ahead_s=10.0)
    write_waveform(good, np.zeros(300 * SAMPLE_RATE))
    stream = decoder.stream(good)
    next(stream)
    process = decoder._process
    threading.Thread(target=decoder.close).start()
    with pytest.raises(InputError, match="SIGKILL"):
        for _ in stream:
            time.sleep(0.05)
    assert process is not None and process.returncode == -signal.SIGKILL


@pytest.mark.parametrize("fault", ["good", "sleep"])
def test_nothing_is_left_when_the_caller_is_killed(faulty: Path, good: Path, fault: str) -> None:
    """Idle at a full pipe, and in the midst of decoding."""
    write_waveform(good, np.zeros(300 * SAMPLE_RATE))
    path = good.rename(faulty / f"{fault}.wav")
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(faulty / "worker.py"), str(path)], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    time.sleep(0.3)  # for it to be asked
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert gone(pid)


@pytest.mark.slow
def test_a_hanging_decoder_is_ended(faulty: Path, good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = good.rename(faulty / "lock.wav")
    code = PARENT.replace("timeout_s=30.0", "timeout_s=0.5")
    parent = subprocess.Popen([sys.executable, "-c", code, str(faulty / "worker.py"), str(path)],
                              stdout=subprocess.PIPE, text=True)  # fmt: skip
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    time.sleep(0.3)  # for it to be asked
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert gone(pid)  # by its own alarm
