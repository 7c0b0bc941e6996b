"""Small inputs with damage of all kinds: every command ends with status 0 or 2, and says why in one line.

``CLSR_FUZZ=20000 pytest tests/cli/test_fuzz.py`` mutates so many inputs; ``CLSR_FUZZ_SEED`` draws others.
"""

import json
import os
import random
import shutil
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from clsr.audio.waveform import SAMPLE_RATE, write_waveform
from clsr.cli.main import main

COUNT = int(os.environ.get("CLSR_FUZZ", "130"))
SEED = int(os.environ.get("CLSR_FUZZ_SEED", "0"))
ODD = [
    "\ufeff", "\0", "\u2028", "²", "٣", "9" * 30, "9" * 5000, "-1", "nan", "inf", "1e999", "null", "true", "{", "}",
    "[", "]", '"', "'", ",", "\t", "\r", "\n\n", " ", "\u3000", "é", "e\u0301", "हिन्दी", "\u202e", "🎙", "|", "..", "/",
    "~", "%", "&a *a", "!!python/object:os.system x", "- ", ": ", "#", "\\", "\\ud800", "0x", "x" * 300, "2026-05-31",
    "0001-01-01", "9999-12-31",
]  # fmt: skip
RAW = [b"\xff", b"\xed\xa0\x80", b"\xc3", b"\xff\xfe", b"\x1b[31m"]
Case = Callable[[Path], list[str]]


def kaldi(folder: Path) -> None:
    folder.mkdir(parents=True)
    for name in ("a", "b"):
        write_waveform(folder / f"{name}.wav", np.full(SAMPLE_RATE // 4, 0.25))
    (folder / "wav.scp").write_text("a a.wav\nb b.wav\n")
    (folder / "segments").write_text("a1 a 0.0 0.1\na2 a 0.1 0.2\nb1 b 0 0.25\n")
    (folder / "text").write_text("a1 one\na2 two\nb1 three words here\n")
    (folder / "utt2spk").write_text("a1 ann\na2 ann\nb1 bob\n")
    (folder / "utt2dur").write_text("a1 0.1\na2 0.1\nb1 0.25\n")


def validate_speech(folder: Path) -> list[str]:
    kaldi(folder / "data")
    return ["data", "validate", "data"]


def validate_set(folder: Path) -> list[str]:
    kaldi(folder / "data" / "passages")
    (folder / "data" / "questions").mkdir()
    (folder / "data" / "questions" / "text").write_text("q1 Which?\nq2 What?\n")
    (folder / "data" / "questions" / "answers").write_text("q1 one\n")
    (folder / "data" / "qrels").write_text("q1 0 a1 1\nq2 0 b1 1\n")
    return ["data", "validate", "data"]


def lengthen(folder: Path) -> list[str]:
    validate_set(folder)
    return ["data", "lengthen", "--set", "data", "--output", "long", "--minutes", "0.01"]


def make(folder: Path) -> list[str]:
    names = ["a", "b", "c"]
    for name in names:
        write_waveform(folder / f"{name}.wav", np.full(SAMPLE_RATE // 4, 0.25))
    rows = [f'{name},{name}.wav,0,0.2,"Words, of {name}",Which {name}?,ann' for name in names]
    (folder / "table.csv").write_text("id,audio,start_s,end_s,transcript,question,speaker\n" + "\n".join(rows) + "\n")
    return ["data", "make", "table.csv", "out"]


def make_of_lines(folder: Path) -> list[str]:
    make(folder)
    (folder / "table.csv").unlink()
    rows = [{"id": name, "audio": f"{name}.wav", "transcript": "words", "question": "what?"} for name in "abc"]
    (folder / "table.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return ["data", "make", "table.jsonl", "out", "--dev-share", "0.3"]


def synthesize(folder: Path) -> list[str]:
    row = {"id": "q1", "question": "who?", "context": "One two."}
    (folder / "rows.jsonl").write_text(json.dumps(row) + "\n")
    return ["data", "synthesize", "rows.jsonl", "out"]


def settings(folder: Path) -> list[str]:
    (folder / "a.yaml").write_text(
        "seed: 1\ntext_encoder: nothing\noptimizer: {max_steps: 3, learning_rate: 0.1}\ndata:\n  batch_s: 3\n"
    )
    (folder / "b.yaml").write_text("model:\n  encoder: {layers: 1, width: 8, heads: 2}\n")
    return ["train-asr", "a.yaml", "b.yaml", "--data", "none", "--output", "out", "--optimizer.max_steps", "4"]


def report(folder: Path) -> list[str]:
    recall = {m: {"value": 0.5, "low": 0.4, "high": 0.6} for m in ("recall@1", "recall@5", "recall@10", "mrr@10")}
    wer = {"value": 0.1, "errors": 1, "words": 10, "unit": "word"}
    row = {"name": "clsr", "wer": wer, "q2c": recall, "c2q": recall, "seconds": 1.0, "audio_seconds": 2.0}
    model = {"path": "m", "fingerprint": "f", "parameters": 3}
    whole = {
        "set": "s", "questions": 2, "passages": 2, "model": model, "command": "c", "commit": "d", "hardware": "h",
        "seed": 0, "rows": [row], "tags": {"split": "test"},
    }  # fmt: skip
    for name in ("one", "two"):
        (folder / name).mkdir()
        (folder / name / "report.json").write_text(json.dumps(whole))
    return ["report", "one", "two"]


def tables(folder: Path) -> list[str]:
    report(folder)
    return ["tables", "."]


def curves(folder: Path) -> list[str]:
    (folder / "metrics.csv").write_text("step,train/loss,dev/wer\n1,0.5,\n2,0.4,0.9\n3,0.3,\n")
    return ["plot", "learning", "metrics.csv", "--output", "curve.svg"]


def ask_nothing(folder: Path) -> list[str]:
    (folder / "index").mkdir()
    (folder / "index" / "index.json").write_text('{"model": "m", "fingerprint": "f", "windows": "40/30"}')
    (folder / "questions.txt").write_text("who?\nwhat?\n")
    return [
        "search",
        "--index",
        "index",
        "--questions",
        "questions.txt",
        "--since",
        "2026-01-01",
        "--until",
        "2027-01-01",
    ]


def status(folder: Path) -> list[str]:
    (folder / "index").mkdir()
    (folder / "index" / "index.json").write_text('{"model": "m", "fingerprint": "f", "windows": "40/30"}')
    return ["index", "--index", "index", "--status"]


def information(folder: Path) -> list[str]:
    (folder / "m").mkdir()
    (folder / "m" / "meta.json").write_text('{"kind": "asr", "fingerprint": "f"}')
    (folder / "m" / "config.yaml").write_text("seed: 0\n")
    (folder / "m" / "vocabulary.txt").write_text("[PAD]\t0\n[UNK]\t100\n")
    return ["info", "--model", "m"]


CASES: list[Case] = [
    validate_speech, validate_set, lengthen, make, make_of_lines, synthesize, settings, report, tables, curves,
    ask_nothing, status, information,
]  # fmt: skip


def mutate_bytes(content: bytes, draw: random.Random) -> bytes:
    start = draw.randint(0, len(content))
    end = min(len(content), start + draw.choice([0, 1, 1, 3, 20]))
    lines = content.splitlines(keepends=True)
    odd = draw.choice([*(text.encode() for text in ODD), *RAW])
    return draw.choice(
        [
            content[:start] + odd + content[end:],
            content[:start] + odd + content[end:],
            content[:start] + content[end:],
            content[:start],
            b"",
            odd + content,
            b"".join([*lines, draw.choice(lines or [b""])]),
            b"".join(reversed(lines)),
            content.replace(b"\n", b"\r\n"),
            content.decode("latin-1").encode("utf-16"),
        ]
    )


def mutate(folder: Path, arguments: Sequence[str], draw: random.Random) -> list[str]:
    """Damage a file, its name, or a word of the command line; return the command line."""
    arguments = list(arguments)
    kind = draw.random()
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    texts = [path for path in files if path.suffix != ".wav"]
    if kind < 0.75 and texts:
        chosen = draw.choice(texts if draw.random() < 0.9 else files)
        chosen.write_bytes(mutate_bytes(chosen.read_bytes(), draw))
    elif kind < 0.85:
        chosen = draw.choice(files)
        draw.choice([chosen.unlink, lambda: (chosen.unlink(), chosen.mkdir()), lambda: chosen.chmod(0)])()
    else:
        at = draw.randrange(1, len(arguments))
        # What a shell passes has no NUL, and bytes that are not UTF-8 become lone surrogates.
        odd = draw.choice([*(text for text in ODD if "\0" not in text), "\udcff", "", "--", "-x", "--no-such"])
        arguments[at] = draw.choice([odd, arguments[at] + odd, odd + arguments[at]])
    return arguments


def complaint(status: object, err: str) -> str:
    """What is wrong with the end of a command; empty for nothing."""
    lines = [line for line in err.splitlines() if line.startswith("clsr: ")]
    if "Traceback" in err:
        return "a traceback"
    if status not in (0, 2, 130):
        return f"status {status}"
    return "more than one line of error" if len(lines) > 1 and status == 2 else ""


@pytest.mark.filterwarnings("ignore")
def test_mutated_inputs_give_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    draw, faults = random.Random(SEED), []
    for number in range(COUNT):
        case = CASES[number % len(CASES)]
        folder = tmp_path / "case"
        folder.mkdir()
        arguments = case(folder)
        monkeypatch.chdir(folder)
        arguments = mutate(folder, arguments, draw)
        try:
            status: object = main(arguments)
        except SystemExit as stop:
            status = stop.code or 0
        err = capfd.readouterr().err
        if wrong := complaint(status, err):
            logs = sorted((tmp_path / "state").rglob("*.log"))
            last = logs[-1].read_text()[-1500:] if logs else ""
            faults.append(f"{number} {case.__name__}: {wrong}: {arguments}\n{err[-600:]}\n{last}")
            shutil.rmtree(tmp_path / "state", ignore_errors=True)
        monkeypatch.chdir(tmp_path)
        shutil.rmtree(folder)
    warnings.resetwarnings()
    assert not faults, "\n\n".join(faults[:20]) + f"\n{len(faults)} faults"
