"""A retrieval set -> its passages inside long recordings, and questions with the times of their answers.

A long-form set is a folder: ``recordings/`` of 16 kHz wav files and ``questions.jsonl``, one object a line::

    {"id": "q1", "question": "who sold a horse?", "question_audio": "questions/0000.wav" or null,
     "recording": "recordings/r000.wav", "passage": "p1", "start_s": 12.5, "end_s": 17.1,
     "answer": "the baker" or null, "answer_start_s": 12.5 or null, "answer_end_s": 13.4 or null}

Paths are relative to the folder.
"""

import json
import math
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from clsr.audio.pauses import Span
from clsr.audio.waveform import SAMPLE_RATE, read_waveform, write_waveform, write_waveforms
from clsr.data.kaldi import Utterance, write_lines
from clsr.data.retrieval_set import read_retrieval_set
from clsr.errors import InputError, each_once
from clsr.vocabulary import fold_accents

QUESTIONS = "questions.jsonl"
SILENCE_S = (0.2, 0.8)  # between two passages, drawn from this range


@dataclass(frozen=True)
class LongQuestion:
    """A question about a long recording.

    Attributes:
        id: of the question.
        text: of the question.
        audio: the question spoken; None where it is text alone.
        recording: the file that holds the answer.
        passage: id of the passage that answers it.
        passage_span: where that lies in the recording, in seconds.
        answer: in words; None where it is not known.
        answer_span: where the answer lies, in seconds; None where the passage does not say it in these words.
    """

    id: str
    text: str
    audio: Path | None
    recording: Path
    passage: str
    passage_span: Span
    answer: str | None
    answer_span: Span | None


def lengthen(
    retrieval_set: str | Path, output: str | Path, minutes: float, seed: int = 0, chapters: bool = False
) -> list[LongQuestion]:
    """Place the passages of a retrieval set inside recordings of some minutes and more, and write where they lie.

    Passages come in an order drawn from the seed, with silences of 0.2 to 0.8 s between them. A recording is closed
    when it is as long as asked for and what is left fills another; the last takes the rest. With ``chapters``, passages
    are put together again as they were read: those whose ids agree up to a last number, as LibriSpeech's of one chapter
    (``61-70968-0003``) and SLUE's of one document do (``Harp_(music)_3``), follow one another by that number without a
    silence. A chapter that is long enough is a recording; shorter ones
    are joined with the next short ones until they are. One passage at a time is in memory. Of several passages that
    answer a question, the most relevant counts, then the first by id. The answer's span is the one that the set has
    for this passage (``questions/answer_spans``); without one it is that of its first place in the passage's
    transcript, in proportion to the characters before and in it: an estimate.

    Args:
        retrieval_set: its folder.
        output: folder of the long-form set; ``questions.jsonl`` is written last.
        minutes: least length of a recording, above 0.
        seed: of order and silences; chapters have neither.
        chapters: whether to keep the order of the ids and the chapters that they name.

    Raises:
        InputError: the set is at fault or holds less speech than one recording, or the disk is full.
    """
    whole, output = read_retrieval_set(retrieval_set), Path(output)
    speech_s = _length_s(whole.passages)
    if not 0 < 60 * minutes <= speech_s:
        raise InputError(
            f"{retrieval_set}: holds {speech_s / 60:.3g} minutes, {minutes:g} are asked for: "
            "ask for more than 0, and for no more than it holds"
        )
    (output / "recordings").mkdir(parents=True, exist_ok=True)
    (output / QUESTIONS).unlink(missing_ok=True)
    places: dict[str, tuple[Path, Span]] = {}
    taken: dict[str, Span] = {}
    if chapters:
        recordings = _read_on(whole.passages, 60 * minutes, taken)
    else:
        recordings = _shuffled(whole.passages, 60 * minutes, random.Random(seed), taken)
    for number, waveforms in enumerate(recordings):
        recording = output / "recordings" / f"r{number:03}.wav"
        write_waveforms(recording, waveforms)
        places.update((id_, (recording, span)) for id_, span in taken.items())
        taken.clear()
    for stale in set((output / "recordings").glob("r*.wav")) - {file for file, _ in places.values()}:
        stale.unlink()
    texts = {passage.id: fold_accents(passage.text or "") for passage in whole.passages}
    gold = {id_: min(grades, key=lambda p: (-grades[p], p)) for id_, grades in whole.relevance.items()}
    audio = _copy_questions(whole.question_speech or [], output)
    questions = []
    for id_, text in whole.questions.items():
        recording, span = places[gold[id_]]
        answer, said = whole.answers.get(id_), whole.answer_spans.get(id_)
        answer_span = find_answer(texts[gold[id_]], answer, span) if answer else None
        if said is not None and said.passage == gold[id_]:
            answer_span = span[0] + said.start_s, span[0] + said.end_s
        questions.append(LongQuestion(id_, text, audio.get(id_), recording, gold[id_], span, answer, answer_span))
    write_lines(output / QUESTIONS, (_line(question, output) for question in questions))
    return questions


def find_answer(text: str, answer: str, span: Span) -> Span | None:
    """When an answer is said in a passage, in proportion to the characters; None where it is not, word by word.

    >>> find_answer("the baker sold a horse", "The baker", (10.0, 32.0))
    (10.0, 19.0)

    Args:
        text: the passage's transcript, without accents (``fold_accents``).
        answer: as it was given.
        span: of the passage, in seconds.
    """
    words = fold_accents(answer)
    found = re.search(rf"(?<![a-z0-9']){re.escape(words)}(?![a-z0-9'])", text) if words else None
    if not found:
        return None
    start_s, end_s = span
    each_s = (end_s - start_s) / len(text)
    return start_s + found.start() * each_s, start_s + found.end() * each_s


def read_long_form(path: str | Path) -> list[LongQuestion]:
    """Questions of a long-form set, in its order. Decodes no audio.

    Raises:
        InputError: with file and line: no such set, a field is missing or of another kind, a file is not there, an id
            is there twice, or times are upside down.
    """
    file = Path(path) / QUESTIONS
    if not file.is_file():
        raise InputError(f"{file}: no such file; name a folder that clsr data lengthen has written")
    questions: dict[str, LongQuestion] = {}
    for number, line in enumerate(file.read_bytes().splitlines(), start=1):
        try:
            question = _question(json.loads(line, object_pairs_hook=each_once), file.parent)
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{file}:{number}: is no question of a long-form set ({error!r}); make it anew") from error
        for audio in filter(None, (question.recording, question.audio)):
            if not audio.is_file():
                raise InputError(f"{file}:{number}: {question.id}: no such audio file {audio}; make the set anew")
        if question.id in questions:
            raise InputError(f"{file}:{number}: {question.id}: is there twice; make ids unique")
        questions[question.id] = question
    if not questions:
        raise InputError(f"{file}: is empty; make the set anew")
    return list(questions.values())


def _shuffled(
    passages: Sequence[Utterance], least_s: float, draw: random.Random, taken: dict[str, Span]
) -> Iterator[Iterator[np.ndarray]]:
    """The waveforms of each recording of passages in a drawn order, with silences between."""
    left = draw.sample(passages, len(passages))
    while left:
        yield _fill(left, least_s, draw, taken)


def _read_on(passages: Sequence[Utterance], least_s: float, taken: dict[str, Span]) -> Iterator[Iterator[np.ndarray]]:
    """The waveforms of each recording of chapters."""
    short: list[Utterance] = []
    ordered = sorted(passages, key=lambda passage: chapter_place(passage.id))
    for _, of_chapter in groupby(ordered, key=lambda passage: chapter_place(passage.id)[0]):
        chapter = list(of_chapter)
        if _length_s(chapter) >= least_s:
            yield _join(chapter, taken)
            continue
        short += chapter
        if _length_s(short) >= least_s:
            yield _join(short, taken)
            short = []
    if short:
        yield _join(short, taken)


def chapter_place(id_: str) -> tuple[str, int, str]:
    """The chapter that an id names, the number in it, and the id.

    >>> chapter_place("61-70968-0003"), chapter_place("Harp")
    (('61-70968', 3, '61-70968-0003'), ('Harp', 0, 'Harp'))
    """
    named = re.fullmatch(r"(.+)[-_](\d+)", id_)
    return (named[1], int(named[2]), id_) if named else (id_, 0, id_)


def _join(passages: Sequence[Utterance], taken: dict[str, Span]) -> Iterator[np.ndarray]:
    """The waveforms of passages one after the other, noting where in the recording each lies."""
    position = 0
    for passage in passages:
        waveform = read_waveform(passage.recording, passage.start_s, passage.end_s)
        taken[passage.id] = (position / SAMPLE_RATE, (position + len(waveform)) / SAMPLE_RATE)
        position += len(waveform)
        yield waveform


def _length_s(passages: Sequence[Utterance]) -> float:
    return sum(passage.duration_s for passage in passages)


def _fill(
    passages: list[Utterance], least_s: float, draw: random.Random, taken: dict[str, Span]
) -> Iterator[np.ndarray]:
    """Take passages from the end of the list for one recording, and note where in it each lies."""
    position = 0
    while passages:
        rest_s = sum(passage.duration_s for passage in passages)
        if position >= least_s * SAMPLE_RATE and rest_s >= least_s:
            return
        if position:
            silence = np.zeros(round(draw.uniform(*SILENCE_S) * SAMPLE_RATE), np.float32)
            position += len(silence)
            yield silence
        passage = passages.pop()
        waveform = read_waveform(passage.recording, passage.start_s, passage.end_s)
        taken[passage.id] = (position / SAMPLE_RATE, (position + len(waveform)) / SAMPLE_RATE)
        position += len(waveform)
        yield waveform


def _copy_questions(spoken: Sequence[Utterance], output: Path) -> dict[str, Path]:
    """Write spoken questions into files of their own, so that the folder can be moved."""
    files = {question.id: output / "questions" / f"{number:04}.wav" for number, question in enumerate(spoken)}
    for question in spoken:
        files[question.id].parent.mkdir(exist_ok=True)
        write_waveform(files[question.id], read_waveform(question.recording, question.start_s, question.end_s))
    return files


def _line(question: LongQuestion, folder: Path) -> str:
    answer_start_s, answer_end_s = question.answer_span or (None, None)
    values = {
        "id": question.id,
        "question": question.text,
        "question_audio": question.audio and question.audio.relative_to(folder).as_posix(),
        "recording": question.recording.relative_to(folder).as_posix(),
        "passage": question.passage,
        "start_s": question.passage_span[0],
        "end_s": question.passage_span[1],
        "answer": question.answer,
        "answer_start_s": answer_start_s,
        "answer_end_s": answer_end_s,
    }
    return json.dumps(values, ensure_ascii=False) + "\n"


def _question(row: Mapping[str, Any], folder: Path) -> LongQuestion:
    """The question that a line holds; ValueError, KeyError or TypeError where it holds none."""
    for key in ("id", "question", "recording", "passage"):
        if not isinstance(row[key], str) or not row[key].strip():
            raise ValueError(f"{key} is no text")
    answer, audio = row.get("answer"), row.get("question_audio")
    if not isinstance(answer, str | None) or not isinstance(audio, str | None):
        raise ValueError("answer or question_audio is no text")
    return LongQuestion(
        row["id"], row["question"], folder / audio if audio else None, folder / row["recording"], row["passage"],
        _span(row["start_s"], row["end_s"]), answer or None,
        None if row.get("answer_start_s") is None else _span(row["answer_start_s"], row["answer_end_s"]),
    )  # fmt: skip


def _span(start_s: float, end_s: float) -> Span:
    if not 0 <= start_s < end_s < math.inf:
        raise ValueError(f"{start_s} to {end_s} s is no span")
    return float(start_s), float(end_s)
