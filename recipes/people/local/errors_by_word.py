#!/usr/bin/env python
"""Print how many reference words are wrong: by how often the word stands in the training transcripts, or by its pieces.

Deleted and substituted words are counted, insertions are not: they belong to no reference word. Each column is a folder
that `clsr evaluate` wrote. The intervals are 95 % bootstrap intervals over words.
"""

import argparse
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from pathlib import Path

import jiwer
import numpy as np

from clsr.byte_pairs import read_tokenizer
from clsr.corpora.script import run_script
from clsr.data.kaldi import read_data_dir
from clsr.errors import InputError
from clsr.metrics.recall import bootstrap

EDGES = (0, 1, 5, 50, 500, 5000)  # first count of each class
MOST_PIECES = 3


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


def count_classes(counts: Counter[str]) -> dict[str, Callable[[str], bool]]:
    """Classes of words by their count in training, and what is in each.

    >>> list(count_classes(Counter()))[:2], list(count_classes(Counter()))[-1]
    (['0', '1 to 4'], '5,000 and more')
    """
    highs = [*EDGES[1:], 10**9]
    names = [str(low) if high == low + 1 else f"{low:,} to {high - 1:,}" for low, high in pairwise(EDGES)]
    return {
        name: lambda word, low=low, high=high: low <= counts[word] < high
        for name, low, high in zip([*names, f"{EDGES[-1]:,} and more"], EDGES, highs, strict=True)
    }


def piece_classes(counts: Counter[str], tokenizer: Path) -> dict[str, Callable[[str], bool]]:
    """Classes of words by the number of byte pairs that write them, and by whether training has them."""
    release = read_tokenizer(tokenizer)

    def pieces(word: str) -> int:
        return min(MOST_PIECES, len(release.encode(f" {word}", add_special_tokens=False).ids))

    return {
        f"{number}{' and more' if number == MOST_PIECES else ''}, {'in training' if seen else 'new'}": (
            lambda word, number=number, seen=seen: pieces(word) == number and (counts[word] > 0) == seen
        )
        for number in range(1, MOST_PIECES + 1)
        for seen in (True, False)
    }


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


def rate(words: Iterable[tuple[str, bool]], belongs: Callable[[str], bool]) -> str:
    """The share of a class that is wrong, in percent, with its interval."""
    values = np.array([wrong for word, wrong in words if belongs(word)], float)
    if not len(values):
        return "–"
    found = bootstrap(values)
    return f"{100 * found.value:.1f} [{100 * found.low:.1f}, {100 * found.high:.1f}]"


def compare(train: Path, folders: Sequence[Path], tokenizer: Path | None) -> None:
    """Print the table.

    Raises:
        InputError: a folder has no transcripts, or the training data cannot be read.
    """
    counts = Counter(word for utterance in read_data_dir(train) for word in (utterance.text or "").split())
    classes = piece_classes(counts, tokenizer) if tokenizer else count_classes(counts)
    measured = [[word for pair in read_transcripts(folder) for word in wrong_words(*pair)] for folder in folders]
    print(f"| {'pieces' if tokenizer else 'in training'} | words | {' | '.join(map(str, folders))} |")
    print("| --- | ---: |" + " ---: |" * len(folders))
    for name, belongs in classes.items():
        number = sum(belongs(word) for word, _ in measured[0])
        print(f"| {name} | {number:,} | {' | '.join(rate(words, belongs) for words in measured)} |")


def main() -> None:
    """Read the command line and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, required=True, help="data directory of the training transcripts")
    parser.add_argument("--tokenizer", type=Path, help="tokenizer.json of a release: classes by pieces, not by counts")
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER", help="what clsr evaluate wrote")
    run_script(parser, lambda args: compare(args.train, args.folders, args.tokenizer))


if __name__ == "__main__":
    main()
