"""The vector cache: a table's vectors in memory while they fit and the table is unchanged. Internal."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from clsr.index.tables import SPAN_COLUMNS, SPOKEN
from clsr.lance import TableReader, numbers

CACHE_BYTES = 2**30  # of vectors at most: 349,525 of 768 numbers, or twice as many of 384
PART = 5000  # least number of vectors for a thread
BLOCK = 256  # vectors that a thread copies at once: they stay in its processor's cache

WindowSpan = tuple[str, str, float, float]
"""What ``SPAN_COLUMNS`` hold of a window: id, recording, start and end in seconds."""


class VectorCache(NamedTuple):
    """All windows of one version of a table in which something was recognised, in the order of the table."""

    vectors: np.ndarray  # (N, E) float32
    rows: np.ndarray  # (N,) the table's own numbers of the rows
    order: np.ndarray  # (N,) that sorts these numbers
    spans: list[WindowSpan]

    def nearest(self, vector: np.ndarray, limit: int, among: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Positions of the windows whose vectors have the greatest cosine with a unit vector, and these cosines.

        Equal cosines go by the table's own numbers of the rows.

        Args:
            vector: ``(E,)`` of norm 1.
            limit: windows at most.
            among: positions that count; ``None`` is all.
        """
        if among is not None and 2 * len(among) > len(self.vectors):  # to copy so many would take longer
            cosines = cosines_of(self.vectors, vector)[among]
        else:
            cosines = cosines_of(self.vectors, vector, among)
        count = min(limit, len(cosines))
        if not count:
            return np.zeros(0, np.intp), np.zeros(0, np.float32)
        near = np.flatnonzero(cosines >= np.partition(cosines, -count)[-count])
        at = near if among is None else among[near]
        best = np.lexsort((self.rows[at], -cosines[near]))[:count]
        return at[best], cosines[near[best]]

    def positions(self, rows: np.ndarray) -> np.ndarray:
        """Positions of rows by the table's row numbers; -1 for rows that are not cached."""
        if not len(self.rows):
            return np.full(len(rows), -1)
        at = self.order[np.searchsorted(self.rows, rows, sorter=self.order).clip(max=len(self.rows) - 1)]
        return np.where(self.rows[at] == rows, at, -1)


def cosines_of(vectors: np.ndarray, vector: np.ndarray, at: np.ndarray | None = None) -> np.ndarray:
    """Cosines ``(N,)`` of unit vectors ``(N, E)`` with one ``(E,)``, each summed by itself, on all processors.

    With positions ``at``, ``(M,)``, those of these vectors alone: ``(M,)``.

    Equal vectors have equal cosines. In the product of a whole matrix they need not, since there the order of summing
    depends on the row's place. Besides, the threads of NumPy's library of products go on spinning after it, and take
    the processors from whatever comes next: the words of the windows, and the next query.
    """
    vector = np.asarray(vector, np.float32)
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    count = len(vectors) if at is None else len(at)
    ends = np.linspace(0, count, 1 + max(1, min(4 * threads, count // PART))).astype(int).tolist()
    cosines = np.empty(count, np.float32)

    def part(start: int, end: int) -> None:
        if at is None:
            np.einsum("ne,e->n", vectors[start:end], vector, out=cosines[start:end])
            return
        for first in range(start, end, BLOCK):
            block = slice(first, min(first + BLOCK, end))
            np.einsum("ne,e->n", vectors[at[block]], vector, out=cosines[block])

    if len(ends) == 2:
        part(*ends)
    else:
        list(_threads(threads).map(lambda span: part(*span), pairwise(ends)))
    return cosines


def cache_vectors(table: TableReader, most_bytes: int = CACHE_BYTES) -> VectorCache | None:
    """Read a table's vectors into memory; ``None`` if they are too large, or a writer changes the table meanwhile."""
    width = table.schema.field("vector").type.list_size
    version, count = table.version, table.count_rows(SPOKEN)
    if count * width * 4 > most_bytes:
        return None
    vectors, rows = np.empty((count, width), np.float32), np.empty(count, np.uint64)
    spans: list[WindowSpan] = []
    for batch in table.batches([*SPAN_COLUMNS, "vector"], SPOKEN, row_ids=True):
        start, end = len(spans), len(spans) + batch.num_rows
        if end > count:
            return None
        vectors[start:end] = numbers(batch["vector"])
        rows[start:end] = numbers(batch["_rowid"])
        spans += zip(*(batch[name].to_pylist() for name in SPAN_COLUMNS), strict=True)
    if len(spans) < count or table.version != version:
        return None
    return VectorCache(vectors, rows, np.argsort(rows), spans)


@cache
def _threads(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, thread_name_prefix="cosines")


if hasattr(os, "register_at_fork"):  # a child has none of the threads of its parent
    os.register_at_fork(after_in_child=_threads.cache_clear)
