#!/usr/bin/env python
"""Read sentences aloud into a corpus laid out as SLUE-SQA-5 is: to see the recipe run without it.

The table has the columns part, document, voice, sentence and question, separated by tabs. A document that is there
twice answers two questions.
"""

import argparse
import csv
from pathlib import Path

from clsr.audio.waveform import SAMPLE_RATE, write_waveform
from clsr.corpora.script import run_script
from clsr.corpora.synthesis import Synthesizer
from clsr.data.kaldi import write_lines

COLUMNS = (
    "question_id question_text normalized_question_text question_speaker_id document_id document_text "
    "normalized_document_text document_speaker_id answer_spans"
).split()


def make(table: Path, corpus: Path) -> None:
    """Write the recordings and times of each part, then its table."""
    synthesizer = Synthesizer()
    lines: dict[str, list[str]] = {}
    with open(table, encoding="utf-8", newline="") as file:
        for number, row in enumerate(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)):
            part, question = corpus / row["part"], f"squad-{number:04d}"
            for kind in ("question", "document", "word2time"):
                (part / kind).mkdir(parents=True, exist_ok=True)
            document = synthesizer.say(row["sentence"], row["voice"])
            write_waveform(part / "document" / f"{row['document']}.wav", document)
            write_waveform(part / "question" / f"{question}.wav", synthesizer.say(row["question"], "en-us+m3"))
            end_s, words = len(document) / SAMPLE_RATE, row["sentence"].rstrip(".").split()
            times = [
                f"{w}\t{w}\t{i * end_s / len(words):.2f}\t{(i + 1) * end_s / len(words):.2f}\n"
                for i, w in enumerate(words)
            ]
            write_lines(part / "word2time" / f"{row['document']}.txt", [*times, ".\n"])
            plain = (row["question"].lower().rstrip("?"), row["sentence"].lower().rstrip("."))
            cells = (
                question,
                row["question"],
                plain[0],
                "m3",
                row["document"],
                row["sentence"],
                plain[1],
                row["voice"],
            )
            spans = f'[["{words[-1]}", {(len(words) - 1) * end_s / len(words):.2f}, {end_s:.2f}]]'
            lines.setdefault(row["part"], ["\t".join(COLUMNS) + "\n"]).append("\t".join((*cells, spans)) + "\n")
    for part_name, rows in lines.items():
        write_lines(corpus / f"slue-sqa5_{part_name}.tsv", rows)


def main() -> None:
    """Read the command line and make the corpus."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", type=Path)
    parser.add_argument("corpus", type=Path, help="folder to write")
    run_script(parser, lambda args: make(args.table, args.corpus))


if __name__ == "__main__":
    main()
