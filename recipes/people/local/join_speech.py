#!/usr/bin/env python
"""Join the utterances of data directories, in an order drawn from the seed, to long recordings without questions.

Between two utterances there is a silence of 0.5 s. A recording is closed when it is as long as wanted.
"""

import argparse
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from clsr.audio.waveform import SAMPLE_RATE, read_waveform, write_waveforms
from clsr.corpora.script import run_script
from clsr.data.kaldi import Utterance, read_data_dir

SILENCE = np.zeros(SAMPLE_RATE // 2, np.float32)


def take(left: list[Utterance], seconds: float) -> Iterator[np.ndarray]:
    """The waveforms of one recording, whose utterances are taken from the list."""
    samples = 0
    while left and samples < seconds * SAMPLE_RATE:
        utterance = left.pop()
        waveform = read_waveform(utterance.recording, utterance.start_s, utterance.end_s)
        samples += len(waveform) + len(SILENCE)
        yield waveform
        yield SILENCE


def join(args: argparse.Namespace) -> None:
    """Write the recordings of each data directory in turn."""
    args.output.mkdir(parents=True, exist_ok=True)
    for folder in args.data:
        left = read_data_dir(folder)
        random.Random(args.seed).shuffle(left)
        name = str(folder.resolve().name)
        count = 0
        while left:
            write_waveforms(args.output / f"{name}-{count:03}.wav", take(left, 60 * args.minutes))
            count += 1
        print(f"{args.output}: {count} recordings of {folder}")


def main() -> None:
    """Read the command line and write the recordings."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, nargs="+", help="data directories")
    parser.add_argument("--output", type=Path, required=True, help="folder of the recordings")
    parser.add_argument("--minutes", type=float, default=20.0, help="length of a recording (20)")
    parser.add_argument("--seed", type=int, default=0, help="of the order (0)")
    run_script(parser, join)


if __name__ == "__main__":
    main()
