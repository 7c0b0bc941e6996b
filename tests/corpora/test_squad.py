"""Tests of clsr/corpora/squad.py on files made here."""

import json
from pathlib import Path
from typing import Any

import pytest

from clsr.corpora.squad import answer_passage, read_squad, sentence_spans
from clsr.errors import InputError


def make_question(id_: Any, question: str = "Who?", **more: Any) -> dict[str, Any]:
    return {"id": id_, "question": question, "answers": [{"text": "cat", "answer_start": 4}], **more}


def write(path: Path, *paragraphs: dict[str, Any], encoding: str = "utf-8", title: str = "T") -> Path:
    articles = [{"title": title, "paragraphs": list(paragraphs)}]
    path.write_bytes(json.dumps({"version": "1.1", "data": articles}, ensure_ascii=False).encode(encoding))
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "some.json"


def test_questions_in_order_with_their_places(path: Path) -> None:
    first = {"context": "The cat sat.", "qas": [make_question("a", " Who\n sat? "), make_question("b")]}
    second = {"context": "Old cat.", "id": "77-2", "qas": [make_question(5)]}
    questions = read_squad(write(path, {"context": "None.", "qas": []}, first, second))
    assert [(q.id, q.article, q.paragraph, q.paragraph_id) for q in questions] == [
        ("a", 0, 1, "0_1"),
        ("b", 0, 1, "0_1"),
        ("5", 0, 2, "77-2"),
    ]
    assert questions[0].question == "Who sat?"
    assert (questions[0].title, questions[0].context, questions[0].answer) == ("T", "The cat sat.", "cat")


def test_byte_order_mark_impossible_and_repeated_questions(path: Path) -> None:
    qas = [
        make_question("a"),
        make_question("b", is_impossible=True),
        make_question("a"),
        make_question("c", is_impossible=False),
    ]
    questions = read_squad(write(path, {"context": "The cat.", "qas": qas}, encoding="utf-8-sig"))
    assert [question.id for question in questions] == ["a", "c"]


@pytest.mark.parametrize(
    ("context", "stated", "start"),
    [
        ("The cat.", 4, 4),
        ("The cat.", 0, 4),  # said wrongly
        ("cat and dog and cat", 15, 16),  # the nearest
        ("cat and dog and cat", 3, 0),
        ("no such beast", 4, None),
        ("catcat", 3, 3),
    ],
)
def test_answers_are_where_they_are(path: Path, context: str, stated: int, start: int | None) -> None:
    qas = [{"id": "a", "question": "Who?", "answers": [{"text": "cat", "answer_start": stated}]}]
    assert read_squad(write(path, {"context": context, "qas": qas}))[0].answer_start == start


def test_a_question_without_answers_is_one(path: Path) -> None:
    qas = [{"id": "a", "question": "Who?", "answers": []}, {"id": "b", "question": "Who?"}]
    assert [(q.answer, q.answer_start) for q in read_squad(write(path, {"context": "So.", "qas": qas}))] == [
        ("", None),
        ("", None),
    ]


@pytest.mark.parametrize(
    ("paragraph", "message"),
    [
        ({"context": "x", "qas": [{"id": "a", "question": " "}]}, "article 0, paragraph 0, question a: question is"),
        ({"context": " ", "qas": [make_question("a")]}, "article 0, paragraph 0: context is missing or empty"),
        ({"context": "x", "qas": [{"question": "Who?"}]}, "article 0, paragraph 0, a question: id is missing"),
        ({"context": "x"}, "article 0, paragraph 0: qas is missing"),
        ({"context": "x", "qas": ["who"]}, "article 0, paragraph 0: qas is missing or no list of objects"),
        ({"context": "x", "qas": [make_question("a", answers="cat")]}, "question a: answers is missing or no list"),
        ({"context": "x", "qas": [make_question("a", answers=[{"text": ""}])]}, "question a: text is missing or empty"),
        (
            {"context": "x", "qas": [make_question("a"), make_question("a", "Whose?")]},
            "paragraph 0: question a: the id is there twice",
        ),
        ({"context": "x", "qas": []}, "has no question that can be answered"),
    ],
)
def test_faults_name_their_place(path: Path, paragraph: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        read_squad(write(path, paragraph))
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)


def test_every_fault_is_reported(path: Path) -> None:
    first = {"context": "The cat sat.", "qas": [make_question("a", " "), make_question("b"), {"question": "Who?"}]}
    faults: list[str] = []
    questions = read_squad(
        write(path, first, {"context": "x"}, {"context": "", "qas": [make_question("c")]}), faults.append
    )
    assert [question.id for question in questions] == ["b"]
    assert [fault.removeprefix(f"{path}: article 0, ").partition(";")[0] for fault in faults] == [
        "paragraph 0, question a: question is missing or empty",
        "paragraph 0, a question: id is missing or empty",
        "paragraph 1: qas is missing or no list of objects",
        "paragraph 2: context is missing or empty",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "is no JSON in UTF-8"),
        ("{}".encode("utf-16"), "is no JSON in UTF-8"),
        (b"[]", "data is missing"),
        (b'{"data": [{"paragraphs": []}]}', "article 0: title is missing"),
    ],
)
def test_files_of_another_kind(path: Path, content: bytes, message: str) -> None:
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_squad(path)
    with pytest.raises(InputError, match="no such file"):
        read_squad(path.with_name("other.json"))


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("It cost 2.50 francs. So", ["It cost 2.50 francs.", "So"]),
        ('He said "No." She left (so.)  End', ['He said "No."', "She left (so.)", "End"]),
        ("他走了。她說：「好！」真的？", ["他走了。", "她說：「好！」", "真的？"]),
        ("1,000元。３.５倍", ["1,000元。", "３.５倍"]),
        ("no end", ["no end"]),
        ("  ", []),
    ],
)
def test_sentences(text: str, sentences: list[str]) -> None:
    assert [text[start:end] for start, end in sentence_spans(text)] == sentences


def test_answer_passage_worked_by_hand() -> None:
    text = "甲乙。丙丁戊己。庚辛壬。癸。"  # sentences of 3, 5, 4 and 2 characters, starting at 0, 3, 8 and 12
    assert answer_passage(text, 4, 5, 1) == "丙丁戊己。"
    assert answer_passage(text, 4, 5, 6) == "甲乙。丙丁戊己。"  # the shorter neighbour first
    assert answer_passage(text, 9, 10, 5) == "庚辛壬。癸。"
    assert answer_passage(text, 6, 9, 1) == "丙丁戊己。庚辛壬。"  # the answer goes over an end
    assert answer_passage(text, 0, 1, 100) == text
    assert answer_passage(text, 12, 13, 3) == "庚辛壬。癸。"
