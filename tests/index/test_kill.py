"""An indexing process is killed at random moments, and nothing that it said was written is lost or doubled."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clsr.index.index import DESCRIPTION, Index
from clsr.index.location import IndexLocation
from clsr.index.ranking import Ranker
from clsr.index.tables import IndexTables
from clsr.lance import TableReader

KILLS = int(os.environ.get("CLSR_KILLS", "25"))  # CLSR_KILLS=100 made the figures of docs/explanation/reliability.md
PROCESS = Path(__file__).with_name("indexing_process.py")
Speak = Callable[[Path, str], Path]


def start(index: Path, recordings: Path, told: Path) -> "subprocess.Popen[bytes]":
    with open(told, "wb") as file:
        return subprocess.Popen(
            [sys.executable, str(PROCESS), str(index), str(recordings), "8"], stdout=file, stderr=subprocess.DEVNULL
        )


@pytest.mark.slow
def test_an_interrupted_command_resumes_as_it_says(speak: Speak, tmp_path: Path) -> None:
    recordings, index = tmp_path / "talks", tmp_path / "index"
    recordings.mkdir()
    for name in "abcd":
        speak(recordings / f"{name}.wav", "the cat dog tea sea sun boat tea " * 5)
    interrupted = run_command(index, recordings, interrupted_after=8)
    assert interrupted.returncode == 130
    assert interrupted.stderr == "clsr: interrupted; the same command resumes where it stopped\n"
    written = [line.split()[0] for line in interrupted.stdout.splitlines()[1:]]
    assert 8 <= len(written) < 4 * 13
    assert {row["id"] for row in rows(index)} == set(written)
    assert Index.open(index).verify().damage == []
    resumed = run_command(index, recordings, interrupted_after=1_000)
    assert (resumed.returncode, resumed.stderr) == (0, "")
    assert not any(id_ in resumed.stdout for id_ in written)  # none is encoded again
    assert len(rows(index)) == 4 * 13  # windows of 4 s, every 3 s, in 40 s
    assert Index.open(index).verify() == ([], [])


def run_command(index: Path, recordings: Path, interrupted_after: int) -> "subprocess.CompletedProcess[str]":
    """``clsr index``, which gets Ctrl-C after so many windows."""
    arguments = [sys.executable, str(PROCESS), str(index), str(recordings), "8", str(interrupted_after)]
    return subprocess.run(arguments, capture_output=True, text=True)


def rows(index: Path) -> list[dict[str, Any]]:
    table = IndexTables(IndexLocation.of(index)).windows
    return table.to_arrow().to_pylist() if table is not None else []


def say(speak: Speak, path: Path, generator: random.Random) -> None:
    words = ["-", "the", "cat", "dog", "tea", "sea", "sun", "boat"]
    speak(path, " ".join(generator.choices(words, k=generator.randint(1, 150))))


@pytest.mark.slow
def test_kill_at_any_moment_loses_and_doubles_nothing(speak: Speak, tmp_path: Path) -> None:
    generator = random.Random(0)
    recordings, index, told = tmp_path / "talks", tmp_path / "index", tmp_path / "told"
    recordings.mkdir()
    for i in range(12):
        say(speak, recordings / f"{i}.wav", generator)
    whole_s = run(start(tmp_path / "scratch", recordings, told), told)
    acknowledged: dict[str, str] = {}
    killed = unfinished = 0
    while killed < KILLS:
        process = start(index, recordings, told)
        wait_until_ready(process, told)
        time.sleep(generator.uniform(0.0, whole_s / 2))  # some of the recordings are there from the run before
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            killed += 1
        process.wait()
        lines = told.read_text().rpartition("\n")[0].split("\n")[1:]
        acknowledged.update(line.rsplit(" ", 1) for line in lines)
        if not (index / DESCRIPTION).exists():  # killed before it began
            assert not acknowledged
            continue
        check(index, acknowledged)
        unfinished += any(status.reason for status in Index.open(index).status([recordings]))
        for path in generator.sample(sorted(recordings.iterdir()), 4):  # and then the world changes
            say(speak, path, generator)
            acknowledged = {id_: sum_ for id_, sum_ in acknowledged.items() if not id_.startswith(f"{path.resolve()}#")}
    assert unfinished > KILLS // 4
    run(start(index, recordings, told), told)
    run(start(tmp_path / "undisturbed", recordings, told), told)
    assert sorted(rows(index), key=by_id) == sorted(rows(tmp_path / "undisturbed"), key=by_id)
    assert Index.open(index).status() == Index.open(tmp_path / "undisturbed").status()
    assert Index.open(index).verify() == ([], [])


def wait_until_ready(process: "subprocess.Popen[bytes]", told: Path) -> None:
    while not told.read_bytes().startswith(b"ready") and process.poll() is None:
        time.sleep(0.002)


def run(process: "subprocess.Popen[bytes]", told: Path) -> float:
    """Let a process end, and return the seconds it took from when it was ready."""
    wait_until_ready(process, told)
    ready_s = time.monotonic()
    assert process.wait() == 0
    return time.monotonic() - ready_s


def by_id(row: dict[str, Any]) -> str:
    return row["id"]


def check(index: Path, acknowledged: dict[str, str]) -> None:
    """Every window that was said to be written is there, once, and found."""
    all_rows = rows(index)
    found = {row["id"]: row["checksum"] for row in all_rows}
    assert len(found) == len(all_rows), "a window is there twice"
    assert acknowledged.items() <= found.items()
    assert Index.open(index).verify().damage == []
    table, spoken = IndexTables(IndexLocation.of(index)).windows, [row for row in all_rows if row["text"]]
    if table is not None and spoken:
        best = Ranker(TableReader.of(table)).dense(np.asarray(spoken[-1]["vector"], np.float32), len(spoken))
        assert spoken[-1]["id"] in {window.id for window in best}
