#!/usr/bin/env python
"""Write a retrieval set whose passages are spoken into babble or over the telephone; questions stay as they are.

Babble is six voices at once: each a row of utterances of other people, of equal power, drawn by the seed and the
passage's id alone, so that a ratio of 0 dB has that of 10 dB, only louder. Telephone is 300 to 3,400 Hz, sampled at
8 kHz. (White noise needs no files: `clsr evaluate --snr-db` adds it.)
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import soxr

from clsr.audio.waveform import SAMPLE_RATE, read_waveform, write_waveform
from clsr.corpora.background import add_background
from clsr.corpora.script import run_script
from clsr.data.kaldi import Utterance, read_data_dir
from clsr.data.retrieval_set import RetrievalSet, read_retrieval_set, write_retrieval_sets
from clsr.errors import InputError

VOICES = 6  # that speak at once
TELEPHONE_HZ, TELEPHONE_RATE = (300.0, 3400.0), 8000


def telephone(waveform: np.ndarray) -> np.ndarray:
    """The telephone's band of a waveform ``(N,)``, at 8 kHz."""
    spectrum = np.fft.rfft(waveform)
    hertz = np.fft.rfftfreq(len(waveform), 1 / SAMPLE_RATE)
    low, high = TELEPHONE_HZ
    spectrum[(hertz < low) | (hertz > high)] = 0
    return soxr.resample(np.fft.irfft(spectrum, len(waveform)).astype(np.float32), SAMPLE_RATE, TELEPHONE_RATE)


def altered(passages: Sequence[Utterance], folder: Path, alter: Callable[[Utterance], np.ndarray], rate: int
            ) -> list[Utterance]:  # fmt: skip
    """Passages as they sound now, each in a file of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    new = []
    for passage in passages:
        file = folder / f"{passage.id}.wav"
        write_waveform(file, alter(passage), rate)
        new.append(replace(passage, recording=file, start_s=0.0, end_s=passage.duration_s))
    return new


def prepare(args: argparse.Namespace) -> None:
    """Write the set."""
    if args.snr_db is not None and args.babble is None:
        raise InputError("--snr-db: of what? name speech with --babble")
    whole = read_retrieval_set(args.set)
    speech = read_data_dir(args.babble) if args.babble else []

    def alter(passage: Utterance) -> np.ndarray:
        waveform = read_waveform(passage.recording, passage.start_s, passage.end_s)
        if not speech:
            return telephone(waveform)
        return add_background(waveform, speech, VOICES, args.snr_db, f"{args.seed} {passage.id} babble")

    rate = SAMPLE_RATE if speech else TELEPHONE_RATE
    passages = altered(whole.passages, args.output.with_name(f"{args.output.name}_audio"), alter, rate)
    write_retrieval_sets([RetrievalSet(args.output, passages, whole.questions, whole.question_speech, whole.relevance)])
    print(f"{args.output}: {len(passages)} passages")


def main() -> None:
    """Read the command line and write the set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", type=Path, help="retrieval set")
    parser.add_argument("output", type=Path, help="folder of the new one; audio goes to OUTPUT_audio")
    parser.add_argument(
        "--babble", type=Path, metavar="DIR", help="data directory of the speech that babble is made of"
    )
    parser.add_argument("--snr-db", type=float, metavar="DB", help="ratio of speech to babble")
    parser.add_argument("--telephone", action="store_true", help="the telephone's band instead")
    parser.add_argument("--seed", type=int, default=0, help="of the babble (0)")
    run_script(parser, prepare)


if __name__ == "__main__":
    main()
