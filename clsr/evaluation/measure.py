"""Word error rate and recall of a model and its rivals, measured together in one pass over a set."""

from __future__ import annotations

import platform
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from clsr.audio import read_waveform
from clsr.baselines.cascade import Cascade, encode_n_best, encode_transcripts, transcripts
from clsr.baselines.parabge import ParaBge, load_parabge
from clsr.checkpoint import current_commit, fingerprint, load_recogniser
from clsr.config import OFFLINE_TEXT_ENCODER
from clsr.data.kaldi import Utterance, read_data_dir
from clsr.data.retrieval_set import RetrievalSet, is_retrieval_set, read_retrieval_set
from clsr.errors import InputError
from clsr.evaluation.recall import invert, rank
from clsr.evaluation.report import ModelInfo, Recognition, Report, Row, measure_recognition, measure_retrieval
from clsr.models import recogniser
from clsr.models.adaptor import centred
from clsr.models.recogniser import Recogniser
from clsr.models.speech_encoder import SpeechEncoder
from clsr.models.text_encoder import load_text_encoder
from clsr.vocabulary import normalise

READ_AT_ONCE = 64  # recordings held in memory

System = SpeechEncoder | Cascade


class Side(NamedTuple):
    """What one system makes of one side, passages or questions."""

    vectors: np.ndarray  # (N, E)
    seconds: float


@dataclass(frozen=True)
class EvaluationConfig:
    """What to measure.

    Attributes:
        rival: checkpoint of ParaBGE, for its row.
        text_encoder: reference of the text encoder that a release's transcripts go to (the offline one).
        seed: of the bootstrap.
        centre: take from the questions their mean vector, and from the passages theirs, in every row.
        rows: names of the rows wanted; empty for all.
    """

    rival: Path | None = None
    text_encoder: str | None = None
    seed: int = 0
    centre: bool = False
    rows: tuple[str, ...] = ()

    def wants(self, row: str) -> bool:
        """Is this row wanted?"""
        return not self.rows or row in self.rows


def evaluate(model: Path, data: Path, config: EvaluationConfig = EvaluationConfig()) -> Report:
    """Measure a model on a retrieval set, or its transcripts on a plain Kaldi data directory.

    Each recording is recognised once; every row but ``text`` and ``parabge`` starts from that recognition.

    Args:
        model: checkpoint of a CLSR model, a recogniser, or a release with tokens of its own: the latter gives the rows
            of the text and of cascades alone.
        data: retrieval set or data directory.
        config: what to measure.

    Raises:
        InputError: a checkpoint or the set is at fault, or a text encoder is named for a model that has its own.
    """
    encoder = load_recogniser(model)
    whole = read_retrieval_set(data) if is_retrieval_set(data) else None
    system = _system(encoder, model, config.text_encoder) if whole else None
    passages = whole.passages if whole else read_data_dir(data)
    heard, seconds = _recognise(encoder, passages)
    wer = _measure_wer(encoder, passages, heard, data)
    if whole and system:
        spoken = _recognise(encoder, whole.question_speech)[0] if whole.question_speech else None
        rows = _measure_rows(system, whole, heard, spoken, seconds, wer, config)
    else:
        name = "clsr" if isinstance(encoder, SpeechEncoder) else "cascade"
        rows = [Row(name, wer, None, None, seconds, _audio_seconds(passages))]
    parameters = sum(parameter.numel() for parameter in encoder.paraformer.parameters())
    return Report(
        set=str(data),
        questions=len(whole.questions) if whole else 0,
        passages=len(passages),
        model=ModelInfo(str(model), fingerprint(model), parameters),
        command=shlex.join(["clsr", *sys.argv[1:]]),
        commit=current_commit(),
        hardware=hardware(),
        seed=config.seed,
        rows=rows,
    )


def _system(encoder: Recogniser, model: Path, text_encoder: str | None) -> System:
    """Return what recognises and encodes: a model with its text encoder, or a release and the one named."""
    if not isinstance(encoder, SpeechEncoder):
        return Cascade(encoder.vocabulary, load_text_encoder(text_encoder or OFFLINE_TEXT_ENCODER))
    if text_encoder is not None:
        raise InputError(f"{model}: has a text encoder of its own: leave out --text-encoder")
    return encoder


def hardware() -> str:
    """Return the processor, its cores in use, and the accelerator if there is one."""
    accelerator = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{_processor()}, {torch.get_num_threads()} threads{accelerator}"


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _recognise(encoder: Recogniser, utterances: Sequence[Utterance]) -> tuple[list[recogniser.Recognition], float]:
    """Recognise utterances in their order; reading is not timed, features and networks are."""
    heard: list[recogniser.Recognition] = []
    seconds = 0.0
    for waveforms in _waveforms(utterances, "recognise"):
        start = time.perf_counter()
        heard += encoder.recognise(waveforms)
        seconds += time.perf_counter() - start
    return heard, seconds


def _waveforms(utterances: Sequence[Utterance], title: str) -> Iterator[list[np.ndarray]]:
    for start in tqdm(range(0, len(utterances), READ_AT_ONCE), title, disable=None):
        chunk = utterances[start : start + READ_AT_ONCE]
        yield [read_waveform(u.recording, u.start_s, u.end_s) for u in chunk]


def _measure_wer(
    encoder: Recogniser, passages: Sequence[Utterance], heard: Sequence[recogniser.Recognition], data: Path
) -> Recognition:
    references = {u.id: normalise(u.text) for u in passages if u.text is not None}
    if not references:
        raise InputError(f"{data}: no transcripts (text), so nothing to measure: use clsr transcribe")
    texts = (normalise(text) for text in transcripts(encoder, heard))  # releases write as they please
    hypotheses = dict(zip((u.id for u in passages), texts, strict=True))
    return measure_recognition(references, {i: hypotheses[i] for i in references})


def _measure_rows(encoder: System, whole: RetrievalSet, heard: list[recogniser.Recognition],
                  spoken: list[recogniser.Recognition] | None, seconds: float, wer: Recognition,
                  config: EvaluationConfig) -> list[Row]:  # fmt: skip
    typed = encoder.text_encoder.encode(list(whole.questions.values()), "question").numpy()
    audio_s = _audio_seconds(whole.passages)
    rows = []

    def add(name: str, questions: np.ndarray, passages: Side, errors: Recognition | None) -> None:
        if config.centre:
            questions, passages = _centred(questions), passages._replace(vectors=_centred(passages.vectors))
        q_ids, p_ids = list(whole.questions), [passage.id for passage in whole.passages]
        back = invert(whole.relevance)
        asked = [row for row, passage_id in enumerate(p_ids) if passage_id in back]
        found = rank(questions, passages.vectors, q_ids, p_ids)
        turned = rank(passages.vectors[asked], questions, [p_ids[row] for row in asked], q_ids)
        q2c, c2q = measure_retrieval(found, whole.relevance, config.seed), measure_retrieval(turned, back, config.seed)
        rows.append(Row(name, errors, q2c, c2q, passages.seconds, audio_s))

    texts = [normalise(passage.text or "") for passage in whole.passages]
    if config.wants("text"):
        add("text", typed, _timed(lambda: _as_passages(encoder, lambda: encoder.text_encoder.encode(texts)), 0.0), None)
    for name, embed in _own_systems(encoder).items():
        if not config.wants(name):
            continue
        questions = embed(spoken).numpy() if spoken else typed
        add(name, questions, _timed(partial(_as_passages, encoder, partial(embed, heard)), seconds), wer)
    if config.rival is not None and config.wants("parabge"):
        model, text_encoder = load_parabge(config.rival)
        questions = text_encoder.encode(list(whole.questions.values()), "question").numpy()
        if whole.question_speech:
            questions = _encode_parabge(model, whole.question_speech).vectors
        add("parabge", questions, _encode_parabge(model, whole.passages), None)
    return rows


def _as_passages(encoder: System, make: Callable[[], Tensor]) -> Tensor:
    vectors = make()
    return encoder.as_passages(vectors) if isinstance(encoder, SpeechEncoder) else vectors


def _centred(vectors: np.ndarray) -> np.ndarray:
    return centred(torch.from_numpy(vectors), torch.from_numpy(vectors).mean(0)).numpy()


def _own_systems(encoder: System) -> dict[str, Callable[[Sequence[recogniser.Recognition]], Tensor]]:
    """Return what can be made of a recognition, by row name."""
    cascades: dict[str, Callable[[Sequence[recogniser.Recognition]], Tensor]] = {
        "cascade": lambda heard: encode_transcripts(encoder, heard),
        "cascade-8best": lambda heard: encode_n_best(encoder, heard, 8),
    }
    if isinstance(encoder, Cascade):
        return cascades
    return cascades | {
        "clsr": lambda heard: encoder.embed(heard, "hard"),
        "clsr-soft": lambda heard: encoder.embed(heard, "soft"),
    }


def _timed(make: Callable[[], Tensor], before: float) -> Side:
    start = time.perf_counter()
    vectors = make().numpy()
    return Side(vectors, before + time.perf_counter() - start)


def _encode_parabge(model: ParaBge, utterances: Sequence[Utterance]) -> Side:
    vectors, seconds = [], 0.0
    for waveforms in _waveforms(utterances, "parabge"):
        start = time.perf_counter()
        vectors.append(model.encode(waveforms).numpy())
        seconds += time.perf_counter() - start
    return Side(np.concatenate(vectors), seconds)


def _audio_seconds(utterances: Sequence[Utterance]) -> float:
    return sum(utterance.duration_s for utterance in utterances)
