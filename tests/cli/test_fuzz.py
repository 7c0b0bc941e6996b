"""Small inputs with damage of all kinds: every command ends with status 0 or 2, and says why in one line.

``CLSR_FUZZ=20000 pytest tests/cli/test_fuzz.py`` mutates so many inputs, a fifth of them for commands that run a model;
``CLSR_FUZZ_SEED`` draws others.
"""

import json
import os
import random
import shutil
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import soundfile

from clsr.audio.decoding import Decoder
from clsr.audio.waveform import SAMPLE_RATE, write_waveform
from clsr.cli.main import main

COUNT = int(os.environ.get("CLSR_FUZZ", "170"))
WITH_MODEL = COUNT // 5  # of them are for commands that run a model, which take ten times as long
SEED = int(os.environ.get("CLSR_FUZZ_SEED", "0"))
ODD = [
    "\ufeff", "\0", "\u2028", "²", "٣", "9" * 30, "9" * 5000, "-1", "nan", "inf", "1e999", "null", "true", "{", "}",
    "[", "]", '"', "'", ",", "\t", "\r", "\n\n", " ", "\u3000", "é", "e\u0301", "हिन्दी", "\u202e", "🎙", "|", "..", "/",
    "~", "%", "&a *a", "!!python/object:os.system x", "- ", ": ", "#", "\\", "\\ud800", "0x", "x" * 300, "2026-05-31",
    "0001-01-01", "9999-12-31",
]  # fmt: skip
RAW = [b"\xff", b"\xed\xa0\x80", b"\xc3", b"\xff\xfe", b"\x1b[31m"]
BINARY = {".wav", ".flac", ".ogg", ".mp3", ".aiff", ".lance", ".pt", ".safetensors", ".manifest", ".txn"}
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


LIGHT: list[Case] = [
    validate_speech, validate_set, lengthen, make, make_of_lines, synthesize, report, tables, ask_nothing, status,
    information,
]  # fmt: skip
CASES = [settings, curves, *10 * LIGHT]  # the first two take ten times as long as the others


TRAININGS = ("asr", "text", "joint", "post", "parabge", "speechdpr", "clap", "whisper")


class Sources(NamedTuple):
    """What commands with a model are given copies of."""

    model: Path
    release: Path  # of FunASR
    retrieval_set: Path
    talks: Path  # recordings of several formats
    index: Path  # of them

    def cases(self) -> list[Case]:
        """The commands with a model."""
        trainings = [partial(self.train, name) for name in TRAININGS]
        return [
            self.transcribe, self.index_new, self.index_more, self.search, self.speak, self.status, self.verify,
            self.prune, self.ask, self.serve, self.evaluate, self.longform, self.transcribed, self.convert,
            self.import_funasr, *trainings, self.plot,
        ]  # fmt: skip

    def with_talks(self, folder: Path) -> list[str]:
        shutil.copytree(self.talks, folder / "talks")
        return ["--model", str(self.model)]

    def with_index(self, folder: Path) -> list[str]:
        shutil.copytree(self.index, folder / "index")
        return ["--index", "index"]

    def with_set(self, folder: Path) -> list[str]:
        shutil.copytree(self.retrieval_set, folder / "set")
        return ["--model", str(self.model), "--set", "set", "--output", "out"]

    def transcribe(self, folder: Path) -> list[str]:
        return ["transcribe", *self.with_talks(folder), "--json", "talks"]

    def index_new(self, folder: Path) -> list[str]:
        return ["index", *self.with_talks(folder), "--index", "new", "--windows", "0.6/0.3", "talks/**/*"]

    def index_more(self, folder: Path) -> list[str]:
        self.with_talks(folder)
        return ["index", *self.with_index(folder), "--json", "talks"]

    def search(self, folder: Path) -> list[str]:
        (folder / "questions.jsonl").write_text('{"id": "1", "question": "red dog"}\n{"id": "2", "question": "cat"}\n')
        return [
            "search",
            *self.with_index(folder),
            "--mode",
            "hybrid",
            "--questions",
            "questions.jsonl",
            "--top-k",
            "2",
        ]

    def speak(self, folder: Path) -> list[str]:
        shutil.copy(self.talks / "a.wav", folder / "question.wav")
        outputs = ["--srt", "hits.srt", "--save-clips", "clips"]
        return ["search", *self.with_index(folder), "--audio", "question.wav", *outputs]

    def status(self, folder: Path) -> list[str]:
        return ["index", *self.with_index(folder), "--status", "--json"]

    def verify(self, folder: Path) -> list[str]:
        return ["index", *self.with_index(folder), "--verify"]

    def prune(self, folder: Path) -> list[str]:
        return ["index", *self.with_index(folder), "--prune", "--yes"]

    def ask(self, folder: Path) -> list[str]:
        return ["ask", *self.with_index(folder), "--answerer", "local:none", "red dog"]

    def serve(self, folder: Path) -> list[str]:
        self.with_talks(folder)
        elsewhere = ["--host", "192.0.2.1", "--token", "a token of many signs"]  # an address of no machine
        return ["serve", *self.with_index(folder), "--allow", "talks", *elsewhere]

    def evaluate(self, folder: Path) -> list[str]:
        return ["evaluate", *self.with_set(folder), "--tag", "a=b"]

    def longform(self, folder: Path) -> list[str]:
        return ["longform", *self.with_set(folder)]

    def transcribed(self, folder: Path) -> list[str]:
        return ["data", "transcribed", *self.with_set(folder)]

    def convert(self, folder: Path) -> list[str]:
        (folder / "whisper").mkdir()
        (folder / "whisper" / "config.json").write_text('{"model_type": "whisper", "d_model": 8, "vocab_size": 9}')
        (folder / "whisper" / "tokenizer.json").write_text('{"model": {"vocab": {"a": 0}}}')
        return ["convert", "whisper:whisper", "--output", "out"]

    def import_funasr(self, folder: Path) -> list[str]:
        shutil.copytree(self.release, folder / "release")
        return ["import-funasr", "release", "--output", "out"]

    def train(self, name: str, folder: Path) -> list[str]:
        shutil.copytree(self.retrieval_set, folder / "data" / "train")
        (folder / "a.yaml").write_text("seed: 1\ntext_encoder: nothing\noptimizer: {max_steps: 3}\n")
        return [f"train-{name}", "a.yaml", "--data", "data", "--output", "out", "--start", "none"]

    def plot(self, folder: Path) -> list[str]:
        report(folder)
        return ["plot", "recall", "one/report.json", "two/report.json", "--output", "recall.svg"]


@pytest.fixture(scope="module")
def sources(
    tone_model: Path, tiny_release: Path, tone_corpus: Path, say_in_tones: Any, tmp_path_factory: pytest.TempPathFactory
) -> Sources:
    folder = tmp_path_factory.mktemp("sources")
    talks, index, model = folder / "talks", folder / "index", folder / "model"
    shutil.copytree(tone_model, model, ignore=shutil.ignore_patterns("logs", "state"))
    talks.mkdir()
    for number, kind in enumerate(("wav", "flac", "ogg", "mp3", "aiff")):
        speech = say_in_tones("red dog" if number % 2 else "cat sun")
        soundfile.write(talks / f"{'abcde'[number]}.{kind}", speech, SAMPLE_RATE)
    assert main(["index", "--model", str(model), "--index", str(index), "--windows", "0.6/0.3", str(talks)]) == 0
    return Sources(model, tiny_release, tone_corpus / "dev", talks, index)


class OneDecoder(Decoder):
    """A decoder whose process goes on from one command to the next."""

    def __exit__(self, *_: object) -> None:
        pass


class NoServer:
    """A server that ends at once."""

    def run(self, *_: object) -> None:
        pass


SIZES = [b"\0" * 4, b"\xff" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x01\0\0\0", b"\0\0\0\x01", b"\0\0\0\x80"]


def mutate_sound(content: bytes, draw: random.Random) -> bytes:
    """Flipped bits, a cut, a joint, a wrong number in the header, a part that is there twice, or is blank."""
    if not content:
        return b"RIFF"
    start, end = sorted(draw.choices(range(len(content) + 1), k=2))
    flipped = bytearray(content)
    for _ in range(draw.choice([1, 3, 30])):
        flipped[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    at = draw.randrange(min(len(content), 64))
    return draw.choice(
        [
            bytes(flipped), content[:start], content + content, content + content[:start], content[start:] + content,
            content[:at] + draw.choice(SIZES) + content[at + 4 :], content[:end] + content[start:end] + content[end:],
            content[:start] + bytes(end - start) + content[end:], draw.choice(RAW) + content,
        ]
    )  # fmt: skip


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
    texts = [path for path in files if path.suffix not in BINARY]
    if kind < 0.75 and files:
        chosen = draw.choice(texts if texts and draw.random() < 0.7 else files)
        damage = mutate_bytes if chosen in texts else mutate_sound
        chosen.chmod(0o644)
        chosen.write_bytes(damage(chosen.read_bytes(), draw))
    elif kind < 0.85 and files:
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


@pytest.fixture
def run_mutated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[[Sequence[Case], int], None]:
    """Run commands, one after the other, until so many were run; each with damage."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))

    def run(cases: Sequence[Case], count: int) -> None:
        draw, faults = random.Random(SEED), []
        for number in range(count):
            case = cases[number % len(cases)]
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
                faults.append(f"{number} {case}: {wrong}: {arguments}\n{err[-600:]}\n{last}")
                shutil.rmtree(tmp_path / "state", ignore_errors=True)
            monkeypatch.chdir(tmp_path)
            shutil.rmtree(folder)
        warnings.resetwarnings()
        assert not faults, "\n\n".join(faults[:20]) + f"\n{len(faults)} faults"

    return run


@pytest.mark.filterwarnings("ignore")
def test_mutated_inputs_give_one_line(run_mutated: Callable[[Sequence[Case], int], None]) -> None:
    run_mutated(CASES, COUNT - WITH_MODEL)


@pytest.mark.filterwarnings("ignore")
def test_mutated_recordings_give_one_line(
    run_mutated: Callable[[Sequence[Case], int], None], sources: Sources, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = OneDecoder()
    for module in ("audio.decoding", "index.verification", "search.answering", "transcribe"):
        monkeypatch.setattr(f"clsr.{module}.Decoder", lambda: decoder)
    monkeypatch.setattr("clsr.web.serve.make_app", lambda *_: None)
    monkeypatch.setattr("clsr.web.connections.make_server", lambda *_: NoServer())
    try:
        run_mutated(sources.cases(), WITH_MODEL)
    finally:
        decoder.close()
