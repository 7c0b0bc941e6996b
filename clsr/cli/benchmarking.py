"""``clsr bench``; its modules are imported when it runs."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

Add = Callable[[argparse._SubParsersAction, str, str, Callable], argparse.ArgumentParser]

PARTS = ("stages", "shapes", "path", "baselines", "search", "training")


def add_bench(commands: argparse._SubParsersAction, add: Add) -> None:
    """Add ``clsr bench``."""
    bench = add(commands, "bench", "time encoding, search and training, baselines beside them", _bench)
    bench.add_argument("--full", action="store_true", help="all shapes and sizes: an hour or more instead of minutes")
    bench.add_argument("--only", nargs="+", default=PARTS, metavar="PART", choices=PARTS, help=f"of {', '.join(PARTS)}")
    checkpoint = "encode with this checkpoint (mini and full size with random weights)"
    bench.add_argument("--model", type=Path, metavar="DIR", help=checkpoint)
    bench.add_argument("--device", default="cpu", help="that clsr encodes on, for shapes and path: cpu, cuda (cpu)")
    bench.add_argument("--json", action="store_true", help="objects, a line each, instead of tables")
    bench.add_argument("--output", type=Path, metavar="FILE", help="write the object there too")
    kept = "show measurements that --output wrote, in place of measuring: only --json and --into go with it"
    bench.add_argument("--tables", nargs="+", type=Path, metavar="FILE", help=kept)
    bench.add_argument("--into", type=Path, metavar="FILE", help="put the tables between the marker lines of this page")


def _bench(options: argparse.Namespace) -> None:
    from clsr.bench.report import measure, page, read_measurement
    from clsr.evaluation.typeset import insert_page

    if options.tables:
        results = [read_measurement(file) for file in options.tables]
    else:
        results = [measure(options.full, options.only, options.model, options.device)]
        if options.output:
            options.output.write_text(json.dumps(results[0], indent=1) + "\n", encoding="utf-8")
    text = "\n\n".join(map(page, results))
    if options.into:
        insert_page(options.into, text)
    print("\n".join(map(json.dumps, results)) if options.json else text)
