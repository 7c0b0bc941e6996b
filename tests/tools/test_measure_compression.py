"""Tests of tools/measure_compression.py on the language of tones."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from clsr.checkpoint import load_speech_encoder
from clsr.data.retrieval_set import read_retrieval_set
from clsr.metrics.recall import per_query, rank

SCRIPT = Path(__file__).parents[2] / "tools" / "measure_compression.py"


def test_settings_start_from_one_recognition(tone_model: Path, tone_corpus: Path, capsys) -> None:
    spec = importlib.util.spec_from_file_location("measure_compression", SCRIPT)
    assert spec is not None and spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    data, encoder = read_retrieval_set(tone_corpus / "dev"), load_speech_encoder(tone_model)
    found = tool.measure(encoder, data)
    assert list(found) == [
        f"--code-pooling {factor}" for factor in (1, 2, 4, 8)
    ]  # of 32 numbers, no shorter vectors are tried
    words = [len((passage.text or "").split()) for passage in data.passages]  # a piece each, all recognised
    for factor in (1, 2, 4):
        assert found[f"--code-pooling {factor}"].tokens == pytest.approx(np.mean(-(-np.array(words) // factor)))
    questions = encoder.text_encoder.encode(list(data.questions.values()), "question").numpy()
    passages = encoder.text_encoder.encode([passage.text or "" for passage in data.passages]).numpy()
    rankings = rank(questions, passages, list(data.questions), [passage.id for passage in data.passages])
    assert found["--code-pooling 1"].first.mean() == pytest.approx(
        per_query(rankings, data.relevance)["recall@1"].mean(), abs=0.2
    )
    tool.print_table([found, found])
    assert "| `--code-pooling 1` |" in capsys.readouterr().out
