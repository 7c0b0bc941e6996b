"""What is asked, typed or spoken -> its words and its vector."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from clsr.audio.waveform import SAMPLE_RATE, read_waveform
from clsr.errors import InputError

if TYPE_CHECKING:
    from clsr.models.speech_encoder import SpeechEncoder
    from clsr.models.text_encoder import TextEncoder

LONGEST_S = 60.0  # of a spoken question: attention grows with the square of what is heard at once


class Asked(NamedTuple):
    """A question as it is looked for."""

    text: str  # as typed, or as recognised
    vector: np.ndarray  # (E,), of norm 1


Question = str | Path | np.ndarray | Asked
"""Typed; or spoken, as a path (a ``Path``: a text is a typed question), or as a waveform ``(N,)`` at 16 kHz; or encoded
before."""


class Listed(NamedTuple):
    """A question of a file."""

    id: str
    question: str | Path


def encode_questions(
    questions: Sequence[Question], text_encoder: TextEncoder, load_speech_encoder: Callable[[], SpeechEncoder]
) -> list[Asked]:
    """Encode questions, all typed ones in one batch and all spoken ones in another; one that is encoded stays as it is.

    A spoken question goes the way of a passage, soft codes and all, but not through the passage projection, as in
    ``clsr evaluate``.

    Args:
        questions: typed and spoken, in any order; those that are encoded already are taken as they are.
        text_encoder: of the model.
        load_speech_encoder: called if any question is spoken.

    Raises:
        InputError: a question is empty, cannot be read, lasts longer than a minute, or has no word in it.
    """
    asked = [question if isinstance(question, Asked) else None for question in questions]
    typed = [i for i, question in enumerate(questions) if isinstance(question, str)]
    texts = [_require_words(question) for question in questions if isinstance(question, str)]
    if typed:
        for i, text, vector in zip(typed, texts, text_encoder.encode(texts, "question").numpy(), strict=True):
            asked[i] = Asked(text, vector)
    spoken = [i for i, question in enumerate(questions) if isinstance(question, Path | np.ndarray)]
    if spoken:
        waveforms = [read_question(question) for question in questions if isinstance(question, Path | np.ndarray)]
        heard = load_speech_encoder().encode(waveforms, side="question")
        for i, text, vector in zip(spoken, heard.transcripts, heard.vectors, strict=True):
            if not text:
                raise InputError(f"{_name(questions[i])}: no words were recognised in this question; ask it again")
            asked[i] = Asked(text, vector)
    return [question for question in asked if question is not None]


def read_question(
    question: Path | np.ndarray, read: Callable[[Path, float, float], np.ndarray] = read_waveform
) -> np.ndarray:
    """The waveform ``(N,)`` of a spoken question.

    Args:
        question: its file, or its waveform.
        read: reads a span of a file; ``Decoder.read_waveform`` where the file is a stranger's.

    Raises:
        InputError: it cannot be read, is no mono waveform, or lasts longer than a minute.
    """
    name = _name(question)
    if isinstance(question, Path):
        question = read(question, 0.0, LONGEST_S + 1)
    if question.ndim != 1 or not len(question) or not np.isfinite(question).all():
        raise InputError(f"{name}: has shape {question.shape}; give samples of one channel at 16 kHz, finite numbers")
    if len(question) > LONGEST_S * SAMPLE_RATE:
        raise InputError(f"{name}: lasts longer than {LONGEST_S:g} s; ask in fewer words")
    return question.astype(np.float32, copy=False)


def read_questions(path: Path) -> list[Listed]:
    """Questions of a file, in its order.

    A line is a typed question, whose id is the line's number; empty lines are passed over. In a file ``*.jsonl`` a line
    is an object with ``id`` and ``question``, or ``audio``: the path of a spoken one, which counts from the file.

    Raises:
        InputError: with file and line: it cannot be read, a line is no question, or an id is there twice.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as text in UTF-8 ({error}); check the path") from error
    questions: dict[str, Listed] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            listed = _listed(line, path) if path.suffix == ".jsonl" else Listed(str(number), line.strip())
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{path}:{number}: is no question ({error!r}); give id, and question or audio") from error
        if listed.id in questions:
            raise InputError(f"{path}:{number}: {listed.id}: is there twice; make ids unique")
        questions[listed.id] = listed
    if not questions:
        raise InputError(f"{path}: holds no question; write one a line")
    return list(questions.values())


def _listed(line: str, path: Path) -> Listed:
    row = json.loads(line)
    kinds = [kind for kind in ("question", "audio") if row.get(kind) is not None]
    if not isinstance(row["id"], str | int) or len(kinds) != 1:
        raise ValueError("id is no text, or there is not one of question and audio")
    value = row[kinds[0]]
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{kinds[0]} is no text")
    return Listed(str(row["id"]), path.parent / value if kinds[0] == "audio" else value)


def _name(question: Question) -> str:
    return str(question) if isinstance(question, Path) else "the spoken question"


def _require_words(question: str) -> str:
    if not question.strip():
        raise InputError("the question is empty; give some words to look for")
    return question
