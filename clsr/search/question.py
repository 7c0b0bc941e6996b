"""What is asked, typed or spoken -> its words and its vector."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from clsr.audio import SAMPLE_RATE, read_waveform
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
"""Typed; or spoken, as a path (a ``Path``: a text is a typed question), or as a waveform ``(N,)`` at 16 kHz; or asked
before, and not encoded again."""


def encode_questions(
    questions: Sequence[Question], text_encoder: TextEncoder, load_speech_encoder: Callable[[], SpeechEncoder]
) -> list[Asked]:
    """Encode questions, all typed ones in one batch and all spoken ones in another; one that is encoded stays as it is.

    A spoken question goes the way of a passage, soft codes and all, but not through the passage map, as in
    ``clsr evaluate``.

    Args:
        questions: typed and spoken, in any order.
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


def read_question(question: Path | np.ndarray) -> np.ndarray:
    """The waveform ``(N,)`` of a spoken question.

    Raises:
        InputError: it cannot be read, is no mono waveform, or lasts longer than a minute.
    """
    name = _name(question)
    if isinstance(question, Path):
        question = read_waveform(question, 0.0, LONGEST_S + 1)
    if question.ndim != 1 or not len(question) or not np.isfinite(question).all():
        raise InputError(f"{name}: has shape {question.shape}; give samples of one channel at 16 kHz, finite numbers")
    if len(question) > LONGEST_S * SAMPLE_RATE:
        raise InputError(f"{name}: lasts longer than {LONGEST_S:g} s; ask in fewer words")
    return question.astype(np.float32, copy=False)


def _name(question: Question) -> str:
    return "the spoken question" if isinstance(question, np.ndarray) else str(question)


def _require_words(question: str) -> str:
    if not question.strip():
        raise InputError("the question is empty; give some words to look for")
    return question
