"""A text encoder of another width, distilled in a second: it is one for the same checkpoints."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from clsr.checkpoint import load_speech_encoder
from clsr.models.text_encoder import load_text_encoder

SCRIPT = Path(__file__).parents[2] / "tools" / "distil_text_encoder.py"


@pytest.fixture
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("distil_text_encoder", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_student_stands_in_for_its_teacher(
    tool: ModuleType,
    tiny_bert: Path,
    tone_model: Path,
    tone_corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    texts = tone_corpus / "train" / "passages" / "text"
    monkeypatch.setattr("sys.argv", [
        "distil", str(texts), "--teacher", str(tiny_bert), "--width", "24", "--layers", "1", "--minutes", "0.1",
        "--output", str(tmp_path / "student"),
    ])  # fmt: skip
    monkeypatch.setattr(tool, "BATCH", 16)
    tool.main()
    student, teacher = load_text_encoder(str(tmp_path / "student")), load_text_encoder(str(tiny_bert))
    assert student.width == 24 and student.tokenizer.get_vocab() == teacher.tokenizer.get_vocab()
    passages = list(tool.read_texts(tone_corpus / "dev" / "passages" / "text"))
    cosines = [encoder.encode(passages).numpy() @ encoder.encode(passages).numpy().T for encoder in (student, teacher)]
    assert np.corrcoef(cosines[0].ravel(), cosines[1].ravel())[0, 1] > 0.9
    assert load_speech_encoder(tone_model, text_encoder=str(tmp_path / "student")).text_encoder.width == 24


def test_texts_of_all_kinds_of_files(tool: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("u1 A CAT\n")
    (tmp_path / "a.jsonl").write_text(json.dumps({"question": "Who?", "context": None}) + "\n")
    (tmp_path / "a.txt").write_text("The dog.\n")
    assert [text for name in ("text", "a.jsonl", "a.txt") for text in tool.read_texts(tmp_path / name)] == [
        "a cat", "who", "the dog",
    ]  # fmt: skip
