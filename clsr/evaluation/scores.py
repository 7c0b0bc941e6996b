"""What an evaluation measures: error rate and retrieval of each system, and the differences between systems."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np

from clsr.errors import InputError
from clsr.metrics.english import english_normaliser
from clsr.metrics.recall import (
    METRICS,
    SUCCESSES,
    Interval,
    Rankings,
    Relevance,
    bootstrap,
    paired_difference,
    per_query,
)
from clsr.metrics.word_errors import Unit, WordErrors, error_unit, pool, word_errors
from clsr.training_record import TrainingRecord

Direction = Literal["q2c", "c2q"]
DIRECTIONS: tuple[Direction, ...] = ("q2c", "c2q")
CONTRASTS = tuple(("clsr-soft", baseline) for baseline in ("cascade", "cascade-8best", "parabge", "whisper-bge"))


class UtteranceErrors(NamedTuple):
    """Reference and hypothesis of an utterance, its word errors and the words of its reference."""

    id: str
    reference: str
    hypothesis: str
    errors: int
    words: int


class RecognitionErrors(NamedTuple):
    """Errors of the transcripts of a system.

    Attributes:
        total: pooled, by our normalisation.
        transcripts: what they were counted on; none when read back from a report.
        unit: what they count.
        english: pooled word errors by Whisper's English normaliser; None where the set may not be English, or the
            package is missing.
    """

    total: WordErrors
    transcripts: list[UtteranceErrors]
    unit: Unit = "word"
    english: WordErrors | None = None


class QueryResult(NamedTuple):
    """What one query found.

    Attributes:
        id: of the query.
        relevant_rank: rank of the first relevant candidate, from 1; None below the depth of the ranking.
        top: the ten best candidates with their scores.
        metrics: value of each metric, between 0 and 1.
    """

    id: str
    relevant_rank: int | None
    top: list[tuple[str, float]]
    metrics: dict[str, float]


class Retrieval(NamedTuple):
    """Mean and interval of each metric, and the queries in the order of their ids (none if rankings are lost)."""

    intervals: dict[str, Interval]
    queries: list[QueryResult]

    @property
    def query_ids(self) -> list[str]:
        """The Q query ids, sorted."""
        return [query.id for query in self.queries]

    def values(self, metric: str) -> np.ndarray:
        """Return the metric of each query, ``(Q,)``."""
        return np.array([query.metrics[metric] for query in self.queries])


@dataclass
class ReportRow:
    """One system on one set; what was not measured is None.

    Attributes:
        name: ``text``, ``cascade``, ``cascade-8best``, ``clsr``, ``clsr-unquantised``, ``clsr-soft``, ``parabge``, ...
        wer: word errors of the transcripts it works on.
        q2c: passages found for questions.
        c2q: questions found for passages.
        seconds: time to encode all passages.
        audio_seconds: their duration.
        training: how the system was trained.
    """

    name: str
    wer: RecognitionErrors | None = None
    q2c: Retrieval | None = None
    c2q: Retrieval | None = None
    seconds: float | None = None
    audio_seconds: float | None = None
    training: TrainingRecord | None = None

    def retrieval(self, direction: Direction) -> Retrieval | None:
        """Return one direction by its name."""
        return self.q2c if direction == "q2c" else self.c2q


@dataclass(frozen=True)
class ModelInfo:
    """The checkpoint that was measured: its folder, the hash of its weights, its number of parameters."""

    path: str
    fingerprint: str
    parameters: int


@dataclass
class Report:
    """One evaluation: what was measured on what, how to repeat it, and a row for each system.

    Tags say what sets it apart from other evaluations: dataset, split, seed of the training, noise and the like.
    """

    set: str
    questions: int
    passages: int
    model: ModelInfo
    command: str
    commit: str
    hardware: str
    seed: int
    rows: list[ReportRow]
    tags: dict[str, str] = field(default_factory=dict)


class Difference(NamedTuple):
    """How much better row ``a`` is than row ``b`` on the same queries."""

    a: str
    b: str
    direction: Direction
    metric: str
    interval: Interval

    @property
    def significant(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.interval.low > 0 or self.interval.high < 0


def measure_recognition(
    references: Mapping[str, str], hypotheses: Mapping[str, str], english: bool = False
) -> RecognitionErrors:
    """Count word errors of each utterance and pool them.

    Args:
        references: reference transcript by utterance id.
        hypotheses: recognised transcript by utterance id.
        english: count them by Whisper's English normaliser, too.

    Raises:
        InputError: an utterance has no hypothesis, or the references hold no word at all.
    """
    if missing := sorted(references.keys() - hypotheses.keys()):
        raise InputError(f"{missing[0]}: has a reference but no transcript: transcribe it, or leave it out of the set")
    transcripts = [
        UtteranceErrors(utterance, text, hypotheses[utterance], *word_errors(text, hypotheses[utterance]))
        for utterance, text in sorted(references.items())
    ]
    total = pool(WordErrors(transcript.errors, transcript.words) for transcript in transcripts)
    if total.words == 0:
        raise InputError("text: no word in any reference, so there is no word error rate: fill in the transcripts")
    counted = _english_errors(transcripts) if english else None
    return RecognitionErrors(total, transcripts, error_unit(references.values()), counted)


def _english_errors(transcripts: Sequence[UtteranceErrors]) -> WordErrors | None:
    """Word errors of the same transcripts after Whisper's English normaliser."""
    normalise = english_normaliser()
    if normalise is None:
        return None
    total = pool(word_errors(normalise(one.reference), normalise(one.hypothesis), "word") for one in transcripts)
    return total if total.words else None


def measure_retrieval(rankings: Rankings, relevance: Relevance, seed: int = 0) -> Retrieval:
    """Measure each query's ranking and the mean over queries with its 95 % interval.

    Success is measured beside recall where a query has several relevant candidates.

    Args:
        rankings: as `clsr.metrics.recall.rank` gives them.
        relevance: of the same direction.
        seed: of the bootstrap; the same for all rows, so that they share their resamples.

    Raises:
        InputError: as `clsr.metrics.recall.per_query`.
    """
    values = per_query(rankings, relevance)
    several = any(sum(grade > 0 for grade in relevance[query].values()) > 1 for query in rankings)
    measured = (*METRICS, *SUCCESSES) if several else METRICS
    queries = []
    for row, query in enumerate(sorted(rankings)):
        found = (at for at, (candidate, _) in enumerate(rankings[query], 1) if relevance[query].get(candidate, 0) > 0)
        metrics = {metric: float(values[metric][row]) for metric in measured}
        queries.append(QueryResult(query, next(found, None), rankings[query][:10], metrics))
    return Retrieval({metric: bootstrap(values[metric], seed=seed) for metric in measured}, queries)


def differences(report: Report) -> list[Difference]:
    """Compare `clsr-soft` with its baselines (CONTRASTS) on every metric, where both rows are in the report."""
    rows = {row.name: row for row in report.rows}
    pairs = [(rows[a], rows[b]) for a, b in CONTRASTS if a in rows and b in rows]
    return [difference for a, b in pairs for difference in row_differences(a, b, report.seed)]


def row_differences(a: ReportRow, b: ReportRow, seed: int) -> list[Difference]:
    """Row ``a`` minus row ``b`` on every metric of the directions that both measured on the same queries."""
    found = []
    for direction in DIRECTIONS:
        first, second = a.retrieval(direction), b.retrieval(direction)
        if first and second and first.queries and first.query_ids == second.query_ids:
            for metric in (metric for metric in first.intervals if metric in second.intervals):
                interval = paired_difference(first.values(metric), second.values(metric), seed=seed)
                found.append(Difference(a.name, b.name, direction, metric, interval))
    return found
