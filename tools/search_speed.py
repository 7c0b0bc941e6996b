#!/usr/bin/env python3
"""Time searches of one or several source trees in turn, over an index of the benchmark's synthetic windows.

    tools/search_speed.py --windows 90000 --tree before=../before --tree after=.

A process of each tree has the index open. For each query, all kinds of search take turns: every mode with cached
vectors ("exact") and, with ``--approximate``, with the tree's own approximate index and no cache; each tree then has a
copy of the index. Processor time is that of all threads. The hits of each kind are compared with those of the exact
search in the same mode by the last tree: the mean share of the first ten that both have. Queries before ``--skip`` are
left for choosing settings.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

WIDTH, TOP_K, WARM_UPS = 768, 10, 3
QUERIES = "queries.npz"
MODES = ("dense", "bm25", "hybrid")
# It answers each line, a query's number, a mode and whether the search is exact, in a line: milliseconds and hits.
WORKER = """
import json, resource, sys, time
from pathlib import Path
import numpy as np
from clsr.index.approximate import build_approximate
from clsr.index.index import Index
from clsr.index.location import IndexLocation
from clsr.index.tables import IndexTables
folder, queries, approximate = Path(sys.argv[1]), np.load(sys.argv[2]), sys.argv[3] == "approximate"
location = IndexLocation.of(folder)
def processor_s():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
start_s, before_s = time.perf_counter(), processor_s()
recall = build_approximate(IndexTables(location).windows) if approximate else None
peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
print(json.dumps([time.perf_counter() - start_s, processor_s() - before_s, recall, peak_mb]), flush=True)
indices = {True: Index(location, cache_bytes=2**40), False: Index(location, cache_bytes=0)}
for line in sys.stdin:
    number, mode, exact = json.loads(line)
    vector = queries["vectors"][number] if mode != "bm25" else None
    words = str(queries["texts"][number]) if mode != "dense" else None
    start_s, before_s = time.perf_counter(), processor_s()
    found = indices[exact].search(vector, words, 10, None, exact)
    wall_s, used_s = time.perf_counter() - start_s, processor_s() - before_s
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    print(json.dumps([1000 * wall_s, 1000 * used_s, peak_mb, [window.id for window in found]]), flush=True)
"""


class Search(NamedTuple):
    """What one search took, and the ids of its hits."""

    wall_ms: float
    processor_ms: float
    peak_mb: float  # of its process until then
    hits: list[str]


class Kind(NamedTuple):
    """Searches of one kind by one tree."""

    tree: str
    mode: str
    exact: bool


class Worker:
    """A process of a source tree that has an index open.

    Args:
        tree: the source tree.
        index: folder of the index.
        queries: file of the queries.
        approximate: build the approximate index first.
    """

    def __init__(self, tree: Path, index: Path, queries: Path, approximate: bool) -> None:
        arguments = [str(index.resolve()), str(queries.resolve()), "approximate" if approximate else "exact"]
        command = [sys.executable, "-c", WORKER, *arguments]
        self._process = subprocess.Popen(command, cwd=tree, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.built_s, self.processor_s, self.recall, self.peak_mb = self._answer()

    def search(self, number: int, kind: Kind) -> Search:
        """Search for a query."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([number, kind.mode, kind.exact]) + "\n")
        self._process.stdin.flush()
        return Search(*self._answer())

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _answer(self) -> list:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("a tree's process ended; its message is above")
        return json.loads(line)


def shared(one: Sequence[str], other: Sequence[str]) -> float:
    """Share of the hits of one search that another has.

    >>> shared(["a", "b"], ["b", "c"])
    0.5
    """
    return len(set(one) & set(other)) / len(one) if one else 1.0


def table(searches: Mapping[Kind, Sequence[Search]], judge: str) -> str:
    """Percentiles of all kinds of search, and how many hits of exact search by the tree ``judge`` they have."""
    lines = [
        "| mode | search | tree | p50, ms | p95, ms | lowest, ms | processor p50, ms | hits of exact search |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for kind, found in searches.items():
        walls = np.array([search.wall_ms for search in found])
        used_ms = np.median([search.processor_ms for search in found])
        right = searches[Kind(judge, kind.mode, True)]
        same = np.mean([shared(one.hits, other.hits) for one, other in zip(right, found, strict=True)])
        times = " | ".join(f"{ms:.1f}" for ms in (*np.percentile(walls, [50, 95]), walls.min(), used_ms))
        name = "exact, in memory" if kind.exact else "approximate"
        lines.append(f"| {kind.mode} | {name} | {kind.tree} | {times} | {same:.3f} |")
    return "\n".join(lines)


def make_index(folder: Path, windows: int, questions: int) -> None:
    """Build the index and write its queries beside it, both as the benchmark makes them."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from clsr.bench.search import make_index

    queries = make_index(folder / "index", windows, WIDTH, questions).queries
    texts, vectors = [query.text for query in queries], np.stack([query.vector for query in queries])
    np.savez(folder / QUERIES, texts=np.array(texts), vectors=vectors)


def main(arguments: Sequence[str] | None = None) -> None:
    """Time the searches and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", type=int, default=90_000)
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--skip", type=int, default=0, metavar="N", help="leave out the first N questions")
    parser.add_argument("--tree", metavar="NAME=FOLDER", action="append", help="by default this one")
    parser.add_argument("--approximate", action="store_true", help="time approximate indices, too")
    parser.add_argument("--mode", choices=MODES, action="append", help="by default all")
    parser.add_argument("--folder", type=Path, help="to keep the index in, and to take it from")
    given = parser.parse_args(arguments)
    named = (one.split("=", 1) for one in given.tree or [f"this={Path(__file__).parents[1]}"])
    trees = {name: Path(folder) for name, folder in named}
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(exist_ok=True)
        if not (folder / QUERIES).exists():
            make_index(folder, given.windows, given.skip + given.questions)
        workers = {}
        for name, tree in trees.items():
            index = folder / "index"
            if given.approximate and len(trees) > 1:
                index = Path(temporary) / name
                shutil.copytree(folder / "index", index)
            workers[name] = worker = Worker(tree, index, folder / QUERIES, given.approximate)
            if given.approximate:
                print(
                    f"{name}: approximate index built in {worker.built_s:.0f} s, {worker.processor_s:.0f} s "
                    f"of processor time, {worker.peak_mb:.0f} MB at most; recall@10 for windows {worker.recall}"
                )
        kinds = [
            Kind(name, mode, exact)
            for mode in given.mode or MODES
            for exact in ((True, False) if given.approximate and mode != "bm25" else (True,))
            for name in trees
        ]
        searches: dict[Kind, list[Search]] = {kind: [] for kind in kinds}
        numbers = range(given.skip, given.skip + given.questions)
        for number in [*numbers[:WARM_UPS], *numbers]:
            for kind in kinds:
                searches[kind].append(workers[kind.tree].search(number, kind))
        timed = {kind: found[WARM_UPS:] for kind, found in searches.items()}
        print(f"\n{given.windows:,} windows, {given.questions} queries\n\n{table(timed, list(trees)[-1])}")
        for worker in workers.values():
            worker.close()


if __name__ == "__main__":
    main()
