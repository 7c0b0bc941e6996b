"""A file name typed on one system and stored by another."""

import unicodedata
from pathlib import Path

import pytest

from clsr.audio.files import find_recordings
from clsr.audio.spelling import as_on_disk
from clsr.index.filters import Filter

NAMES = ["Vorträge/Müller é.wav", "한국어.wav", "がっこう/パン.wav", "Việt.wav"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("stored", "typed"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_composed_and_decomposed_names_find_each_other(tmp_path: Path, name: str, stored: str, typed: str) -> None:
    file = tmp_path / unicodedata.normalize(stored, name)  # type: ignore[arg-type]
    file.parent.mkdir(exist_ok=True)
    file.touch()
    wanted = tmp_path / unicodedata.normalize(typed, name)  # type: ignore[arg-type]
    assert not wanted.exists()
    assert as_on_disk(wanted) == file
    assert find_recordings([wanted]) == [file.resolve()]
    assert find_recordings([f"{wanted.parent}/*{wanted.suffix}"]) == [file.resolve()]
    assert Filter(recordings=[wanted]).paths == [str(file.resolve())]


def test_the_very_name_comes_first(tmp_path: Path) -> None:
    both = [tmp_path / "é.wav", tmp_path / "e\u0301.wav"]
    for file in both:
        file.touch()
    assert [as_on_disk(file) for file in both] == both


def test_names_of_no_file_stay(tmp_path: Path) -> None:
    for name in ("ü.wav", "ü/ö.wav", "ü\0.wav", "ü" * 300):
        assert as_on_disk(tmp_path / name) == tmp_path / name
