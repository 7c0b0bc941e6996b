#!/usr/bin/env python3
"""Write recordings of about a minute to measure which of them an index flags: OUTPUT/NAME/NUMBER.wav.

A set is NAME=DIR: a Kaldi data directory, or a folder of audio files at any depth; a pattern such as 'clips/*/' makes
one set of many folders. Files of one folder, or utterances in the order of their ids, are put end to end until a
minute is full; what is longer stays whole, and the rest of a folder is a recording if it lasts 20 s. Babble is several
recordings of a set at once; music is made of notes and drums.
"""

import argparse
import glob
import random
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path

import numpy as np

from clsr.audio.files import find_recordings
from clsr.audio.waveform import SAMPLE_RATE, read_waveform, write_waveform
from clsr.data.kaldi import read_data_dir
from clsr.errors import InputError

LENGTH_S, LEAST_S = 60.0, 20.0
VOICES = (3, 4, 6, 8)  # at once, in babble
LEVEL = 0.1  # root mean square of what is made here
SCALES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10))


def waveforms_of(place: str) -> Iterator[Iterator[np.ndarray]]:
    """The waveforms of a data directory, or of each folder of audio files."""
    for folder in map(Path, sorted(glob.glob(place)) or [place]):
        if (folder / "wav.scp").is_file():
            utterances = sorted(read_data_dir(folder), key=lambda utterance: utterance.id)
            yield (read_waveform(u.recording, u.start_s, u.end_s) for u in utterances)
        else:
            files = find_recordings([folder])
            for _, of_one in groupby(files, key=lambda file: file.parent):
                yield (read_waveform(file) for file in of_one)


def minutes(waveforms: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Recordings of a minute and more."""
    parts: list[np.ndarray] = []
    for waveform in waveforms:
        parts.append(waveform)
        if sum(map(len, parts)) >= LENGTH_S * SAMPLE_RATE:
            yield np.concatenate(parts)
            parts = []
    if sum(map(len, parts)) >= LEAST_S * SAMPLE_RATE:
        yield np.concatenate(parts)


def babble(voices: list[np.ndarray]) -> np.ndarray:
    """Several recordings at once, each as loud as the others."""
    length = min(map(len, voices))
    return levelled(np.sum([voice[:length] / np.sqrt(np.mean(np.square(voice[:length]))) for voice in voices], axis=0))


def music(draw: np.random.Generator) -> np.ndarray:
    """A minute of a melody over chords, some with drums."""
    track = np.zeros(int((LENGTH_S + 8) * SAMPLE_RATE))
    beat_s, scale, key_hz = 60 / draw.uniform(60, 160), SCALES[draw.integers(2)], 110 * 2 ** draw.uniform(0, 1)
    decay = draw.choice([0.5, 3.0, 6.0])

    def add(start_s: float, degree: int, length_s: float, octave: int, gain: float) -> None:
        pitch_hz = key_hz * 2 ** (octave + (scale[degree % 7] + 12 * (degree // 7)) / 12)
        time_s = np.arange(int(length_s * SAMPLE_RATE)) / SAMPLE_RATE
        harmonics = [np.sin(2 * np.pi * pitch_hz * h * time_s) / h for h in range(1, 9) if pitch_hz * h < 7000]
        shape = np.exp(-decay * time_s) * np.minimum(1, time_s / 0.01) * np.minimum(1, (length_s - time_s) / 0.02)
        first = int(start_s * SAMPLE_RATE)
        track[first : first + len(time_s)] += gain * shape * np.sum(harmonics, axis=0)

    start_s = 0.0
    while start_s < LENGTH_S:
        length_s = beat_s * draw.choice([0.5, 1.0, 2.0])
        add(start_s, int(draw.integers(14)), 1.3 * length_s, 1, 1.0)
        start_s += length_s
    for start_s in np.arange(0, LENGTH_S, 4 * beat_s):
        root = int(draw.integers(7))
        for degree in (root, root + 2, root + 4):
            add(float(start_s), degree, 4 * beat_s, 0, 0.6)
    if draw.integers(2):
        hit = np.exp(-40 * np.arange(SAMPLE_RATE // 8) / SAMPLE_RATE)
        for start_s in np.arange(0, LENGTH_S, beat_s):
            first = int(start_s * SAMPLE_RATE)
            track[first : first + len(hit)] += 1.5 * hit * draw.standard_normal(len(hit))
    return levelled(track[: int(LENGTH_S * SAMPLE_RATE)])


def levelled(waveform: np.ndarray) -> np.ndarray:
    """The waveform at one level, within -1 and 1."""
    return np.clip(LEVEL * waveform / np.sqrt(np.mean(np.square(waveform))), -1, 1).astype(np.float32)


def write(folder: Path, waveforms: Iterable[np.ndarray]) -> None:
    """Write recordings by number, into a new folder.

    Raises:
        InputError: the folder exists.
    """
    if folder.exists():
        raise InputError(f"{folder}: exists already; remove it or name another --output")
    count = 0
    for waveform in waveforms:
        folder.mkdir(parents=True, exist_ok=True)
        write_waveform(folder / f"{count:04}.wav", waveform)
        count += 1
    print(f"{folder}: {count} recordings")


def main() -> None:
    """Write the sets that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=DIR")
    parser.add_argument("--most", type=int, help="recordings of a set at most, drawn at random")
    parser.add_argument("--babble", metavar="NAME=DIR", help="as many recordings of babble as --made, of this set")
    parser.add_argument("--music", metavar="NAME", help="as many recordings of music as --made")
    parser.add_argument("--made", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    draw = random.Random(options.seed)
    for name, _, place in (entry.partition("=") for entry in options.set):
        found = [recording for folder in waveforms_of(place) for recording in minutes(folder)]
        most = len(found) if options.most is None else min(options.most, len(found))
        write(options.output / name, (found[i] for i in sorted(draw.sample(range(len(found)), most))))
    if options.babble:
        name, _, place = options.babble.partition("=")
        found = [recording for folder in waveforms_of(place) for recording in minutes(folder)]
        counts = [VOICES[number % len(VOICES)] for number in range(options.made)]
        write(options.output / name, (babble(draw.sample(found, count)) for count in counts))
    if options.music:
        write(
            options.output / options.music,
            (music(np.random.default_rng([options.seed, i])) for i in range(options.made)),
        )


if __name__ == "__main__":
    main()
