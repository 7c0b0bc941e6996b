"""Checkpoint and index of version 0.1, as that version wrote and printed them: both stay of use.

The index was built from ``/recordings/*.wav`` by the checkpoint at ``/model``.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import clsr
from clsr.config import Precision

OLD = Path(__file__).parent / "fixtures" / "version_0_1"
QUERY = "where is the blue cat"
TOLERANCE = 1e-3


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A copy, which may be written."""
    return shutil.copytree(OLD, tmp_path / "old")


def objects(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def same(found: Any, expected: Any) -> bool:
    """Equal, but for rounding of numbers."""
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(same(found[key], expected[key]) for key in expected)
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(same, found, expected))
    return found == (pytest.approx(expected, abs=TOLERANCE) if isinstance(expected, float) else expected)


@pytest.mark.parametrize("mode", ["dense", "bm25", "hybrid"])
def test_old_index_gives_the_same_hits(old: Path, mode: Any) -> None:
    hits = clsr.Retriever.open(old / "index", old / "joint").search(QUERY, top_k=3, mode=mode)
    assert same([hit.values() for hit in hits], objects(old / f"hits_{mode}.jsonl"))


def test_old_index_keeps_its_status_without_damage(old: Path) -> None:
    index = clsr.Index.open(old / "index")
    assert same([json.loads(status.to_json()) for status in index.status()], objects(old / "status.jsonl"))
    verdict = index.verify()
    assert verdict.damage == [] and all("its file is gone" in line for line in verdict.stale)


def test_old_index_takes_more_recordings(old: Path) -> None:
    index = clsr.Index.create(old / "index", clsr.load(old / "joint"))
    (status,) = index.add([old / "recordings" / "a.wav"])
    before, values = objects(old / "status.jsonl"), json.loads(status.to_json())
    assert 0 < values.pop("confidence") <= 1 and isinstance(values.pop("flagged"), bool)
    assert same(values, before[0] | {"path": str((old / "recordings" / "a.wav").resolve())})
    assert [one.path for one in index.status()] == sorted([status.path, *(one["path"] for one in before)])
    assert index.verify().damage == []
    hits = clsr.Retriever(index, index.model).search(QUERY)  # the recording is there twice now
    assert {hit.recording for hit in hits} >= {status.path, "/recordings/a.wav"}


@pytest.mark.parametrize("precision", ["auto", "float32"])
def test_old_checkpoint_transcribes_the_same(old: Path, precision: Precision) -> None:
    transcript = clsr.load(old / "joint", precision=precision).transcribe(old / "recordings" / "a.wav")
    expected = objects(old / "transcript.json")[0]
    assert same(json.loads(transcript.to_json()), expected | {"audio": str(old / "recordings" / "a.wav")})
