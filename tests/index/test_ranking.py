"""Rankings by words and by both: ranks and sums worked out by hand, with an index of texts, without, and behind."""

import math
from collections.abc import Callable
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import pytest
from lancedb.index import IvfPq

from clsr.errors import InputError
from clsr.index.config import IndexConfig
from clsr.index.filters import Filter
from clsr.index.index import Index
from clsr.index.location import IndexLocation
from clsr.index.ranking import RankedWindow, Ranker, fuse, read, read_down
from clsr.index.tables import SEGMENTS_COLUMN, TEXT_COLUMN, WINDOWS, IndexTables, full_text_config, windows_schema
from clsr.lance import TableReader
from clsr.model import Model
from clsr.search.retriever import Retriever

Speak = Callable[[Path, str], Path]
SAID = {"a": "sea sun sun cat", "b": "sea cat dog tea", "c": "boat tea dog cat", "d": "sun sun sun the"}


@pytest.fixture
def index(speech_encoder: Any, model: Model, speak: Speak, tmp_path: Path) -> Path:
    for name, text in SAID.items():
        speak(tmp_path / f"{name}.wav", text)
    Index.create(tmp_path / "index", model, IndexConfig("4/3")).add([tmp_path])
    return tmp_path / "index"


def without_text_index(index: Path) -> Path:
    table = IndexTables(IndexLocation.of(index)).windows
    assert table is not None
    for described in table.list_indices():
        table.drop_index(described.name)
    return index


def with_text_index(index: Path) -> Path:
    table = IndexTables(IndexLocation.of(without_text_index(index))).windows
    assert table is not None
    table.create_index(TEXT_COLUMN, config=full_text_config())
    return index


def ranked(index: Path, question: str, mode: Any, **given: Any) -> list[str]:
    return [Path(hit.recording).stem for hit in Retriever.open(index).search(question, mode=mode, **given)]


def window(name: str, score: float = 0.0, start_s: float = 0.0) -> RankedWindow:
    return RankedWindow(f"{name}#{start_s}", name, start_s, start_s + 4, score)


def test_reciprocal_ranks_by_hand() -> None:
    dense = [window("a", 0.9), window("b", 0.8), window("c", 0.7)]
    by_words = [window("c", 12.0), window("a", 3.0), window("d", 1.0)]
    fused = fuse(dense, by_words)
    assert [w.recording for w in fused] == ["a", "c", "b", "d"]
    assert [w.score for w in fused] == pytest.approx([1 / 61 + 1 / 62, 1 / 63 + 1 / 61, 1 / 62, 1 / 63])


def test_equal_sums_go_by_recording_then_start() -> None:
    one, other = [window("b"), window("a", start_s=9.0)], [window("a", start_s=9.0), window("b")]
    assert [w.recording for w in fuse(one, other)] == ["a", "b"]
    assert fuse([window("a", start_s=5.0)], [window("a")])[0].start_s == 0.0
    assert fuse([], []) == []


@pytest.mark.parametrize("prepare", [with_text_index, without_text_index])
def test_bm25_finds_the_windows_that_share_words(index: Path, prepare: Callable[[Path], Path]) -> None:
    place = prepare(index)
    assert ranked(place, "sea sun", "bm25")[0] == "a"  # the only one with both words
    assert set(ranked(place, "sea sun", "bm25")) == {"a", "b", "d"}
    assert ranked(place, "boat", "bm25") == ["c"]
    assert ranked(place, "BOATS!", "bm25") == ["c"]  # as the recogniser writes it, and by its stem
    assert ranked(place, "what is the", "bm25") == []  # words that every text has are no terms
    assert ranked(place, "???", "bm25") == []
    assert set(ranked(place, "dog", "bm25", only=Filter(recordings=[index.parent / "b.wav"]))) == {"b"}


def test_bm25_scores_are_those_of_the_equation(index: Path) -> None:
    """BM25 (k1 1.2, b 0.75): idf = ln(1 + (N - n + 0.5) / (n + 0.5)) times f (k1 + 1) / (f + k1 (1 - b + b l / mean)).

    Terms: a 4, b 4, c 4, d 3 ("the" is none), 3.75 in the mean. "boat" is in one of four, once.
    """
    (hit,) = Retriever.open(with_text_index(index)).search("boat", mode="bm25")
    idf = math.log(1 + (4 - 1 + 0.5) / (1 + 0.5))
    assert hit.score == pytest.approx(idf * 2.2 / (1 + 1.2 * (0.25 + 0.75 * 4 / 3.75)), rel=0.02)


def test_rows_missing_from_the_text_index_are_found(
    speech_encoder: Any, index: Path, model: Model, speak: Speak
) -> None:
    retriever = Retriever.open(with_text_index(index))
    assert ranked(index, "boat", "bm25") == ["c"]
    table = IndexTables(IndexLocation.of(index)).windows
    assert table is not None
    row = table.search().where("text LIKE 'boat%'").to_list()[0]
    table.add([row | {"id": "new", "recording": "/new/e.wav"}])
    assert {hit.recording for hit in retriever.search("boat", mode="bm25")} == {"/new/e.wav", row["recording"]}


def test_an_index_in_memory_follows_the_table(index: Path) -> None:
    retriever = Retriever.open(without_text_index(index))
    assert len(retriever.search("boat", mode="bm25")) == 1
    assert len(retriever.search("boat", mode="hybrid")) == 4
    table = IndexTables(IndexLocation.of(index)).windows
    assert table is not None
    table.delete("text LIKE 'boat%'")
    assert retriever.search("boat", mode="bm25") == []


def test_hybrid_by_hand(index: Path) -> None:
    """ "boat sun": cosines a 2 / sqrt(2 * 6), b 0, c 1 / sqrt(8), d 3 / sqrt(2 * 10), so the ranks are d a c b.

    By words: "boat" is in one window of four, "sun" in two, three times in d, which is shorter, and twice in a: c is
    first, then d, then a; b has neither.
    """
    place = with_text_index(index)
    assert ranked(place, "boat sun", "dense") == ["d", "a", "c", "b"]
    assert ranked(place, "boat sun", "bm25") == ["c", "d", "a"]
    hits = Retriever.open(place).search("boat sun", mode="hybrid")
    assert [Path(hit.recording).stem for hit in hits] == ["d", "c", "a", "b"]
    sums = [1 / 61 + 1 / 62, 1 / 63 + 1 / 61, 1 / 62 + 1 / 63, 1 / 64]
    assert [hit.score for hit in hits] == pytest.approx(sums)


@pytest.mark.parametrize("mode", ["dense", "bm25", "hybrid"])
def test_overlapping_windows_of_all_sizes_are_one_hit(
    speech_encoder: Any, model: Model, speak: Speak, tmp_path: Path, mode: Any
) -> None:
    path = speak(tmp_path / "a.wav", "cat dog tea sea sun boat cat dog tea - - - cat cat dog tea tea tea sea cat")
    Index.create(tmp_path / "index", model, IndexConfig("4/2")).add([path])
    Index.create(tmp_path / "other", model, IndexConfig("9/3")).add([path])
    table, other = (
        IndexTables(IndexLocation.of(tmp_path / "index")).windows,
        IndexTables(IndexLocation.of(tmp_path / "other")).windows,
    )
    assert table is not None and other is not None
    table.add(other.to_arrow())
    hits = Retriever.open(tmp_path / "index").search("sea boat", mode=mode)
    spans = sorted((hit.window_start_s, hit.window_end_s) for hit in hits)
    assert len(spans) > 1 and all(one[1] <= two[0] for one, two in pairwise(spans))
    assert (hits[0].window_start_s, hits[0].window_end_s) in [(2.0, 6.0), (3.0, 12.0), (4.0, 8.0)]


def test_reading_down_stops_when_there_is_no_more() -> None:
    windows = [window("a", 1.0 - start / 100, start_s=float(start)) for start in range(40)]
    limits: list[int] = []

    def ranking(limit: int) -> tuple[list[RankedWindow], bool]:
        limits.append(limit)
        return windows[:limit], limit <= len(windows)

    assert [w.start_s for w in read_down(ranking, 3, 4)] == [0.0, 4.0, 8.0]
    assert limits == [4, 16]
    assert len(read_down(ranking, 50, 4)) == 10  # all that there are


@pytest.mark.parametrize("kind", [OSError, RuntimeError, ValueError, type("RustPanic", (Exception,), {})])
def test_search_disturbed_by_a_writer_reruns_once(kind: type[Exception]) -> None:
    tries = []

    def search() -> str:
        tries.append(1)
        if len(tries) < 2:
            raise kind("lance error: Not found: data/x.lance, /rust/src/y.rs:12")
        return "found"

    assert read(search) == "found"

    def broken() -> str:
        raise kind("lance error: Not found: data/x.lance, /rust/src/y.rs:12")

    with pytest.raises(InputError, match=r"cannot be read \(lance error: Not found: data/x.lance\)"):
        read(broken)


def test_words_of_deleted_windows_are_left_out(index: Path) -> None:
    table = IndexTables(IndexLocation.of(index)).windows
    assert table is not None
    assert Ranker(TableReader.of(table)).recognised([window("no such")]) == {}
    assert Ranker(TableReader.of(table)).recognised([]) == {}


def test_cosines_are_exact_with_an_approximate_index_too(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    vectors = generator.standard_normal((2000, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = [
        {"id": str(i), "recording": f"{i}.wav", "content_hash": "", "fingerprint": "", "modified": datetime.now(),
         "cut": "40/30", "start_s": 0.0, "end_s": 40.0, "vector": vector, "text": "sea" if i % 4 else "", "words": [],
         SEGMENTS_COLUMN: b"", "checksum": "", "confidence": None}
        for i, vector in enumerate(vectors)
    ]  # fmt: skip
    table = lancedb.connect(tmp_path).create_table(WINDOWS, rows, schema=windows_schema(16))
    table.create_index("vector", config=IvfPq(distance_type="dot", num_partitions=8, num_sub_vectors=8))
    opened = IndexTables(IndexLocation.of(tmp_path)).windows
    assert opened is not None
    ranker, found = Ranker(TableReader.of(opened)), 0
    spoken = [i for i in range(2000) if i % 4]
    for question in vectors[:20]:
        best = sorted(spoken, key=lambda i: -float(vectors[i] @ question))[:10]
        assert [window.id for window in ranker.dense(question, 10, exact=True)] == [str(i) for i in best]
        approximate = ranker.dense(question, 10)
        assert all(w.score == pytest.approx(float(vectors[int(w.id)] @ question), abs=1e-5) for w in approximate)
        found += len({window.id for window in approximate} & {str(i) for i in best})
        inside = ranker.dense(question, 10, "recording < '2'")
        assert len(inside) == 10 and all(window.recording < "2" for window in inside)
    assert found >= 180


def test_there_is_no_other_mode(index: Path) -> None:
    with pytest.raises(InputError, match="no mode 'sparse'; give dense, bm25, hybrid"):
        Retriever.open(index).search("sea", mode="sparse")  # type: ignore[arg-type]
