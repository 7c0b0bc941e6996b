"""The commands that use a trained model; modules are imported by the one that needs them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clsr.cli.searching import Add, add_asking
from clsr.config import PRECISIONS
from clsr.errors import InputError

if TYPE_CHECKING:
    from clsr.index.index import Index
    from clsr.index.recordings import RecordingStatus


def add_hardware(command: argparse.ArgumentParser, precision: str) -> None:
    """Add ``--device`` and ``--precision``, with its default."""
    command.add_argument("--device", default="cpu", help="that CLSR computes on: cpu, cuda, cuda:1 (cpu)")
    how = f"numbers that CLSR computes in; auto goes by hardware and size of the model ({precision})"
    command.add_argument("--precision", choices=PRECISIONS, default=precision, help=how)


def add_search(commands: argparse._SubParsersAction, add: Add) -> None:
    """Add ``clsr transcribe``, ``index``, ``search`` and ``ask``."""
    transcribe = add(commands, "transcribe", "write down what is said, with times", _transcribe)
    transcribe.add_argument("--model", type=Path, required=True, metavar="DIR", help="checkpoint folder")
    add_hardware(transcribe, "auto")
    transcribe.add_argument("--json", action="store_true", help="one object a file, with token times")
    transcribe.add_argument("audio", nargs="+", type=Path, metavar="AUDIO", help="files, folders, data directories")
    _add_index(add(commands, "index", "make recordings searchable", _index))
    add_asking(commands, add)


def _add_index(index: argparse.ArgumentParser) -> None:
    index.add_argument("--index", required=True, metavar="DIR", dest="index_dir", help="its folder, or s3://...")
    index.add_argument("--model", type=Path, metavar="DIR", help="checkpoint folder (the one that built the index)")
    how = "lengths in seconds, with the step or without: 40, 10,40 or 40/20; or speech, speech:20 (as before, or 40)"
    index.add_argument("--windows", metavar="CUT", help=how)
    add_hardware(index, "auto")
    approximate = "windows from which on vectors get an approximate index, 0 for never (100000)"
    index.add_argument("--approximate-from", type=int, default=100_000, metavar="N", help=approximate)
    index.add_argument("--engine", choices=["local", "ray"], default="local", help="who encodes (local)")
    cluster = "of a Ray cluster, such as auto or ray://host:10001 (Ray started on this machine)"
    index.add_argument("--ray-address", metavar="ADDRESS", help=cluster)
    index.add_argument("--workers", type=int, default=0, metavar="N", help="of Ray (one a GPU, or one a processor)")
    index.add_argument("--prune", action="store_true", help="remove recordings whose files are gone")
    index.add_argument("--status", action="store_true", help="say what the index holds, second by second, and stop")
    index.add_argument("--verify", action="store_true", help="read all of the index, say what is damaged, and stop")
    index.add_argument("--json", action="store_true", help="one object a file")
    index.add_argument(
        "audio", nargs="*", type=Path, metavar="AUDIO", help="files, folders, patterns such as 'a/**/*.mp3'"
    )


def _transcribe(options: argparse.Namespace) -> int:
    from clsr.model import load
    from clsr.transcribe import find_utterances, transcribe

    utterances = find_utterances(options.audio)
    failed = False
    for result in transcribe(load(options.model, options.device, options.precision).recogniser, utterances):
        if isinstance(result, InputError):
            failed = True
            print(f"clsr: {result}", file=sys.stderr)
        else:
            print(result.to_json() if options.json else f"{result.id or result.audio}\t{result.text}", flush=True)
    return 2 if failed else 0


def _index(options: argparse.Namespace) -> int:
    from clsr.index.index import Index

    if options.verify:
        return _verify(Index.open(options.index_dir))
    if options.status:
        _print_statuses(Index.open(options.index_dir).status(options.audio), options.json)
        return 0
    if not options.audio and not options.prune:
        raise InputError("nothing to index: name files, folders or patterns, or give --status, --verify or --prune")
    failed = _write(options) if options.audio else False
    if options.prune:
        for path in Index.open(options.index_dir).prune():
            print(f"{path}: removed, its file is gone", file=sys.stderr if options.json else sys.stdout)
    return 2 if failed else 0


def _write(options: argparse.Namespace) -> bool:
    """Index; return whether any recording failed."""
    from clsr.index.config import IndexConfig, RayConfig
    from clsr.index.index import Index

    config = IndexConfig(options.windows, approximate_from=options.approximate_from)
    index = Index.open_or_create(options.index_dir, options.model, config, options.device, options.precision)
    if options.engine == "ray":
        from clsr.index.distributed import add_with_ray

        cluster = RayConfig(options.ray_address, options.workers, precision=options.precision)
        statuses = add_with_ray(index, options.audio, cluster)
    else:
        statuses = index.add(options.audio)
    _print_statuses(statuses, options.json)
    return any(status.status == "failed" for status in statuses)


def _print_statuses(statuses: Sequence[RecordingStatus], as_json: bool) -> None:
    for status in statuses:
        if as_json:
            print(status.to_json())
        else:
            seconds = f"{status.duration_s:.1f} s, {status.indexed_s:.1f} indexed, {status.silent_s:.1f} silent"
            reason = f": {status.reason}" if status.reason else ""
            print(f"{status.path}  {status.status}  {seconds}  {status.windows} windows{reason}")


def _verify(index: Index) -> int:
    verdict = index.verify()
    for line in verdict.damage + verdict.stale:
        print(line)
    if not verdict.damage:
        print(
            f"{index.location}: sound"
            + (f", but {len(verdict.stale)} recordings are not up to date" if verdict.stale else "")
        )
    return 2 if verdict.damage else 0
