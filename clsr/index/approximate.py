"""An approximate index of vectors for large tables, and its recall against exact search. Internal."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING

import numpy as np

from clsr.index.ranking import Ranker
from clsr.index.tables import SPOKEN
from clsr.lance import TableReader

if TYPE_CHECKING:
    from lancedb.table import LanceTable

LEAST_WINDOWS = 256  # that the quantiser can be trained on
QUERIES = 200  # windows of the table whose neighbours are searched to measure recall
DEPTH = 10
VECTOR_COLUMN = "vector"
PREFIX = "vectors_in_"  # of the index's name, which ends in its number of partitions
KIND = "IvfRq"  # LanceDB's name of what is built
WIDTH_MULTIPLE = 8  # of the widths that it takes
SAMPLE, ITERATIONS = 64, 15  # of k-means: vectors a partition, and rounds; LanceDB's own 256 and 50 took three times as
# long for the same recall (90,000 vectors of 768 numbers, product quantisation: 87 s and 28 s, 0.858 and 0.860)

_log = logging.getLogger("clsr")


def build_approximate(table: LanceTable) -> float | None:
    """Build an inverted file with one bit a number (IVF-RQ) over a table's vectors, and measure its recall.

    The codes are RaBitQ's (Gao and Long, SIGMOD 2024, arXiv:2405.12497): signs of the vector's difference from the
    centre of its partition, turned at random. An existing index of this kind is kept until the table has doubled, since
    ``optimize`` adds new rows to it; one of another kind, as version 0.1 built, is replaced.

    Returns:
        Recall at 10 of a search by the index against an exact one, for 200 windows of the table, each without itself;
        ``None`` where nothing was built: there are few windows, or the width is no multiple of 8.
    """
    from lancedb.index import IvfRq

    count = table.count_rows()
    partitions = round(math.sqrt(count))
    before = [index for index in table.list_indices() if index.columns == [VECTOR_COLUMN]]
    kept = [int(index.name.removeprefix(PREFIX)) for index in before if index.index_type == KIND]
    width = table.schema.field(VECTOR_COLUMN).type.list_size
    if count < LEAST_WINDOWS or width % WIDTH_MULTIPLE or any(number**2 * 2 > count for number in kept):
        return None
    config = IvfRq("dot", partitions, max_iterations=ITERATIONS, sample_rate=SAMPLE)
    for index in before:
        table.drop_index(index.name)
    table.create_index(VECTOR_COLUMN, config=config, name=f"{PREFIX}{partitions}")
    recall = measure_recall(table)
    _log.info("approximate index of %d vectors: recall@%d %.3f against exact search", count, DEPTH, recall)
    return recall


def measure_recall(table: LanceTable) -> float:
    """Share of the 10 nearest windows that a search by the approximate index finds, over 200 windows of the table."""
    offsets = np.unique(np.linspace(0, table.count_rows() - 1, QUERIES).astype(int))
    queries = table.take_offsets(offsets.tolist()).select(["id", "vector"]).to_arrow()
    vectors = np.stack(queries["vector"].to_numpy())
    ranker, shares = Ranker(TableReader.of(table), cache_bytes=0), []
    for id_, vector, exact in zip(queries["id"].to_pylist(), vectors, nearest(table, vectors, DEPTH + 1), strict=True):
        found = {window.id for window in ranker.dense(vector, DEPTH + 1)}
        wanted = [other for other in exact if other != id_][:DEPTH]
        if wanted:
            shares.append(len(found.intersection(wanted)) / len(wanted))
    return float(np.mean(shares)) if shares else 1.0


def nearest(table: LanceTable, vectors: np.ndarray, limit: int) -> list[list[str]]:
    """Ids of the windows with words nearest to each vector, from one exact pass over the whole table.

    Args:
        table: of windows; of any size, it is read piece by piece.
        vectors: unit vectors ``(Q, E)``.
        limit: windows a vector, at most.
    """
    cosines, ids = np.empty((0, len(vectors)), np.float32), np.empty((0, len(vectors)), dtype=object)
    for batch in table.search().where(SPOKEN).select(["id", "vector"]).to_batches():
        rows = batch["vector"].flatten().to_numpy().reshape(-1, vectors.shape[1])
        products = rows @ vectors.T
        best = np.argpartition(-products, min(limit, len(rows) - 1), axis=0)[:limit]
        cosines = np.concatenate([cosines, np.take_along_axis(products, best, 0)])
        ids = np.concatenate([ids, np.array(batch["id"].to_pylist(), dtype=object)[best]])
    best = np.argsort(-cosines, axis=0, kind="stable")[:limit]
    return [column.tolist() for column in np.take_along_axis(ids, best, 0).T]
