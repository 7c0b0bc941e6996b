"""Recordings in zip archives: found by their names, copied to names of ours."""

import zipfile
from pathlib import Path

import pytest

from clsr.corpora.archive import AudioArchive
from clsr.errors import InputError

FIELDS = {"paragraph": r"\d+-\d+", "sentence": r"\d+"}


def pack(path: Path, **entries: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


def test_names_are_found_by_a_template(tmp_path: Path) -> None:
    names = ["a/document/7-1-2.WAV", "b/Document/7-1-3.wav", "document/7-1-3.wav", "question/7-1-2.wav", "x/readme.txt"]
    with AudioArchive(
        pack(tmp_path / "a.zip", **dict.fromkeys(names, b"x"), **{"__MACOSX/._7-1-2.wav": b""})
    ) as archive:
        assert archive.names == names[:4]
        found = archive.find("document/{paragraph}-{sentence}.wav", FIELDS)
        assert found == {("7-1", "2"): [names[0]], ("7-1", "3"): names[1:3]}
        assert archive.find("q*/{paragraph}-{sentence}.wav", FIELDS) == {("7-1", "2"): [names[3]]}
        assert archive.find("{paragraph}_{sentence}.wav", FIELDS) == {}


def test_names_that_lead_out_stay_inside(tmp_path: Path) -> None:
    with AudioArchive(pack(tmp_path / "a.zip", **{"../../escaped.wav": b"sound", "/abs.wav": b"more"})) as archive:
        for number, name in enumerate(archive.names):
            archive.copy_out(name, tmp_path / "out" / f"{number}.wav")
    assert {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()} == {
        "0.wav": b"sound",
        "1.wav": b"more",
    }
    assert sorted(path.name for path in tmp_path.rglob("*.wav")) == ["0.wav", "1.wav"]


def test_damaged_archives_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none.zip: no such file"):
        AudioArchive(tmp_path / "none.zip")
    (tmp_path / "text.zip").write_text("no archive")
    with pytest.raises(InputError, match="text.zip: is no whole zip archive"):
        AudioArchive(tmp_path / "text.zip")
    with pytest.raises(InputError, match="empty.zip: holds no recording"):
        AudioArchive(pack(tmp_path / "empty.zip", **{"a.txt": b""}))
    whole = pack(tmp_path / "a.zip", **{"a.wav": b"sound of some length"})
    whole.write_bytes(whole.read_bytes().replace(b"sound", b"s0und"))  # its checksum is wrong now
    with AudioArchive(whole) as archive, pytest.raises(InputError, match="a.zip: a.wav: cannot be read out"):
        archive.copy_out("a.wav", tmp_path / "out" / "a.wav")
    assert not list((tmp_path / "out").iterdir())
