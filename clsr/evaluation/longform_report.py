"""What questions about long recordings found, as longform.json (Table 5 reads it), a page, and a line a question."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from clsr.corpora.long_recordings import Span
from clsr.data.kaldi import write_lines
from clsr.evaluation.typeset import Column, Table, to_markdown
from clsr.index.spans import covered_s
from clsr.metrics.recall import Interval, bootstrap

WHOLE = "whole recording"  # name of the row that hands on all of it


class FoundWindow(NamedTuple):
    """A window of a recording, and the cosine of its vector and the question's."""

    recording: str
    start_s: float
    end_s: float
    score: float = 0.0


@dataclass
class LongFormMeasurement:
    """One way to find speech for all questions, and how well it does; what was not measured is None.

    Attributes:
        name: ``clsr-soft top 1``, ..., or that of the whole recording.
        scope: where it looked (``SCOPES``); None where nothing was looked for.
        returned: the windows handed on, by question.
        span_inside: 1 where the answer lies inside a window returned, else 0, by question.
        time_iou: by question.
        exact_match, f1: by question whose answer is known.
        encoding_s: to encode the windows of all recordings.
        retrieval_s: to encode and to look for all questions.
        answering_s: to answer them.
        answerer: its reference.
    """

    name: str
    scope: str | None
    returned: dict[str, list[FoundWindow]]
    span_inside: np.ndarray
    time_iou: np.ndarray
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


def covered(returned: Iterable[FoundWindow]) -> dict[str, float]:
    """Seconds that windows cover in each recording."""
    spans: dict[str, list[Span]] = {}
    for window in returned:
        spans.setdefault(window.recording, []).append((window.start_s, window.end_s))
    return {recording: covered_s(of_recording) for recording, of_recording in spans.items()}


def write_longform(rows: Sequence[LongFormMeasurement], about: Mapping[str, Any], seed: int, output: Path) -> None:
    """Write ``hits.jsonl``, ``longform.md`` and, last, ``longform.json``: what was measured, and an object a row.

    Args:
        rows: in the order of the tables.
        about: set, questions, answers, answer_spans, recordings, audio_seconds, window_s, hop_s, model, command,
            commit, hardware, seed and tags.
        seed: of the bootstrap.
        output: folder of the report.

    Raises:
        InputError: the folder cannot be written.
    """
    content = {"kind": "longform", **about, "rows": [_row_object(row, seed) for row in rows]}
    write_lines(output / "hits.jsonl", (json.dumps(line, ensure_ascii=False) + "\n" for line in _hit_objects(rows)))
    write_lines(output / "longform.md", [_markdown(content)])
    write_lines(output / "longform.json", [json.dumps(content, indent=2, ensure_ascii=False) + "\n"])


def _row_object(row: LongFormMeasurement, seed: int) -> dict[str, Any]:
    def share(values: np.ndarray | None) -> dict[str, float] | None:
        return None if values is None else bootstrap(values, seed=seed)._asdict()

    k = row.name.rpartition(" ")[2]
    return {
        "name": row.name,
        **({"scope": row.scope} if row.scope else {}),
        "exact_match": share(row.exact_match),
        "f1": share(row.f1),
        "span_in_top_k": {k: share(row.span_inside)} if row.scope else {},
        "returned_s": row.returned_s,
        "time_iou": share(row.time_iou),
        "seconds": row.encoding_s + row.retrieval_s + (row.answering_s or 0.0),
        "encoding_seconds": row.encoding_s,
        "retrieval_seconds": row.retrieval_s,
        "answering_seconds": row.answering_s,
        "answerer": row.answerer,
    }


def _hit_objects(rows: Iterable[LongFormMeasurement]) -> Iterable[dict[str, Any]]:
    """A line for each question and row: what was returned and how good it is."""
    for row in rows:
        for at, (question, returned) in enumerate(row.returned.items()):
            windows = [
                [Path(w.recording).name, round(w.start_s, 3), round(w.end_s, 3), round(w.score, 4)] for w in returned
            ]
            yield {
                "row": row.name, "scope": row.scope, "question": question, "windows": windows,
                "span_inside": bool(row.span_inside[at]), "time_iou": round(float(row.time_iou[at]), 4),
            }  # fmt: skip


def _markdown(content: Mapping[str, Any]) -> str:
    """The report as a page to read."""
    titles = "Span inside,Returned (s),Time IoU,EM,F1,Encoding (s),Retrieval (s a question),Answering (s a question)"
    columns = (Column("Context", numbers=False), Column("Looked in", numbers=False), *map(Column, titles.split(",")))
    body = []
    for row in content["rows"]:
        (inside,) = row["span_in_top_k"].values() or [None]
        timed = [(row["retrieval_seconds"], content["questions"]), (row["answering_seconds"], content["answers"])]
        body.append([
            row["name"], row.get("scope", "–"), _percent(inside), f"{row['returned_s']:.1f}", _percent(row["time_iou"]),
            _percent(row["exact_match"]), _percent(row["f1"]), f"{row['encoding_seconds']:.1f}",
            *("–" if seconds is None else f"{seconds / count:.3f}" for seconds, count in timed),
        ])  # fmt: skip
    hours, model = content["audio_seconds"] / 3600, content["model"]
    notes = [
        f"Windows of {content['window_s']:g} s every {content['hop_s']:g} s. In percent, with 95 % bootstrap intervals "
        "over questions.",
        f"{content['questions']} questions ({content['answers']} with a known answer, {content['answer_spans']} with "
        f"its place) about {content['recordings']} recordings, {hours:.2f} h, of {content['set']}.",
        f"Model {model['path']}, fingerprint {model['fingerprint']}. Commit {content['commit']}.",
        content["hardware"],
        f"Command: {content['command']}",
    ]
    return to_markdown(Table("longform", "Long recordings", columns, [body], notes))


def _percent(share: Mapping[str, float] | None) -> str:
    if share is None:
        return "–"
    return "{:.1f} [{:.1f}, {:.1f}]".format(*(100 * bound for bound in Interval(**share)))
