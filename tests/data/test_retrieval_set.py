"""Tests of clsr/data/retrieval_set.py on a set of tones (tests/conftest.py)."""

from dataclasses import replace
from pathlib import Path

import pytest

from clsr.data.kaldi import Utterance, write_data_dir
from clsr.data.retrieval_set import (
    RetrievalSet,
    check_retrieval_set,
    is_retrieval_set,
    read_retrieval_set,
    write_relevance,
    write_retrieval_sets,
)
from clsr.errors import InputError


def test_sound_set_is_read_whole(tone_set: Path) -> None:
    read = read_retrieval_set(tone_set)
    assert [passage.id for passage in read.passages] == ["p-a", "p-b", "p-c"]
    assert read.questions == {
        "q-a": "Where is the low tone?",
        "q-b": "Where is the middle tone?",
        "q-c": "Where is the high tone?",
    }
    assert read.question_speech is None
    assert read.relevance == {"q-a": {"p-a": 1}, "q-b": {"p-b": 1}, "q-c": {"p-c": 1}}
    assert check_retrieval_set(tone_set) == []


def test_spoken_questions(tone_set: Path) -> None:
    (tone_set / "questions" / "answers").write_text("q-a a low one\n")
    read = read_retrieval_set(tone_set)
    assert read.answers == {"q-a": "a low one"}
    audio = read.passages[0].recording
    spoken = [Utterance(id_, audio, 0.0, 0.5, text, "ann") for id_, text in read.questions.items()]
    write_data_dir(tone_set / "questions", spoken)
    again = read_retrieval_set(tone_set)
    assert again.question_speech is not None
    assert [question.id for question in again.question_speech] == ["q-a", "q-b", "q-c"]
    assert again.questions == read.questions
    assert check_retrieval_set(tone_set) == []


def test_several_passages_and_judged_irrelevance_are_sound(tone_set: Path) -> None:
    relevance = {"q-a": {"p-a": 2, "p-b": 0}, "q-b": {"p-b": 1, "p-c": 1}, "q-c": {"p-a": 1}}
    write_relevance(tone_set / "qrels", relevance)
    assert (tone_set / "qrels").read_text().splitlines()[:2] == ["q-a 0 p-a 2", "q-a 0 p-b 0"]
    assert read_retrieval_set(tone_set).relevance == relevance
    assert check_retrieval_set(tone_set) == []


@pytest.mark.parametrize(
    ("line", "place", "what"),
    [
        ("q-a p-a 1", "qrels:1: ", "is not 'question-id 0 passage-id relevance'"),
        ("q-a 0 p-a yes", "qrels:1: ", "is not 'question-id 0 passage-id relevance'"),
        ("q-a 0 p-a -1", "qrels:1: ", "is not 'question-id 0 passage-id relevance'"),
        ("q-z 0 p-a 1", "qrels:1: q-z: ", "is not in questions/text"),
        ("q-a 0 p-z 1", "qrels:1: q-a: ", "passage p-z is not in passages/"),
        ("q-b 0 p-b 1", "qrels:3: q-b: ", "passage p-b is judged twice"),
        ("q-a 0 p-a 0", "qrels: q-a: ", "no passage answers it"),
    ],
)
def test_fault_in_qrels(tone_set: Path, line: str, place: str, what: str) -> None:
    (tone_set / "qrels").write_text(f"{line}\nq-a 0 p-b 0\nq-b 0 p-b 1\nq-c 0 p-c 1\n")
    if what.endswith("twice"):
        (tone_set / "qrels").write_text(f"q-a 0 p-a 1\n{line}\nq-b 0 p-b 1\nq-c 0 p-c 1\n")
    faults = check_retrieval_set(tone_set)
    assert any(fault.startswith(f"{tone_set}/{place}{what}") for fault in faults), faults
    with pytest.raises(InputError) as refused:
        read_retrieval_set(tone_set)
    assert str(refused.value) == faults[0]


def test_answers_are_of_questions_that_there_are(tone_set: Path) -> None:
    (tone_set / "questions" / "answers").write_text("q-a a low one\nq-z nothing\n")
    place = f"{tone_set}/questions/answers:2: q-z: "
    assert check_retrieval_set(tone_set) == [f"{place}is not in questions/text; add it or remove the line"]
    with pytest.raises(InputError, match=place):
        read_retrieval_set(tone_set)


def test_times_of_answers_lie_in_their_passage(tone_set: Path) -> None:
    length_s = read_retrieval_set(tone_set).passages[0].duration_s
    file = tone_set / "questions" / "answer_spans"
    file.write_text(f"q-a p-a 0.01 {length_s:.3f}\n")
    (span,) = read_retrieval_set(tone_set).answer_spans.items()
    assert span == ("q-a", ("p-a", 0.01, pytest.approx(length_s, abs=1e-3)))
    assert check_retrieval_set(tone_set) == []
    for line, what in {
        "q-a p-a 0.5 0.5": "is not 'passage-id start_s end_s'",
        "q-a p-a 0": "is not 'passage-id start_s end_s'",
        "q-z p-a 0 0.1": "q-z is not in questions/text",
        "q-a p-z 0 0.1": "p-z is not in passages/",
        "q-a p-a 0 99": "ends at 99.0 s, passage p-a at",
    }.items():
        file.write_text(f"{line}\n")
        (fault,) = check_retrieval_set(tone_set)
        assert fault.startswith(f"{file}:1: {line[:3]}: ") and what in fault
        with pytest.raises(InputError, match="answer_spans:1: q-"):
            read_retrieval_set(tone_set)


def test_faults_of_all_parts_are_reported_once(tone_set: Path) -> None:
    (tone_set / "passages" / "a.wav").unlink()
    (tone_set / "questions" / "text").write_text("q-a Where?\nq-b\nq-c Where?\n")
    (tone_set / "qrels").write_text("q-a 0 p-a 1\n")
    places = [fault.removeprefix(f"{tone_set}/").split(": ")[:2] for fault in check_retrieval_set(tone_set)]
    assert places == [["passages/wav.scp:1", "p-a"], ["questions/text:2", "q-b"], ["qrels", "q-c"]]


def test_passages_need_transcripts(tone_set: Path) -> None:
    (tone_set / "passages" / "text").unlink()
    (fault,) = check_retrieval_set(tone_set)
    assert fault.startswith(f"{tone_set}/passages/text: no such file")
    with pytest.raises(InputError, match="passages/text: no such file"):
        read_retrieval_set(tone_set)


def test_other_folders_are_no_retrieval_sets(tone_set: Path) -> None:
    assert is_retrieval_set(tone_set)
    for path in (tone_set / "passages", tone_set / "gone"):
        assert not is_retrieval_set(path)
        for function in (read_retrieval_set, check_retrieval_set):
            with pytest.raises(InputError, match="is no retrieval set"):
                function(path)


def test_sets_are_read_back_as_they_were_written(tone_set: Path, tmp_path: Path) -> None:
    """With text questions and with spoken ones; audio stays where it is, and what was there before is replaced."""
    (tone_set / "questions" / "answer_spans").write_text("q-a p-a 0.000 0.050\n")
    (tone_set / "questions" / "answers").write_text("q-a a low one\n")
    read = read_retrieval_set(tone_set)
    assert read.answers == {"q-a": "a low one"}
    audio = read.passages[0].recording
    spoken = [Utterance(id_, audio, 0.0, 0.5, text, "ann") for id_, text in read.questions.items()]
    text = replace(read, path=tmp_path / "sets" / "text")
    speech = replace(read, path=tmp_path / "sets" / "speech", question_speech=spoken)
    (tmp_path / "sets" / "text" / "passages").mkdir(parents=True)
    (tmp_path / "sets" / "text" / "passages" / "stale").touch()
    write_retrieval_sets([text, speech])
    assert sorted(path.name for path in (tmp_path / "sets").iterdir()) == ["speech", "text"]
    assert not (tmp_path / "sets" / "text" / "passages" / "stale").exists()
    for whole in (text, speech):
        again = read_retrieval_set(whole.path)
        assert (again.questions, again.relevance) == (read.questions, read.relevance)
        assert again.answers == read.answers and again.answer_spans == read.answer_spans == {"q-a": ("p-a", 0.0, 0.05)}
        assert [passage.text for passage in again.passages] == [passage.text for passage in read.passages]
        assert {passage.recording.resolve() for passage in again.passages} == {
            passage.recording.resolve() for passage in read.passages
        }
        assert (again.question_speech is None) == (whole.question_speech is None)
        assert check_retrieval_set(whole.path) == []


def test_a_fault_in_one_set_writes_none(tone_set: Path, tmp_path: Path) -> None:
    read = read_retrieval_set(tone_set)
    good = replace(read, path=tmp_path / "sets" / "good")
    bad = RetrievalSet(tmp_path / "sets" / "bad", [read.passages[0]] * 2, {"q-a": "Who?"}, None, {"q-a": {"p-a": 1}})
    with pytest.raises(InputError, match="p-a: is there twice"):
        write_retrieval_sets([good, bad])
    assert list((tmp_path / "sets").iterdir()) == []
