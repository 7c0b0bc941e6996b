import logging
from datetime import datetime
from pathlib import Path

import lancedb
import numpy as np
import pytest
from lancedb.index import IvfPq

from clsr.index.approximate import build_approximate, measure_recall
from clsr.index.location import IndexLocation
from clsr.index.tables import WINDOWS, IndexTables, windows_schema


def add(index: Path, vectors: np.ndarray, first: int = 0) -> None:
    rows = [
        {"id": str(i), "recording": f"{i}.wav", "content_hash": "", "fingerprint": "", "modified": datetime.now(),
         "cut": "40/30", "start_s": 0.0, "end_s": 40.0, "vector": vector, "text": "sea", "words": [], "checksum": "",
         "confidence": None}
        for i, vector in enumerate(vectors, start=first)
    ]  # fmt: skip
    lancedb.connect(index).create_table(WINDOWS, schema=windows_schema(vectors.shape[1]), exist_ok=True).add(rows)


def clustered(count: int, seed: int) -> np.ndarray:
    """Unit vectors around a hundred directions, those of the first seed."""
    centres = np.random.default_rng(0).standard_normal((100, 32))
    generator = np.random.default_rng(seed)
    vectors = centres[generator.integers(100, size=count)] + 0.5 * generator.standard_normal((count, 32))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def test_recall_is_that_of_what_exact_search_finds(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    add(tmp_path, clustered(1500, 1))
    table = IndexTables(IndexLocation.of(tmp_path)).windows
    assert table is not None
    assert measure_recall(table) == 1.0  # without an index both searches are exact
    with caplog.at_level(logging.INFO, "clsr"):
        recall = build_approximate(table)
    assert recall == measure_recall(table)
    assert 0.8 < recall <= 1.0
    assert caplog.messages == [f"approximate index of 1500 vectors: recall@10 {recall:.3f} against exact search"]
    (index,) = table.list_indices()
    assert (index.index_type, index.columns, index.name) == ("IvfRq", ["vector"], "vectors_in_39")  # sqrt(1500)


def test_index_is_rebuilt_once_the_table_doubled(tmp_path: Path) -> None:
    add(tmp_path, clustered(600, 1))
    table = IndexTables(IndexLocation.of(tmp_path)).windows
    assert table is not None
    assert build_approximate(table) is not None
    assert build_approximate(table) is None
    add(tmp_path, clustered(500, 2), first=600)
    assert build_approximate(table) is None
    add(tmp_path, clustered(200, 3), first=1100)
    assert build_approximate(table) is not None
    assert [index.name for index in table.list_indices()] == ["vectors_in_36"]


def test_index_of_version_0_1_is_replaced(tmp_path: Path) -> None:
    """That version built IVF-PQ, which is searched until the next run of ``clsr index`` that writes something."""
    add(tmp_path, clustered(600, 1))
    table = IndexTables(IndexLocation.of(tmp_path)).windows
    assert table is not None
    table.create_index("vector", config=IvfPq("dot", 24, 4), name="vectors_in_24")
    assert 0.8 < measure_recall(table) <= 1.0
    assert build_approximate(table) is not None
    assert [(index.index_type, index.name) for index in table.list_indices()] == [("IvfRq", "vectors_in_24")]


def test_width_without_bytes_of_bits_gets_none(tmp_path: Path) -> None:
    add(tmp_path, clustered(300, 1)[:, :20])
    table = IndexTables(IndexLocation.of(tmp_path)).windows
    assert table is not None
    assert build_approximate(table) is None
    assert table.list_indices() == []


def test_few_windows_get_none(tmp_path: Path) -> None:
    add(tmp_path, clustered(255, 1))
    table = IndexTables(IndexLocation.of(tmp_path)).windows
    assert table is not None
    assert build_approximate(table) is None
    assert table.list_indices() == []
