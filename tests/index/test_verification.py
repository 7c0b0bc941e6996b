import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lancedb
import pytest

from clsr.errors import InputError
from clsr.index.config import IndexConfig
from clsr.index.index import Index
from clsr.index.location import IndexLocation
from clsr.index.recordings import RecordingsTable
from clsr.index.rows import checksum
from clsr.index.tables import WINDOWS, IndexTables
from clsr.model import Model

Speak = Callable[[Path, str], Path]


@pytest.fixture
def index(speech_encoder: Any, model: Model, speak: Speak, tmp_path: Path) -> Path:
    folder = tmp_path / "talks"
    folder.mkdir()
    for name, text in {"a": "cat the - dog tea sea sun", "b": "- - -", "c": "sun boat"}.items():
        speak(folder / f"{name}.wav", text)
    Index.create(tmp_path / "index", model, IndexConfig("4/3")).add([folder])
    return tmp_path / "index"


def windows(index: Path) -> Any:
    return lancedb.connect(index).open_table(WINDOWS)


def test_index_as_it_was_written_is_sound(index: Path) -> None:
    assert Index.open(index).verify() == ([], [])


def test_seconds_that_a_file_promises_are_compared(index: Path, tmp_path: Path) -> None:
    """As an index of an earlier version has it, which read joined recordings to the first end."""
    path = (tmp_path / "talks" / "a.wav").resolve()
    table = RecordingsTable(IndexTables(IndexLocation.of(index)))
    entry = table.read()[str(path)]
    path.write_bytes(path.read_bytes() + (path.parent / "c.wav").read_bytes())
    table.write([entry._replace(size_bytes=path.stat().st_size, modified_ns=path.stat().st_mtime_ns)])
    damage, (line,) = Index.open(index).verify()
    assert damage == []
    assert line.startswith(f"{path}: its file promises {entry.duration_s + 2.0:.1f} s, {entry.duration_s:.1f} s were ")


def test_no_index_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no index here"):
        Index.open(tmp_path).verify()


def test_what_does_not_fit_is_named(index: Path, tmp_path: Path) -> None:
    a, b, c = (str((tmp_path / "talks" / f"{name}.wav").resolve()) for name in "abc")
    table = windows(index)
    row = table.search().where(f"recording = '{c}'").to_arrow().to_pylist()[0]
    table.add([row])
    assert Index.open(index).verify().damage == [
        f"{c}#t=0.000,2.000: is there twice",
        f"{c}: has 2 windows where 1 were written; index it again",
    ]
    table.delete(f"recording = '{c}'")
    assert Index.open(index).verify().damage == [f"{c}: has 0 windows where 1 were written; index it again"]
    table.add([row])
    assert Index.open(index).verify() == ([], [])
    table.update(where=f"recording = '{b}'", values={"text": "sea"})
    lines = Index.open(index).verify().damage
    assert lines[0].startswith(f"{b}#t=0.000,3.000: does not match its checksum")
    assert lines[1:] == [
        f"{b}#t=0.000,3.000: has a vector that is not of norm 1",
        f"{b}: has 3.000 s indexed where 0.000 s were written; index it again",
    ]
    RecordingsTable(IndexTables(IndexLocation.of(index))).remove([b])
    assert Index.open(index).verify().damage[-1] == f"{b}: has windows, but is not among the recordings; index it again"
    assert not any(a in line for line in Index.open(index).verify().damage)


def test_windows_of_another_model_or_content_are_named(index: Path, tmp_path: Path) -> None:
    c = str((tmp_path / "talks" / "c.wav").resolve())
    table = windows(index)
    row = table.search().where(f"recording = '{c}'").to_arrow().to_pylist()[0]
    table.delete(f"recording = '{c}'")
    other = row | {"content_hash": "0", "fingerprint": "model-0"}
    table.add([other | {"checksum": checksum(other)}])
    assert Index.open(index).verify().damage == [
        f"{c}#t=0.000,2.000: is of model model-0, the index of model-1; delete the folder, index again",
        f"{c}: has windows of other contents or cuts; index it again",
    ]


@pytest.mark.parametrize("kind", ["windows.lance/data", "recordings.lance/data", "windows.lance/_versions"])
def test_bytes_that_changed_are_told_or_change_nothing(index: Path, kind: str) -> None:
    """Whatever byte of the newest version is flipped: verify says so, or all rows are read as they were."""
    table = IndexTables(IndexLocation.of(index)).windows
    assert table is not None
    before, entries = sorted_rows(table), RecordingsTable(IndexTables(IndexLocation.of(index))).read()
    generator, told = random.Random(kind), 0
    files = [path for path in sorted((index / kind).rglob("*")) if path.is_file() and path.stat().st_size]
    files = files[:1] if kind.endswith("_versions") else files  # the newest comes first by its name
    for _ in range(60):
        path = generator.choice(files)
        sound = path.read_bytes()
        place = generator.randrange(len(sound))
        path.write_bytes(sound[:place] + bytes([sound[place] ^ 1 << generator.randrange(8)]) + sound[place + 1 :])
        try:
            if Index.open(index).verify().damage:
                told += 1
            else:
                table = IndexTables(IndexLocation.of(index)).windows
                assert table is not None
                assert sorted_rows(table) == before
                assert RecordingsTable(IndexTables(IndexLocation.of(index))).read() == entries
        finally:
            path.write_bytes(sound)
    assert told >= 10
    assert Index.open(index).verify() == ([], [])


def sorted_rows(table: Any) -> list[dict[str, Any]]:
    return sorted(table.to_arrow().to_pylist(), key=lambda row: row["id"])
