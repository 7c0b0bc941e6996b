"""Tests of clsr/corpora/sources.py."""

import logging
from pathlib import Path

import pytest

from clsr.corpora.sources import Source, check_audio, check_sources
from clsr.errors import InputError

ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # of "abc", FIPS 180-2


def test_published_digests_are_checked_and_others_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "known.json").write_text("abc")
    (tmp_path / "unknown.json").write_text("abc")
    (tmp_path / "wavs").mkdir()
    sources = [
        Source("known.json", "", ABC),
        Source("unknown.json", ""),
        Source("wavs", ""),
        Source("a.zip", "", ABC, True),
    ]
    with caplog.at_level(logging.INFO, "clsr"):
        check_sources(tmp_path, sources)
    assert caplog.messages == [f"{tmp_path / 'unknown.json'}: sha256 {ABC} (none is published)"]


def test_other_content_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_text("abd")
    with pytest.raises(InputError, match=f"a.zip: sha256 is [0-9a-f]{{64}}, not the published {ABC}; fetch it again"):
        check_sources(tmp_path, [Source("a.zip", "", ABC, True)])


def test_missing_files_are_named_before_reading(tmp_path: Path) -> None:
    (tmp_path / "known.json").write_text("changed")
    sources = [Source("known.json", "", ABC), Source("wavs", "get it with: wget http://example.org/wavs.zip")]
    with pytest.raises(InputError, match="wavs: no such file or folder; get it with: wget http://example.org/wavs.zip"):
        check_sources(tmp_path, sources)


def test_missing_recordings_are_counted(tmp_path: Path) -> None:
    files = [tmp_path / f"{name}.wav" for name in "abc"]
    files[0].touch()
    with pytest.raises(InputError, match="b.wav: no such recording and 1 others, of 3 needed; unpack them"):
        check_audio(files, "unpack them")
    files[1].touch()
    with pytest.raises(InputError, match="c.wav: no such recording, of 3 needed; unpack them"):
        check_audio(files, "unpack them")
    files[2].touch()
    check_audio(files, "unpack them")
