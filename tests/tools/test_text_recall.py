"""Tests of tools/text_recall.py on rows worked by hand, with an encoder that counts letters."""

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

from clsr.errors import InputError

SCRIPT = Path(__file__).parents[2] / "tools" / "text_recall.py"


class Letters:
    """Unit vectors of how often each letter stands in a text."""

    def encode(self, texts: Sequence[str], side: str) -> Tensor:
        counts = torch.tensor([[float(text.lower().count(letter)) for letter in "abcd"] for text in texts])
        return torch.nn.functional.normalize(counts, dim=1)


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("text_recall", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "load_text_encoder", lambda reference: Letters())
    return module


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Three questions; the recognised passage of q1 lost its word and that of q2 half of its words."""
    return write(
        tmp_path / "corpus.jsonl",
        {"id": "q1", "question": "A?", "reference": "a a", "recognised": "d d"},
        {"id": "q2", "question": "b", "reference": "B b!", "recognised": "b d"},
        {"id": "q3", "question": "c", "reference": "c c", "recognised": "c c"},
    )


def test_the_table_by_hand(tool: ModuleType, corpus: Path, tmp_path: Path) -> None:
    """Recognised, q1 scores 0 with all and comes first by its id alone; q2 is nearest to "b d": recall is all there."""
    written = write(
        tmp_path / "written.jsonl", {"id": "q1", "text": "a a"}, {"id": "q2", "text": "b b"}, {"id": "x", "text": "c"}
    )
    lines = tool.table(corpus, ["question:reference", "question:recognised"], "any", f"{written}:text").splitlines()
    assert lines[0].split(" | ")[2:] == ["recall@1", "recall@5", "recall@10", "mrr@10", "recall@1 − first |"]
    assert lines[2] == f"| `question:reference` | 0.0 (2) |{' 100.0 [100.0, 100.0] |' * 4}  |"
    assert lines[3].startswith("| `question:recognised` | 75.0 (2) | 100.0 ")


def test_what_is_lost(tool: ModuleType, tmp_path: Path) -> None:
    """Passages of q2 and q3 have changed places: one of three is first, the right ones are third."""
    rows = [("q1", "a", "a"), ("q2", "b", "c"), ("q3", "c", "b")]
    file = write(tmp_path / "f.jsonl", *({"id": i, "q": q, "good": q, "bad": bad} for i, q, bad in rows))
    cells = tool.table(file, ["q:good", "q:bad"], "any", None).splitlines()[3].split(" | ")
    assert cells[1] == "–" and cells[2].startswith("33.3 [") and cells[3].startswith("100.0 ")
    assert cells[5].startswith("55.6 [")  # (1 + 1/3 + 1/3) / 3: q1 goes before them by its id
    assert cells[6].startswith("-66.7 [-100.0, ")
    only = write(tmp_path / "only.jsonl", {"id": "q1"}, {"id": "q2"}, {"id": "x"})
    left = tool.table(file, ["q:bad"], "any", None, only).splitlines()[2].split(" | ")
    assert left[2] == "50.0 [0.0, 100.0]" and left[5] == "75.0 [50.0, 100.0]"  # q2's is second of two, by its id


@pytest.mark.parametrize(
    ("rows", "pair", "message"),
    [
        ([{"id": "1", "q": "a"}], "q:p", ":1: is no object with id and p as text"),
        ([{"id": "1", "q": "a", "p": "?"}], "q:p", ":1: 1: p has no word"),
        ([{"id": "1", "q": "a", "p": "b"}] * 2, "q:p", ":2: 1: q has no word, or the id was there"),
        ([{"id": ["1"], "q": "a", "p": "b"}], "q:p", ":1: is no object with id and q as text"),
        ([], "q:p", "has no line"),
        ([], "q", "q: is no pair of fields: write QUESTION:PASSAGE"),
    ],
)
def test_faults(tool: ModuleType, tmp_path: Path, rows: list, pair: str, message: str) -> None:
    with pytest.raises(InputError, match=f"^[^\n]*{message}[^\n]*$"):
        tool.table(write(tmp_path / "f.jsonl", *rows), [pair], "any", None)


def test_a_file_that_is_not_there(tool: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file; name a JSONL file"):
        tool.table(tmp_path / "none.jsonl", ["q:p"], "any", None)
