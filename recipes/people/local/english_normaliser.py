#!/usr/bin/env python
"""Print word error rates of reports by Whisper's English normaliser too, which writes out numbers and contractions.

It is that of transformers, without its list of British spellings, which no package has. Reads `transcripts.jsonl`
beside each report, whose texts are lower case without punctuation already.
"""

import argparse
import json
from pathlib import Path

import jiwer

from clsr.corpora.script import run_script
from clsr.errors import InputError


def rates(file: Path) -> dict[str, float]:
    """The word error rate of each row.

    Raises:
        InputError: there is no such file.
    """
    from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

    if not file.is_file():
        raise InputError(f"{file}: no such file; name a folder that clsr evaluate wrote")
    normalise = EnglishTextNormalizer({})
    texts: dict[str, tuple[list[str], list[str]]] = {}
    for line in file.read_bytes().splitlines():
        row = json.loads(line)
        references, hypotheses = texts.setdefault(row["row"], ([], []))
        references.append(normalise(row["reference"]))
        hypotheses.append(normalise(row["hypothesis"]))
    return {row: jiwer.wer(references, hypotheses) for row, (references, hypotheses) in texts.items()}


def main() -> None:
    """Read the command line and print the rates."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("reports", type=Path, nargs="+", help="folders of reports")

    def work(args: argparse.Namespace) -> None:
        for folder in args.reports:
            for row, rate in rates(folder / "transcripts.jsonl").items():
                print(f"{folder}: {row} {100 * rate:.1f}")

    run_script(parser, work)


if __name__ == "__main__":
    main()
