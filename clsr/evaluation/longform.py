"""Questions about long recordings: the windows found, whether they hold the answer, and what is answered."""

from __future__ import annotations

import hashlib
import shlex
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from clsr.audio.files import find_recordings
from clsr.audio.waveform import duration_s, read_waveform
from clsr.checkpoint import current_commit
from clsr.corpora.long_recordings import QUESTIONS, LongQuestion, read_long_form
from clsr.errors import InputError
from clsr.evaluation.answer_log import AnswerLog
from clsr.evaluation.config import LongFormConfig
from clsr.evaluation.longform_report import WHOLE, FoundWindow, LongFormMeasurement, covered, write_longform
from clsr.evaluation.measure import READ_AT_ONCE, hardware, model_info
from clsr.evaluation.window_search import EncodedWindows, WindowSearch, read_words, windows_of_words
from clsr.index.windows import covered_s, windows
from clsr.metrics.answers import exact_match, f1
from clsr.search.answerers import Answerer
from clsr.systems.load import load_system
from clsr.systems.protocol import System

SCOPES = ("recording", "all")  # what is searched: the recording that answers the question, or the whole set


Hits = Mapping[str, Sequence[FoundWindow]]
"""The windows found for each question, best first, no two overlapping."""


def measure(
    model: str,
    data: Path,
    output: Path,
    config: LongFormConfig = LongFormConfig(),
    reference: str | None = None,
    answerer: Answerer | None = None,
) -> list[LongFormMeasurement]:
    """Measure a model on a long-form set, and write ``longform.json``, ``longform.md`` and ``hits.jsonl``.

    Answers go to ``answers.jsonl`` as they come; the same command resumes from there.

    Args:
        model: checkpoint that finds the windows.
        data: folder of the long-form set.
        output: folder of the report.
        config: how it is measured.
        reference: name of the answerer in the report.
        answerer: answers from the windows found; None measures the windows alone.

    Raises:
        InputError: model, set, words or answerer is at fault, or an answerer is given and no answer is known.
    """
    questions = read_long_form(data)
    if answerer and not any(question.answer for question in questions):
        raise InputError(f"{data}: no question has a known answer; leave out --answerer, or give answers to the set")
    system = load_system(model)
    row = config.row or system.rows[-1]
    if row not in system.rows or row == "text":
        raise InputError(f"row {row}: {model} makes none from speech; it has {', '.join(system.rows[1:])}")
    output.mkdir(parents=True, exist_ok=True)
    rows = _find(system, row, questions, config)
    if config.whole:
        rows.append(_whole(questions))
    if answerer:
        made_of = hashlib.sha256((data / QUESTIONS).read_bytes()).hexdigest()[:16]
        log = AnswerLog(output / "answers.jsonl", answerer, reference or type(answerer).__name__, made_of, config.typed)
        for measured in rows:
            if measured.scope != "all":
                answer_row(measured, questions, log)
    write_longform(rows, _about(model, data, questions, config), config.seed, output)
    return rows


def _about(model: str, data: Path, questions: Sequence[LongQuestion], config: LongFormConfig) -> dict[str, Any]:
    """What was measured on what, and how to repeat it."""
    recordings = {question.recording for question in questions}
    others = [file for folder in config.others for file in find_recordings([Path(folder)])]
    return {
        "set": str(data),
        "questions": len(questions),
        "answers": sum(question.answer is not None for question in questions),
        "answer_spans": sum(question.answer_span is not None for question in questions),
        "recordings": len(recordings),
        "audio_seconds": sum(duration_s(recording) for recording in recordings),
        "other_recordings": len(others),
        "other_seconds": sum(map(duration_s, others)),
        "window_s": config.window_s,
        "hop_s": config.hop_s,
        "model": asdict(model_info(model)),
        "command": shlex.join(["clsr", *sys.argv[1:]]),
        "commit": current_commit(),
        "hardware": hardware(),
        "seed": config.seed,
        "tags": dict(config.tags),
    }


def _find(
    system: System[Any], row: str, questions: Sequence[LongQuestion], config: LongFormConfig
) -> list[LongFormMeasurement]:
    """Measure each scope and mode with each number of windows."""
    recordings = sorted({str(question.recording) for question in questions})
    others = [str(file) for folder in config.others for file in find_recordings([Path(folder)])]
    start = time.perf_counter()
    windows = _encode_windows(system, row, [*recordings, *others], config)
    encoding_s = time.perf_counter() - start
    start = time.perf_counter()
    vectors = _encode_questions(system, row, questions, config.typed)
    questions_s = time.perf_counter() - start
    search = WindowSearch(windows) if windows.places else None
    rows = []
    for scope in SCOPES[: len(recordings) + len(others)]:  # of a single recording both are one
        for mode in config.modes:
            start = time.perf_counter()
            hits = {
                question.id: search.search(
                    vector, question.text, mode, str(question.recording) if scope == "recording" else None,
                    max(config.top_k),
                ) if search else []
                for question, vector in zip(questions, vectors, strict=True)
            }  # fmt: skip
            retrieval_s = questions_s + time.perf_counter() - start
            name = row if mode == "dense" else f"{row} {mode}"
            for k in config.top_k:
                rows.append(measure_hits(f"{name} top {k}", scope, questions, hits, k))
                rows[-1].encoding_s, rows[-1].retrieval_s = encoding_s, retrieval_s
    return rows


def measure_hits(
    name: str, scope: str | None, questions: Sequence[LongQuestion], hits: Hits, k: int
) -> LongFormMeasurement:
    """Compare the first ``k`` windows found for each question with the place of its answer."""
    returned = {question.id: list(hits[question.id][:k]) for question in questions}
    inside = [span_inside(question, returned[question.id]) for question in questions]
    middle = [middle_inside(question, returned[question.id]) for question in questions]
    overlap = [time_iou(question, returned[question.id]) for question in questions]
    return LongFormMeasurement(
        name, scope, returned, np.array(inside, float), np.array(overlap), np.array(middle, float)
    )  # fmt: skip


def span_inside(question: LongQuestion, returned: Iterable[FoundWindow]) -> bool:
    """Whether the answer's span lies wholly inside one of the windows returned, to the millisecond.

    The span of the passage counts where the answer's is not known. An answer that
    crosses the border of two windows is in neither.
    """
    start_s, end_s = question.answer_span or question.passage_span
    return any(
        window.recording == str(question.recording)
        and window.start_s <= start_s + 1e-3
        and end_s - 1e-3 <= window.end_s
        for window in returned
    )


def middle_inside(question: LongQuestion, returned: Iterable[FoundWindow]) -> bool:
    """Whether the middle of the passage lies in one of the windows returned, whatever their length."""
    middle_s = sum(question.passage_span) / 2
    return any(
        window.recording == str(question.recording) and window.start_s <= middle_s <= window.end_s
        for window in returned
    )  # fmt: skip


def time_iou(question: LongQuestion, returned: Sequence[FoundWindow]) -> float:
    """Seconds that lie both in the windows returned and in the passage, over the seconds that lie in either.

    What several windows share counts once. Windows of other recordings add to the union alone.
    """
    start_s, end_s = question.passage_span
    recording = str(question.recording)
    seconds = covered(returned)
    total_s = sum(seconds.values())
    spans = [(window.start_s, window.end_s) for window in returned if window.recording == recording]
    either_s = total_s - seconds.get(recording, 0.0) + covered_s([*spans, (start_s, end_s)])
    return (total_s + (end_s - start_s) - either_s) / either_s


def answer_row(row: LongFormMeasurement, questions: Sequence[LongQuestion], log: AnswerLog) -> None:
    """Answer the questions whose answer is known from the windows of a row, and score the answers."""
    answerable = [question for question in questions if question.answer]
    answers = [log.answer(q, row.returned[q.id]) for q in tqdm(answerable, f"answer, {row.name}", disable=None)]
    pairs = [(given.answer, question.answer or "") for given, question in zip(answers, answerable, strict=True)]
    row.exact_match = np.array([exact_match(*pair) for pair in pairs])
    row.f1 = np.array([f1(*pair) for pair in pairs])
    row.answering_s = sum(given.seconds for given in answers)
    row.answerer = log.reference


def _whole(questions: Sequence[LongQuestion]) -> LongFormMeasurement:
    """Measure whole recordings in the place of windows."""
    lengths = {question.recording: duration_s(question.recording) for question in questions}
    hits = {q.id: [FoundWindow(str(q.recording), 0.0, lengths[q.recording])] for q in questions}
    return measure_hits(WHOLE, None, questions, hits, 1)


def _encode_windows(system: System[Any], row: str, recordings: Sequence[str], config: LongFormConfig) -> EncodedWindows:
    """Windows of all recordings with their vectors, without those in which nothing is recognised."""
    places = [
        FoundWindow(recording, *span)
        for recording in recordings
        for span in windows(duration_s(recording), config.window_s, config.hop_s)
    ]
    if config.words is not None:
        texts = windows_of_words(read_words(Path(config.words)), places)
        return EncodedWindows(list(texts), _encode_texts(system, list(texts.values())), list(texts.values()))
    kept: list[FoundWindow] = []
    vectors: list[np.ndarray] = []
    written: list[str] | None = []
    for first in tqdm(range(0, len(places), READ_AT_ONCE), f"windows, {row}", disable=None):
        batch = places[first : first + READ_AT_ONCE]
        recognised = system.recognise([read_waveform(place.recording, place.start_s, place.end_s) for place in batch])
        found = system.transcribe(recognised)
        has_words = [found is None or bool(found[at].strip()) for at in range(len(batch))]
        kept += [place for place, keep in zip(batch, has_words, strict=True) if keep]
        written = None if found is None or written is None else written + list(filter(str.strip, found))
        vectors.append(system.encode(recognised, row, "passage").numpy()[has_words])
    return EncodedWindows(kept, np.concatenate(vectors), written)


def _encode_texts(system: System[Any], texts: Sequence[str]) -> np.ndarray:
    """Vectors ``(W, E)`` of the texts of windows."""
    batches = range(0, len(texts), READ_AT_ONCE)
    encoded = [
        system.encode_text(texts[first : first + READ_AT_ONCE], "passage").numpy()
        for first in tqdm(batches, "texts", disable=None)
    ]
    return np.concatenate(encoded) if encoded else np.zeros((0, 1), np.float32)


def _encode_questions(system: System[Any], row: str, questions: Sequence[LongQuestion], typed: bool) -> np.ndarray:
    """Vectors of the questions ``(Q, E)``, spoken where all of them are."""
    spoken = [question.audio for question in questions if question.audio]
    if typed or len(spoken) < len(questions):
        return system.encode_text([question.text for question in questions], "question").numpy()
    return system.encode(system.recognise([read_waveform(audio) for audio in spoken]), row, "question").numpy()
