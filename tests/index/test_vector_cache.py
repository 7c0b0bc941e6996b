"""The vector cache: the same windows, cosines and ties as on the disk, also while the table is written."""

import os
import signal
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import pytest

from clsr.index.location import IndexLocation
from clsr.index.ranking import RankedWindow, Ranker
from clsr.index.tables import SEGMENTS_COLUMN, TEXT_COLUMN, WINDOWS, IndexTables, full_text_config, windows_schema
from clsr.index.vector_cache import PART, VectorCache, cache_vectors, cosines_of
from clsr.lance import TableReader

LATER = datetime(2026, 5, 1, tzinfo=timezone.utc)


def unit(count: int, width: int = 16, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((count, width)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def rows(vectors: np.ndarray, first: int = 0, text: str = "") -> list[dict[str, Any]]:
    """A window in five is silent."""
    return [
        {"id": str(i), "recording": f"{i % 10}.wav", "content_hash": "", "fingerprint": "", "modified": LATER,
         "cut": "40/30", "start_s": 30.0 * i, "end_s": 30.0 * i + 40, "vector": vector,
         "text": text or (f"sea number{i}" if i % 5 else ""), "words": [], SEGMENTS_COLUMN: b"", "checksum": "",
         "confidence": None}
        for i, vector in enumerate(vectors, start=first)
    ]  # fmt: skip


def table_of(folder: Path, vectors: np.ndarray) -> Any:
    lancedb.connect(folder).create_table(WINDOWS, rows(vectors), schema=windows_schema(vectors.shape[1]))
    return IndexTables(IndexLocation.of(folder)).windows


def on_the_disk(table: Any, vector: np.ndarray, limit: int, where: str = "") -> list[RankedWindow]:
    return Ranker(TableReader.of(table), cache_bytes=0).dense(vector, limit, where)


def test_nearest_equals_a_full_sort_with_row_ties() -> None:
    vectors = np.tile(unit(50), (40, 1))  # each forty times
    cached = VectorCache(
        vectors, np.arange(2000)[::-1].astype(np.uint64), np.arange(2000)[::-1], [("", "", 0.0, 0.0)] * 2000
    )
    for question in unit(20, seed=1):
        best = sorted(range(2000), key=lambda i: (-float(vectors[i % 50] @ question), cached.rows[i]))
        at, cosines = cached.nearest(question, 100)
        assert at.tolist() == best[:100]
        assert cosines == pytest.approx([vectors[i] @ question for i in best[:100]], abs=1e-6)
        assert len(set(cosines.tolist())) == 3  # forty, forty and twenty that are equal to the last digit
        inside = np.arange(7, 2000, 3)
        at, _ = cached.nearest(question, 100, inside)
        assert at.tolist() == [i for i in best if i % 3 == 1 and i >= 7][:100]
        few = np.array([1999, 50, 7, 1999 - 50])
        assert cached.nearest(question, 3, few)[0].tolist() == [i for i in best if i in few][:3]
    assert len(cached.nearest(question, 3000)[0]) == 2000
    assert len(cached.nearest(question, 10, np.zeros(0, np.intp))[0]) == 0


@pytest.mark.parametrize("count", [0, 1, PART, 2 * PART - 1, 2 * PART, 7 * PART + 3])
def test_cosines_are_the_same_in_many_threads(count: int) -> None:
    vectors, question = np.resize(unit(1001), (count, 16)), unit(1, seed=1)[0]
    found = cosines_of(vectors, question)
    assert found.shape == (count,) and found.dtype == np.float32
    assert found == pytest.approx(vectors @ question, abs=1e-6)
    assert np.array_equal(found, np.resize(cosines_of(vectors[:1001], question), count))  # wherever a vector lies
    some = np.arange(count)[::-3]
    assert np.array_equal(cosines_of(vectors, question, some), found[some])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
def test_cosines_are_found_in_a_child_too() -> None:
    vectors, question = np.resize(unit(1001), (2 * PART, 16)), unit(1, seed=1)[0]
    expected = cosines_of(vectors, question.astype(np.float64))  # its threads are there now, but in no child
    child = os.fork()
    if not child:
        signal.alarm(20)
        os._exit(0 if np.array_equal(cosines_of(vectors, question), expected) else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_rows_are_found_by_their_numbers() -> None:
    numbers = np.array([1 << 32, 7, 3], np.uint64)
    cached = VectorCache(unit(3), numbers, np.argsort(numbers), [("", "", 0.0, 0.0)] * 3)
    assert cached.positions(np.array([3, 4, 7, 1 << 32, 1 << 40], np.uint64)).tolist() == [2, -1, 1, 0, -1]
    nothing = VectorCache(unit(0), numbers[:0], np.zeros(0, np.intp), [])
    assert nothing.positions(numbers).tolist() == [-1, -1, -1]


def test_memory_and_disk_tell_the_same(tmp_path: Path) -> None:
    vectors = unit(500)
    vectors[300:400] = vectors[200:300]  # of each of these there are two
    table = table_of(tmp_path, vectors)
    table.create_index(TEXT_COLUMN, config=full_text_config())
    ranker = Ranker(TableReader.of(table))
    assert ranker.dense(vectors[1], 5)[0].id == "1" and ranker._cache is None
    for question in (*unit(20, seed=1), *vectors[200:220]):
        for limit, where in ((9, ""), (40, "recording = '3.wav'"), (1000, ""), (5, "recording = 'none'")):
            assert ranker.dense(question, limit, where) == on_the_disk(table, question, limit, where)
        assert ranker.bm25("sea number7 number8", 7) == Ranker(TableReader.of(table), 0).bm25("sea number7 number8", 7)
    cache = ranker._cache
    assert cache is not None and len(cache.spans) == 400  # the silent ones are not there
    assert [w.id for w in ranker.bm25("number7", 5, "recording = '7.wav'")] == ["7"]


def test_what_is_written_meanwhile_is_found_at_once(tmp_path: Path) -> None:
    vectors = unit(100)
    table = table_of(tmp_path, vectors)
    table.create_index(TEXT_COLUMN, config=full_text_config())
    ranker, writer = Ranker(TableReader.of(table)), IndexTables(IndexLocation.of(tmp_path)).windows
    assert writer is not None
    for _ in range(2):
        assert ranker.dense(vectors[7], 1)[0].id == "7"
    new = unit(10, seed=2)
    writer.add(rows(new, first=1000, text="a boat"))
    assert {w.id for w in ranker.bm25("boat", 99)} == {str(i) for i in range(1000, 1010)}  # others are cached still
    assert ranker.dense(new[3], 1)[0].id == "1003" and ranker._cache is None
    assert ranker.dense(new[3], 1)[0].id == "1003" and ranker._cache is not None
    writer.delete("id = '1003'")
    for _ in range(3):
        assert ranker.dense(new[3], 100) == on_the_disk(table, new[3], 100)
        assert "1003" not in {w.id for w in ranker.dense(new[3], 100)}


def test_words_are_found_after_rows_have_moved(tmp_path: Path) -> None:
    table = table_of(tmp_path, unit(20))
    for first in (100, 200, 300):
        table.add(rows(unit(20, seed=first), first=first))
    found = Ranker(TableReader.of(table)).dense(unit(1)[0], 100)
    before = Ranker(TableReader.of(table)).recognised(found)
    assert {id_: words.text for id_, words in before.items()} == {w.id: f"sea number{w.id}" for w in found}
    table.delete("id = '1'")
    table.optimize()
    after = Ranker(TableReader.of(table)).recognised(found)
    assert after == {id_: words for id_, words in before.items() if id_ != "1"}


def test_what_does_not_fit_is_not_cached(tmp_path: Path) -> None:
    table = table_of(tmp_path, unit(100))
    assert cache_vectors(TableReader.of(table), 80 * 16 * 4 - 1) is None  # 80 are spoken
    cached = cache_vectors(TableReader.of(table), 80 * 16 * 4)
    assert cached is not None and cached.vectors.nbytes == 80 * 16 * 4
