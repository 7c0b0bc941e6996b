#!/usr/bin/env python3
"""Compare the word times of a recogniser with those of a forced alignment, and print the median and the 90th percentile
of their absolute differences in seconds.

An alignment is a JSON file as pocketsphinx writes it, NAME.json of the recording NAME.*: a list "w" of words, each with
its text "t", begin "b" and duration "d". Words that were recognised as in the alignment are compared, and counted.
"""

import argparse
import json
from collections.abc import Sequence
from difflib import SequenceMatcher
from pathlib import Path

import numpy as np

import clsr
from clsr.errors import InputError
from clsr.vocabulary import Word, normalise


def read_alignment(file: Path) -> list[Word]:
    """The words of an alignment, without silence and without the numbers of pronunciations: ``to(2)`` is ``to``."""
    words = json.loads(file.read_text(encoding="utf-8"))["w"]
    return [Word(w["t"].partition("(")[0], w["b"], w["b"] + w["d"]) for w in words if not w["t"].startswith("<")]


def differences(found: Sequence[Word], true: Sequence[Word]) -> list[tuple[float, float]]:
    """Differences of start and end of the words that both have, in their order.

    >>> differences([Word("So,", 0.5, 1.0), Word("far", 1.0, 1.5)], [Word("so", 0.25, 1.0), Word("good", 1.0, 2.0)])
    [(0.25, 0.0)]
    """
    matcher = SequenceMatcher(None, [normalise(w.text) for w in found], [normalise(w.text) for w in true], False)
    pairs = [(found[a + i], true[b + i]) for a, b, size in matcher.get_matching_blocks() for i in range(size)]
    return [(ours.start_s - theirs.start_s, ours.end_s - theirs.end_s) for ours, theirs in pairs]


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="checkpoint or released recogniser; by default the default one")
    parser.add_argument("--align", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--audio", type=Path, required=True, metavar="FOLDER")
    options = parser.parse_args()
    model = clsr.load(options.model) if options.model else clsr.load()
    found: list[tuple[float, float]] = []
    total = 0
    for file in sorted(options.align.glob("*.json")):
        audio = next(options.audio.glob(f"{file.stem}.*"), None)
        if audio is None:
            raise InputError(f"{file}: no recording of this name in {options.audio}")
        true = read_alignment(file)
        total += len(true)
        found += differences(model.transcribe(audio).words, true)
    print(f"{len(found)} of {total} words compared")
    for name, values in zip(("start", "end"), np.abs(found).T, strict=True):
        print(f"{name}: median {np.median(values):.3f} s, 90 % within {np.percentile(values, 90):.3f} s")


if __name__ == "__main__":
    main()
