"""Tests of recipes/spoken_squad/local/prepare_data.py."""

import importlib.util
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "recipes" / "spoken_squad" / "local" / "prepare_data.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("prepare_spoken_squad", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Six titles of three pairs to train on, one of them and a seventh to test on."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    for split, titles in (("train", "ABCDEF"), ("dev", "FG")):
        rows = [row(f"{split}-{title}{number}", title) for title in titles for number in range(3)]
        write_rows(folder / f"squad_sent.{split}.jsonl", rows)
    return folder


def row(id_: str, title: str, **change: object) -> dict[str, object]:
    return {"id": id_, "title": title, "question": f"What is {id_}?", "context": f"{id_} is this.", **change}


def write_rows(path: Path, rows: list[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def read_rows(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def run(*arguments: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, SCRIPT, *map(str, arguments)], check=False, capture_output=True, text=True)


def test_splits_share_no_title(script: ModuleType, corpus: Path) -> None:
    splits = script.make_splits(corpus)
    titles = {split: {pair.title for pair in pairs} for split, pairs in splits.items()}
    assert titles["test"] == {"F", "G"}
    assert len(titles["dev"]) == 4 and len(titles["train"]) == 1
    assert titles["train"] | titles["dev"] == set("ABCDE")
    assert [len(pairs) for pairs in splits.values()] == [3, 12, 6]


def test_test_questions_are_not_trained_on(script: ModuleType, corpus: Path) -> None:
    trained = script.make_splits(corpus)["train"]
    test = read_rows(corpus / "squad_sent.dev.jsonl")
    write_rows(corpus / "squad_sent.dev.jsonl", [dict(test[0], question=trained[0].question.upper()), *test[1:]])
    assert [pair.id for pair in script.make_splits(corpus)["train"]] == [pair.id for pair in trained[1:]]


@pytest.mark.slow
def test_written_rows(corpus: Path, tmp_path: Path) -> None:
    assert run(corpus, tmp_path / "out", "--limit", 2).returncode == 0
    assert {path.name: len(read_rows(path)) for path in (tmp_path / "out").iterdir()} == {
        "train.jsonl": 2,
        "dev.jsonl": 2,
        "test.jsonl": 2,
    }
    assert read_rows(tmp_path / "out" / "test.jsonl")[0] == {
        "id": "dev-F0",
        "question": "What is dev-F0?",
        "context": "dev-F0 is this.",
    }


@pytest.mark.slow
def test_extra_text_without_what_is_excluded(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "one.tsv").write_text('utt_id\treference\thypothesis\nu1\tHE SAID "NO\tx\nu2\tGO ON\tx\n')
    (tmp_path / "two.tsv").write_text("utt_id\treference\nu3\tTHE END\nu1\tAGAIN\n")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "text").write_text("u2 GO ON\n")
    options = ["--extra-text", tmp_path / "one.tsv", tmp_path / "two.tsv", "--exclude", tmp_path / "data"]
    assert run(corpus, tmp_path / "out", *options).returncode == 0
    assert read_rows(tmp_path / "out" / "extra.jsonl") == [
        {"id": "u1", "question": "", "context": 'he said "no'},
        {"id": "u3", "question": "", "context": "the end"},
    ]


@pytest.mark.slow
def test_word_lists_fill_what_texts_lack(corpus: Path, tmp_path: Path, tiny_bert: Path) -> None:
    rows = [row(f"x{number}", "A", context="The red boat is red.") for number in range(2)]
    write_rows(corpus / "squad_sent.train.jsonl", [rows[0], dict(rows[1], context="Blue is the sun."), row("y", "B")])
    options = ["--extra-text", tmp_path / "one.tsv", "--word-lists", 2, "--text-encoder", tiny_bert]
    (tmp_path / "one.tsv").write_text("utt_id\treference\nu1\tTHE SUN SUN\n")
    assert run(corpus, tmp_path / "out", *options).returncode == 0
    trained = [line["context"] for line in read_rows(tmp_path / "out" / "train.jsonl")]
    spoken = Counter(" ".join([*trained, "the sun sun"]).lower().replace(".", "").split())
    lists = read_rows(tmp_path / "out" / "lists.jsonl")
    made = Counter(" ".join(str(of["context"]) for of in lists).split())
    for word in ("where", "is", "the", "red", "blue", "sun", "boat", "a"):
        assert made[word] == max(0, 2 - spoken[word])
    assert [of["id"] for of in lists[:2]] == ["list00000", "list00001"] and lists[0]["question"] == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("squad_sent.dev.jsonl", None, "squad_sent.dev.jsonl: no such file"),
        ("squad_sent.train.jsonl", None, "squad_sent.train.jsonl: no such file"),
        ("squad_sent.train.jsonl", '{"id": "x"}\n', "squad_sent.train.jsonl:1: is no JSON object with id, title"),
        ("squad_sent.train.jsonl", "[1]\n", "squad_sent.train.jsonl:1: is no JSON object"),
        ("squad_sent.train.jsonl", json.dumps(row("x", "T", context="")) + "\n", ":1: x: context is empty"),
        ("squad_sent.train.jsonl", json.dumps(row("x", "T", question=None)) + "\n", ":1: x: question is empty"),
        ("extra.tsv", None, "extra.tsv: no such file"),
        ("extra.tsv", "id\treference\n", "extra.tsv:1: has no columns"),
        ("extra.tsv", "utt_id\treference\nu1\n", "extra.tsv:2: has no id or no words"),
    ],
)
def test_fault_is_one_line_and_nothing_is_written(
    corpus: Path, tmp_path: Path, name: str, content: str, message: str
) -> None:
    (corpus / "extra.tsv").write_text("utt_id\treference\nu1\tONE\n")
    (corpus / name).unlink() if content is None else (corpus / name).write_text(content)
    result = run(corpus, tmp_path / "out", "--extra-text", corpus / "extra.tsv")
    assert result.returncode == 2 and message in result.stderr
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_real_corpus(script: ModuleType, shared_data: Path) -> None:
    splits = script.make_splits(shared_data / "text_qa")
    assert len(splits["test"]) == 500
    assert 2_500 < len(splits["train"]) < 2_950 and 50 < len(splits["dev"]) < 500
    pairs = [pair for split in splits.values() for pair in split]
    assert len({pair.question.lower() for pair in pairs}) == len({pair.context for pair in pairs}) == len(pairs)
