"""Questions of text and speech in turn, on disk."""

import re
from pathlib import Path

import numpy as np
import pytest

from clsr.audio.waveform import SAMPLE_RATE, write_waveform
from clsr.data.kaldi import Utterance
from clsr.data.question_parts import QuestionParts, read_question_parts, write_question_parts
from clsr.data.retrieval_set import check_retrieval_set, read_retrieval_set, write_retrieval_sets
from clsr.errors import InputError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_waveform(tmp_path / "a.wav", np.full(2 * SAMPLE_RATE, 0.1, np.float32))
    return tmp_path


def test_parts_are_read_back(folder: Path) -> None:
    part = Utterance("q1/2", folder / "a.wav", 0.5, 1.25, None, "q1/2")
    whole = Utterance("q2/1", folder / "a.wav", 0.0, 2.0, None, "q2/1")
    parts: QuestionParts = {"q1": ["what does", part, "say?"], "q2": [whole]}
    write_question_parts(folder / "parts.jsonl", parts)
    assert '["what does", "a.wav:0.5000-1.2500", "say?"]' in (folder / "parts.jsonl").read_text()
    assert read_question_parts(folder / "parts.jsonl", ["q1", "q2", "q3"], pytest.fail) == parts
    (folder / "parts.jsonl").write_text('{"id": "q2", "data": ["a.wav"]}\n')
    assert read_question_parts(folder / "parts.jsonl", ["q2"], pytest.fail) == {"q2": [whole]}
    assert read_question_parts(folder / "none.jsonl", ["q2"], pytest.fail) == {}


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("{", ":2: is no question"),
        ('{"id": "q1"}', ":2: is no question"),
        ('{"id": "q9", "data": ["a"]}', ":2: q9: is not in questions/text"),
        ('{"id": "q1", "data": ["a"]}', ":2: q1: is there twice"),
        ('{"id": "q2", "data": []}', ":2: q2: data is no list of parts"),
        ('{"id": "q2", "data": ["a", 5]}', ":2: q2: part 2: is neither text nor the path of audio"),
        ('{"id": "q2", "data": ["a", "none.wav"]}', "none.wav: no such audio file"),
        ('{"id": "q2", "data": ["a.wav:3-4"]}', ":2: q2: .*begins behind the end of the recording"),
    ],
)
def test_faulty_lines_are_named(folder: Path, line: str, fault: str) -> None:
    (folder / "parts.jsonl").write_text('{"id": "q1", "data": ["a"]}\n' + line + "\n")
    faults: list[str] = []
    found = read_question_parts(folder / "parts.jsonl", ["q1", "q2"], faults.append)
    assert found == {"q1": ["a"]} and len(faults) == 1 and "\n" not in faults[0]
    assert re.search(fault, faults[0])


def test_sets_keep_parts_and_text_passages(tone_set: Path, folder: Path) -> None:
    whole = read_retrieval_set(tone_set)
    spoken = Utterance("q-a/2", folder / "a.wav", 0.0, 1.0, None, "q-a/2")
    texts = [Utterance(p.id, Path(), 0.0, 0.0, p.text, p.id) for p in whole.passages]
    path = folder / "made"
    made = type(whole)(path, texts, whole.questions, None, whole.relevance, question_parts={"q-a": ["where", spoken]})
    write_retrieval_sets([made])
    assert read_retrieval_set(path, text_passages=True) == made and made.has_text_passages
    assert check_retrieval_set(path) == [] and not whole.has_text_passages
    with pytest.raises(InputError, match=r"wav\.scp: no such file"):
        read_retrieval_set(path)  # training and indexing need recordings
    (path / "questions" / "parts.jsonl").write_text('{"id": "q-x", "data": ["a"]}\n')
    assert len(check_retrieval_set(path)) == 1
