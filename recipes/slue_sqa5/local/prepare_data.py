#!/usr/bin/env python
"""Write sets and data directories from SLUE-SQA-5 as its publisher hands it out: spoken questions, spoken documents.

The corpus folder is slue-sqa5/ as unpacked: slue-sqa5_{fine-tune,dev,test,verified-test}.tsv and, for each of them,
question/QUESTION_ID.wav and document/DOCUMENT_ID.wav (word2time/ is not used). Written are sets/{train,dev,test}, and
sets/verified where that part is there; and asr/{train,dev}, documents and questions in one data directory each, since
both are to be recognised. A passage is a document, whatever number of questions it answers.
"""

import argparse
import csv
import io
import logging
from collections.abc import Iterator
from pathlib import Path

from clsr.audio.waveform import duration_s
from clsr.corpora.script import run_script
from clsr.corpora.sources import Source, check_audio, check_sources
from clsr.data.kaldi import Utterance, write_data_dir
from clsr.data.retrieval_set import RetrievalSet, write_retrieval_sets
from clsr.errors import InputError
from clsr.vocabulary import normalise

PARTS = {"train": "fine-tune", "dev": "dev", "test": "test"}
VERIFIED = "verified-test"  # 408 questions of the test part, checked by hand
REVISION = "a7bf48692623b02f43dfedd8489ab59e94bc177f"  # the last one known to hold the archive
ARCHIVE = (
    "get it with: wget "
    f"https://huggingface.co/datasets/asapp/slue-phase-2/resolve/{REVISION}/data/slue-sqa5_blind.zip, then unzip it"
)
SPEAKERS = {"question": "question_speaker_id", "document": "document_speaker_id"}

log = logging.getLogger("clsr")


def sources(part: str) -> list[Source]:
    """What a part consists of."""
    names = (f"slue-sqa5_{part}.tsv", f"{part}/question", f"{part}/document")
    return [Source(name, ARCHIVE) for name in names]


def read_rows(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Rows of a table with the place of each; quotation marks in it are no quoting.

    Raises:
        InputError: it is no UTF-8, lacks a column or a cell, or has no row.
    """
    try:
        # Not splitlines: U+2028 and its like stand within a cell. Lines may end with \r\n.
        lines = io.StringIO(path.read_bytes().decode("utf-8-sig"), newline=None).readlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 ({error.reason}); unpack it again") from error
    reader = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
    needed = [f"{kind}_id" for kind in SPEAKERS] + [f"normalized_{kind}_text" for kind in SPEAKERS]
    for name in needed:
        if name not in (reader.fieldnames or ()):
            raise InputError(f"{path}:1: has no column {name}; unpack the archive again")
    number = 1
    for number, row in enumerate(reader, start=2):
        for name in needed:
            if not (row[name] or "").strip() or None in row:
                raise InputError(f"{path}:{number}: {name} is empty, or the row has too many cells; mend it")
        yield f"{path}:{number}", row
    if number == 1:
        raise InputError(f"{path}: has no row; unpack the archive again")


def add(utterances: dict[str, Utterance], row: dict[str, str], kind: str, part: Path, place: str) -> str:
    """Add the question or the document of a row, if it is new, and return its id, one word.

    Raises:
        InputError: it has no words, or is there already with other words.
    """
    name, text = row[f"{kind}_id"].strip(), normalise(row[f"normalized_{kind}_text"])
    id_ = "_".join(name.split())
    if not text:
        raise InputError(f"{place}: {kind} {name}: has no words; mend or remove the row")
    if id_ not in utterances:
        speaker = "_".join((row.get(SPEAKERS[kind]) or "").split()) or id_
        utterances[id_] = Utterance(id_, part / kind / f"{name}.wav", 0.0, 0.0, text, speaker)
    elif utterances[id_].text != text:
        raise InputError(f"{place}: {kind} {name}: was another text before; make ids unique")
    return id_


def read_part(corpus: Path, part: str, output: Path) -> RetrievalSet:
    """Read one part and measure its recordings.

    Raises:
        InputError: a row is faulty, or a recording is missing or unreadable.
    """
    passages: dict[str, Utterance] = {}
    speech: dict[str, Utterance] = {}
    relevance: dict[str, dict[str, int]] = {}
    for place, row in read_rows(corpus / f"slue-sqa5_{part}.tsv"):
        question = add(speech, row, "question", corpus / part, place)
        document = add(passages, row, "document", corpus / part, place)
        relevance.setdefault(question, {})[document] = 1
    check_audio([utterance.recording for utterance in (*passages.values(), *speech.values())], ARCHIVE)
    said = [_measured(utterance) for utterance in speech.values()]
    questions = {utterance.id: utterance.text or "" for utterance in said}
    return RetrievalSet(output, [_measured(utterance) for utterance in passages.values()], questions, said, relevance)


def _measured(utterance: Utterance) -> Utterance:
    length_s = duration_s(utterance.recording)
    return Utterance(utterance.id, utterance.recording, 0.0, length_s, utterance.text, utterance.speaker)


def prepare(args: argparse.Namespace) -> None:
    """Write everything, after everything is read and found."""
    parts = PARTS | ({"verified": VERIFIED} if (args.corpus / f"slue-sqa5_{VERIFIED}.tsv").is_file() else {})
    for part in parts.values():
        check_sources(args.corpus, sources(part))
    sets = {name: read_part(args.corpus, part, args.output / "sets" / name) for name, part in parts.items()}
    recognised = {name: [*sets[name].passages, *(sets[name].question_speech or ())] for name in ("train", "dev")}
    for name, utterances in recognised.items():
        if len({utterance.id for utterance in utterances}) < len(utterances):
            raise InputError(f"{args.corpus}: a question and a document of {PARTS[name]} have one id; rename one")
    for name, utterances in recognised.items():
        write_data_dir(args.output / "asr" / name, utterances)
    (args.output / "sets").mkdir(parents=True, exist_ok=True)
    write_retrieval_sets(list(sets.values()))
    for whole in sets.values():
        log.info("%s: %d questions, %d passages", whole.path, len(whole.questions), len(whole.passages))


def main() -> None:
    """Read the command line and write the sets."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path, help="folder as described above")
    parser.add_argument("output", type=Path, help="folder for sets/ and asr/")
    run_script(parser, prepare)


if __name__ == "__main__":
    main()
