import os
from pathlib import Path

import numpy as np
import pytest

from clsr.audio.files import content_hash, file_state, find_recordings, search_files
from clsr.audio.waveform import write_waveform
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


def test_hidden_folders_are_skipped_at_any_depth(tmp_path: Path) -> None:
    names = (
        "kept.wav",
        ".hidden.wav",
        ".Trash-1000/files/deleted.wav",
        "a/.stversions/b/old.wav",
        "__MACOSX/._kept.wav",
        "a/$RECYCLE.BIN/b/gone.wav",
        "@eaDir/kept.wav",
    )
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    kept = (tmp_path / "kept.wav").resolve()
    assert search_files(tmp_path).summary() == "6 files skipped: 6 hidden"
    for place in (tmp_path, f"{tmp_path}/**/*.wav", f"{tmp_path}/**", f"{tmp_path}/*"):
        assert find_recordings([place]) == [kept]
    assert len(find_recordings([f"{tmp_path}/@eaDir/*.wav"])) == 1  # what is named is meant
    assert find_recordings([tmp_path / ".Trash-1000"]) == [(tmp_path / ".Trash-1000/files/deleted.wav").resolve()]


def test_content_counts_and_no_suffix(tmp_path: Path) -> None:
    write_waveform(tmp_path / "a.wav", np.zeros(1_600))
    (tmp_path / "a.wav").rename(tmp_path / "speech")
    (tmp_path / "pack").write_bytes(b"wvpk" + bytes(100))
    (tmp_path / "dictation").write_bytes(b"\x56\xe0\x61" + bytes(97) + b"\x56\xe0\x61" + bytes(97))  # LATM
    (tmp_path / "code.ts").write_text("const a = 1;\n" * 500)
    (tmp_path / "talk.ts").write_bytes((b"\x47" + bytes(187)) * 20)
    (tmp_path / "photo.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    (tmp_path / "film").write_bytes(b"\x1a\x45\xdf\xa3" + bytes(100))
    (tmp_path / "song").write_bytes(b"\xff\xfb\x90\x64" + bytes(413) + b"\xff\xfb\x90\x64" + bytes(413))
    (tmp_path / "words.txt").write_bytes("\ufeffA text of two bytes a letter.".encode("utf-16-le") * 100)
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    found = search_files(tmp_path)
    assert [path.name for path in found.recordings] == ["dictation", "film", "pack", "song", "speech", "talk.ts"]
    assert found.summary() == "4 files skipped: 3 not audio, 1 links that lead to no file"
