"""An approximate index of vectors for large tables, and how much of an exact search it finds."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING

import numpy as np

from clsr.search.ranking import Rankings

if TYPE_CHECKING:
    from lancedb.table import LanceTable

LEAST_WINDOWS = 256  # that the quantiser can be trained on
QUESTIONS = 200  # windows of the table asked for to measure recall
DEPTH = 10
VECTOR_COLUMN = "vector"
PREFIX = "vectors_in_"  # of the index's name, which ends in its number of partitions
SUB_WIDTH = 8  # numbers of a vector that share a code of one byte

_log = logging.getLogger("clsr")


def build_approximate(table: LanceTable) -> float | None:
    """Build an inverted file with product quantisation (IVF-PQ) over a table's vectors, and say what it finds.

    An index that is there is kept, since ``optimize`` adds new rows to it, until the table has grown to twice its size.

    Returns:
        Recall at 10 of a search by the index against an exact one, for 200 windows of the table, each without itself;
        ``None`` where nothing was built.
    """
    from lancedb.index import IvfPq

    count = table.count_rows()
    partitions = round(math.sqrt(count))
    before = [index.name for index in table.list_indices() if index.columns == [VECTOR_COLUMN]]
    if count < LEAST_WINDOWS or any(int(name.removeprefix(PREFIX)) ** 2 * 2 > count for name in before):
        return None
    width = table.schema.field(VECTOR_COLUMN).type.list_size
    codes = width // SUB_WIDTH if width % SUB_WIDTH == 0 else 1
    config = IvfPq(distance_type="dot", num_partitions=partitions, num_sub_vectors=codes)
    for name in before:
        table.drop_index(name)
    table.create_index(VECTOR_COLUMN, config=config, name=f"{PREFIX}{partitions}")
    recall = measure_recall(table)
    _log.info("approximate index of %d vectors: recall@%d %.3f against exact search", count, DEPTH, recall)
    return recall


def measure_recall(table: LanceTable) -> float:
    """Share of the 10 nearest windows that a search by the approximate index finds, over 200 windows of the table."""
    rankings = Rankings(table)
    count = table.count_rows()
    places = np.unique(np.linspace(0, count - 1, QUESTIONS).astype(int))
    asked = table.take_offsets(places.tolist()).select(["id", "vector"]).to_arrow().to_pylist()
    shares = []
    for row in asked:
        vector = np.asarray(row["vector"], np.float32)
        exact, found = (
            {window.id for window in rankings.dense(vector, DEPTH + 1, exact=exact)} - {row["id"]}
            for exact in (True, False)
        )
        if exact:
            shares.append(len(exact & found) / len(exact))
    return float(np.mean(shares)) if shares else 1.0
