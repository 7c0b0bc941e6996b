#!/usr/bin/env python
"""Write what is to be spoken from DRCD: questions and short passages, one to one, and text for the recogniser alone.

The corpus folder holds DRCD as its publisher hands it out (DRCD_training.json, DRCD_dev.json), or a selection of it
(drcd.train.jsonl, drcd.dev.jsonl: rows of {"id", "title", "question", "context", "context_short"}). A passage is the
sentence that holds the answer, with its neighbours up to 40 characters. The dev file is the test set; dev is held out
from the other by whole titles. asr.train.jsonl and asr.dev.jsonl hold passages and questions, and the rest of the
paragraphs that are trained on. A selection of ODSQA (odsqa_zh.jsonl), if it is there too, makes one more set to measure
on, odsqa.jsonl, of what was read aloud in it: the articles that are not trained on.
"""

import argparse
import json
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from clsr.corpora.holdout import held_out
from clsr.corpora.one_to_one import one_to_one
from clsr.corpora.script import run_script
from clsr.corpora.sources import Source, check_sources
from clsr.corpora.squad import answer_passage, read_squad, sentence_spans
from clsr.data.kaldi import write_lines
from clsr.errors import InputError
from clsr.vocabulary import normalise

DEV_SHARE = 0.1  # of the pairs to train on, in whole titles
LEAST = 40  # characters of a passage
MOST = 140  # characters of a piece of the rest of a paragraph
COMMIT = "b944790de5af02c5fbb7cd9cb1473d27d169eebf"  # no digest is published, but this names what is fetched
ODSQA = "odsqa_zh.jsonl"
PUBLISHER = f"https://raw.githubusercontent.com/DRCKnowledgeTeam/DRCD/{COMMIT}"

log = logging.getLogger("clsr")


class Pair(NamedTuple):
    """A question, the passage that answers it, and the paragraph and article these are from."""

    id: str
    title: str
    question: str
    context: str
    paragraph: str


def read_selection(path: Path) -> list[Pair]:
    """Pairs of a JSONL file.

    Raises:
        InputError: a line is no object with the fields as text.
    """
    return [Pair(*texts) for texts in _read_rows(path, "id", "title", "question", "context_short", "context")]


def read_odsqa(path: Path) -> list[Pair]:
    """Pairs of what people read aloud; questions whose answer is not in their paragraph are left out and counted.

    Raises:
        InputError: a line is no object with the fields as text.
    """
    rows = _read_rows(path, "id", "title", "question_ref", "context_ref", "answer_ref")
    pairs = []
    for id_, title, question, context, answer in rows:
        start = context.find(answer)
        if start >= 0:
            passage = answer_passage(context, start, start + len(answer), LEAST)
            pairs.append(Pair(id_, title, question, passage, context))
    if len(pairs) < len(rows):
        log.info("%s: %d questions whose answer is not there are left out", path, len(rows) - len(pairs))
    return pairs


def _read_rows(path: Path, *fields: str) -> list[list[str]]:
    """The fields of each line of a JSONL file, the first of which is its id."""
    rows = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            row = json.loads(line)
            texts = [row[field].strip() for field in fields]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"{path}:{number}: is no object of {', '.join(fields)}; mend or remove the line"
            ) from error
        if not all(texts):
            raise InputError(f"{path}:{number}: {texts[0]}: a text is empty; mend or remove the line")
        rows.append(texts)
    return rows


def read_published(path: Path) -> list[Pair]:
    """Pairs of a SQuAD-like file; questions whose answer is not in their paragraph are left out and counted."""
    questions = read_squad(path)
    pairs = []
    for row in questions:
        if row.answer_start is not None:
            end = row.answer_start + len(row.answer)
            passage = answer_passage(row.context, row.answer_start, end, LEAST)
            pairs.append(Pair(row.id, row.title, row.question, passage, row.context))
    if len(pairs) < len(questions):
        log.info("%s: %d questions whose answer is not there are left out", path, len(questions) - len(pairs))
    return pairs


def make_splits(corpus: Path) -> dict[str, list[Pair]]:
    """Train, dev and test, with no title, question or passage in two of them, and odsqa with none of train and dev."""
    if (corpus / "drcd.train.jsonl").is_file():
        names = ("drcd.train.jsonl", "drcd.dev.jsonl")
        check_sources(corpus, [Source(name, "both files belong together") for name in names])
        rest, test = (read_selection(corpus / name) for name in names)
    else:
        names = ("DRCD_training.json", "DRCD_dev.json")
        check_sources(corpus, [Source(name, f"get it with: wget {PUBLISHER}/{name}") for name in names])
        rest, test = (read_published(corpus / name) for name in names)
    test = one_to_one(_speakable(test))
    tested = {pair.title for pair in test}
    rest = [pair for pair in _speakable(rest) if pair.title not in tested]
    titles = held_out((pair.title for pair in rest), DEV_SHARE)
    dev = one_to_one([pair for pair in rest if pair.title in titles], before=test)
    train = one_to_one([pair for pair in rest if pair.title not in titles], before=[*test, *dev])
    splits = {"train": train, "dev": dev, "test": test}
    if (corpus / ODSQA).is_file():
        trained = {pair.title for pair in rest}
        unseen = [pair for pair in _speakable(read_odsqa(corpus / ODSQA)) if pair.title not in trained]
        splits["odsqa"] = one_to_one(unseen, before=[*train, *dev])
    return splits


def rest_of(pairs: Sequence[Pair]) -> list[dict[str, str]]:
    """What the paragraphs of the pairs say beside their passages, cut at sentences into pieces of some length."""
    passages: dict[str, list[Pair]] = {}
    for pair in pairs:
        passages.setdefault(pair.paragraph, []).append(pair)
    rows = []
    for paragraph, of_one in passages.items():
        for number, piece in enumerate(_pieces(paragraph, [pair.context for pair in of_one])):
            rows.append({"id": f"{of_one[0].id}-x{number}", "question": "", "context": piece})
    return rows


def _pieces(paragraph: str, taken: Iterable[str]) -> list[str]:
    """Runs of sentences that no taken text holds, each as short as it can be from ``LEAST`` characters on."""
    pieces, run = [], ""
    for start, end in sentence_spans(paragraph):
        sentence = paragraph[start:end]
        if any(sentence in text for text in taken):
            pieces, run = [*pieces, run], ""
            continue
        run += sentence
        if len(run) >= LEAST:
            pieces, run = [*pieces, run], ""
    return [piece for piece in [*pieces, run] if LEAST <= len(piece) <= MOST and normalise(piece)]


def _speakable(pairs: Iterable[Pair]) -> list[Pair]:
    return [pair for pair in pairs if normalise(pair.question) and normalise(pair.context)]


def prepare(args: argparse.Namespace) -> None:
    """Write all files, after everything is read."""
    splits = make_splits(args.corpus)
    files = {name: [_row(pair.id, pair.question, pair.context) for pair in pairs] for name, pairs in splits.items()}
    for name in ("train", "dev"):
        questions = [_row(f"{pair.id}-q", "", pair.question) for pair in splits[name]]
        files[f"asr.{name}"] = [*files[name], *questions]
    if args.rest:
        files["asr.train"] += rest_of(splits["train"])
    args.output.mkdir(parents=True, exist_ok=True)
    for name, rows in files.items():
        write_lines(args.output / f"{name}.jsonl", (json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        log.info("%s: %d texts", args.output / f"{name}.jsonl", len(rows))


def _row(id_: str, question: str, context: str) -> dict[str, str]:
    return {"id": id_, "question": question, "context": context}


def main() -> None:
    """Read the command line and write the texts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path, help="folder as described above")
    parser.add_argument("output", type=Path, help="folder for the JSONL files")
    parser.add_argument("--rest", action="store_true", help="the rest of the paragraphs too, for the recogniser")
    run_script(parser, prepare)


if __name__ == "__main__":
    main()
