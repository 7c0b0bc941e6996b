#!/usr/bin/env python
"""Write train, dev and test pairs from SQuAD questions and sentences, and other text to train the recogniser on.

The corpus folder holds squad_sent.train.jsonl and squad_sent.dev.jsonl: rows {"id", "title", "question", "context"}.
The latter is the test set; dev is held out from the former by whole titles. A title, question or context is in one
split only, and no question or context is there twice, so that each passage answers one question. Lists of words, if
wanted, have each word that is one piece of the text encoder, so that the recogniser is trained on all it can write.
"""

import argparse
import csv
import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import NamedTuple

from clsr.config import OFFLINE_TEXT_ENCODER
from clsr.corpora.one_to_one import one_to_one
from clsr.corpora.script import positive, run_script
from clsr.corpora.word_lists import whole_words, word_lists
from clsr.data.kaldi import read_text, write_lines
from clsr.errors import InputError
from clsr.models.text_encoder import load_text_encoder
from clsr.vocabulary import fold_accents

DEV_TITLES = 4  # of 44; those with the smallest SHA-1 of their name


class Pair(NamedTuple):
    """A question, the sentence that answers it, and the article it is from."""

    id: str
    title: str
    question: str
    context: str


def read_pairs(path: Path) -> list[Pair]:
    """Pairs of a JSONL file.

    Raises:
        InputError: no such file, or a line that is no JSON object with the four fields as text.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; name the folder that holds it")
    pairs = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            row = json.loads(line)
            fields = [row[field] for field in Pair._fields]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path}:{number}: is no JSON object with {', '.join(Pair._fields)}; mend it") from error
        for name, value in zip(Pair._fields, fields, strict=True):
            if not isinstance(value, str) or not value.strip():
                raise InputError(f"{path}:{number}: {row['id']}: {name} is empty or no text; mend or remove the line")
        pairs.append(Pair(*fields))
    return pairs


def split_by_title(pairs: Iterable[Pair], titles: Collection[str]) -> tuple[list[Pair], list[Pair]]:
    """The pairs of other titles, and the pairs of these titles."""
    others: list[Pair] = []
    these: list[Pair] = []
    for pair in pairs:
        (these if pair.title in titles else others).append(pair)
    return others, these


def make_splits(corpus: Path) -> dict[str, list[Pair]]:
    """Train, dev and test, with no title, id, question or context in two of them."""
    test = one_to_one(read_pairs(corpus / "squad_sent.dev.jsonl"))
    pairs, _ = split_by_title(read_pairs(corpus / "squad_sent.train.jsonl"), {pair.title for pair in test})
    titles = sorted({pair.title for pair in pairs}, key=lambda title: hashlib.sha1(title.encode()).digest())
    train, dev = split_by_title(pairs, titles[:DEV_TITLES])
    dev = one_to_one(dev, before=test)
    return {"train": one_to_one(train, before=[*test, *dev]), "dev": dev, "test": test}


def read_extra_text(tables: Iterable[Path], excluded: Collection[str]) -> list[dict[str, str]]:
    """Rows without a question from tables with the columns ``utt_id`` and ``reference``; the first of an id counts.

    Raises:
        InputError: no such file, a column that is not there, or a line without words.
    """
    rows: dict[str, dict[str, str]] = {}
    for table in tables:
        if not table.is_file():
            raise InputError(f"{table}: no such file; name a table of utt_id and reference")
        with open(table, encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            if not {"utt_id", "reference"} <= set(reader.fieldnames or ()):
                raise InputError(f"{table}:1: has no columns utt_id and reference; write a header line")
            for row in reader:
                if not row["utt_id"] or not (row["reference"] or "").strip():
                    raise InputError(f"{table}:{reader.line_num}: has no id or no words; mend or remove the line")
                if row["utt_id"] not in excluded:  # lower case, since capitals are spelt out when they are spoken
                    new = {"id": row["utt_id"], "question": "", "context": row["reference"].lower()}
                    rows.setdefault(row["utt_id"], new)
    return list(rows.values())


def make_lists(texts: Iterable[str], text_encoder: str, times: int) -> list[dict[str, str]]:
    """Rows without a question: lists of the text encoder's whole words, each so many times, with those in the texts."""
    counts = Counter(word for text in texts for word in fold_accents(text).split())
    words = whole_words(load_text_encoder(text_encoder).tokenizer)
    made = word_lists(words, counts, times, seed=0)
    return [{"id": f"list{row:05}", "question": "", "context": text} for row, text in enumerate(made)]


def write_rows(path: Path, rows: Iterable[dict[str, str]], limit: int | None) -> None:
    """Write the first rows, up to the limit, as JSON lines."""
    write_lines(path, (json.dumps(row, ensure_ascii=False) + "\n" for row in itertools.islice(rows, limit)))


def prepare(args: argparse.Namespace) -> None:
    """Write all that the command line asks for, after everything is read."""
    splits = make_splits(args.corpus)
    excluded = read_text(args.exclude / "text") if args.exclude else {}
    extra = read_extra_text(args.extra_text, excluded)
    spoken = [*(pair.context for pair in splits["train"]), *(row["context"] for row in extra)]
    lists = make_lists(spoken, args.text_encoder, args.word_lists) if args.word_lists else []
    args.output.mkdir(parents=True, exist_ok=True)
    for split, pairs in splits.items():
        rows = ({"id": pair.id, "question": pair.question, "context": pair.context} for pair in pairs)
        write_rows(args.output / f"{split}.jsonl", rows, args.limit)
    for name, texts in (("extra", extra), ("lists", lists)):
        if texts:
            write_rows(args.output / f"{name}.jsonl", texts, args.limit)


def main() -> None:
    """Read the command line and write the splits."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path, help="folder with squad_sent.train.jsonl and squad_sent.dev.jsonl")
    parser.add_argument("output", type=Path, help="folder for train, dev, test, extra and lists .jsonl")
    parser.add_argument("--limit", type=positive, help="rows of each file at most")
    parser.add_argument("--extra-text", type=Path, nargs="+", default=[], metavar="TSV", help="text without questions")
    parser.add_argument("--word-lists", type=positive, metavar="N", help="lists of words, each spoken N times")
    parser.add_argument("--text-encoder", default=OFFLINE_TEXT_ENCODER, help="whose words (the offline one)")
    parser.add_argument("--exclude", type=Path, metavar="DATA_DIR", help="leave out extra text with an id in its text")
    run_script(parser, prepare)


if __name__ == "__main__":
    main()
