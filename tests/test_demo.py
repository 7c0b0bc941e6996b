"""The demo: questions about the recording of examples/ find the moments that answer them, with the default system."""

from pathlib import Path

import pytest

import clsr
from clsr.corpora.long_recordings import read_long_form

RECORDING = Path(__file__).parents[1] / "examples" / "recording"


@pytest.mark.slow
def test_best_moment_lies_where_the_answer_is(tmp_path: Path) -> None:
    pytest.importorskip("ctranslate2")
    model = clsr.load()
    index = clsr.Index.create(tmp_path / "index", model)
    (status,) = index.add([RECORDING / "buccaneers.opus"])
    assert status.status == "indexed" and status.silent_s == 0
    questions = read_long_form(RECORDING)
    found = clsr.Retriever(index, model).search_many([question.text for question in questions], top_k=1)
    for question, hits in zip(questions, found, strict=True):
        start_s, end_s = question.passage_span
        assert start_s < hits[0].end_s and hits[0].start_s < end_s, f"{question.text}: {hits[0]}"
