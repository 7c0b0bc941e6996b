"""Indexing on a Ray cluster; two nodes on this machine, one of which is killed."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clsr.audio.waveform import write_waveform
from clsr.errors import InputError
from clsr.index import distributed
from clsr.index.config import IndexConfig, RayConfig
from clsr.index.distributed import _portions, add_with_ray
from clsr.index.index import Index
from clsr.index.location import IndexLocation
from clsr.index.recordings import RecordingStatus
from clsr.index.tables import IndexTables
from clsr.model import load

ray = pytest.importorskip("ray")

CUT = IndexConfig("1.2/0.6")


@pytest.fixture
def talks(tmp_path: Path, say_in_tones: Callable[[str], np.ndarray]) -> Path:
    folder = tmp_path / "talks"
    folder.mkdir()
    for i in range(120):
        words = np.random.default_rng(i).choice(["red", "blue", "green", "old", "dog", "cat", "sun", "boat"], 60)
        write_waveform(folder / f"{i:03}.wav", say_in_tones(" ".join(words)))
    (folder / "damaged.flac").write_bytes(b"fLaC")
    return folder


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Two nodes of one processor each."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2]))
    monkeypatch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    node = {"num_cpus": 1, "object_store_memory": 10**8}
    cluster = Cluster(initialize_head=True, head_node_args=node | {"include_dashboard": False})
    cluster.add_node(**node)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def rows(index: Path) -> list[dict[str, Any]]:
    table = IndexTables(IndexLocation.of(index)).windows
    assert table is not None
    return sorted(table.to_arrow().to_pylist(), key=lambda row: row["id"])


@pytest.mark.slow
def test_killed_node_loses_and_doubles_nothing(
    cluster: Any, talks: Path, tone_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distributed, "COMMIT_S", 0.2)
    done: list[Path] = []
    second = cluster.list_all_nodes()[1]

    def kill(path: Path, state: float | RecordingStatus) -> None:
        if isinstance(state, RecordingStatus):
            done.append(path)
            if len(done) == 16:
                os.kill(second.all_processes["raylet"][0].process.pid, signal.SIGKILL)

    found = add_with_ray(
        Index.create(tmp_path / "index", load(tone_model), CUT), [talks], RayConfig(cluster.address), kill
    )
    assert len(done) == len(set(done)) == 121
    patience_s = time.monotonic() + 60
    while sum(node["Alive"] for node in ray.nodes()) > 1 and time.monotonic() < patience_s:  # until Ray has noticed
        time.sleep(0.5)
    assert sum(node["Alive"] for node in ray.nodes()) == 1
    assert found == Index.create(tmp_path / "local", load(tone_model, precision="float32"), CUT).add([talks])
    assert {status.status for status in found} == {"indexed", "failed"}
    here, there = rows(tmp_path / "index"), rows(tmp_path / "local")
    assert [told(row) for row in here] == [told(row) for row in there]
    for ours, others in zip(here, there, strict=True):  # batches differ, and so rounding
        np.testing.assert_allclose(numbers(ours), numbers(others), atol=1e-4)
    assert Index.open(tmp_path / "index").status() == Index.open(tmp_path / "local").status()
    assert Index.open(tmp_path / "index").verify().damage == []

    (talks / "000.wav").unlink()
    (talks / "001.wav").write_bytes((talks / "002.wav").read_bytes())
    again = add_with_ray(Index.open(tmp_path / "index"), [talks], RayConfig(cluster.address))
    assert [status.status for status in again].count("indexed") == 119
    texts = {name: sorted(r["text"] for r in rows(tmp_path / "index") if name in r["id"]) for name in ("001", "002")}
    assert texts["001"] == texts["002"]
    assert Index.open(tmp_path / "index").verify().damage == []


def told(row: dict[str, Any]) -> list[Any]:
    """What of a row is no measure."""
    names = ("id", "recording", "content_hash", "fingerprint", "modified", "cut", "start_s", "end_s", "text")
    return [*(row[name] for name in names), [word["text"] for word in row["words"]]]


def numbers(row: dict[str, Any]) -> np.ndarray:
    times = [time_s for word in row["words"] for time_s in (word["start_s"], word["end_s"])]
    return np.array([*row["vector"], *times])


def test_portions_are_of_about_as_many_bytes(tmp_path: Path) -> None:
    paths = []
    for i, size in enumerate([1, 1, 8, 1, 1, 1, 3]):
        paths.append(tmp_path / str(i))
        paths[-1].write_bytes(bytes(size))
    portions = [[int(path.name) for path in portion] for portion in _portions(paths, 2)]
    assert portions == [[0, 1], [2], [3, 4, 5], [6]]  # eight bytes and three files at most, or one
    assert [len(portion) for portion in _portions(paths, 100)] == [1] * 7


def test_missing_cluster_is_reported_at_once(tone_model: Path, tmp_path: Path) -> None:
    write_waveform(tmp_path / "a.wav", np.zeros(16_000, np.float32))
    with pytest.raises(InputError, match="no Ray cluster at 127.0.0.1:1 "):
        add_with_ray(Index.create(tmp_path / "index", load(tone_model)), [tmp_path / "a.wav"], RayConfig("127.0.0.1:1"))
    assert not (tmp_path / "index").exists()


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(InputError, match="workers is -1"):
        RayConfig(workers=-1)
