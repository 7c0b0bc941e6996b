#!/usr/bin/env python
"""Write train, dev and test sets from LibriSQA Part I and the LibriSpeech recordings that it asks about.

The corpus folder holds LibriSQA-PartI/LibriSQA-PartI-{train,test}.json (lists of {"speech_path", "question", "answer",
"text", "duration"}) and LibriSpeech/{train-clean-360,test-clean} as unpacked: SPEAKER/CHAPTER/*.flac and *.trans.txt.
A passage is an utterance of LibriSpeech, known by its id whatever the folder and suffix that speech_path says. The
publisher's test part is test; dev is held out from its training part by speakers.
"""

import argparse
import json
import logging
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from clsr.audio.waveform import duration_s
from clsr.corpora.holdout import held_out
from clsr.corpora.script import run_script, stop_at
from clsr.corpora.sources import Source, check_audio, check_sources
from clsr.data.kaldi import ReportFault, Utterance
from clsr.data.retrieval_set import RetrievalSet, write_retrieval_sets
from clsr.errors import InputError, reporting
from clsr.vocabulary import normalise

DEV_SHARE = 0.02  # of the training questions, by whole speakers
PARTS = {"train": "train-clean-360", "test": "test-clean"}
UTTERANCE = re.compile(r"(\d+)-(\d+)-(\d+)")
QUESTIONS = "get it with: wget https://huggingface.co/datasets/ZihanZhao/LibriSQA/resolve/main/LibriSQA-PartI"
SPEECH = "get it with: wget https://www.openslr.org/resources/12"
DIGESTS = {
    "train-clean-360": "146a56496217e96c14334a160df97fffedd6e0a04e66b9c5af0d40be3c792ecf",
    "test-clean": "39fde525e59672dc6d1551919b1478f724438a95aa55f874b576be21967e6c23",
}

log = logging.getLogger("clsr")


class Pair(NamedTuple):
    """A question, the utterance that answers it, and the answer, a sentence; nothing where the file has none."""

    question: str
    utterance: str
    speaker: str
    answer: str


def sources() -> list[Source]:
    """What the publishers hand out; the archives of LibriSpeech are checked where they were kept."""
    found = []
    for split, part in PARTS.items():
        name = f"LibriSQA-PartI-{split}.json"
        found.append(Source(f"LibriSQA-PartI/{name}", f"{QUESTIONS}/{name}"))
        found.append(Source(f"LibriSpeech/{part}", f"{SPEECH}/{part}.tar.gz && tar -xzf {part}.tar.gz"))
        found.append(Source(f"{part}.tar.gz", "", DIGESTS[part], optional=True))
    return found


def read_pairs(path: Path, report: ReportFault) -> list[Pair]:
    """Questions of a LibriSQA file, in its order, without the rows that are reported, by their number from 0.

    Raises:
        InputError: it is no list.
    """
    try:
        rows = json.loads(path.read_bytes().decode("utf-8-sig"))
    except ValueError as error:
        raise InputError(f"{path}: is no JSON in UTF-8 ({error}); fetch it again") from error
    if not isinstance(rows, list) or not rows:
        raise InputError(f"{path}: is no list of questions; fetch it again")
    pairs = []
    for number, row in enumerate(rows):
        with reporting(report):
            pairs.append(_pair(row, f"{path}: row {number}"))
    return pairs


def _pair(row: Any, place: str) -> Pair:
    for key in ("speech_path", "question"):
        if not isinstance(row, dict) or not isinstance(row.get(key), str) or not row[key].strip():
            raise InputError(f"{place}: {key} is missing or empty; fetch the file again")
    names, answer = UTTERANCE.findall(row["speech_path"]), row.get("answer")
    if not names:
        raise InputError(f"{place}: speech_path {row['speech_path']!r} has no id of LibriSpeech such as 61-70968-0000")
    answer = " ".join(answer.split()) if isinstance(answer, str) else ""
    return Pair(" ".join(row["question"].split()), "-".join(names[-1]), names[-1][0], answer)


def read_transcripts(part: Path, utterances: Iterable[str]) -> dict[str, str]:
    """Transcripts of utterances, by id.

    Raises:
        InputError: a file of transcripts, or an utterance in it, is not there, or a line has no words.
    """
    wanted = set(utterances)
    transcripts: dict[str, str] = {}
    for chapter in sorted({id_.rpartition("-")[0] for id_ in wanted}):
        path = part / chapter.replace("-", "/") / f"{chapter}.trans.txt"
        if not path.is_file():
            raise InputError(f"{path}: no such file; unpack {part.name}.tar.gz again")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            id_, _, text = line.partition(" ")
            if id_ in wanted and not normalise(text):
                raise InputError(f"{path}:{number}: {id_}: has no words; unpack {part.name}.tar.gz again")
            transcripts[id_] = normalise(text)
        missing = sorted(id_ for id_ in wanted - transcripts.keys() if id_.startswith(f"{chapter}-"))
        if missing:
            raise InputError(f"{path}: {missing[0]}: is not in it; unpack {part.name}.tar.gz again")
    return transcripts


def recording(part: Path, utterance: str) -> Path:
    """Where LibriSpeech keeps an utterance."""
    speaker, chapter, _ = utterance.split("-")
    return part / speaker / chapter / f"{utterance}.flac"


def make_set(path: Path, pairs: Iterable[Pair], part: Path, transcripts: dict[str, str]) -> RetrievalSet:
    """The retrieval set of pairs; a question is named after its utterance, further ones are numbered."""
    passages: dict[str, Utterance] = {}
    counts: dict[str, int] = {}
    questions, relevance, answers = {}, {}, {}
    for pair in pairs:
        if pair.utterance not in passages:
            audio = recording(part, pair.utterance)
            text = transcripts[pair.utterance]
            passages[pair.utterance] = Utterance(pair.utterance, audio, 0.0, duration_s(audio), text, pair.speaker)
        counts[pair.utterance] = counts.get(pair.utterance, 0) + 1
        id_ = pair.utterance if counts[pair.utterance] == 1 else f"{pair.utterance}-q{counts[pair.utterance]}"
        questions[id_] = pair.question
        relevance[id_] = {pair.utterance: 1}
        if normalise(pair.answer):
            answers[id_] = pair.answer
    return RetrievalSet(path, list(passages.values()), questions, None, relevance, answers)


def prepare(args: argparse.Namespace) -> None:
    """Write the sets, after everything is read and found."""
    check_sources(args.corpus, sources())
    faults: list[str] = []
    files = {split: args.corpus / f"LibriSQA-PartI/LibriSQA-PartI-{split}.json" for split in PARTS}
    pairs = {split: read_pairs(file, faults.append) for split, file in files.items()}
    stop_at(faults)
    parts = {split: args.corpus / "LibriSpeech" / part for split, part in PARTS.items()}
    for split, part in parts.items():
        how = f"{SPEECH}/{part.name}.tar.gz && tar -xzf {part.name}.tar.gz"
        check_audio([recording(part, pair.utterance) for pair in pairs[split]], how)
    texts = {split: read_transcripts(part, (p.utterance for p in pairs[split])) for split, part in parts.items()}
    speakers = held_out((pair.speaker for pair in pairs["train"]), DEV_SHARE)
    train = [pair for pair in pairs["train"] if pair.speaker not in speakers]
    dev = [pair for pair in pairs["train"] if pair.speaker in speakers]
    sets = [
        make_set(args.output / "train", train, parts["train"], texts["train"]),
        make_set(args.output / "dev", dev, parts["train"], texts["train"]),
        make_set(args.output / "test", pairs["test"], parts["test"], texts["test"]),
    ]
    args.output.mkdir(parents=True, exist_ok=True)
    write_retrieval_sets(sets)
    for whole in sets:
        log.info("%s: %d questions, %d passages", whole.path, len(whole.questions), len(whole.passages))


def main() -> None:
    """Read the command line and write the sets."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path, help="folder as described above")
    parser.add_argument("output", type=Path, help="folder for train/, dev/ and test/")
    run_script(parser, prepare)


if __name__ == "__main__":
    main()
