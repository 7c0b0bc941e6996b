"""What is printed where standard output or error is closed, full, or lacks characters."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import soundfile

from clsr.audio.waveform import SAMPLE_RATE, read_waveform
from clsr.cli.main import main

CODE = """
import sys
from clsr.cli import main as program
from clsr.cli.measuring import CompareReports
from clsr.errors import InputError
def run(self):
    print({printed!r})
    print("said", file=sys.stderr)
    {then}
CompareReports.run = run
sys.exit(program.main(["report", "x"]))
"""


def run(printed: str, then: str = "pass", redirect: str = "", **environment: str) -> subprocess.CompletedProcess[bytes]:
    command = f'"$0" -c "$1" {redirect}'
    return subprocess.run(
        ["sh", "-c", command, sys.executable, CODE.format(printed=printed, then=then)],
        capture_output=True,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(filter(None, sys.path)), **environment},
    )


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_characters_that_an_encoding_lacks_are_escaped(encoding: str) -> None:
    printed = json.dumps({"recording": "Vorträge 講演 🎙.wav"}, ensure_ascii=False)
    done = run(printed, PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stderr) == (0, b"said\n")
    assert json.loads(done.stdout.decode(encoding)) == json.loads(printed)


def test_lone_surrogates_can_be_printed() -> None:
    done = run("\udcff.wav", "raise InputError(chr(0xdcff))")
    assert (done.returncode, done.stdout) == (2, b"\\udcff.wav\n")
    assert done.stderr == b"said\nclsr: \\udcff\n"


@pytest.mark.parametrize("redirect", ["2>&-", "2>/dev/full"])
def test_standard_error_may_be_closed_or_full(redirect: str) -> None:
    then = "raise InputError('wrong')" if redirect == "2>&-" else "pass"
    done = run("out", then, redirect)
    assert done.stdout == b"out\n"  # nothing of the other stream is in it
    if redirect == "2>&-":
        assert done.returncode == 2


def test_a_full_standard_output_is_one_line() -> None:
    done = run("out", redirect=">/dev/full")
    assert done.returncode == 2
    assert done.stderr.startswith(b"said\nclsr: No space left on device") and done.stderr.count(b"\n") == 2


def test_a_closed_standard_output_gets_nothing() -> None:
    done = run("out", redirect=">&-")
    assert (done.returncode, done.stderr) == (0, b"said\n")


def test_decoders_print_nothing_of_their_own(
    tone_model: Path, say_in_tones: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    soundfile.write("a.mp3", say_in_tones("red dog red dog"), SAMPLE_RATE)
    content = bytearray(Path("a.mp3").read_bytes())
    content[-700:-300] = b"\x55" * 400  # behind the words
    Path("a.mp3").write_bytes(content)
    read_waveform("a.mp3")
    assert (
        "Note: Illegal Audio-MPEG-Header" in capfd.readouterr().err
    )  # printed by the library itself, where this process decodes
    assert main(["index", "--model", str(tone_model), "--index", "i", "--windows", "0.6/0.3", "a.mp3"]) in (0, 2)
    assert main(["transcribe", "--model", str(tone_model), "a.mp3"]) in (0, 2)
    assert main(["search", "--index", "i", "--audio", "a.mp3", "--save-clips", "clips"]) == 0
    err = capfd.readouterr().err
    assert "Note:" not in err
    assert "clips/01_a_" in err
