#!/usr/bin/env python3
"""Time ``clsr search`` from a shell, of one or several source trees in turn, and what it spends on imports.

    tools/cold_start.py --index demo.index --tree before=../before --tree after=. "who sold the old horse?"

Each tree is imported by the interpreter that runs this, and takes turns with the others. Wall time is that of the whole
process; user and system time those of all its threads. Files are read once before anything is timed. Imports are timed
apart (``python -X importtime``, which itself takes time): what the modules of each package take by themselves.
"""

from __future__ import annotations

import argparse
import re
import resource
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

LEAST_MS = 10.0  # packages that take less are one row
OWN_TIME = re.compile(r"^import time: +(\d+) \| +\d+ \| +(\S+)$", re.MULTILINE)


class Run(NamedTuple):
    """Seconds of one process."""

    wall_s: float
    processor_s: float  # user and system


def time_command(command: Sequence[str], tree: Path) -> Run:
    """Run a command on a source tree and return its times.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    before, start_s = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, cwd=tree, check=True, stdout=subprocess.DEVNULL)
    wall_s, after = time.perf_counter() - start_s, resource.getrusage(resource.RUSAGE_CHILDREN)
    return Run(wall_s, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def import_shares(report: str) -> Counter[str]:
    """Milliseconds of each top-level package, from what ``-X importtime`` wrote.

    >>> import_shares("import time:      1500 |       2500 | numpy.linalg\\nimport time:      500 |  3000 | numpy")
    Counter({'numpy': 2.0})
    """
    shares: Counter[str] = Counter()
    for microseconds, module in OWN_TIME.findall(report):
        package = module.partition(".")[0]
        shares["Python" if package in sys.stdlib_module_names else package] += int(microseconds) / 1000  # type: ignore[assignment]
    return shares


def times_table(runs: Mapping[str, Sequence[Run]]) -> str:
    """Medians, lowest and highest, as a Markdown table."""
    lines = ["| | wall, s | lowest to highest | user and system, s |", "| --- | ---: | ---: | ---: |"]
    for name, of_tree in runs.items():
        walls, processors = [run.wall_s for run in of_tree], [run.processor_s for run in of_tree]
        spread = f"{min(walls):.2f} to {max(walls):.2f}"
        lines.append(f"| {name} | {statistics.median(walls):.2f} | {spread} | {statistics.median(processors):.2f} |")
    return "\n".join(lines)


def imports_table(shares: Mapping[str, Counter[str]]) -> str:
    """Milliseconds of imports by package as a Markdown table, the largest first."""
    packages = Counter({name: max(one[name] for one in shares.values()) for one in shares.values() for name in one})
    large = [name for name, ms in packages.most_common() if ms >= LEAST_MS]
    lines = ["| imports, ms |" + "".join(f" {name} |" for name in shares), "| --- |" + " ---: |" * len(shares)]
    rows = [(name, [one[name] for one in shares.values()]) for name in large]
    rows.append(("all others", [sum(one.values()) - sum(one[name] for name in large) for one in shares.values()]))
    rows.append(("together", [sum(one.values()) for one in shares.values()]))
    return "\n".join([*lines, *(f"| {name} |" + "".join(f" {ms:.0f} |" for ms in values) for name, values in rows)])


def main(arguments: Sequence[str] | None = None) -> None:
    """Time the searches and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("question")
    parser.add_argument("--index", type=Path, required=True)
    parser.add_argument("--mode", choices=("dense", "bm25", "hybrid"), action="append")
    parser.add_argument("--tree", metavar="NAME=FOLDER", action="append", help="by default this one")
    parser.add_argument("--repeats", type=int, default=9)
    given = parser.parse_args(arguments)
    named = (one.split("=", 1) for one in given.tree or [f"this={Path(__file__).parents[1]}"])
    trees = {name: Path(folder) for name, folder in named}
    for mode in given.mode or ("dense", "hybrid"):
        search = [
            "-m",
            "clsr.cli.main",
            "search",
            "--index",
            str(given.index.resolve()),
            "--mode",
            mode,
            given.question,
        ]
        runs: dict[str, list[Run]] = {name: [] for name in trees}
        for repeat in range(-1, given.repeats):
            for name, tree in trees.items():
                run = time_command([sys.executable, *search], tree)
                if repeat >= 0:
                    runs[name].append(run)
        print(f"`clsr search --mode {mode}`, median of {given.repeats}\n\n{times_table(runs)}\n")
    shares = {}
    for name, tree in trees.items():
        timed = [sys.executable, "-X", "importtime", *search]
        done = subprocess.run(timed, cwd=tree, check=True, capture_output=True, text=True)
        shares[name] = import_shares(done.stderr)
    print(imports_table(shares))


if __name__ == "__main__":
    main()
