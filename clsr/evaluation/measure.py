"""Word error rate and recall of CLSR and its baselines, measured together in one pass over a set."""

from __future__ import annotations

import hashlib
import platform
import random
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from clsr.audio.waveform import add_noise, read_waveform
from clsr.checkpoint import current_commit, load_weights
from clsr.checkpoint_folder import fingerprint
from clsr.data.kaldi import Utterance, read_data_dir
from clsr.data.retrieval_set import RetrievalSet, is_retrieval_set, read_retrieval_set
from clsr.errors import InputError
from clsr.evaluation.config import EvaluationConfig
from clsr.evaluation.scores import (
    ModelInfo,
    RecognitionErrors,
    Report,
    ReportRow,
    Retrieval,
    measure_recognition,
    measure_retrieval,
)
from clsr.hub import find_folder
from clsr.metrics.english import is_english
from clsr.metrics.recall import invert, rank
from clsr.models.speech_encoder import SpeechEncoder
from clsr.systems.clsr import ClsrSystem
from clsr.systems.load import load_system
from clsr.systems.protocol import PartsSystem, System
from clsr.systems.sources import parse_reference
from clsr.training_record import TrainingRecord, read_training
from clsr.vocabulary import fold_accents, normalise

READ_AT_ONCE = 64  # recordings in memory
ORACLE = "text"  # the row of the reference transcripts
# Of questions of text and speech in turn, by the last row of the first system: the mean of the vectors of their texts
# and of their speech, and those of one kind of parts alone.
AVERAGED, TEXT_PARTS, AUDIO_PARTS = PARTS_ROWS = ("averaged-parts", "text-parts", "audio-parts")
ROWS = (
    ORACLE, "cascade", "cascade-8best", "clsr", "clsr-unquantised", "clsr-soft", "parabge", "clap", "speechdpr",
    "whisper-bge", "whisper-bge-noisy", "whisper-bge-scratch", "whisper-bge-scratch-noisy", "funasr-bge",
    "st", *PARTS_ROWS,
)  # fmt: skip


class _Recognised(NamedTuple):
    """What one system made of utterances."""

    items: list[Any]  # of `System.recognise`
    seconds: float


def evaluate(models: Sequence[str | Path], data: Path, config: EvaluationConfig = EvaluationConfig()) -> Report:
    """Measure models on a retrieval set, or their transcripts on a plain Kaldi data directory.

    Each system recognises each recording once; its rows start from that.

    Args:
        models: checkpoints and released models, as `clsr.systems.load.load_system` takes them; the report is named
            after the first, and the row of the true text is made by its text encoder.
        data: retrieval set or data directory.
        config: what to measure.

    Raises:
        InputError: a model or the set is at fault, two models give the same row, or a row is wanted that none gives.
    """
    systems = [load_system(str(model), config.text_encoder, config.device, config.precision) for model in models]
    _check_rows(models, systems, config)
    whole = read_retrieval_set(data, text_passages=True) if is_retrieval_set(data) else None
    if config.shuffle and not (whole and whole.question_parts):
        raise InputError(f"{data}: no questions/parts.jsonl: shuffle is for questions of text and speech in turn")
    passages = whole.passages if whole else read_data_dir(data)
    rows: list[ReportRow] = []
    for system, model in zip(systems, models, strict=True):
        if whole and config.rows == (ORACLE,):  # of the transcripts alone: nothing is to be recognised
            rows += _measure_rows(system, whole, _Recognised([], 0.0), None, config, oracle=system is systems[0])
            continue
        speech = [] if whole and whole.has_text_passages else passages
        recognised = _recognise(system, speech, config.seed, config.snr_db)
        wer = _measure_wer(system, speech, recognised, data) if speech else None
        measured: Iterable[ReportRow] = ()
        if whole:
            measured = _measure_rows(system, whole, recognised, wer, config, oracle=system is systems[0])
        elif wer:
            measured = [ReportRow(_named_by(system), wer, None, None, recognised.seconds, _audio_seconds(passages))]
        training = trained(str(model))
        rows += (row if row.name == ORACLE else replace(row, training=training) for row in measured)
    snr = {"snr_db": config.snr_db, "question_snr_db": config.question_snr_db}
    settings: dict[str, str] = {"shuffle": config.shuffle} if config.shuffle else {}
    if config.precision != "float32":
        settings["precision"] = config.precision
    return Report(
        set=str(data),
        questions=len(whole.questions) if whole else 0,
        passages=len(passages),
        model=model_info(str(models[0]), systems[0]),
        command=shlex.join(["clsr", *sys.argv[1:]]),
        commit=current_commit(),
        hardware=hardware(config.device),
        seed=config.seed,
        rows=rows,
        tags={name: f"{ratio:g}" for name, ratio in snr.items() if ratio is not None} | settings | dict(config.tags),
    )


def trained(reference: str) -> TrainingRecord | None:
    """Say how a system was trained, by its reference; ``None`` of a checkpoint that keeps no record."""
    return read_training(find_folder(parse_reference(reference).place))


def _check_rows(models: Sequence[str | Path], systems: Sequence[System], config: EvaluationConfig) -> None:
    """Refuse rows that would stand twice in a report, and rows that would not stand there at all."""
    owner: dict[str, str | Path] = {}
    for model, system in zip(models, systems, strict=True):
        for row in system.rows:
            if row in owner and row != ORACLE:
                raise InputError(f"{model}: gives row {row}, as {owner[row]} does: evaluate one of them by itself")
            owner.setdefault(row, model)
    for row in config.rows:
        if row not in owner and row not in (ORACLE, *PARTS_ROWS):  # which any system gives that encodes text, or parts
            raise InputError(f"row {row}: none of the models gives it: they give {', '.join(owner)}")


def _named_by(system: System) -> str:
    """The row that stands for the transcripts of a system, where nothing is retrieved."""
    return "clsr" if "clsr" in system.rows else next(row for row in system.rows if row != ORACLE)


def model_info(reference: str, system: System | None = None) -> ModelInfo:
    """Say which model it is, its text encoder included; what is no checkpoint has no fingerprint of ours.

    Args:
        reference: of the model.
        system: the model, loaded, where it may have another text encoder than its own.
    """
    if not (Path(reference) / "meta.json").exists():
        return ModelInfo(reference, "", 0)
    parameters = sum(weight.numel() for weight in load_weights(reference).values())
    text_encoder = None
    if isinstance(system, ClsrSystem) and isinstance(system.encoder, SpeechEncoder):
        text_encoder = system.encoder.text_encoder.fingerprint
    return ModelInfo(reference, fingerprint(reference, text_encoder), parameters)


def hardware(device: str = "cpu") -> str:
    """Return the processor, the number of its threads in use, and the accelerator if the device is one."""
    accelerator = "" if torch.device(device).type == "cpu" else f", {torch.cuda.get_device_name(device)}"
    return f"{_processor()}, {torch.get_num_threads()} threads{accelerator}"


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _recognise(system: System, utterances: Sequence[Utterance], seed: int, snr_db: float | None) -> _Recognised:
    """Recognise utterances in their order; reading files is not timed, features and networks are."""
    items: list[Any] = []
    seconds = 0.0
    for waveforms in _waveforms(utterances, system.rows[-1], seed, snr_db):
        start = time.perf_counter()
        items += system.recognise(waveforms)
        seconds += time.perf_counter() - start
    return _Recognised(items, seconds)


def _waveforms(
    utterances: Sequence[Utterance], title: str, seed: int, snr_db: float | None
) -> Iterator[list[np.ndarray]]:
    for start in tqdm(range(0, len(utterances), READ_AT_ONCE), title, disable=None):
        chunk = utterances[start : start + READ_AT_ONCE]
        waveforms = [read_waveform(u.recording, u.start_s, u.end_s) for u in chunk]
        if snr_db is not None:
            waveforms = [_noisy(waveform, u.id, seed, snr_db) for u, waveform in zip(chunk, waveforms, strict=True)]
        yield waveforms


def _noisy(waveform: np.ndarray, utterance: str, seed: int, snr_db: float) -> np.ndarray:
    """Add white noise that seed and id alone decide, so that a ratio of 0 dB has that of 10 dB, only louder."""
    if not np.any(waveform):
        return waveform  # silence has no ratio to noise
    digest = hashlib.sha256(f"{seed} {utterance} noise".encode()).digest()
    noise = np.random.default_rng(list(digest)).standard_normal(len(waveform), dtype=np.float32)
    return add_noise(waveform, noise, snr_db)


def _measure_wer(
    system: System, passages: Sequence[Utterance], recognised: _Recognised, data: Path
) -> RecognitionErrors | None:
    texts = system.transcribe(recognised.items)
    if texts is None:
        return None
    references = {u.id: fold_accents(u.text) for u in passages if u.text is not None}
    if not references:
        raise InputError(f"{data}: no transcripts (text), so nothing to measure: use clsr transcribe")
    hypotheses = {
        u.id: fold_accents(text) for u, text in zip(passages, texts, strict=True)
    }  # some write as they please
    english = is_english(u.text for u in passages if u.text is not None)
    return measure_recognition(references, {i: hypotheses[i] for i in references}, english)


def _measure_rows(system: System, whole: RetrievalSet, recognised: _Recognised, wer: RecognitionErrors | None,
                  config: EvaluationConfig, oracle: bool) -> Iterator[ReportRow]:  # fmt: skip
    """Yield the wanted rows of one system; that of the reference transcripts where ``oracle`` is set."""
    rows = [row for row in system.rows if config.wants(row) and row != ORACLE]
    if oracle and ((ORACLE in system.rows and config.wants(ORACLE)) or ORACLE in config.rows):
        rows.insert(0, ORACLE)
    if oracle and whole.question_parts:
        rows += [row for row in PARTS_ROWS if config.wants(row)]
    questions_of = _question_encoder(system, whole, config, needs_speech=bool(set(rows) - {ORACLE}))
    audio_s = _audio_seconds(whole.passages)
    for row in rows:
        start = time.perf_counter()
        if row == ORACLE or whole.has_text_passages:
            texts = [normalise(passage.text or "") for passage in whole.passages]
            passages, before = system.encode_text(texts, "passage").numpy(), 0.0
        else:
            of_row = system.rows[-1] if row in PARTS_ROWS else row
            passages, before = system.encode(recognised.items, of_row, "passage").numpy(), recognised.seconds
        seconds = before + time.perf_counter() - start
        q2c, c2q = _measure_directions(questions_of(row).numpy(), passages, whole, config)
        yield ReportRow(row, None if row == ORACLE else wer, q2c, c2q, seconds, audio_s)


def _question_encoder(
    system: System, whole: RetrievalSet, config: EvaluationConfig, needs_speech: bool
) -> Callable[[str], Tensor]:
    """Return what gives the vectors ``(Q, E)`` of all questions by row; their speech is recognised here, once."""
    typed = system.encode_text(list(whole.questions.values()), "question")
    if whole.question_parts and needs_speech:
        return _parts_encoder(system, whole, config, typed)
    spoken = None
    if whole.question_speech and needs_speech:
        spoken = _recognise(system, whole.question_speech, config.seed, config.question_snr_db).items

    def encode(row: str) -> Tensor:
        return typed if spoken is None or row == ORACLE else system.encode(spoken, row, "question")

    return encode


def _parts_encoder(
    system: System, whole: RetrievalSet, config: EvaluationConfig, typed: Tensor
) -> Callable[[str], Tensor]:
    """As ``_question_encoder``, for questions of text and speech in turn."""
    if not isinstance(system, PartsSystem):
        raise InputError(f"{whole.path}: row {system.rows[-1]} takes no questions of text and speech in turn")
    alone = {utterance.id: [utterance] for utterance in whole.question_speech or ()}
    inputs: list[list[str | Utterance]] = [
        list(whole.question_parts.get(id_) or alone.get(id_) or [text]) for id_, text in whole.questions.items()
    ]
    if config.shuffle in ("parts", "both"):
        draw = random.Random(config.seed)
        inputs = [draw.sample(parts, len(parts)) for parts in inputs]
    speech = [part for parts in inputs for part in parts if isinstance(part, Utterance)]
    items = iter(_recognise(system, speech, config.seed, config.question_snr_db).items)
    read = [[part if isinstance(part, str) else next(items) for part in parts] for parts in inputs]
    is_text = [[isinstance(part, str) for part in parts] for parts in inputs]
    seed = config.seed if config.shuffle in ("positions", "both") else None

    def encode(row: str) -> Tensor:
        if row == ORACLE:
            return typed
        if row not in PARTS_ROWS:
            return system.encode_parts(read, row, "question", seed)
        of_kind = {kind: _kept(read, is_text, kind == TEXT_PARTS) for kind in (TEXT_PARTS, AUDIO_PARTS)}
        if row in of_kind:
            return system.encode_parts(of_kind[row], system.rows[-1], "question", seed)
        both = [system.encode_parts(parts, system.rows[-1], "question", seed) for parts in of_kind.values()]
        there = [torch.tensor([[float(bool(one))] for one in parts]) for parts in of_kind.values()]
        return torch.nn.functional.normalize(both[0] * there[0] + both[1] * there[1], dim=1)

    return encode


def _kept(inputs: Sequence[Sequence[Any]], is_text: Sequence[Sequence[bool]], texts: bool) -> list[list[Any]]:
    """The texts of each input, or all else."""
    return [
        [part for part, text in zip(parts, of_one, strict=True) if text == texts]
        for parts, of_one in zip(inputs, is_text, strict=True)
    ]


def _measure_directions(
    questions: np.ndarray, passages: np.ndarray, whole: RetrievalSet, config: EvaluationConfig
) -> tuple[Retrieval, Retrieval]:
    """Rank passages for questions and questions for passages, ``(Q, E)`` and ``(P, E)``, in the order of the set."""
    q_ids, p_ids = list(whole.questions), [passage.id for passage in whole.passages]
    back = invert(whole.relevance)
    relevant = [row for row, passage_id in enumerate(p_ids) if passage_id in back]
    found = rank(questions, passages, q_ids, p_ids)
    turned = rank(passages[relevant], questions, [p_ids[row] for row in relevant], q_ids)
    return measure_retrieval(found, whole.relevance, config.seed), measure_retrieval(turned, back, config.seed)


def _audio_seconds(utterances: Sequence[Utterance]) -> float:
    return sum(utterance.duration_s for utterance in utterances)
