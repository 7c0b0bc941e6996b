#!/usr/bin/env python
"""Write a closed vocabulary of real text: the sentences that need the fewest words, and other text cut to these words.

The corpus folder holds squad_sent.train.jsonl and squad_sent.dev.jsonl: rows {"id", "title", "question", "context"}.
Sentences are chosen one by one, each time the one that adds the fewest words to the vocabulary: whole, with their
questions, they are the test and dev pairs. All other sentences, and further text for the recogniser, lose the words
outside the vocabulary; with their questions these are the train pairs. Lists of words in random order see to it that
every word is spoken at least so many times.
"""

import argparse
import csv
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from clsr.corpora.script import positive, run_script
from clsr.corpora.word_lists import word_lists
from clsr.data.kaldi import write_lines
from clsr.errors import InputError
from clsr.vocabulary import fold_accents

FIELDS = ("id", "question", "context")
FEWEST_WORDS = 5  # in a text cut to the vocabulary


class Pair(NamedTuple):
    """A question and the sentence that answers it."""

    id: str
    question: str
    context: str

    @property
    def words(self) -> list[str]:
        """The words of the sentence, as a recogniser writes them."""
        return fold_accents(self.context).split()


def read_pairs(path: Path) -> list[Pair]:
    """Pairs of a JSONL file, no id, question or context twice.

    Raises:
        InputError: no such file, or a line that is no JSON object with the fields as text.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; name the folder that holds it")
    pairs, seen = [], set()
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            pair = Pair(*(json.loads(line)[field] for field in FIELDS))
            keys = {(field, fold_accents(value)) for field, value in zip(FIELDS[1:], pair[1:], strict=True)}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{path}:{number}: is no JSON object with {', '.join(FIELDS)}; mend it") from error
        if seen.isdisjoint(keys | {("id", pair.id)}) and pair.words:
            pairs.append(pair)
        seen |= keys | {("id", pair.id)}
    return pairs


def choose(pairs: Sequence[Pair], count: int) -> tuple[list[Pair], set[str]]:
    """The sentences that need few words, and these words: each adds fewer new ones than any left (or as few, earlier).

    Raises:
        InputError: there are fewer pairs than asked for.
    """
    if len(pairs) <= count:
        raise InputError(f"{count} pairs asked for, but the corpus has {len(pairs)}: lower --test or --dev")
    words = [set(pair.words) for pair in pairs]
    holders: dict[str, list[int]] = {}
    for row, own in enumerate(words):
        for word in own:
            holders.setdefault(word, []).append(row)
    new = {row: len(own) for row, own in enumerate(words)}  # words each would add
    chosen: list[Pair] = []
    vocabulary: set[str] = set()
    while len(chosen) < count:
        best = min(new, key=lambda row: (new[row], row))
        del new[best]
        chosen.append(pairs[best])
        for word in words[best] - vocabulary:
            for row in holders[word]:
                if row in new:
                    new[row] -= 1
        vocabulary |= words[best]
    return chosen, vocabulary


def closed(words: Iterable[str], vocabulary: set[str]) -> str:
    """The words within the vocabulary; nothing where fewer than FEWEST_WORDS are left."""
    kept = [word for word in words if word in vocabulary]
    return " ".join(kept) if len(kept) >= FEWEST_WORDS else ""


def read_extra_text(table: Path) -> list[list[str]]:
    """Words of the column ``reference`` of a table.

    Raises:
        InputError: no such file, or no such column.
    """
    if not table.is_file():
        raise InputError(f"{table}: no such file; name a table of utt_id and reference")
    with open(table, encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        if "reference" not in (reader.fieldnames or ()):
            raise InputError(f"{table}:1: has no column reference; write a header line")
        return [fold_accents(row["reference"] or "").split() for row in reader]


def prepare(args: argparse.Namespace) -> None:
    """Write all that the command line asks for, after everything is read."""
    pairs = [pair for name in ("train", "dev") for pair in read_pairs(args.corpus / f"squad_sent.{name}.jsonl")]
    extra = [words for table in args.extra_text for words in read_extra_text(table)]
    chosen, vocabulary = choose(pairs, args.test + args.dev)
    chosen.sort(key=lambda pair: hashlib.sha1(pair.id.encode()).digest())
    kept = set(chosen)
    train = [pair._replace(context=closed(pair.words, vocabulary)) for pair in pairs if pair not in kept]
    train = [pair for pair in train if pair.context]
    spoken = [pair.context for pair in train] + [text for words in extra if (text := closed(words, vocabulary))]
    counts = Counter(word for text in spoken for word in text.split())
    spoken += word_lists(vocabulary, counts, args.times, args.seed)
    args.output.mkdir(parents=True, exist_ok=True)
    for name, members in (("test", chosen[: args.test]), ("dev", chosen[args.test :]), ("train", train)):
        _write(args.output / f"{name}.jsonl", (pair._asdict() for pair in members))
    rows = ({"id": f"s{row:06}", "question": "", "context": text} for row, text in enumerate(spoken))
    _write(args.output / "asr.jsonl", rows)
    words = sum(len(text.split()) for text in spoken)
    print(f"{len(vocabulary)} words; {len(train)} train pairs; {len(spoken)} texts of {words} words for the recogniser")


def _write(path: Path, rows: Iterable[dict[str, str]]) -> None:
    write_lines(path, (json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def main() -> None:
    """Read the command line and write the splits."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path, help="folder with squad_sent.train.jsonl and squad_sent.dev.jsonl")
    parser.add_argument("output", type=Path, help="folder for train, dev, test and asr .jsonl")
    parser.add_argument("--extra-text", type=Path, nargs="+", default=[], metavar="TSV", help="text without questions")
    parser.add_argument("--test", type=positive, default=300, help="sentences to test on (300)")
    parser.add_argument("--dev", type=positive, default=60, help="sentences to develop on (60)")
    parser.add_argument("--times", type=positive, default=10, help="a word is spoken to the recogniser, at least (10)")
    parser.add_argument("--seed", type=int, default=0, help="of the word lists (0)")
    run_script(parser, prepare)


if __name__ == "__main__":
    main()
