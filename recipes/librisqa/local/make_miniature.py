#!/usr/bin/env python
"""Read sentences aloud into a corpus laid out as LibriSQA and LibriSpeech are: to see the recipe run without them.

The table has the columns part, utterance, voice, sentence and question, separated by tabs.
"""

import argparse
import csv
import json
from pathlib import Path

import soundfile

from clsr.audio.waveform import SAMPLE_RATE
from clsr.corpora.script import run_script
from clsr.corpora.synthesis import Synthesizer
from clsr.data.kaldi import write_lines


def make(table: Path, corpus: Path) -> None:
    """Write recordings and transcripts by speaker and chapter, and the questions of each part."""
    synthesizer = Synthesizer()
    questions: dict[str, list[dict[str, object]]] = {"train-clean-360": [], "test-clean": []}
    transcripts: dict[Path, list[str]] = {}
    with open(table, encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            speaker, chapter, _ = row["utterance"].split("-")
            folder = corpus / "LibriSpeech" / row["part"] / speaker / chapter
            folder.mkdir(parents=True, exist_ok=True)
            spoken = synthesizer.say(row["sentence"], row["voice"])
            soundfile.write(folder / f"{row['utterance']}.flac", spoken, SAMPLE_RATE, subtype="PCM_16")
            lines = transcripts.setdefault(folder / f"{speaker}-{chapter}.trans.txt", [])
            lines.append(f"{row['utterance']} {row['sentence'].upper()}\n")
            path = f"LibriSpeech/{row['part']}/{speaker}/{chapter}/{row['utterance']}.wav"  # .wav, as the publisher
            questions[row["part"]].append({"speech_path": path, "question": row["question"], "answer": row["sentence"]})
    for path, lines in transcripts.items():
        write_lines(path, lines)
    (corpus / "LibriSQA-PartI").mkdir(exist_ok=True)
    for split, part in (("train", "train-clean-360"), ("test", "test-clean")):
        write_lines(
            corpus / f"LibriSQA-PartI/LibriSQA-PartI-{split}.json", [json.dumps(questions[part], indent=1) + "\n"]
        )


def main() -> None:
    """Read the command line and make the corpus."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", type=Path)
    parser.add_argument("corpus", type=Path, help="folder to write")
    run_script(parser, lambda args: make(args.table, args.corpus))


if __name__ == "__main__":
    main()
