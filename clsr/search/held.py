"""A table's vectors held in memory, as long as they fit and the table stays as it is: searches then read no disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from lancedb.table import LanceTable

HELD_BYTES = 2**30  # of vectors at most: 349,525 of 768 numbers, or twice as many of 384
PLACE = ["id", "recording", "start_s", "end_s"]
SPOKEN = "text != ''"  # windows in which something was recognised
ROUNDING = 1e-5  # the products of one vector in two orders of summing differ by less

Place = tuple[str, str, float, float]


class Held(NamedTuple):
    """All windows of one version of a table in which something was recognised, in the order of the table."""

    vectors: np.ndarray  # (N, E) float32
    rows: np.ndarray  # (N,) the table's own numbers of the rows
    order: np.ndarray  # (N,) that sorts these numbers
    places: list[Place]

    def nearest(self, vector: np.ndarray, limit: int, among: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Positions of the windows whose vectors have the greatest cosine with a unit vector, and these cosines.

        Equal cosines go by the table's own numbers of the rows.

        Args:
            vector: ``(E,)`` of norm 1.
            limit: windows at most.
            among: positions that count; ``None`` is all.
        """
        products = self.vectors @ vector
        if among is not None:
            products = products[among]
        count = min(limit, len(products))
        if not count:
            return np.zeros(0, np.intp), np.zeros(0, np.float32)
        near = np.flatnonzero(products >= np.partition(products, -count)[-count] - ROUNDING)
        if among is not None:
            near = among[near]
        cosines = cosines_of(self.vectors[near], vector)
        best = np.lexsort((self.rows[near], -cosines))[:count]
        return near[best], cosines[best]

    def positions(self, rows: np.ndarray) -> np.ndarray:
        """Where rows are, by the table's own numbers; -1 for those that are not there."""
        if not len(self.rows):
            return np.full(len(rows), -1)
        at = self.order[np.searchsorted(self.rows, rows, sorter=self.order).clip(max=len(self.rows) - 1)]
        return np.where(self.rows[at] == rows, at, -1)


def cosines_of(vectors: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """Cosines ``(N,)`` of unit vectors ``(N, E)`` with one ``(E,)``, each summed by itself.

    Equal vectors have equal cosines. In the product of a whole matrix they need not, since there the order of summing
    depends on the row's place.
    """
    return np.einsum("ne,e->n", vectors, vector)


def hold(table: LanceTable, most_bytes: int = HELD_BYTES) -> Held | None:
    """Read a table's vectors into memory; ``None`` if they are too large, or a writer changes the table meanwhile."""
    width = table.schema.field("vector").type.list_size
    version, count = table.version, table.count_rows(SPOKEN)
    if count * width * 4 > most_bytes:
        return None
    vectors, rows = np.empty((count, width), np.float32), np.empty(count, np.uint64)
    places: list[Place] = []
    query = table.search().where(SPOKEN).select([*PLACE, "vector"]).with_row_id(True)
    for batch in query.to_batches():
        start, end = len(places), len(places) + batch.num_rows
        if end > count:
            return None
        vectors[start:end] = batch["vector"].flatten().to_numpy().reshape(-1, width)
        rows[start:end] = batch["_rowid"].to_numpy()
        places += zip(*(batch[name].to_pylist() for name in PLACE), strict=True)
    if len(places) < count or table.version != version:
        return None
    return Held(vectors, rows, np.argsort(rows), places)
