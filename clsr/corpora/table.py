"""A table of recordings and questions, as people keep one -> retrieval sets ``train``, ``dev`` and ``test``.

The table is CSV, TSV or JSONL with the columns ``id``, ``audio`` (a path, relative ones counted from the folder of the
table) and ``transcript``, and optionally ``start_s`` and ``end_s`` (a span of a long recording), ``question`` and
``speaker``. A row is a passage; rows of the same span are one passage with several questions. Audio stays where it is.
"""

import csv
import io
import json
import logging
import math
import os
import random
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from clsr.audio.spelling import as_on_disk
from clsr.audio.waveform import duration_s
from clsr.corpora.config import TableConfig
from clsr.data.kaldi import TOLERANCE_S, ReportFault, Utterance, write_data_dir, write_table
from clsr.data.retrieval_set import write_relevance
from clsr.errors import InputError, each_once

REQUIRED = ("id", "audio", "transcript")
OPTIONAL = ("start_s", "end_s", "question", "speaker")
SPLITS = ("train", "dev", "test")

log = logging.getLogger("clsr")


@dataclass(frozen=True)
class Passage:
    """A span of a recording and the questions about it, by the ids of their rows."""

    utterance: Utterance
    line: int
    questions: dict[str, str] = field(default_factory=dict)


class _Row(NamedTuple):
    place: str
    line: int
    cells: dict[str, str]


def read_passages(table: str | Path, report: ReportFault) -> list[Passage]:
    """Passages of a table, in its order, without the rows that are reported.

    A passage has the id of its first row; a question that of its own. Transcripts are written as
    ``clsr.vocabulary.normalise`` writes them. A row without a speaker is its own speaker.

    Raises:
        InputError: the table is missing, no table, lacks a column, or holds no row.
    """
    table = Path(table)
    lengths: dict[Path, float | None] = {}
    passages: dict[tuple[Path, float, float], Passage] = {}
    lines: dict[str, int] = {}
    for row in _read_rows(table, report):
        id_ = row.cells["id"]
        if id_.split() != [id_]:
            report(f"{row.place}: {id_!r} cannot be an id; give one word, different in each row")
            continue
        if id_ in lines:
            report(f"{row.place}: {id_}: is there twice, first on line {lines[id_]}; make ids unique")
            continue
        lines[id_] = row.line
        utterance = _utterance(row, table.parent, lengths, report)
        if utterance is None:
            continue
        span = (utterance.recording, round(utterance.start_s, 3), round(utterance.end_s, 3))
        passage = passages.setdefault(span, Passage(utterance, row.line))
        if utterance.text != passage.utterance.text:
            report(f"{row.place}: {id_}: line {passage.line} has the same span and another transcript; mend one")
        elif row.cells["question"]:
            passage.questions[id_] = row.cells["question"]
    if not lines:
        raise InputError(f"{table}: holds no row; write one a passage, with {', '.join(REQUIRED)}")
    return list(passages.values())


def split(passages: Sequence[Passage], config: TableConfig) -> dict[str, list[Passage]]:
    """Deal whole recordings (or speakers) out to ``train``, ``dev`` and ``test``.

    In an order drawn from the seed, ``test`` and then ``dev`` take each group that still fits into their share of the
    passages; a split that none fits into takes the smallest. ``train`` gets the rest.

    Raises:
        InputError: there are fewer than three groups.
    """
    groups: dict[str, list[Passage]] = {}
    for passage in passages:
        utterance = passage.utterance
        key = str(utterance.recording) if config.split_by == "recording" else utterance.speaker
        groups.setdefault(key, []).append(passage)
    if len(groups) < len(SPLITS):
        raise InputError(
            f"{len(groups)} {config.split_by}s cannot be dealt out to {', '.join(SPLITS)}: record or cut more, or "
            f"split by {'speaker' if config.split_by == 'recording' else 'recording'}"
        )
    left = list(groups.values())  # in the order of the table, which does not depend on where the files are
    random.Random(config.seed).shuffle(left)
    dealt: dict[str, list[Passage]] = {}
    for name, share, kept in (("test", config.test_share, 2), ("dev", config.dev_share, 1)):  # for the other splits
        room = share * len(passages)
        taken: list[Passage] = []
        for group in list(left):
            if len(taken) + len(group) <= room and len(left) > kept:
                taken += group
                left.remove(group)
        if not taken:
            smallest = min(left, key=len)
            taken += smallest
            left.remove(smallest)
        dealt[name] = taken
    return {"train": [passage for group in left for passage in group], "dev": dealt["dev"], "test": dealt["test"]}


def write_sets(splits: dict[str, list[Passage]], output: str | Path) -> None:
    """Write each split: a retrieval set, or a data directory if no split has questions.

    All splits appear, or none of them.

    Raises:
        InputError: a split has no question though others have, one is there already, or the disk is full.
    """
    output = Path(output)
    question_counts = {name: sum(len(passage.questions) for passage in passages) for name, passages in splits.items()}
    for name in splits:
        if (output / name).exists():
            raise InputError(f"{output / name}: is there already; delete it or name another folder")
        if any(question_counts.values()) and not question_counts[name]:
            raise InputError(
                f"{name}: none of its {len(splits[name])} passages has a question; try another seed or share"
            )
    unfinished = output / f".unfinished.{os.getpid()}"
    try:
        for name, passages in splits.items():
            _write_set(unfinished / name, passages, any(question_counts.values()))
        for name in splits:
            os.replace(unfinished / name, output / name)
    except OSError as error:
        raise InputError(
            f"{output}: cannot be written ({error.strerror}); free space or name another folder"
        ) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def describe(name: str, passages: Sequence[Passage]) -> str:
    """Return what a split holds, in one line."""
    recordings = len({passage.utterance.recording for passage in passages})
    questions = sum(len(passage.questions) for passage in passages)
    minutes = sum(passage.utterance.duration_s for passage in passages) / 60
    return f"{name}: {len(passages)} passages of {recordings} recordings, {minutes:.1f} min, {questions} questions"


def _write_set(folder: Path, passages: Sequence[Passage], with_questions: bool) -> None:
    write_data_dir(folder / "passages" if with_questions else folder, (passage.utterance for passage in passages))
    if with_questions:
        (folder / "questions").mkdir()
        questions = {id_: (text, p.utterance.id) for p in passages for id_, text in p.questions.items()}
        write_table(folder / "questions" / "text", ((id_, text) for id_, (text, _) in questions.items()))
        write_relevance(folder / "qrels", {id_: {passage: 1} for id_, (_, passage) in questions.items()})


def _read_rows(table: Path, report: ReportFault) -> Iterator[_Row]:
    """Rows with all columns as text without outer or repeated white space, empty where the table has nothing."""
    if not table.is_file():
        raise InputError(f"{table}: no such file; name a .csv, .tsv or .jsonl with {', '.join(REQUIRED)}")
    content = table.read_bytes()
    try:
        # Spreadsheets write a byte order mark. Not splitlines: U+2028 and its like stand within a line of a table.
        lines = io.StringIO(content.decode("utf-8-sig"), newline="").readlines()
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise InputError(f"{table}:{line}: is not UTF-8; save the table as UTF-8") from error
    if table.suffix.lower() not in {".csv", ".tsv", ".jsonl"}:
        raise InputError(f"{table}: is not .csv, .tsv or .jsonl; give the table the suffix of what it is")
    read = _read_jsonl if table.suffix.lower() == ".jsonl" else _read_csv
    unused: set[str] = set()
    for number, cells in read(table, lines, report):
        unused |= cells.keys() - {*REQUIRED, *OPTIONAL}
        known = {name: " ".join(cells.get(name, "").split()) for name in (*REQUIRED, *OPTIONAL)}
        known["audio"] = cells.get("audio", "").strip()  # file names may have two spaces
        yield _Row(f"{table}:{number}", number, known)
    if unused:
        log.info("%s: columns that are not used: %s", table, ", ".join(sorted(unused)))


def _read_csv(table: Path, lines: list[str], report: ReportFault) -> Iterator[tuple[int, dict[str, str]]]:
    csv.field_size_limit(max(csv.field_size_limit(), sum(map(len, lines))))  # else a long cell counts as broken
    reader = csv.DictReader(lines, delimiter="\t" if table.suffix.lower() == ".tsv" else ",", strict=True)
    try:
        doubles = [name for name, count in Counter(reader.fieldnames or ()).items() if name and count > 1]
        if doubles:
            raise InputError(f"{table}:1: column {doubles[0]} is there twice; keep one of them")
        missing = [name for name in REQUIRED if name not in (reader.fieldnames or ())]
        if missing:
            found = ", ".join(reader.fieldnames or ["nothing"])
            raise InputError(f"{table}:1: has no column {missing[0]}; name {', '.join(REQUIRED)}, found {found}")
        for row in reader:
            if None in row or None in row.values():
                report(
                    f"{table}:{reader.line_num}: has another number of cells than the header; quote cells with commas"
                )
            else:
                yield reader.line_num, row
    except csv.Error as error:
        line = reader.line_num + 1  # the row starts there; a quote that is not closed runs to the end of the table
        raise InputError(f"{table}:{line}: is no row ({error}); mend its quotes") from error


def _read_jsonl(table: Path, lines: list[str], report: ReportFault) -> Iterator[tuple[int, dict[str, str]]]:
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line, object_pairs_hook=each_once)
            json.dumps(row, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:  # \ud800 without its other half
            report(f"{table}:{number}: has half a character ({error.reason}); write it whole")
            continue
        except ValueError as error:
            report(f"{table}:{number}: is not JSON ({error}); write one object a line")
            continue
        if not isinstance(row, dict) or any(isinstance(value, dict | list | bool) for value in row.values()):
            report(f"{table}:{number}: is no object of texts and numbers; write one a line")
        else:
            yield number, {name: "" if value is None else str(value) for name, value in row.items()}


def _utterance(row: _Row, folder: Path, lengths: dict[Path, float | None], report: ReportFault) -> Utterance | None:
    """The span that a row names, or nothing if it is reported."""
    from clsr.vocabulary import normalise

    cells, place = row.cells, f"{row.place}: {row.cells['id']}"
    if not cells["audio"]:
        report(f"{place}: audio is missing; name the recording")
        return None
    recording = as_on_disk(folder / cells["audio"])
    if recording not in lengths:
        try:
            lengths[recording] = duration_s(recording)
        except InputError as error:
            lengths[recording] = None
            report(f"{place}: {error}")
    length_s = lengths[recording]
    if length_s is None:  # reported with the first row that names it
        return None
    try:
        start_s, end_s = float(cells["start_s"] or 0), float(cells["end_s"] or length_s)
    except ValueError:
        report(f"{place}: '{cells['start_s']}' to '{cells['end_s']}' are no times; give seconds, such as 12.5")
        return None
    if not 0 <= start_s < end_s < math.inf:
        report(f"{place}: {start_s} to {end_s} s is not a span of time; give 0 <= start_s < end_s")
        return None
    if end_s > length_s + TOLERANCE_S:
        report(f"{place}: ends at {end_s} s, its recording at {length_s:.3f} s; mend the times")
        return None
    text = normalise(cells["transcript"])
    if not text:
        report(f"{place}: transcript is missing or has no words; write what is said, or remove the row")
        return None
    return Utterance(cells["id"], recording, start_s, min(end_s, length_s), text, cells["speaker"] or cells["id"])
