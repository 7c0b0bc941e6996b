#!/usr/bin/env python3
"""Measure how far imported models are from FunASR's own, and print the table of docs/results/fidelity.md.

Usage: tools/parity_table.py [--speech DIR] [--shapes NAME ...] [--release DIR]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from clsr.audio.waveform import SAMPLE_RATE, read_waveform
from clsr.checkpoint import load_recogniser
from clsr.corpora.synthesis import Synthesizer
from clsr.data.kaldi import read_data_dir
from clsr.errors import InputError
from clsr.evaluation.measure import hardware
from clsr.funasr.parity import (
    SHAPES,
    Differences,
    FunasrModel,
    differences,
    stages,
    worst,
    write_random_release,
)
from clsr.funasr.release import import_release

DURATIONS_S = (0.2, 0.5, 1.0, 2.4, 5.0, 10.0, 15.0, 30.0, 60.0)
BATCHED = 7  # of them, the shortest, in one padded batch
SENTENCE = "the quick brown fox jumps over the lazy dog and she sells sea shells by the sea shore"
COLUMNS = ("features", "frames", "firing weights", "token embeddings", "log probabilities", "ids", "firing frame")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; return 0, or 2 for a fault in what was given."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--speech", type=Path, action="append", metavar="DIR", help="Kaldi data directory (synthetic)")
    parser.add_argument("--shapes", nargs="*", default=list(SHAPES), choices=SHAPES, help="random models of such sizes")
    parser.add_argument("--release", type=Path, action="append", default=[], metavar="DIR", help="a real model folder")
    options = parser.parse_args(arguments)
    try:
        speech = {path.name: read_speech(path) for path in options.speech or []} or {"synthetic": speak()}
        print(heading(speech))
        for name in options.shapes:
            with tempfile.TemporaryDirectory() as folder:
                write_random_release(Path(folder) / name, SHAPES[name])
                print_rows(name, Path(folder) / name, speech)
        for folder in options.release:
            print_rows(folder.name, folder, speech)
    except InputError as error:
        print(f"parity_table: {error}", file=sys.stderr)
        return 2
    return 0


def read_speech(path: Path) -> np.ndarray:
    """Return the first minute of a data directory, its utterances in a row."""
    utterances = read_data_dir(path)[:60]
    waveforms = [read_waveform(u.recording, u.start_s, u.end_s) for u in utterances]
    return np.resize(np.concatenate(waveforms), int(max(DURATIONS_S) * SAMPLE_RATE))


def speak() -> np.ndarray:
    """Return a minute of synthetic speech."""
    return np.resize(Synthesizer().say(SENTENCE, "en-us"), int(max(DURATIONS_S) * SAMPLE_RATE))


def heading(speech: dict[str, np.ndarray]) -> str:
    """Return what was measured on what, and the head of the table."""
    durations = ", ".join(f"{duration_s:g}" for duration_s in DURATIONS_S)
    batched = f"{DURATIONS_S[BATCHED - 1]:g}"
    return "\n".join(
        [
            f"{hardware()}, torch {torch.__version__}, funasr {version('funasr')}; {', '.join(speech)}; {durations} s, "
            f"those up to {batched} s in the padded batch",
            "",
            f"| model | compared with FunASR on each utterance alone | {' | '.join(COLUMNS)} |",
            f"| --- | --- | {' | '.join('---:' for _ in COLUMNS)} |",
        ]
    )


def print_rows(name: str, folder: Path, speech: dict[str, np.ndarray]) -> None:
    """Print the rows of one model folder."""
    with tempfile.TemporaryDirectory() as output:
        import_release(folder, Path(output))
        ours = load_recogniser(output).paraformer
    theirs = FunasrModel(folder)
    found: dict[str, list[Differences]] = {"clsr, alone": [], "clsr, padded batch": [], "FunASR, padded batch": []}
    for minute in speech.values():
        waveforms = [minute[: int(duration_s * SAMPLE_RATE)] for duration_s in DURATIONS_S]
        expected = [theirs.stages([waveform])[0] for waveform in waveforms]
        rows = {
            "clsr, alone": [stages(ours, [waveform])[0] for waveform in waveforms],
            "clsr, padded batch": stages(ours, waveforms[:BATCHED]),
            "FunASR, padded batch": theirs.stages(waveforms[:BATCHED]),
        }
        for row, stages_of in rows.items():
            found[row] += [differences(a, b) for a, b in zip(stages_of, expected, strict=False)]
    for row, values in found.items():
        numbers = worst(values)
        cells = [f"{number:.1e}" for number in numbers[:5]] + [f"{number}" for number in numbers[5:]]
        print(f"| {name} | {row} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
