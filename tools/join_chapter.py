#!/usr/bin/env python3
"""Join the utterances of one LibriSpeech chapter into a recording, with a table of what is said when beside it.

tools/join_chapter.py ../shared/data/speech/mini_librispeech_en 332-128985 examples/recording/buccaneers \
  --without 332-128985-0039

The corpus is a Kaldi data directory whose ids are speaker-chapter-number. Between two utterances there are 0.2 to 0.8 s
of silence, as in recordings of `clsr data lengthen`. The recording is Ogg Opus, the table one for `clsr data make`.
"""

import argparse
import csv
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile

from clsr.audio.waveform import SAMPLE_RATE, read_waveform
from clsr.corpora.long_recordings import SILENCE_S
from clsr.data.kaldi import Utterance, read_data_dir
from clsr.errors import InputError

COMPRESSION = 0.95  # of libsndfile, from 0 to 1: some 18 kbit/s
BLOCK = 10 * SAMPLE_RATE  # libsndfile's encoders overflow the stack on one write of many minutes
COLUMNS = ["id", "audio", "start_s", "end_s", "transcript", "speaker"]


def read_chapter(corpus: Path, chapter: str, without: Sequence[str] = ()) -> list[Utterance]:
    """Utterances of a chapter in the order of their numbers.

    Raises:
        InputError: the corpus is at fault, or has no utterance of that chapter.
    """
    found = [u for u in read_data_dir(corpus) if u.id.startswith(f"{chapter}-") and u.id not in without]
    if not found:
        raise InputError(f"{corpus}: has no utterance of {chapter}; name a chapter as the ids do: speaker-chapter")
    return found


def join(utterances: Sequence[Utterance], seed: int = 0) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """The utterances as one waveform of 16 kHz, and the start and end of each in it, in seconds."""
    draw, parts, spans, position = random.Random(seed), [], [], 0
    for utterance in utterances:
        if parts:
            parts.append(np.zeros(round(draw.uniform(*SILENCE_S) * SAMPLE_RATE), np.float32))
            position += len(parts[-1])
        parts.append(read_waveform(utterance.recording, utterance.start_s, utterance.end_s))
        spans.append((position / SAMPLE_RATE, (position + len(parts[-1])) / SAMPLE_RATE))
        position += len(parts[-1])
    return np.concatenate(parts), spans


def write_opus(path: Path, waveform: np.ndarray) -> None:
    """Write a waveform of 16 kHz as Ogg Opus."""
    with soundfile.SoundFile(
        path, "w", SAMPLE_RATE, 1, format="OGG", subtype="OPUS", compression_level=COMPRESSION
    ) as file:
        for start in range(0, len(waveform), BLOCK):
            file.write(waveform[start : start + BLOCK])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path, help="Kaldi data directory of LibriSpeech, or of a part of it")
    parser.add_argument("chapter", help="speaker and chapter, as 332-128985")
    parser.add_argument("output", type=Path, help="path of both files, without .opus and .csv")
    parser.add_argument("--without", nargs="*", default=[], metavar="ID", help="utterances to leave out")
    options = parser.parse_args(arguments)
    utterances = read_chapter(options.corpus, options.chapter, options.without)
    waveform, spans = join(utterances)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    recording = options.output.with_suffix(".opus")
    write_opus(recording, waveform)
    with options.output.with_suffix(".csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(COLUMNS)
        for utterance, (start_s, end_s) in zip(utterances, spans, strict=True):
            text = (utterance.text or "").lower()
            rows.writerow([utterance.id, recording.name, f"{start_s:.2f}", f"{end_s:.2f}", text, utterance.speaker])
    size_mb = recording.stat().st_size / 1e6
    print(
        f"{recording}: {len(utterances)} utterances, {len(waveform) / SAMPLE_RATE / 60:.1f} minutes, {size_mb:.2f} MB"
    )


if __name__ == "__main__":
    main()
