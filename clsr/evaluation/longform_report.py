"""What was found for questions about long recordings: longform.json, a page, and a line a question."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from clsr.audio.pauses import Span
from clsr.data.kaldi import write_lines
from clsr.errors import InputError
from clsr.evaluation.typeset import Column, Table, to_markdown
from clsr.index.windows import covered_s
from clsr.metrics.recall import Interval, bootstrap

WHOLE = "whole recording"  # name of the row that hands on all of it


class FoundWindow(NamedTuple):
    """A window of a recording, and the cosine of its vector and the question's."""

    recording: str
    start_s: float
    end_s: float
    score: float = 0.0


@dataclass(frozen=True)
class LongFormRow:
    """A row of longform.json: one way to find speech, and how well it does; what was not measured is None.

    Attributes:
        name: ``clsr-soft top 1``, ..., or ``whole recording``.
        scope: where it searched (``SCOPES``); None where nothing was searched.
        exact_match: share of answers that are right word for word.
        f1: of the words of answers.
        span_in_top_k: share of questions whose answer lies inside one of the first ``k`` windows, by ``k``.
        success: share of questions whose passage has its middle in a window returned.
        returned_s: mean duration of the speech returned, in seconds.
        time_iou: overlap of the times returned with those of the passage, over their union.
        seconds: for all questions together, the sum of the next three.
        encoding_seconds, retrieval_seconds, answering_seconds: as in `LongFormMeasurement`.
        answerer: reference of the model that answered; None without one.
    """

    name: str
    scope: str | None
    exact_match: Interval | None
    f1: Interval | None
    span_in_top_k: dict[str, Interval]
    success: Interval | None
    returned_s: float | None
    time_iou: Interval | None
    seconds: float | None
    encoding_seconds: float | None
    retrieval_seconds: float | None
    answering_seconds: float | None
    answerer: str | None

    @property
    def title(self) -> str:
        """The name, and where windows were searched: in the question's recording or in all."""
        return f"{self.name}, {self.scope}" if self.scope else self.name

    def to_object(self) -> dict[str, Any]:
        """Return the row as longform.json has it; without a scope there is no such key."""
        content = {key: _share_object(value) for key, value in vars(self).items() if key != "scope" or value}
        content["span_in_top_k"] = {k: share._asdict() for k, share in self.span_in_top_k.items()}
        return content

    @classmethod
    def from_object(cls, content: Mapping[str, Any]) -> LongFormRow:
        """Read a row of longform.json; keys that it does not know are skipped.

        Raises:
            KeyError, TypeError: the row is not whole.
        """
        shares: dict[str, Any] = {
            key: content[key] and Interval(**content[key]) for key in ("exact_match", "f1", "time_iou")
        }
        shares["success"] = content.get("success") and Interval(**content["success"])  # earlier reports have none
        spans = {k: Interval(**share) for k, share in (content["span_in_top_k"] or {}).items() if share}
        rest: dict[str, Any] = {key: content[key] for key in ("name", "returned_s", "seconds", "answerer")}
        for key in ("scope", "encoding_seconds", "retrieval_seconds", "answering_seconds"):
            rest[key] = content.get(key)
        return cls(span_in_top_k=spans, **shares, **rest)


def _share_object(value: Any) -> Any:
    return value._asdict() if isinstance(value, Interval) else value


@dataclass
class LongFormMeasurement:
    """What one way to find speech returned for each question, and how good that is; what was not measured is None.

    Attributes:
        name: ``clsr-soft top 1``, ..., or ``whole recording``.
        scope: where it searched (``SCOPES``); None where nothing was searched.
        returned: the windows returned, by question.
        span_inside: 1 where the answer lies inside a window returned, else 0, by question.
        time_iou: by question.
        middle_inside: 1 where the middle of the passage lies in a window returned, else 0, by question.
        exact_match, f1: by question whose answer is known.
        encoding_s: to encode the windows of all recordings.
        retrieval_s: to encode all questions and to search.
        answering_s: to answer them.
        answerer: its reference.
    """

    name: str
    scope: str | None
    returned: dict[str, list[FoundWindow]]
    span_inside: np.ndarray
    time_iou: np.ndarray
    middle_inside: np.ndarray
    exact_match: np.ndarray | None = None
    f1: np.ndarray | None = None
    encoding_s: float = 0.0
    retrieval_s: float = 0.0
    answering_s: float | None = None
    answerer: str | None = None

    @property
    def returned_s(self) -> float:
        """Mean duration of the speech returned, in seconds; what two windows share counts once."""
        return float(np.mean([sum(covered(found).values()) for found in self.returned.values()]))

    def row(self, seed: int) -> LongFormRow:
        """Mean of each measure with its 95 % bootstrap interval over questions."""

        def share(values: np.ndarray | None) -> Interval | None:
            return None if values is None else bootstrap(values, seed=seed)

        k = self.name.rpartition(" ")[2]
        return LongFormRow(
            name=self.name,
            scope=self.scope,
            exact_match=share(self.exact_match),
            f1=share(self.f1),
            span_in_top_k={k: bootstrap(self.span_inside, seed=seed)} if self.scope else {},
            success=share(self.middle_inside) if self.scope else None,
            returned_s=self.returned_s,
            time_iou=share(self.time_iou),
            seconds=self.encoding_s + self.retrieval_s + (self.answering_s or 0.0),
            encoding_seconds=self.encoding_s,
            retrieval_seconds=self.retrieval_s,
            answering_seconds=self.answering_s,
            answerer=self.answerer,
        )


def covered(returned: Iterable[FoundWindow]) -> dict[str, float]:
    """Seconds that windows cover in each recording."""
    spans: dict[str, list[Span]] = {}
    for window in returned:
        spans.setdefault(window.recording, []).append((window.start_s, window.end_s))
    return {recording: covered_s(of_recording) for recording, of_recording in spans.items()}


def write_longform(
    measurements: Sequence[LongFormMeasurement], about: Mapping[str, Any], seed: int, output: Path
) -> None:
    """Write ``hits.jsonl``, ``longform.md`` and, last, ``longform.json``: what was measured, and an object a row.

    Args:
        measurements: in the order of the tables.
        about: set, questions, answers, answer_spans, recordings, audio_seconds, other_recordings,
            other_seconds, window_s, hop_s, model, command,
            commit, hardware, seed and tags.
        seed: of the bootstrap.
        output: folder of the report.

    Raises:
        InputError: the folder cannot be written.
    """
    rows = [measurement.row(seed) for measurement in measurements]
    content = {"kind": "longform", **about, "rows": [row.to_object() for row in rows]}
    hits = _hit_objects(measurements)
    write_lines(output / "hits.jsonl", (json.dumps(line, ensure_ascii=False) + "\n" for line in hits))
    write_lines(output / "longform.md", [_markdown(rows, about)])
    write_lines(output / "longform.json", [json.dumps(content, indent=2, ensure_ascii=False) + "\n"])


class LongFormReport(NamedTuple):
    """What table 5 needs of a longform.json."""

    tags: dict[str, str]
    rows: list[LongFormRow]
    hardware: str


def read_longform(file: Path) -> LongFormReport:
    """Read a longform.json.

    Raises:
        InputError: the file is missing or damaged.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if content["kind"] != "longform":
            raise ValueError(f"kind {content['kind']}")
        rows = [LongFormRow.from_object(row) for row in content["rows"]]
        tags = {str(key): str(value) for key, value in content["tags"].items()}
        return LongFormReport(tags, rows, content["hardware"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{file}: not a whole report on long recordings ({error!r}): measure again") from error


def _hit_objects(measurements: Iterable[LongFormMeasurement]) -> Iterable[dict[str, Any]]:
    """A line for each measurement and question: what was returned and how good it is."""
    for row in measurements:
        for at, (question, returned) in enumerate(row.returned.items()):
            windows = [
                [Path(w.recording).name, round(w.start_s, 3), round(w.end_s, 3), round(w.score, 4)] for w in returned
            ]
            yield {
                "row": row.name, "scope": row.scope, "question": question, "windows": windows,
                "span_inside": bool(row.span_inside[at]), "success": bool(row.middle_inside[at]),
                "time_iou": round(float(row.time_iou[at]), 4),
            }  # fmt: skip


def _markdown(rows: Iterable[LongFormRow], about: Mapping[str, Any]) -> str:
    """The report as a page to read."""
    titles = (
        "Span inside,Returned (s),Time IoU,Success,EM,F1,Encoding (s),Retrieval (s a question),Answering (s a question)"
    )
    columns = (Column("Context", numbers=False), Column("Searched in", numbers=False), *map(Column, titles.split(",")))
    body = []
    for row in rows:
        (inside,) = row.span_in_top_k.values() or [None]
        timed = [(row.retrieval_seconds, about["questions"]), (row.answering_seconds, about["answers"])]
        body.append([
            row.name, row.scope or "–", _percent(inside), f"{row.returned_s:.1f}", _percent(row.time_iou),
            _percent(row.success), _percent(row.exact_match), _percent(row.f1), f"{row.encoding_seconds:.1f}",
            *("–" if seconds is None else f"{seconds / count:.3f}" for seconds, count in timed),
        ])  # fmt: skip
    hours, model = about["audio_seconds"] / 3600, about["model"]
    notes = [
        f"Windows of {about['window_s']:g} s every {about['hop_s']:g} s. In percent, with 95 % bootstrap intervals "
        "over questions.",
        f"{about['questions']} questions ({about['answers']} with a known answer, {about['answer_spans']} with "
        f"its place) about {about['recordings']} recordings, {hours:.2f} h, of {about['set']}.",
        f"{about['other_recordings']} recordings without a question, {about['other_seconds'] / 3600:.2f} h, are "
        "searched with them.",
        "Success: the middle of the passage lies in a window returned.",
        f"Model {model['path']}, fingerprint {model['fingerprint']}. Commit {about['commit']}.",
        about["hardware"],
        f"Command: {about['command']}",
    ]
    return to_markdown(Table("longform", "Long recordings", columns, [body], notes))


def _percent(share: Interval | None) -> str:
    return "–" if share is None else "{:.1f} [{:.1f}, {:.1f}]".format(*(100 * bound for bound in share))
