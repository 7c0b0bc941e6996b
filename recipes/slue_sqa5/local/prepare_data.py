#!/usr/bin/env python
"""Write sets and data directories from SLUE-SQA-5 as its publisher hands it out: spoken questions, spoken documents.

The corpus folder is one of two:

- slue-sqa5/ as unpacked: slue-sqa5_{fine-tune,dev,test,verified-test}.tsv and, for each of them,
  question/QUESTION_ID.wav and document/DOCUMENT_ID.wav (word2time/ is not used);
- the tables of later revisions, which hold the recordings too: {train,validation,test,verified_test}-*.parquet. The
  recordings are copied to OUTPUT/audio.

Written are sets/{train,dev,test}, and sets/verified where that part is there, with the answers and their times that the
release has; and asr/{train,dev}, documents and questions in one data directory each, since both are to be recognised. A
passage is a document, whatever number of questions it answers.
"""

import argparse
import csv
import io
import json
import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from clsr.audio.waveform import duration_s
from clsr.corpora.script import run_script, stop_at
from clsr.corpora.sources import Source, check_audio, check_sources
from clsr.data.kaldi import ReportFault, Utterance, write_data_dir
from clsr.data.retrieval_set import AnswerSpan, RetrievalSet, write_retrieval_sets
from clsr.errors import InputError, reporting
from clsr.vocabulary import normalise

PARTS = {"train": "fine-tune", "dev": "dev", "test": "test"}
VERIFIED = "verified-test"  # 408 questions of the test part, checked by hand
TABLES = {"fine-tune": "train", "dev": "validation", "test": "test", VERIFIED: "verified_test"}  # of parquet, by part
REVISION = "a7bf48692623b02f43dfedd8489ab59e94bc177f"  # the last one known to hold the archive
ARCHIVE = (
    "get it with: wget "
    f"https://huggingface.co/datasets/asapp/slue-phase-2/resolve/{REVISION}/data/slue-sqa5_blind.zip, then unzip it"
)
KINDS = ("question", "document")
NEEDED = [f"{kind}_id" for kind in KINDS] + [f"normalized_{kind}_text" for kind in KINDS]
OPTIONAL = ["question_speaker_id", "document_speaker_id", "answer_spans"]

log = logging.getLogger("clsr")


class Row(NamedTuple):
    """A question and its document, by column, and where they stand."""

    place: str
    cells: Mapping[str, Any]


class Part:
    """What the rows of one part say, checked as they come.

    Args:
        audio: folder with question/ and document/, recordings named after the ids.
        report: takes faults.
    """

    def __init__(self, audio: Path, report: ReportFault) -> None:
        self.audio = audio
        self.report = report
        self.said: dict[str, dict[str, Utterance]] = {kind: {} for kind in KINDS}
        self.relevance: dict[str, dict[str, int]] = {}
        self.answers: dict[str, str] = {}
        self.spans: dict[str, AnswerSpan] = {}

    def add(self, row: Row) -> None:
        """Add a question and its document, or report why not."""
        ids = [self._utterance(row, kind) for kind in KINDS]
        if None in ids:
            return
        question, document = map(str, ids)
        self.relevance.setdefault(question, {})[document] = 1
        try:
            found = read_spans(row.cells.get("answer_spans"))
        except (ValueError, TypeError, KeyError, IndexError) as error:
            self.report(
                f"{row.place}: question {question}: answer_spans are no answers with times ({error!r}); mend it"
            )
            return
        if found and question not in self.answers and normalise(found[0][0]):
            answer, start_s, end_s = found[0]
            self.answers[question] = answer
            self.spans[question] = AnswerSpan(document, start_s, end_s)

    def _utterance(self, row: Row, kind: str) -> str | None:
        """Keep what a row says, if it is new, and return its id, one word; None where it is reported."""
        name, text = str(row.cells[f"{kind}_id"]).strip(), normalise(str(row.cells[f"normalized_{kind}_text"]))
        id_, known = "_".join(name.split()), self.said[kind]
        if not text or "/" in name:
            lack = "has no words" if not text else "is no name of a file"
            self.report(f"{row.place}: {kind} {name}: {lack}; mend or remove the row")
            return None
        if id_ not in known:
            speaker = "_".join(str(row.cells.get(f"{kind}_speaker_id") or "").split()) or id_
            known[id_] = Utterance(id_, self.audio / kind / f"{name}.wav", 0.0, 0.0, text, speaker)
        elif known[id_].text != text:
            self.report(f"{row.place}: {kind} {name}: was another text before; make ids unique")
            return None
        return id_

    @property
    def recordings(self) -> list[Path]:
        """Of documents and questions."""
        return [utterance.recording for kind in reversed(KINDS) for utterance in self.said[kind].values()]

    def make_set(self, output: Path) -> RetrievalSet:
        """The retrieval set, after the length of each recording is read.

        Raises:
            InputError: a recording is unreadable.
        """
        speech, passages = ([_measured(utterance) for utterance in self.said[kind].values()] for kind in KINDS)
        questions = {utterance.id: utterance.text or "" for utterance in speech}
        lengths = {passage.id: passage.duration_s for passage in passages}
        spans = {q: s._replace(end_s=min(s.end_s, lengths[s.passage])) for q, s in self.spans.items()}
        spans = {q: s for q, s in spans.items() if s.start_s < s.end_s}
        return RetrievalSet(output, passages, questions, speech, self.relevance, self.answers, spans)


def _measured(utterance: Utterance) -> Utterance:
    length_s = duration_s(utterance.recording)
    return Utterance(utterance.id, utterance.recording, 0.0, length_s, utterance.text, utterance.speaker)


def read_spans(cell: Any) -> list[tuple[str, float, float]]:
    """Return answers with their times in seconds: of ``[["answer", 1.2, 1.9], ...]`` or the columns of parquet.

    Raises:
        ValueError: it is something else; TypeError, KeyError and IndexError say the same.
    """
    if cell is None or (isinstance(cell, str) and not cell.strip()):
        return []
    items = json.loads(cell) if isinstance(cell, str) else cell
    if isinstance(items, Mapping):  # a list of each field
        items = [dict(zip(items, values, strict=True)) for values in zip(*items.values(), strict=True)]
    spans = []
    for item in items:
        if isinstance(item, Mapping):
            item = item["answer"], item["start_second"], item["end_second"]
        answer, start_s, end_s = str(item[0]), float(item[1]), float(item[2])
        if len(item) != 3 or not 0 <= start_s <= end_s < math.inf:
            raise ValueError(f"{start_s} to {end_s} s")
        spans.append((answer, start_s, end_s))
    return spans


def read_tsv(path: Path, report: ReportFault) -> Iterator[Row]:
    """Rows of a table, without those that are reported; quotation marks in it are no quoting.

    Raises:
        InputError: it is no UTF-8, lacks a column, or has no row.
    """
    try:
        # Not splitlines: U+2028 and its like stand within a cell. Lines may end with \r\n.
        lines = io.StringIO(path.read_bytes().decode("utf-8-sig"), newline=None).readlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 ({error.reason}); unpack it again") from error
    reader = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
    _require_columns(reader.fieldnames or (), f"{path}:1")
    number = 1
    for number, row in enumerate(reader, start=2):
        place = f"{path}:{number}"
        if None in row:
            report(f"{place}: {row['question_id']}: has too many cells; mend it")
        elif not _lacks_a_cell(row, place, report):
            yield Row(place, row)
    if number == 1:
        raise InputError(f"{path}: has no row; unpack the archive again")


def read_parquet(files: Sequence[Path], report: ReportFault) -> Iterator[Row]:
    """Rows of the files of a part, without their recordings and without those that are reported.

    Raises:
        InputError: a file is no parquet or lacks a column, or there is no row.
    """
    any_row = False
    for file in files:
        number = 0
        for batch in _batches(file, [*NEEDED, *OPTIONAL]):
            for cells in batch:
                place, any_row = f"{file}: row {number}", True
                if not _lacks_a_cell(cells, place, report):
                    yield Row(place, cells)
                number += 1
    if not any_row:
        raise InputError(f"{files[0]}: has no row; fetch it again")


def copy_recordings(files: Iterable[Path], part: Part) -> None:
    """Copy the recordings that a part needs out of its parquet files, each once.

    Raises:
        InputError: a row has no recording, or the disk is full.
    """
    wanted = {recording.stem: recording for recording in part.recordings if not recording.is_file()}
    for file in files:
        for kind in KINDS:
            for batch in _batches(file, [f"{kind}_id", f"{kind}_audio"]):
                for number, cells in enumerate(batch):
                    recording = part.audio / kind / f"{str(cells[f'{kind}_id']).strip()}.wav"
                    if wanted.pop(recording.stem, None) is None:
                        continue
                    content = (cells[f"{kind}_audio"] or {}).get("bytes")
                    if not content:
                        raise InputError(f"{file}: row {number}: {recording.stem}: has no recording; fetch it again")
                    recording.parent.mkdir(parents=True, exist_ok=True)
                    recording.write_bytes(content)


def _batches(file: Path, columns: Sequence[str]) -> Iterator[list[dict[str, Any]]]:
    """The rows of a parquet file, some at a time: those of the columns that it has."""
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.ParquetFile(file)
        names = set(table.schema_arrow.names)
        _require_columns(names, f"{file}")
        known = [name for name in columns if name in names]
        for batch in table.iter_batches(batch_size=64, columns=known):
            yield batch.to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{file}: is no whole parquet file ({error}); fetch it again") from error


def _require_columns(names: Iterable[str], place: str) -> None:
    missing = [name for name in NEEDED if name not in set(names)]
    if missing:
        raise InputError(f"{place}: has no column {missing[0]}; fetch it again")


def _lacks_a_cell(row: Mapping[str, Any], place: str, report: ReportFault) -> bool:
    empty = [name for name in NEEDED if not str(row[name] or "").strip()]
    if empty:
        report(f"{place}: {row['question_id'] or 'a question'}: {empty[0]} is empty; mend it")
    return bool(empty)


def read_release(corpus: Path, output: Path, report: ReportFault) -> tuple[dict[str, Part], dict[str, list[Path]]]:
    """Read every part by the name of its set, and which parquet files hold its recordings."""
    tables = {part: sorted(corpus.rglob(f"{name}-*.parquet")) for part, name in TABLES.items()}
    packed = any(tables.values())
    there = tables[VERIFIED] or (corpus / f"slue-sqa5_{VERIFIED}.tsv").is_file()
    parts = PARTS | ({"verified": VERIFIED} if there else {})
    for name in parts.values():
        if packed and not tables[name]:
            raise InputError(f"{corpus}: no {TABLES[name]}-*.parquet at or below it; fetch all of the release")
        if not packed:
            names = (f"slue-sqa5_{name}.tsv", f"{name}/question", f"{name}/document")
            check_sources(corpus, [Source(file, ARCHIVE) for file in names])
    found = {}
    for of_set, name in parts.items():
        found[of_set] = Part(output / "audio" / name if packed else corpus / name, report)
        rows = read_parquet(tables[name], report) if packed else read_tsv(corpus / f"slue-sqa5_{name}.tsv", report)
        for row in rows:
            found[of_set].add(row)
        if of_set in ("train", "dev"):
            for id_ in sorted(found[of_set].said["question"].keys() & found[of_set].said["document"].keys()):
                report(f"{corpus}: {id_}: a question and a document of {name} have one id; rename one")
    return found, {of_set: tables[name] for of_set, name in parts.items() if packed}


def prepare(args: argparse.Namespace) -> None:
    """Write everything, after everything is read and found."""
    faults: list[str] = []
    parts, packed = read_release(args.corpus, args.output, faults.append)
    for part in parts.values():
        if not packed:
            with reporting(faults.append):
                check_audio(part.recordings, ARCHIVE)
    stop_at(faults)
    for name, files in packed.items():
        copy_recordings(files, parts[name])
    sets = {name: part.make_set(args.output / "sets" / name) for name, part in parts.items()}
    for name in ("train", "dev"):
        write_data_dir(args.output / "asr" / name, [*sets[name].passages, *(sets[name].question_speech or ())])
    (args.output / "sets").mkdir(parents=True, exist_ok=True)
    write_retrieval_sets(list(sets.values()))
    for whole in sets.values():
        counts = (
            f"{len(whole.questions)} questions, {len(whole.answers)} with an answer, {len(whole.passages)} passages"
        )
        log.info("%s: %s", whole.path, counts)


def main() -> None:
    """Read the command line and write the sets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path, help="folder as described above")
    parser.add_argument("output", type=Path, help="folder for sets/ and asr/")
    run_script(parser, prepare)


if __name__ == "__main__":
    main()
