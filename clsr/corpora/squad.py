"""SQuAD JSON (articles of paragraphs of questions) -> questions with their paragraph, and the sentences of a text.

SQuAD 1.1 and 2.0, Spoken-SQuAD, DRCD and ODSQA are written this way. Articles and paragraphs are known by their number
in the file, from 0; DRCD and ODSQA name them too.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from clsr.data.kaldi import ReportFault, refuse
from clsr.errors import InputError, reporting

_SENTENCE_END = re.compile("[.!?]+[\"'”’)\\]]*(?=\\s|$)|[。！？!?]+[」』”’）]*")


class SquadQuestion(NamedTuple):
    """A question, its paragraph, and where the answer stands.

    Attributes:
        id: of the question.
        title: of the article.
        article: its number in the file, from 0.
        paragraph: number in the article, from 0.
        paragraph_id: the paragraph's own id, or ``article_paragraph`` where it has none.
        question: its text, with single spaces.
        context: the paragraph as it is.
        answer: the first answer, or nothing.
        answer_start: where in the paragraph it starts, in characters; None where the paragraph does not hold it.
    """

    id: str
    title: str
    article: int
    paragraph: int
    paragraph_id: str
    question: str
    context: str
    answer: str
    answer_start: int | None


def read_squad(path: str | Path, report: ReportFault = refuse) -> list[SquadQuestion]:
    """Questions of a file, in its order, without those that are reported or marked as impossible to answer.

    A byte order mark is accepted. An answer that does not stand where ``answer_start`` says is looked for; where the
    paragraph has it several times, the place nearest to that counts. A question that is there twice, word for word,
    about the same paragraph, counts once.

    Args:
        path: of the file.
        report: takes each fault, with article, paragraph and question: a field is missing or empty, or an id is there
            twice with different texts; without one the first fault is refused.

    Raises:
        InputError: no such file, no JSON of this form, or no question is left.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; name a SQuAD JSON file")
    try:
        whole = json.loads(path.read_bytes().decode("utf-8-sig"))
    except ValueError as error:  # of either step
        raise InputError(f"{path}: is no JSON in UTF-8 ({error}); fetch it again") from error
    found: list[str] = []
    questions: dict[str, SquadQuestion] = {}
    for question in _questions(path, whole, found.append):
        first = questions.setdefault(question.id, question)
        if (first.question, first.context) != (question.question, question.context):
            place = f"{path}: article {question.article}, paragraph {question.paragraph}"
            found.append(f"{place}: question {question.id}: the id is there twice; make ids unique")
    for fault in found:
        report(fault)
    if not questions and not found:
        raise InputError(f"{path}: has no question that can be answered; name another file")
    return list(questions.values())


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """Where the sentences of a text begin and end, in characters, without the white space around them.

    A sentence ends with ``. ! ?`` before white space, or with their Chinese forms anywhere, quotes and brackets that
    close it included. Abbreviations count as ends.

    >>> text = "He left.  Why? 「他走了。」真的"
    >>> [text[start:end] for start, end in sentence_spans(text)]
    ['He left.', 'Why?', '「他走了。」', '真的']
    """
    ends = [match.end() for match in _SENTENCE_END.finditer(text)]
    spans = []
    start = 0
    for end in [*ends, len(text)]:
        piece = text[start:end]
        if piece.strip():
            spans.append((start + len(piece) - len(piece.lstrip()), start + len(piece.rstrip())))
        start = end
    return spans


def answer_passage(text: str, start: int, end: int, least: int) -> str:
    """The sentence, or sentences, that hold ``text[start:end]``, with neighbours up to ``least`` characters.

    The shorter neighbour is added first; the text itself may be shorter than that.

    >>> answer_passage("雨停了。他在山上找到一座廟。廟裡沒有人。", 8, 9, 14)
    '雨停了。他在山上找到一座廟。'
    """
    spans = sentence_spans(text)
    first = max(i for i, (begin, _) in enumerate(spans) if begin <= start or i == 0)
    last = min(i for i, (_, stop) in enumerate(spans) if stop >= end or i == len(spans) - 1)
    last = max(first, last)
    while spans[last][1] - spans[first][0] < least and (first > 0 or last < len(spans) - 1):
        before = spans[first - 1][1] - spans[first - 1][0] if first > 0 else None
        after = spans[last + 1][1] - spans[last + 1][0] if last < len(spans) - 1 else None
        if after is None or (before is not None and before <= after):
            first -= 1
        else:
            last += 1
    return text[spans[first][0] : spans[last][1]]


def _questions(path: Path, whole: Any, report: ReportFault) -> Iterator[SquadQuestion]:
    for number, article in enumerate(_objects(whole, "data", f"{path}", report)):
        place = f"{path}: article {number}"
        with reporting(report):
            title = _text(article, "title", place)
            for index, paragraph in enumerate(_objects(article, "paragraphs", place, report)):
                for entry in _objects(paragraph, "qas", f"{place}, paragraph {index}", report):
                    if entry.get("is_impossible"):
                        continue
                    with reporting(report):
                        yield _question(entry, paragraph, (title, number, index), f"{place}, paragraph {index}")


def _question(
    entry: dict[str, Any], paragraph: dict[str, Any], article: tuple[str, int, int], within: str
) -> SquadQuestion:
    """The question of an entry; ``article`` has the title, its number and that of the paragraph."""
    title, number, index = article
    context = _text(paragraph, "context", within)
    id_ = _text(entry, "id", f"{within}, a question", number_too=True)
    question = " ".join(_text(entry, "question", f"{within}, question {id_}").split())
    answer, start = _answer(entry, context, f"{within}, question {id_}")
    paragraph_id = str(paragraph.get("id") or f"{number}_{index}")
    return SquadQuestion(id_, title, number, index, paragraph_id, question, context, answer, start)


def _answer(entry: dict[str, Any], context: str, place: str) -> tuple[str, int | None]:
    """The first answer and where it is."""
    answers = _list(entry, "answers", place) if entry.get("answers") is not None else []
    if not answers:
        return "", None
    answer, stated = _text(answers[0], "text", place, number_too=True), answers[0].get("answer_start")
    stated = stated if isinstance(stated, int) else 0
    found = [match.start() for match in re.finditer(f"(?={re.escape(answer)})", context)]
    return answer, min(found, key=lambda start: abs(start - stated), default=None)


def _objects(value: Any, key: str, place: str, report: ReportFault) -> list[Any]:
    """The objects in a list, none where there is no such list, which is reported."""
    with reporting(report):
        return _list(value, key, place)
    return []


def _list(value: Any, key: str, place: str) -> list[Any]:
    items = value.get(key) if isinstance(value, dict) else None
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise InputError(f"{place}: {key} is missing or no list of objects; this is no SQuAD JSON")
    return items


def _text(value: dict[str, Any], key: str, place: str, number_too: bool = False) -> str:
    text = value.get(key)
    if number_too and isinstance(text, int):
        text = str(text)
    if not isinstance(text, str) or not text.strip():
        raise InputError(f"{place}: {key} is missing or empty; mend the file or fetch it again")
    return text
