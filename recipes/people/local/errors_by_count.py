#!/usr/bin/env python
"""Print how many reference words are wrong, by how often the word stands in the training transcripts.

Deleted and substituted words are counted, insertions are not: they belong to no reference word. Each column is a folder
that `clsr evaluate` wrote. The intervals are 95 % bootstrap intervals over words.
"""

import argparse
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

import jiwer
import numpy as np

from clsr.corpora.script import run_script
from clsr.data.kaldi import read_data_dir
from clsr.errors import InputError
from clsr.metrics.recall import bootstrap

EDGES = (0, 1, 5, 50, 500, 5000)  # first count of each class


def wrong_words(reference: str, hypothesis: str) -> list[tuple[str, bool]]:
    """Each word of a reference, and whether it is deleted or substituted.

    >>> wrong_words("a red cat sat", "a bed cat")
    [('a', False), ('red', True), ('cat', False), ('sat', True)]
    """
    words = reference.split()
    wrong = [False] * len(words)
    for chunk in jiwer.process_words(reference, hypothesis).alignments[0]:
        if chunk.type in ("delete", "substitute"):
            wrong[chunk.ref_start_idx : chunk.ref_end_idx] = [True] * (chunk.ref_end_idx - chunk.ref_start_idx)
    return list(zip(words, wrong, strict=True))


def class_of(count: int) -> int:
    """Which class of ``EDGES`` a count is in."""
    return int(np.searchsorted(EDGES, count, side="right")) - 1


def rates(utterances: Iterable[tuple[str, str]], counts: Counter[str]) -> list[str]:
    """The rate of each class in percent with its interval over words, and how many words it has."""
    found: list[list[bool]] = [[] for _ in EDGES]
    for reference, hypothesis in utterances:
        for word, wrong in wrong_words(reference, hypothesis):
            found[class_of(counts[word])].append(wrong)
    cells = []
    for values in found:
        rate = bootstrap(np.array(values, dtype=float)) if values else None
        cells.append(f"{100 * rate.value:.1f} [{100 * rate.low:.1f}, {100 * rate.high:.1f}]" if rate else "–")
    return cells


def read_transcripts(folder: Path) -> list[tuple[str, str]]:
    """References and hypotheses of a measured folder: of its first row that has them.

    Raises:
        InputError: the folder has none.
    """
    path = folder / "transcripts.jsonl"
    if not path.is_file():
        raise InputError(f"{path}: no such file: name a folder that clsr evaluate wrote")
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [(line["reference"], line["hypothesis"]) for line in lines if line["row"] == lines[0]["row"]]


def names_of(edges: Sequence[int]) -> list[str]:
    """The classes of counts.

    >>> names_of((0, 1, 5))
    ['0', '1 to 4', '5 and more']
    """
    classes = [str(low) if high == low + 1 else f"{low:,} to {high - 1:,}" for low, high in pairwise(edges)]
    return [*classes, f"{edges[-1]:,} and more"]


def compare(train: Path, folders: Sequence[Path]) -> None:
    """Print the table.

    Raises:
        InputError: a folder has no transcripts, or the training data cannot be read.
    """
    counts = Counter(word for utterance in read_data_dir(train) for word in utterance.text.split())
    measured = [read_transcripts(folder) for folder in folders]
    columns = [rates(utterances, counts) for utterances in measured]
    words = Counter(class_of(counts[word]) for reference, _ in measured[0] for word in reference.split())
    print(f"| in training | words | {' | '.join(map(str, folders))} |")
    print("| --- | ---: |" + " ---: |" * len(columns))
    for place, name in enumerate(names_of(EDGES)):
        print(f"| {name} | {words[place]:,} | {' | '.join(column[place] for column in columns)} |")


def main() -> None:
    """Read the command line and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, required=True, help="data directory of the training transcripts")
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER", help="what clsr evaluate wrote")
    run_script(parser, lambda args: compare(args.train, args.folders))


if __name__ == "__main__":
    main()
