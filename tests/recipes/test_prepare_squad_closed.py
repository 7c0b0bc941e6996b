"""Tests of recipes/squad_closed/local/prepare_data.py."""

import importlib.util
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "recipes" / "squad_closed" / "local" / "prepare_data.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("prepare_squad_closed", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Six sentences; c, b and f are chosen first: three words, then one more each."""
    contexts = {
        "a": "The old fox of the hill runs from seven dogs.",
        "b": "The sun rises late.",
        "c": "The sun rises.",
        "d": "An old king of the hill sees the sun.",
        "e": "Cats and dogs sleep while every king of the land sleeps, old or young.",
        "f": "The moon rises.",
    }
    rows = [{"id": i, "title": "T", "question": f"What about {i}?", "context": c} for i, c in contexts.items()]
    folder = tmp_path / "corpus"
    folder.mkdir()
    for name, part in (("train", rows[:4]), ("dev", rows[4:])):
        (folder / f"squad_sent.{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    (folder / "extra.tsv").write_text(
        "utt_id\treference\nx1\tTHE SUN AND THE MOON AND THE SUN\nx2\tNOTHING OF THE KIND\n"
    )
    return folder


def run(*arguments: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, SCRIPT, *map(str, arguments)], check=False, capture_output=True, text=True)


def read_rows(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_each_sentence_chosen_adds_the_fewest_words(script: ModuleType, corpus: Path) -> None:
    pairs = [pair for name in ("train", "dev") for pair in script.read_pairs(corpus / f"squad_sent.{name}.jsonl")]
    chosen, vocabulary = script.choose(pairs, 3)
    assert [pair.id for pair in chosen] == ["c", "b", "f"]
    assert vocabulary == {"the", "sun", "rises", "late", "moon"}
    chosen, vocabulary = script.choose(pairs, 4)
    assert chosen[-1].id == "d" and len(vocabulary) == 5 + 6  # a would add eight


def test_other_text_loses_the_words_outside(script: ModuleType) -> None:
    words = "the very old sun of the hill and the moon".split()
    assert script.closed(words, {"the", "sun", "moon"}) == "the sun the the moon"
    assert script.closed(words, {"sun", "moon"}) == ""  # too little is left


def test_what_is_written(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    sizes = ("--test", 2, "--dev", 1, "--times", 2)
    result = run(corpus, out, *sizes, "--extra-text", corpus / "extra.tsv")
    assert result.returncode == 0, result.stderr
    test, dev, train, asr = (read_rows(out / f"{name}.jsonl") for name in ("test", "dev", "train", "asr"))
    assert len(test) == 2 and {row["id"] for row in test + dev} == {"b", "c", "f"}
    assert train == []  # at most four words are left of any other sentence
    assert asr[0]["context"] == "the sun the moon the sun"
    counts = Counter(word for row in asr for word in row["context"].split())
    assert set(counts) == {"the", "sun", "rises", "late", "moon"} and min(counts.values()) >= 2
    assert "5 words; 0 train pairs" in result.stdout
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert run(corpus, out, *sizes, "--extra-text", corpus / "extra.tsv").returncode == 0
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ("", "6 pairs asked for, but the corpus has 6"),
        ("missing", "squad_sent.dev.jsonl: no such file"),
        ("broken", "squad_sent.dev.jsonl:1: is no JSON object with id, question, context"),
    ],
)
def test_faults_are_one_line(corpus: Path, tmp_path: Path, change: str, complaint: str) -> None:
    dev = corpus / "squad_sent.dev.jsonl"
    if change == "missing":
        dev.unlink()
    elif change:
        dev.write_text('{"id": "z"}\n')
    result = run(corpus, tmp_path / "out", "--test", 4, "--dev", 2)
    assert result.returncode == 2 and complaint in result.stderr and result.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()
