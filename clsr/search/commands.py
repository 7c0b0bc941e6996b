"""The commands that use a trained model; modules are imported by the one that needs them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from clsr.errors import InputError
from clsr.search.asking import Add, add_asking


def add_search(commands: argparse._SubParsersAction, add: Add) -> None:
    """Add ``clsr transcribe``, ``index``, ``search`` and ``ask``."""
    transcribe = add(commands, "transcribe", "write down what is said, with times", _transcribe)
    transcribe.add_argument("--model", type=Path, required=True, metavar="DIR", help="checkpoint folder")
    transcribe.add_argument("--json", action="store_true", help="one object a file, with token times")
    transcribe.add_argument("audio", nargs="+", type=Path, metavar="AUDIO", help="files, folders, data directories")
    index = add(commands, "index", "make recordings searchable", _index)
    index.add_argument("--model", type=Path, required=True, metavar="DIR", help="checkpoint folder")
    index.add_argument("--index", type=Path, required=True, metavar="DIR", dest="index_dir", help="its folder")
    index.add_argument("--window-s", type=float, default=40.0, help="length of a window (40)")
    index.add_argument("--hop-s", type=float, default=30.0, help="from one window's start to the next (30)")
    index.add_argument("--json", action="store_true", help="one object a file")
    index.add_argument("audio", nargs="+", type=Path, metavar="AUDIO", help="files or folders")
    add_asking(commands, add)


def _transcribe(options: argparse.Namespace) -> int:
    from clsr.checkpoint import load_recogniser
    from clsr.search.transcribe import find_utterances, transcribe

    utterances = find_utterances(options.audio)
    failed = False
    for result in transcribe(load_recogniser(options.model), utterances):
        if isinstance(result, InputError):
            failed = True
            print(f"clsr: {result}", file=sys.stderr)
        else:
            print(result.to_json() if options.json else f"{result.id or result.audio}\t{result.text}", flush=True)
    return 2 if failed else 0


def _index(options: argparse.Namespace) -> int:
    from clsr.checkpoint import load_speech_encoder
    from clsr.search.index import IndexConfig, index_recordings

    settings = IndexConfig(options.window_s, options.hop_s)
    encoder = load_speech_encoder(options.model)
    statuses = index_recordings(encoder, options.model, options.index_dir, options.audio, settings)
    for status in statuses:
        if options.json:
            print(status.to_json())
        else:
            reason = f": {status.reason}" if status.reason else ""
            print(f"{status.path}  {status.status}  {status.duration_s:.1f} s  {status.windows} windows{reason}")
    return 2 if any(status.status == "failed" for status in statuses) else 0
