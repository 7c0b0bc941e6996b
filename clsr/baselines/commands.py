"""The commands that train rivals; modules are imported by the one that needs them."""

from __future__ import annotations

from collections.abc import Callable

RIVALS = {
    "train-parabge": "train the rival without a recogniser",
    "train-speechdpr": "train a speech encoder on the scores of a cascade",
    "train-clap": "fine-tune CLAP, or a small one with random weights",
    "train-whisper": "train Whisper on transcripts, or a small one with random weights",
}
FOREIGN = ("train-clap", "train-whisper")  # start from weights that know nothing of our settings


def rival_stage(command: str) -> Callable:
    """Return what runs the training of a rival."""
    if command == "train-speechdpr":
        from clsr.baselines.speechdpr import train_speechdpr as run
    elif command == "train-clap":
        from clsr.baselines.clap import train_clap as run
    elif command == "train-whisper":
        from clsr.baselines.whisper import train_whisper as run
    else:
        from clsr.baselines.parabge import train_parabge as run
    return run
