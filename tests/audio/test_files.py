import os
from pathlib import Path

import pytest

from clsr.audio.files import content_hash, file_state, find_recordings
from clsr.errors import InputError


def test_folders_are_searched_and_files_taken_once(tmp_path: Path) -> None:
    for name in ("b/deep/x.MP3", "b/a.wav", "b/notes.txt", "b/._a.wav", "c.aiff"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = find_recordings([tmp_path / "c.aiff", tmp_path / "b", tmp_path / "b" / "a.wav"])
    assert found == [(tmp_path / name).resolve() for name in ("c.aiff", "b/a.wav", "b/deep/x.MP3")]


def test_missing_path_and_folder_without_audio_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere: no such file"):
        find_recordings([tmp_path / "nowhere"])
    with pytest.raises(InputError, match="no audio file in this folder"):
        find_recordings([tmp_path])


def test_patterns_name_audio_files_at_any_depth(tmp_path: Path) -> None:
    for name in ("b/deep/x.mp3", "b/a.wav", "b/a.txt", "c/a.wav", "odd[1].wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    here = tmp_path.resolve()
    assert find_recordings([f"{tmp_path}/**/a.*"]) == [here / "b/a.wav", here / "c/a.wav"]
    assert find_recordings([f"{tmp_path}/[bx]"]) == [here / "b/a.wav", here / "b/deep/x.mp3"]  # a folder, whole
    assert find_recordings([tmp_path / "odd[1].wav"]) == [here / "odd[1].wav"]  # its very name
    with pytest.raises(InputError, match="no audio file of this pattern"):
        find_recordings([f"{tmp_path}/*.ogg"])


def test_content_and_date_tell_files_apart(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(b"abc")
    other.write_bytes(b"abc")
    os.utime(other, ns=(0, 5))
    assert content_hash(one) == content_hash(other) == "cf4ab791c62b8d2b2109c90275287816"  # of 16 bytes
    assert file_state(other) == (3, 5)
    other.write_bytes(b"abd")
    assert content_hash(one) != content_hash(other)
