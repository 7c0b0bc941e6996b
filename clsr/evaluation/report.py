"""The report of an evaluation: written to a folder, read back, and compared with others."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from clsr.errors import InputError
from clsr.evaluation.scores import (
    DIRECTIONS,
    Difference,
    Direction,
    ModelInfo,
    QueryResult,
    RecognitionErrors,
    Report,
    ReportRow,
    Retrieval,
    differences,
    row_differences,
)
from clsr.metrics.recall import METRICS, SUCCESSES, Interval
from clsr.metrics.word_errors import Unit, WordErrors
from clsr.training_record import CurvePoint, TrainingRecord

_Column = tuple[str, Direction, str]  # title, direction, metric
_COLUMNS: tuple[_Column, ...] = (
    ("Q-C R@1", "q2c", "recall@1"),
    ("Q-C R@5", "q2c", "recall@5"),
    ("Q-C R@10", "q2c", "recall@10"),
    ("Q-C MRR@10", "q2c", "mrr@10"),
    ("C-Q R@1", "c2q", "recall@1"),
    ("C-Q R@5", "c2q", "recall@5"),
    ("C-Q R@10", "c2q", "recall@10"),
)
_WAYS: dict[Direction, str] = {"q2c": "Q-C", "c2q": "C-Q"}
_RATE_TITLES: dict[Unit, str] = {"word": "WER (errors/words)", "character": "CER (errors/characters)"}
_ENGLISH_TITLE = "WER, Whisper's normaliser"
_ABSENT = "–"
CURVE_POINTS = 12  # of a learning curve, in report.md
_IN_PERCENT = "In percent, with 95 % bootstrap intervals over queries."
_IN_POINTS = "In points, with 95 % paired-bootstrap intervals; `*` where the interval leaves out 0."


def write_report(report: Report, output: Path) -> None:
    """Write report.json, report.md, transcripts.jsonl and rankings.jsonl into a folder, all or none.

    The folder is made where needed, other files in it stay. `report.json` comes last: where it is, the rest is.
    """
    against = differences(report)
    contents = {
        "transcripts.jsonl": _json_lines(_transcript_objects(report.rows)),
        "rankings.jsonl": _json_lines(_ranking_objects(report.rows)),
        "report.md": _report_markdown(report, against),
        "report.json": json.dumps(_report_object(report, against), indent=2, ensure_ascii=False) + "\n",
    }
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output, prefix=".report-") as folder:
        for name, content in contents.items():
            (Path(folder) / name).write_text(content, encoding="utf-8")
        (output / "report.json").unlink(missing_ok=True)  # never an old summary beside new rankings
        for name in contents:
            (Path(folder) / name).replace(output / name)


def read_report(path: Path) -> Report:
    """Read a report from its folder or its report.json; keys it does not know are skipped.

    Queries come from `rankings.jsonl` beside it; without that file there are none. Transcripts are not read.

    Raises:
        InputError: there is no report, or it is not one.
    """
    file = path / "report.json" if path.is_dir() else path
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        queries = _read_rankings(file.with_name("rankings.jsonl"))
        rows = [_row(row, queries) for row in content["rows"]]
        model = ModelInfo(*(content["model"][key] for key in ("path", "fingerprint", "parameters")))
        tags = {str(key): str(value) for key, value in content.get("tags", {}).items()}
        keys = ("set", "questions", "passages", "command", "commit", "hardware", "seed")
        return Report(model=model, rows=rows, tags=tags, **{key: content[key] for key in keys})
    except OSError as error:
        raise InputError(f"{file}: {error.strerror}: name a folder that clsr evaluate wrote") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{file}: not a whole report ({error!r}): run clsr evaluate again") from error


def compare(paths: Sequence[Path]) -> str:
    """Put runs side by side in Markdown, row by row, each with its difference from the first run.

    Differences are of the same row on the same queries, with a paired-bootstrap interval; ``*`` marks those whose
    interval leaves out 0. A run on other queries is named, without a claim.

    Args:
        paths: folders or report.json files, at least one; the first is what the others are measured against.

    Raises:
        InputError: as `read_report`.
    """
    reports = [read_report(path) for path in paths]
    lines = ["# Runs compared", "", _IN_PERCENT, ""]
    for run, (path, report) in enumerate(zip(paths, reports), 1):
        counts = f"{report.questions} questions, {report.passages} passages"
        lines.append(f"{run}. `{path}`: {report.set} ({counts}), model {report.model.path}, seed {report.seed}")
    runs_of: dict[str, dict[int, ReportRow]] = {}
    for run, report in enumerate(reports, 1):
        for row in report.rows:
            runs_of.setdefault(row.name, {})[run] = row
    layout = _Layout.of(reports)
    body = [[name, str(run), *layout.cells(row)] for name, runs in runs_of.items() for run, row in runs.items()]
    lines += ["", _table(["Row", "Run", *layout.titles], body)]
    others = [(run, row, runs[1]) for runs in runs_of.values() for run, row in runs.items() if 1 in runs and run > 1]
    if others:
        seed = reports[0].seed
        body = [[a.name, f"{run} − 1", *layout.difference_cells(row_differences(a, b, seed))] for run, a, b in others]
        titles = ["Row", "Runs", *layout.retrieval_titles]
        lines += ["", "## Differences from run 1", "", _IN_POINTS, "", _table(titles, body)]
    if doubts := dict.fromkeys(doubt for run, a, b in others for doubt in _doubts(run, a, b)):
        lines += ["", *doubts]
    return "\n".join(lines) + "\n"


def _doubts(run: int, row: ReportRow, first: ReportRow) -> Iterator[str]:
    """Why a row of a run cannot be compared with the same row of the first run."""
    for direction, queries in zip(DIRECTIONS, ("questions", "passages")):
        a, b = row.retrieval(direction), first.retrieval(direction)
        if a and b and not (a.queries and b.queries):
            yield f"- Run {run}: rankings.jsonl is missing on one side, so no significance can be claimed."
        elif a and b and a.query_ids != b.query_ids:
            yield f"- Run {run}: its {queries} are not those of run 1, so no significance can be claimed."


def _report_markdown(report: Report, against: Sequence[Difference]) -> str:
    """The report as a page to read: what was measured, the table of rows, the table of differences."""
    model = report.model
    lines = [
        f"# Evaluation on {report.set}",
        "",
        f"- Set: {report.questions} questions, {report.passages} passages",
        f"- Model: `{model.path}`, {model.parameters:,} parameters, fingerprint {model.fingerprint}",
        f"- Command: `{report.command}`",
        f"- Commit {report.commit}, seed {report.seed}, {report.hardware}",
        "",
    ]
    layout = _Layout.of([report])
    body = [[row.name, *layout.cells(row)] for row in report.rows]
    unasked = "In percent. The set has no questions, so nothing was retrieved."
    lines += [_IN_PERCENT if layout.columns else unasked, ""]
    lines.append(_table(["Row", *layout.titles], body))
    if against:
        pairs = dict.fromkeys((difference.a, difference.b) for difference in against)
        body = [
            [f"{a} − {b}", *layout.difference_cells([d for d in against if (d.a, d.b) == (a, b)])] for a, b in pairs
        ]
        lines += ["", "## Differences", "", _IN_POINTS, "", _table(["Rows", *layout.retrieval_titles], body)]
    lines += _training_lines(report.rows)
    return "\n".join(lines) + "\n"


def _training_lines(rows: Sequence[ReportRow]) -> list[str]:
    """How systems were trained, and their learning curves; nothing where that is not known of any."""
    trainings: dict[str, tuple[TrainingRecord, list[str]]] = {}
    for row in rows:
        if row.training:
            trainings.setdefault(json.dumps(row.training.to_object()), (row.training, []))[1].append(row.name)
    if not trainings:
        return []
    body, curves = [], []
    for training, names in trainings.values():
        total, title = training.total, ", ".join(names)
        ended = {True: "it had stopped improving", False: "the limit of steps"}[training.converged]
        cost = [f"{total.steps:,}", f"{total.seconds:,.0f}", f"{total.examples:,}"] if total.steps else [_ABSENT] * 3
        body.append([title, training.start, training.questions or _ABSENT, *cost, ended if training.curve else _ABSENT])
        if training.best:
            shown = _evenly(training.curve, CURVE_POINTS)
            points = ", ".join(f"{point.step}: {100 * point.value:.1f}" for point in shown)
            best = f"best {100 * training.best.value:.1f} at step {training.best.step}"
            unit = "%" if training.metric != "dev/ce" else "hundredths of a nat"
            curves.append(f"- {title}, {training.metric} in {unit} by step: {points} ({best})")
    header = ["Rows", "Started from", "Questions", "Steps", "Seconds", "Examples", "Ended when"]
    text = "Steps, seconds and examples count all trainings since the start."
    return ["", "## Training", "", text, "", _table(header, body), "", *curves]


def _evenly(points: Sequence[CurvePoint], most: int) -> list[CurvePoint]:
    """At most so many points of a curve, evenly spread, the last one among them."""
    step = max(1, math.ceil(len(points) / most))
    return list(points[::-1][::step][::-1])


class _Layout(NamedTuple):
    """The columns of a page after the name of a row: error rates, then retrieval."""

    rates: list[str]
    columns: list[_Column]

    @classmethod
    def of(cls, reports: Sequence[Report]) -> _Layout:
        """What some reports have figures for: characters, where any row counts them; success, where it was measured."""
        rows = [row for report in reports for row in report.rows]
        units = {row.wer.unit for row in rows if row.wer}
        rates = [_RATE_TITLES["character" if "character" in units else "word"]]
        rates += [_ENGLISH_TITLE] if any(row.wer and row.wer.english for row in rows) else []
        found = [(direction, of) for row in rows for direction in DIRECTIONS if (of := row.retrieval(direction))]
        columns = list(_COLUMNS) if found else []
        for direction in DIRECTIONS:
            if any(way == direction and SUCCESSES[0] in of.intervals for way, of in found):
                columns += [
                    (f"{_WAYS[direction]} success@{metric.partition('@')[2]}", direction, metric)
                    for metric in SUCCESSES
                ]
        return cls(rates, columns)

    @property
    def retrieval_titles(self) -> list[str]:
        """Of the columns of differences."""
        return [title for title, _, _ in self.columns]

    @property
    def titles(self) -> list[str]:
        """Of the columns of rows."""
        return [*self.rates, *self.retrieval_titles]

    def cells(self, row: ReportRow) -> list[str]:
        """Error rates, then every retrieval column."""
        totals = [row.wer.total, row.wer.english] if row.wer else [None, None]
        cells = [
            _ABSENT if total is None else f"{100 * total.value:.1f} ({total.errors}/{total.words})"
            for total in totals[: len(self.rates)]
        ]
        for _, direction, metric in self.columns:
            retrieval = row.retrieval(direction)
            interval = retrieval.intervals.get(metric) if retrieval else None
            cells.append(_ABSENT if interval is None else _percent("{:.1f} [{:.1f}, {:.1f}]", interval))
        return cells

    def difference_cells(self, against: Sequence[Difference]) -> list[str]:
        """Every retrieval column, marked where significant."""
        cells = {
            (d.direction, d.metric): _percent("{:+.1f} [{:+.1f}, {:+.1f}]", d.interval) + " *" * d.significant
            for d in against
        }
        return [cells.get((direction, metric), _ABSENT) for _, direction, metric in self.columns]


def _percent(form: str, interval: Interval) -> str:
    return form.format(*(100 * bound for bound in interval))


def _table(header: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A Markdown table, padded so that it reads as plain text too; numbers to the right."""
    widths = [max(map(len, column)) for column in zip(header, *body)]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = []
    for cells in (header, rule, *body):
        padded = [cells[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(cells[1:], widths[1:]))]
        lines.append("| " + " | ".join(padded) + " |")
    return "\n".join(lines)


def _report_object(report: Report, against: Sequence[Difference]) -> dict[str, Any]:
    """The report as report.json has it."""
    content = {field: value for field, value in vars(report).items() if field != "rows"}
    content["model"] = vars(report.model)
    content["rows"] = [
        {
            "name": row.name,
            "wer": row.wer and _rate_object(row.wer),
            "q2c": row.q2c and {metric: interval._asdict() for metric, interval in row.q2c.intervals.items()},
            "c2q": row.c2q and {metric: interval._asdict() for metric, interval in row.c2q.intervals.items()},
            "seconds": row.seconds,
            "audio_seconds": row.audio_seconds,
            **({"training": row.training.to_object()} if row.training else {}),
        }
        for row in report.rows
    ]
    content["differences"] = [
        {"a": d.a, "b": d.b, "direction": d.direction, "metric": d.metric, **d.interval._asdict()} for d in against
    ]
    return content


def _rate_object(wer: RecognitionErrors) -> dict[str, Any]:
    """An error rate, with its unit where that is not words, and the one by Whisper's English normaliser."""
    more: dict[str, Any] = {} if wer.unit == "word" else {"unit": wer.unit}
    if wer.english:
        more["english"] = {"value": wer.english.value, **wer.english._asdict()}
    return {"value": wer.total.value, **wer.total._asdict(), **more}


def _transcript_objects(rows: Iterable[ReportRow]) -> Iterator[dict[str, Any]]:
    for row in rows:
        for transcript in row.wer.transcripts if row.wer else ():
            yield {"row": row.name, **transcript._asdict()}


def _ranking_objects(rows: Iterable[ReportRow]) -> Iterator[dict[str, Any]]:
    for row in rows:
        for direction in DIRECTIONS:
            retrieval = row.retrieval(direction)
            for query in retrieval.queries if retrieval else ():
                yield {"row": row.name, "direction": direction, **query._asdict()}


def _json_lines(objects: Iterable[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in objects)


def _read_rankings(file: Path) -> dict[tuple[str, str], list[QueryResult]]:
    """The queries of each row and direction; none where the file is absent."""
    queries: dict[tuple[str, str], list[QueryResult]] = {}
    if file.exists():
        with file.open(encoding="utf-8") as lines:
            for query in map(json.loads, lines):
                top = [(candidate, score) for candidate, score in query["top"]]
                result = QueryResult(query["id"], query["relevant_rank"], top, query["metrics"])
                queries.setdefault((query["row"], query["direction"]), []).append(result)
    return queries


def _row(content: Mapping[str, Any], queries: Mapping[tuple[str, str], list[QueryResult]]) -> ReportRow:
    """One row of report.json with its queries."""
    name, wer = content["name"], content["wer"]
    q2c, c2q = (
        content[direction]
        and Retrieval(
            {
                metric: Interval(**content[direction][metric])
                for metric in (*METRICS, *SUCCESSES)
                if metric in content[direction]  # version 0.1 had no ndcg@5
            },
            queries.get((name, direction), []),
        )
        for direction in DIRECTIONS
    )
    recognition = wer and RecognitionErrors(
        WordErrors(wer["errors"], wer["words"]),
        [],
        wer.get("unit", "word"),
        wer.get("english") and WordErrors(wer["english"]["errors"], wer["english"]["words"]),
    )
    training = TrainingRecord.from_object(content["training"]) if "training" in content else None
    return ReportRow(name, recognition, q2c, c2q, content["seconds"], content["audio_seconds"], training)
