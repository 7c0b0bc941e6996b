"""Tests of recipes/librisqa/local/prepare_data.py on a miniature of both publishers' layouts, made here."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from clsr.data.kaldi import read_text
from clsr.data.retrieval_set import check_retrieval_set, read_retrieval_set

SCRIPT = Path(__file__).resolve().parents[2] / "recipes" / "librisqa" / "local" / "prepare_data.py"

UTTERANCES = {
    "train-clean-360": ["14-208-0000", "14-208-0001", "14-212-0000", "16-122827-0000", "1001-134707-0003"],
    "test-clean": ["61-70968-0000", "61-70968-0001", "908-157963-0002"],
}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Eight utterances of 0.2 s; speech_path ends in .wav where the files are .flac, and one has another folder."""
    folder = tmp_path / "corpus"
    (folder / "LibriSQA-PartI").mkdir(parents=True)
    for part, utterances in UTTERANCES.items():
        for utterance in utterances:
            speaker, chapter, _ = utterance.split("-")
            at = folder / "LibriSpeech" / part / speaker / chapter
            at.mkdir(parents=True, exist_ok=True)
            soundfile.write(at / f"{utterance}.flac", np.full(3_200, 0.1), 16_000)
            with open(at / f"{speaker}-{chapter}.trans.txt", "a") as file:
                file.write(f"{utterance} UTTERANCE {utterance[-1]} OF CHAPTER {chapter}'S BOOK\n")
        split = part.split("-")[0]
        rows = [make_question(part, utterance) for utterance in utterances]
        write(folder, split, rows)
    return folder


def make_question(part: str, utterance: str, **change: Any) -> dict[str, Any]:
    path = f"LibriSpeech/{part}/{utterance.replace('-', '/', 1).split('-')[0]}/{utterance}.wav"
    row = {"speech_path": path, "question": f"What is  {utterance}?", "answer": "It is.", "text": "x", "duration": 0.2}
    return row | change


def write(corpus: Path, split: str, rows: Any, start: bytes = b"") -> None:
    content = start + json.dumps(rows, indent=2).encode().replace(b"\n", b"\r\n")
    (corpus / "LibriSQA-PartI" / f"LibriSQA-PartI-{split}.json").write_bytes(content)


def run(*arguments: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, SCRIPT, *map(str, arguments)], check=False, capture_output=True, text=True)


def test_sets(corpus: Path, tmp_path: Path) -> None:
    rows = [make_question("test-clean", utterance) for utterance in UTTERANCES["test-clean"]]
    rows[1]["speech_path"] = "/somewhere/else/61-70968-0001.flac"
    rows.append(make_question("test-clean", "61-70968-0000", question="And who\nreads?"))
    write(corpus, "test", rows, start=b"\xef\xbb\xbf")  # a byte order mark, and \r\n
    result = run(corpus, tmp_path / "sets")
    assert result.returncode == 0, result.stderr
    test = read_retrieval_set(tmp_path / "sets" / "test")
    assert test.relevance == {
        "61-70968-0000": {"61-70968-0000": 1},
        "61-70968-0000-q2": {"61-70968-0000": 1},
        "61-70968-0001": {"61-70968-0001": 1},
        "908-157963-0002": {"908-157963-0002": 1},
    }
    assert test.questions["61-70968-0000"] == "What is 61-70968-0000?"
    assert test.questions["61-70968-0000-q2"] == "And who reads?"
    assert [(p.id, p.speaker, p.text) for p in test.passages] == [
        ("61-70968-0000", "61", "utterance 0 of chapter 70968's book"),
        ("61-70968-0001", "61", "utterance 1 of chapter 70968's book"),
        ("908-157963-0002", "908", "utterance 2 of chapter 157963's book"),
    ]
    assert test.passages[0].recording == corpus / "LibriSpeech/test-clean/61/70968/61-70968-0000.flac"
    assert all(check_retrieval_set(tmp_path / "sets" / name) == [] for name in ("train", "dev", "test"))
    assert "LibriSQA-PartI-test.json: sha256 " in result.stderr and "(none is published)" in result.stderr


def test_development_speakers_are_not_trained_on(corpus: Path, tmp_path: Path) -> None:
    """SHA-1 of 14 starts with fa35, of 16 with 1574, of 1001 with dd01: so 16 is first, and its one row is enough."""
    assert run(corpus, tmp_path / "sets").returncode == 0
    dev, train = (read_text(tmp_path / "sets" / name / "passages" / "text") for name in ("dev", "train"))
    assert list(dev) == ["16-122827-0000"]
    assert list(train) == ["1001-134707-0003", "14-208-0000", "14-208-0001", "14-212-0000"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "LibriSQA-PartI/LibriSQA-PartI-train.json",
            "no such file or folder; get it with: wget https://huggingface.co",
        ),
        (
            "LibriSpeech/test-clean",
            "no such file or folder; get it with: wget https://www.openslr.org/resources/12/test",
        ),
        ("LibriSpeech/test-clean/61/70968/61-70968-0001.flac", "no such recording, of 3 needed; get it with: wget"),
        ("LibriSpeech/train-clean-360/14/212/14-212.trans.txt", "no such file; unpack train-clean-360.tar.gz again"),
    ],
)
def test_missing_files_are_one_line_and_write_nothing(corpus: Path, tmp_path: Path, name: str, message: str) -> None:
    (corpus / name).rename(tmp_path / "away")
    check_refused(run(corpus, tmp_path / "sets"), f"{corpus / name}: {message}", tmp_path)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({}, "LibriSQA-PartI-test.json: is no list of questions"),
        ([], "LibriSQA-PartI-test.json: is no list of questions"),
        (
            [make_question("test-clean", "61-70968-0000"), {"question": "Who?"}],
            "row 1: speech_path is missing or empty",
        ),
        ([make_question("test-clean", "61-70968-0000", question=None)], "row 0: question is missing or empty"),
        (
            [make_question("test-clean", "61-70968-0000", speech_path="a/b.wav")],
            "row 0: speech_path 'a/b.wav' has no id",
        ),
        ([make_question("test-clean", "61-70968-0009")], "61-70968-0009.flac: no such recording, of 1 needed"),
    ],
)
def test_faulty_questions(corpus: Path, tmp_path: Path, rows: Any, message: str) -> None:
    write(corpus, "test", rows)
    check_refused(run(corpus, tmp_path / "sets"), message, tmp_path)


def test_answers_and_every_faulty_row(corpus: Path, tmp_path: Path) -> None:
    first = make_question("test-clean", "61-70968-0000", answer="It is\n read.")
    write(corpus, "test", [first, make_question("test-clean", "61-70968-0001", answer=None)])
    assert run(corpus, tmp_path / "sets").returncode == 0
    assert read_retrieval_set(tmp_path / "sets" / "test").answers == {"61-70968-0000": "It is read."}
    write(corpus, "test", [{}, first, make_question("test-clean", "x")])
    errors = [line for line in run(corpus, tmp_path / "again").stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 2 and "row 0: speech_path is missing" in errors[0] and "row 2: speech_path" in errors[1]


def test_faulty_transcripts(corpus: Path, tmp_path: Path) -> None:
    path = corpus / "LibriSpeech/test-clean/61/70968/61-70968.trans.txt"
    path.write_text("61-70968-0000 A B\n61-70968-0001\n")
    check_refused(run(corpus, tmp_path / "sets"), "61-70968.trans.txt:2: 61-70968-0001: has no words", tmp_path)
    path.write_text("61-70968-0000 A B\n")
    check_refused(run(corpus, tmp_path / "sets"), "61-70968.trans.txt: 61-70968-0001: is not in it", tmp_path)


def test_another_archive_is_refused(corpus: Path, tmp_path: Path) -> None:
    (corpus / "test-clean.tar.gz").write_bytes(b"x")
    check_refused(run(corpus, tmp_path / "sets"), "not the published 39fde525e59672dc", tmp_path)


def check_refused(result: "subprocess.CompletedProcess[str]", message: str, tmp_path: Path) -> None:
    errors = [line for line in result.stderr.splitlines() if "sha256 " not in line or line.startswith("error: ")]
    assert result.returncode == 2 and message in errors[0] and len(errors) == 1, result.stderr
    assert errors[0].startswith("error: ")
    assert not (tmp_path / "sets").exists()
