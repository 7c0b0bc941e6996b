"""Passages, questions and qrels <-> files; every check on retrieval data is here.

A retrieval set is a folder: ``passages/`` (a Kaldi data directory), ``questions/`` (one too, or ``text`` alone when the
questions are not spoken; so may passages be) and ``qrels`` in TREC form, ``question-id 0 passage-id relevance``. Where
answers are known, ``questions/answers`` has them, in words, and ``questions/answer_spans`` when they are said, as
``question-id passage-id start_s end_s``: Kaldi files of some or all of the questions. Questions of text and speech in
turn have their parts in ``questions/parts.jsonl``, and all their words in ``questions/text``.
"""

import contextlib
import math
import os
import re
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from clsr.data.kaldi import (
    TOLERANCE_S,
    ReportFault,
    Utterance,
    check_data_dir,
    read_data_dir,
    read_table,
    read_text,
    refuse,
    write_data_dir,
    write_lines,
    write_table,
)
from clsr.data.question_parts import QuestionParts, read_question_parts, write_question_parts
from clsr.errors import InputError


class AnswerSpan(NamedTuple):
    """When an answer is said: the passage, and seconds from its begin."""

    passage: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class RetrievalSet:
    """Passages, questions, and which passages answer which question.

    Attributes:
        path: the folder.
        passages: sorted by id, each with a transcript; without recordings where they are text alone.
        questions: text by id, sorted by id.
        question_speech: the questions spoken, sorted by id; ``None`` when they are text alone.
        relevance: question id -> passage id -> relevance, 0 for judged and not relevant.
        answers: the answer in words, by the ids of the questions that have a known one.
        answer_spans: when it is said, by the ids of the questions of which that is known.
        question_parts: texts and speech in turn, by the ids of the questions that are made of them.
    """

    path: Path
    passages: list[Utterance]
    questions: dict[str, str]
    question_speech: list[Utterance] | None
    relevance: dict[str, dict[str, int]]
    answers: dict[str, str] = field(default_factory=dict)
    answer_spans: dict[str, AnswerSpan] = field(default_factory=dict)
    question_parts: QuestionParts = field(default_factory=dict)

    @property
    def has_text_passages(self) -> bool:
        """Whether passages are text alone."""
        return bool(self.passages) and all(passage.recording == Path() for passage in self.passages)


def is_retrieval_set(path: str | Path) -> bool:
    """Whether the folder has ``passages/``, ``questions/`` and ``qrels``; their content is not looked at."""
    path = Path(path)
    return (path / "passages").is_dir() and (path / "questions").is_dir() and (path / "qrels").is_file()


def read_retrieval_set(path: str | Path, text_passages: bool = False) -> RetrievalSet:
    """The retrieval set in a folder. Decodes no audio; ``check_retrieval_set`` does.

    Args:
        path: the folder.
        text_passages: allow passages without recordings.

    Raises:
        InputError: the first fault found, with file, line and id.
    """
    path = Path(path)
    _refuse_other(path)
    if text_passages and _is_text_alone(path / "passages"):
        texts = sorted(read_text(path / "passages" / "text").items())
        passages = [Utterance(id_, Path(), 0.0, 0.0, text, id_) for id_, text in texts]
    else:
        passages = read_data_dir(path / "passages")
    if any(passage.text is None for passage in passages):
        raise InputError(f"{path / 'passages' / 'text'}: no such file; write what is said in each passage")
    questions = read_text(path / "questions" / "text")
    speech = read_data_dir(path / "questions") if (path / "questions" / "wav.scp").is_file() else None
    lengths = {passage.id: passage.duration_s for passage in passages}
    relevance = _read_relevance(path / "qrels", questions, lengths, refuse)
    answers, spans = _read_answers(path, questions, refuse), _read_answer_spans(path, questions, lengths, refuse)
    parts = read_question_parts(path / "questions" / "parts.jsonl", questions, refuse)
    return RetrievalSet(path, passages, questions, speech, relevance, answers, spans, parts)


def check_retrieval_set(path: str | Path) -> list[str]:
    """All faults of a retrieval set as ``path:line: id: what, what to do``; empty if it is sound.

    Adds to the checks of both data directories: malformed lines of ``qrels``, ids there that no file knows, questions
    that no passage answers, answers to no question, and times of answers outside their passage. A passage without a
    question is no fault.

    Raises:
        InputError: the folder is no retrieval set at all.
    """
    path = Path(path)
    _refuse_other(path)
    only_text = _is_text_alone(path / "passages")
    faults: list[str] = []
    if only_text:
        read_table(path / "passages" / "text", faults.append)
    else:
        faults = check_data_dir(path / "passages")
    if not (path / "passages" / "text").is_file():
        faults.append(f"{path / 'passages' / 'text'}: no such file; write what is said in each passage")
    spoken, text = (path / "questions" / "wav.scp").is_file(), path / "questions" / "text"
    if spoken:
        faults += check_data_dir(path / "questions")
    questions = read_table(text, _ignore if spoken and text.is_file() else faults.append)
    table = path / "passages" / ("segments" if (path / "passages" / "segments").is_file() else "wav.scp")
    table = path / "passages" / "text" if only_text else table
    _read_relevance(path / "qrels", questions, read_table(table, _ignore), faults.append)
    _read_answers(path, questions, faults.append)
    read_question_parts(path / "questions" / "parts.jsonl", questions, faults.append)
    with contextlib.suppress(InputError):  # of the passages, whose faults are reported above
        lengths = {passage.id: passage.duration_s for passage in read_data_dir(path / "passages")}
        _read_answer_spans(path, questions, lengths, faults.append)
    return faults


def write_relevance(path: str | Path, relevance: Mapping[str, Mapping[str, int]]) -> None:
    """Write ``qrels``, sorted by question and passage id; the file appears whole or not at all.

    Raises:
        InputError: the file cannot be written.
    """
    write_lines(
        Path(path),
        (
            f"{question} 0 {passage} {value}\n"
            for question, of_question in sorted(relevance.items())
            for passage, value in sorted(of_question.items())
        ),
    )


def write_answers(path: Path, answers: Mapping[str, str]) -> None:
    """Write the answers that are known, sorted by question id; with none there is no file.

    Raises:
        InputError: the file cannot be written.
    """
    if answers:
        write_table(path, answers.items())
    else:
        path.unlink(missing_ok=True)


def write_retrieval_sets(sets: Sequence[RetrievalSet]) -> None:
    """Write retrieval sets, each into its ``path``: all of them appear, or none; what was there is replaced.

    Raises:
        InputError: an id is there twice, a text has no words, or the disk is full.
    """
    unfinished = [whole.path.with_name(f".{whole.path.name}.{os.getpid()}.unfinished") for whole in sets]
    try:
        for folder, whole in zip(unfinished, sets, strict=True):
            if whole.has_text_passages:
                (folder / "passages").mkdir(parents=True)
                write_table(folder / "passages" / "text", ((p.id, p.text or "") for p in whole.passages))
            else:
                write_data_dir(folder / "passages", whole.passages)
            if whole.question_speech is None:
                (folder / "questions").mkdir()
                write_table(folder / "questions" / "text", whole.questions.items())
            else:
                write_data_dir(folder / "questions", whole.question_speech)
            write_answers(folder / "questions" / "answers", whole.answers)
            spans = ((id_, f"{s.passage} {s.start_s:.3f} {s.end_s:.3f}") for id_, s in whole.answer_spans.items())
            write_answers(folder / "questions" / "answer_spans", dict(spans))
            if whole.question_parts:
                write_question_parts(folder / "questions" / "parts.jsonl", whole.question_parts)
            write_relevance(folder / "qrels", whole.relevance)
        for folder, whole in zip(unfinished, sets, strict=True):
            shutil.rmtree(whole.path, ignore_errors=True)
            os.replace(folder, whole.path)
    except OSError as error:
        place = sets[0].path.parent
        raise InputError(f"{place}: cannot be written ({error.strerror}); free space or name another folder") from error
    finally:
        for folder in unfinished:
            shutil.rmtree(folder, ignore_errors=True)


def _is_text_alone(folder: Path) -> bool:
    """Whether a folder has no other file than ``text``."""
    return [file.name for file in folder.iterdir() if not file.name.startswith(".")] == ["text"]


def _refuse_other(path: Path) -> None:
    if not is_retrieval_set(path):
        raise InputError(f"{path}: is no retrieval set; one has passages/, questions/ and qrels")


def _read_answers(path: Path, questions: Collection[str], report: ReportFault) -> dict[str, str]:
    """Answers of the questions that have one; an answer to no question is reported."""
    file = path / "questions" / "answers"
    entries = read_table(file, report) if file.is_file() else {}
    for id_ in sorted(entries.keys() - set(questions)):
        report(f"{file}:{entries[id_].line}: {id_}: is not in questions/text; add it or remove the line")
    return {id_: entry.value for id_, entry in entries.items() if id_ in questions}


def _read_answer_spans(
    path: Path, questions: Collection[str], lengths: Mapping[str, float], report: ReportFault
) -> dict[str, AnswerSpan]:
    """When answers are said, of the questions that have a line; a line that is none is reported."""
    file = path / "questions" / "answer_spans"
    spans = {}
    for id_, (line, value) in (read_table(file, report) if file.is_file() else {}).items():
        place, fields = f"{file}:{line}: {id_}", value.split()
        try:
            passage, start_s, end_s = fields[0], float(fields[1]), float(fields[2])
            if len(fields) != 3 or not 0 <= start_s < end_s < math.inf:
                raise ValueError
        except (ValueError, IndexError):
            report(f"{place}: {value!r} is not 'passage-id start_s end_s'; give 0 <= start_s < end_s")
            continue
        if id_ not in questions or passage not in lengths:
            unknown = f"{id_} is not in questions/text" if id_ not in questions else f"{passage} is not in passages/"
            report(f"{place}: {unknown}; add it or remove the line")
        elif end_s > lengths[passage] + TOLERANCE_S:
            report(f"{place}: ends at {end_s} s, passage {passage} at {lengths[passage]:.3f} s; mend the times")
        else:
            spans[id_] = AnswerSpan(passage, start_s, min(end_s, lengths[passage]))
    return spans


def _ignore(fault: str) -> None:
    """The reporter for a file whose faults are reported elsewhere."""


def _read_relevance(
    path: Path, questions: Collection[str], passages: Collection[str], report: ReportFault
) -> dict[str, dict[str, int]]:
    """Relevance of the lines without a fault; the others, and questions left without an answer, are reported."""
    relevance: dict[str, dict[str, int]] = {question: {} for question in questions}
    for number, line in enumerate(path.read_text(encoding="utf-8-sig", errors="replace").splitlines(), start=1):
        fields = line.split()
        if len(fields) != 4 or not re.fullmatch("[0-9]{1,9}", fields[3]):
            report(
                f"{path}:{number}: is not 'question-id 0 passage-id relevance'; write four fields, the last a number"
            )
            continue
        question, _, passage, value = fields
        place = f"{path}:{number}: {question}"
        if question not in relevance:
            report(f"{place}: is not in questions/text; add it or remove the line")
        elif passage not in passages:
            report(f"{place}: passage {passage} is not in passages/; add it or remove the line")
        elif passage in relevance[question]:
            report(f"{place}: passage {passage} is judged twice; remove one line")
        else:
            relevance[question][passage] = int(value)
    for question, of_question in relevance.items():
        if not any(of_question.values()):
            report(f"{path}: {question}: no passage answers it; add a line or remove the question")
    return relevance
