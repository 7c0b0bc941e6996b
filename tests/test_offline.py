"""Without a network: what a user does from a recording to an answer, in a namespace of the kernel without a route."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from clsr.audio.waveform import write_waveform

CUT_OFF = ["unshare", "--map-root-user", "--net", "--"]
REACHES_OUT = "import socket; socket.create_connection(('192.0.2.1', 9), 1)"  # an address of no one (RFC 5737)


@pytest.fixture(scope="module")
def cut_off() -> list[str]:
    """What starts a command without a network; skips where the machine does not allow that."""
    if shutil.which("unshare") is None or subprocess.run([*CUT_OFF, "true"], stderr=subprocess.DEVNULL).returncode:
        pytest.skip("no namespaces without a network on this machine")
    tried = subprocess.run([*CUT_OFF, sys.executable, "-c", REACHES_OUT], capture_output=True, text=True)
    assert "Network is unreachable" in tried.stderr
    return CUT_OFF


@pytest.mark.slow
def test_all_but_downloads_works_without_a_network(
    cut_off: list[str],
    tone_model: Path,
    tone_corpus: Path,
    say_in_tones: Callable[[str], np.ndarray],
    tmp_path: Path,
) -> None:
    def clsr(*arguments: object) -> str:
        command = [*cut_off, sys.executable, "-m", "clsr.cli.main", *map(str, arguments)]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=Path(__file__).parents[1])
        assert done.returncode == 0, done.stderr
        return done.stdout

    talk, question, index = tmp_path / "talk.wav", tmp_path / "question.wav", ("--index", tmp_path / "index")
    write_waveform(talk, say_in_tones("red dog blue cat old boat green sun"))
    write_waveform(question, say_in_tones("old boat"))
    assert "old boat" in clsr("transcribe", "--model", tone_model, talk)
    assert "indexed" in clsr("index", "--model", tone_model, *index, "--windows", "0.6/0.6,1.2/0.6", talk)
    assert json.loads(clsr("index", *index, "--status", "--json"))["indexed_s"] == pytest.approx(2.4)
    assert "sound" in clsr("index", *index, "--verify")
    for mode in ("dense", "bm25", "hybrid"):
        assert "*old* boat" in clsr("search", *index, "--mode", mode, "old boat").replace("*old* *boat*", "*old* boat")
    assert "boat" in clsr("search", *index, "--audio", question).splitlines()[0]
    assert "boat" in clsr("ask", *index, "old boat").splitlines()[0]
    report = ("--set", tone_corpus / "dev", "--output", tmp_path / "report")
    assert "clsr-soft" in clsr("evaluate", "--model", tone_model, *report)


@pytest.mark.slow
def test_speech_is_found_without_a_network(cut_off: list[str], tone_model: Path, tmp_path: Path) -> None:
    """silero-vad carries its model."""
    write_waveform(tmp_path / "silence.wav", np.zeros(48_000, np.float32))
    command = [*cut_off, sys.executable, "-m", "clsr.cli.main", "index", "--model", str(tone_model), "--json"]
    command += ["--windows", "speech", "--index", str(tmp_path / "index"), str(tmp_path / "silence.wav")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    status = json.loads(done.stdout)
    assert (status["status"], status["silent_s"], status["windows"]) == ("silent", 3.0, 0)
