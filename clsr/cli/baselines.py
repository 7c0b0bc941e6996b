"""The commands of baselines; modules are imported by the one that needs them."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

BASELINES = {
    "train-parabge": "train the baseline without a recogniser",
    "train-speechdpr": "train a speech encoder on the scores of a cascade",
    "train-clap": "fine-tune CLAP, or a small one with random weights",
    "train-whisper": "train Whisper on transcripts, or a small one with random weights",
}
FOREIGN = ("train-clap", "train-whisper")  # start from weights that know nothing of our settings


def baseline_stage(command: str) -> Callable:
    """Return what runs the training of a baseline."""
    if command == "train-speechdpr":
        from clsr.systems.speechdpr import train_speechdpr as run
    elif command == "train-clap":
        from clsr.systems.clap import train_clap as run
    elif command == "train-whisper":
        from clsr.systems.whisper import train_whisper as run
    else:
        from clsr.systems.parabge import train_parabge as run
    return run


def add_transcribed(kinds: argparse._SubParsersAction, add: Callable[..., argparse.ArgumentParser]) -> None:
    """Add ``clsr data transcribed``."""
    command = add(kinds, "transcribed", "write a retrieval set with the transcripts of a system", _transcribed)
    command.add_argument("--model", required=True, metavar="MODEL", help="as clsr evaluate takes it")
    command.add_argument("--set", type=Path, required=True, metavar="DIR", dest="set_dir", help="retrieval set")
    command.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder of the new one")


def _transcribed(options: argparse.Namespace) -> None:
    from clsr.systems.transcribed import write_transcribed

    write_transcribed(options.model, options.set_dir, options.output)
    print(f"{options.output}: done")
