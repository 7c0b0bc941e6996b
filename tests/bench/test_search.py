"""The benchmark of searches: the synthetic windows have the stated statistics, and a small run measures all."""

import json
from pathlib import Path

import numpy as np
import pytest

from clsr.bench import search, synthetic_windows
from clsr.errors import InputError
from clsr.index.approximate import nearest
from clsr.index.location import IndexLocation
from clsr.index.recordings import RecordingsTable
from clsr.index.tables import IndexTables, windows_schema
from clsr.index.windows import windows as cut
from clsr.vocabulary import Word


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, Path]:
    folder = tmp_path_factory.mktemp("scale") / "index"
    folder.mkdir()
    return search.measure(500, width=64, questions=30, directory=folder), folder


def test_vectors_have_the_statistics_that_are_stated() -> None:
    meanings = synthetic_windows.Meanings(64, np.random.default_rng(0))
    vectors = meanings.of_windows(400, 20)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(8000), abs=1e-5)
    assert np.linalg.norm(vectors.mean(0)) == pytest.approx(synthetic_windows.MEAN_NORM, abs=0.05)
    centred = vectors - vectors.mean(0)
    spectrum = np.linalg.eigvalsh(np.cov(centred.T))[::-1]
    slope = np.polyfit(np.log(np.arange(3, 40)), np.log(spectrum[2:39]), 1)[0]
    assert slope == pytest.approx(-synthetic_windows.DECAY, abs=0.15)
    pairs = centred.reshape(400, 20, 64)
    shared = (pairs[:, 0] * pairs[:, 10]).sum(1).mean() / (centred**2).sum(1).mean()
    assert shared == pytest.approx(synthetic_windows.SHARED, abs=0.06)


def test_questions_lie_near_their_windows_as_stated() -> None:
    meanings = synthetic_windows.Meanings(64, np.random.default_rng(0))
    vectors = meanings.of_windows(5, 20)
    questions = meanings.of_questions(vectors)
    assert (questions * vectors).sum(1) == pytest.approx(np.full(100, synthetic_windows.QUESTION_COSINE), abs=1e-5)
    assert np.linalg.norm(questions, axis=1) == pytest.approx(np.ones(100), abs=1e-5)


@pytest.mark.slow
def test_rows_are_those_of_an_index(measured: tuple[dict, Path]) -> None:
    table = IndexTables(IndexLocation.of(measured[1])).windows
    assert table is not None and table.schema == windows_schema(64)
    rows = table.to_arrow().to_pylist()
    spans = cut(synthetic_windows.RECORDING_S, synthetic_windows.WINDOW_S, synthetic_windows.HOP_S)
    assert len(rows) == len({row["id"] for row in rows}) == 500
    assert [(row["start_s"], row["end_s"]) for row in rows[: len(spans)]] == spans
    assert len(RecordingsTable(IndexTables(IndexLocation.of(measured[1]))).read()) == -(-500 // len(spans))
    for row in rows[::50]:
        words = [Word(**word) for word in row["words"]]
        assert " ".join(word.text for word in words) == row["text"] and len(words) > 50
        assert all(row["start_s"] <= word.start_s < row["end_s"] and word.start_s < word.end_s for word in words)
    # windows that overlap say the same in the seconds that they share
    first, second = rows[0]["words"], rows[1]["words"]
    assert [w for w in first if w["start_s"] >= 30.0] == [w for w in second if w["start_s"] < 40.0]


def test_a_small_run_measures_all(measured: tuple[dict, Path]) -> None:
    result = json.loads(json.dumps(measured[0]))
    assert (result["windows"], result["width"], result["questions"]) == (500, 64, 30)
    assert list(result["seconds"]) == ["table", "full-text index, compaction", "IVF-RQ"] == list(result["disk_mb"])
    assert all(value > 0 for value in (*result["seconds"].values(), *result["disk_mb"].values()))
    assert result["recall_at_10"] == {"windows": 1.0, "questions": 1.0}  # every partition is looked into, all refined
    for modes in result["milliseconds"].values():
        assert set(modes) == {"dense", "bm25", "hybrid"}
        for paths in modes.values():
            assert all(0 < times["p50"] <= times["p95"] for times in paths.values())
    assert set(result["typed_milliseconds"]) == {"vector", "windows with words", "hits, with their moments"}


def test_the_tables_name_everything(measured: tuple[dict, Path]) -> None:
    text = search.table(measured[0])
    assert text.startswith("500 windows, vectors 64 wide, 30 questions; ")
    for name in ("| IVF-RQ |", "| exact, from disk | hybrid |", "| exact, in memory | dense |", "| hits, with"):
        assert name in text
    assert "Recall at 10 of the approximate index: 1.000 for the questions" in text


def test_nearest_is_that_of_all_vectors(measured: tuple[dict, Path]) -> None:
    table = IndexTables(IndexLocation.of(measured[1])).windows
    assert table is not None
    rows = table.to_arrow()
    vectors, ids = np.stack(rows["vector"].to_numpy()), rows["id"].to_pylist()
    queries = vectors[[3, 77, 401]]
    expected = [[ids[i] for i in np.argsort(-(vectors @ vector), kind="stable")[:7]] for vector in queries]
    assert nearest(table, queries, 7) == expected


def test_what_cannot_be_measured_is_refused() -> None:
    for windows, width, questions in ((255, 64, 10), (500, 100, 10), (500, 64, 501)):
        with pytest.raises(InputError, match="windows of width"):
            search.measure(windows, width, questions)
