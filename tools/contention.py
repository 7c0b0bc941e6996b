#!/usr/bin/env python3
"""How much longer trainings and indexing take beside each other than alone, on the cores of this machine.

Two processes at once share the cores, so twice as long is what arithmetic allows. Much more than that means that
threads burn time in which the other process could work. Every job is a whole ``clsr`` command, as a user starts it, and
the jobs run in turn: alone, then beside each other. Speech is noise with drawn words, since no time depends on it.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from clsr.audio.waveform import SAMPLE_RATE, write_waveform
from clsr.data.kaldi import Utterance, write_data_dir

UTTERANCE_S = 5.0
WORDS = "the old dog ran to a red boat by the sea and saw its first cold sun".split()
CONFIG = Path(__file__).resolve().parents[1] / "recipes" / "mini" / "conf" / "asr.yaml"


def main() -> None:
    """Print a table: seconds alone, seconds beside another job, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=200, help="of each training (200)")
    parser.add_argument("--minutes", type=float, default=20.0, help="of audio to index (20)")
    parser.add_argument("--workers", type=int, default=0, help="processes that load the batches of a training (0)")
    parser.add_argument("--engine", default="local", choices=["local", "ray"], help="of clsr index (local)")
    parser.add_argument("--repeats", type=int, default=3, help="of everything; medians are printed (3)")
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="NAME=VALUE", dest="variables", help="environment of all jobs"
    )
    options = parser.parse_args()
    environment = os.environ | dict(pair.split("=", 1) for pair in options.variables)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train = make_jobs(folder, options)
        index = ["index", "--model", str(folder / "model"), "--windows", "5/5", "--engine", options.engine]
        index += [str(folder / "recording.wav"), "--index"]
        run([[*train, str(folder / "model")]], environment)  # the model to index with, and files come into memory
        times: dict[str, list[list[float]]] = {}
        for turn in range(options.repeats):
            training = [*train, str(folder / f"a{turn}")]
            other = [*train, str(folder / f"b{turn}")]
            third = [*train, str(folder / f"c{turn}")]
            fourth = [*train, str(folder / f"d{turn}")]
            jobs = {
                "training": [training],
                "index": [[*index, str(folder / f"i{turn}")]],
                "two trainings": [other, third],
                "training and index": [fourth, [*index, str(folder / f"j{turn}")]],
            }
            for title, commands in jobs.items():
                times.setdefault(title, []).append(run(commands, environment))
                print(title, *(f"{seconds:.1f} s" for seconds in times[title][-1]), file=sys.stderr, flush=True)
    print_table(times, options)


def make_jobs(folder: Path, options: argparse.Namespace) -> list[str]:
    """Write speech to train on and to index, and return the training command but for its output."""
    draw = np.random.default_rng(0)
    samples = int(max(options.minutes * 60, 600) * SAMPLE_RATE)
    recording = folder / "recording.wav"
    write_waveform(recording, 0.1 * draw.standard_normal(samples, dtype=np.float32))
    for split, count in (("train", 100), ("dev", 4)):
        utterances = [
            Utterance(
                f"u{i:03}", recording, i * UTTERANCE_S, (i + 1) * UTTERANCE_S, " ".join(draw.choice(WORDS, 14)), "noise"
            )
            for i in range(count)
        ]
        (folder / "data" / split).mkdir(parents=True)
        write_data_dir(folder / "data" / split, utterances)
    steps = str(options.steps)
    settings = ["--optimizer.max_steps", steps, "--trainer.validate_every", steps]
    settings += ["--data.workers", str(options.workers)]
    return ["train-asr", str(CONFIG), "--data", str(folder / "data"), *settings, "--output"]


def run(commands: Sequence[list[str]], environment: dict[str, str]) -> list[float]:
    """Start commands at once and return the seconds that each took."""
    start = time.perf_counter()
    program = [sys.executable, "-m", "clsr.cli.main"]
    running = [
        subprocess.Popen([*program, *c], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for c in commands
    ]
    seconds = [0.0] * len(running)
    while not all(seconds):
        for i, process in enumerate(running):
            if not seconds[i] and process.poll() is not None:
                seconds[i] = time.perf_counter() - start
        time.sleep(0.02)
    for process in running:
        _, errors = process.communicate()
        if process.returncode:
            sys.exit(f"a job failed: {errors.strip().splitlines()[-1]}")
    return seconds


def print_table(times: dict[str, list[list[float]]], options: argparse.Namespace) -> None:
    """Print medians over the repeats as Markdown; the ratio is the median over turns, each turn against itself."""
    print("\n| job | alone, s | at once, s | times as long |\n| --- | ---: | ---: | ---: |")
    rows = [
        ("training", "beside a training", "training", "two trainings", max),
        ("training", "beside an indexing", "training", "training and index", lambda both: both[0]),
        ("indexing", "beside a training", "index", "training and index", lambda both: both[1]),
    ]
    for job, beside, single, pair, pick in rows:
        alone = [turn[0] for turn in times[single]]
        together = [pick(turn) for turn in times[pair]]
        ratio = statistics.median(b / a for a, b in zip(alone, together, strict=True))
        print(f"| {job}, {beside} | {statistics.median(alone):.1f} | {statistics.median(together):.1f} | {ratio:.2f} |")
    print(
        f"\n{options.steps} steps, {options.minutes:g} minutes of audio, {os.cpu_count()} cores, "
        f"medians of {options.repeats}; environment: {' '.join(options.variables) or 'as clsr sets it'}."
    )


if __name__ == "__main__":
    main()
