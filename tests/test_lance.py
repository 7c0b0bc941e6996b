"""Tables read through LanceDB's core: what LanceDB itself reads, without its package, and without a write."""

import subprocess
import sys
from pathlib import Path

import lancedb
import numpy as np
import pyarrow
import pytest
from lancedb.index import FTS
from lancedb.table import LanceTable

from clsr.lance import TableReader, numbers

ROOT = Path(__file__).resolve().parents[1]
WORDS = ("red", "blue", "green", "old", "dog", "cat")


@pytest.fixture
def table(tmp_path: Path) -> LanceTable:
    """Sixty rows: a vector of four numbers, and a text of two words."""
    vectors = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = {
        "id": [str(i) for i in range(60)],
        "number": list(range(60)),
        "text": [f"{WORDS[i % 6]} {WORDS[i % 5]}" for i in range(60)],
        "vector": pyarrow.FixedSizeListArray.from_arrays(vectors.ravel(), 4),
    }
    made = lancedb.connect(tmp_path).create_table("rows", pyarrow.table(rows))
    made.create_index("text", config=FTS())
    return made


def test_reader_reads_what_lancedb_reads(table: LanceTable, tmp_path: Path) -> None:
    reader = TableReader.open(str(tmp_path), "rows")
    assert reader.schema == table.schema and reader.version == table.version
    assert (reader.count_rows(), reader.count_rows("number < 7")) == (60, 7)
    assert reader.is_indexed("text") and not reader.is_indexed("vector")
    assert reader.scan(["id", "vector"]) == table.search().select(["id", "vector"]).to_arrow()
    some = reader.scan(["id"], "number >= 55", row_ids=True)
    assert some.column_names == ["id", "_rowid"] and some["id"].to_pylist() == ["55", "56", "57", "58", "59"]
    batches = list(reader.batches(["id"], "number >= 55", row_ids=True))
    assert pyarrow.Table.from_batches(batches) == some
    taken = reader.take(some["_rowid"].to_pylist()[1:3], ["number", "text"])
    assert sorted(taken["number"].to_pylist()) == [56, 57] and taken.column_names == ["number", "text"]


def test_nearest_rows_are_those_of_lancedb(table: LanceTable) -> None:
    reader, vector = TableReader.of(table), np.array([0.6, 0.0, 0.8, 0.0], np.float32)
    theirs = table.search(vector.tolist()).distance_type("dot").limit(5).select(["id", "_distance"]).to_arrow()
    for probes in (None, 10):
        found = reader.nearest(vector, 5, ["id"], probes=probes, refine=probes and 2)
        assert found["id"].to_pylist() == theirs["id"].to_pylist()
        assert found.column_names == ["id", "_distance", "_rowid"]
    before = reader.nearest(vector, 5, ["id", "number"], "number < 30", prefilter=True)
    after = reader.nearest(vector, 5, ["id", "number"], "number < 30", prefilter=False)
    assert len(before) == 5 and max(before["number"].to_pylist()) < 30
    assert after["id"].to_pylist() == [id_ for id_ in theirs["id"].to_pylist() if int(id_) < 30]


def test_matching_rows_are_those_of_lancedb(table: LanceTable) -> None:
    reader = TableReader.of(table)
    theirs = table.search("dog cat", query_type="fts").limit(7).select(["id", "_score"]).to_arrow()
    found = reader.matching("dog cat", 7, ["id"]).result()
    assert found["id"].to_pylist() == theirs["id"].to_pylist() and found["_score"] == theirs["_score"]
    assert set(reader.matching("dog", 60, ["number"], "number < 30").result()["number"].to_pylist()) == {
        i for i in range(30) if "dog" in (WORDS[i % 6], WORDS[i % 5])
    }


def test_reader_follows_writers(table: LanceTable, tmp_path: Path) -> None:
    reader = TableReader.open(str(tmp_path), "rows")
    assert reader.count_rows() == 60
    table.delete("number < 10")
    assert (reader.count_rows(), reader.version) == (50, table.version)


def test_missing_table_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'none' was not found"):
        TableReader.open(str(tmp_path), "none")


def test_numbers_of_slices_and_pieces() -> None:
    rows = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(np.arange(8, dtype=np.float32)), 2)
    assert numbers(rows[1:3]).tolist() == [[2, 3], [4, 5]]
    assert numbers(pyarrow.chunked_array([rows[1:2], rows[3:]])).tolist() == [[2, 3], [6, 7]]
    assert numbers(pyarrow.chunked_array([[5, 6], [7]], pyarrow.uint64())).tolist() == [5, 6, 7]
    assert numbers(pyarrow.chunked_array([], pyarrow.uint64())).tolist() == []


def test_package_is_imported_after_its_core(table: LanceTable, tmp_path: Path) -> None:
    code = f"""if True:
        import sys
        from clsr.lance import TableReader
        reader = TableReader.open({str(tmp_path)!r}, "rows")
        assert reader.count_rows() == 60
        assert not {{"lancedb", "lance_namespace", "pandas"}} & set(sys.modules), sys.modules
        import lancedb
        table = lancedb.connect({str(tmp_path)!r}).open_table("rows")
        table.delete("number < 10")
        assert reader.count_rows() == table.count_rows() == TableReader.of(table).count_rows() == 50
    """
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 0, run.stderr
