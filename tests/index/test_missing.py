"""Recordings whose files are gone: deleted, or on a disk that is not there."""

from pathlib import Path

import pytest

from clsr.index.recordings import RecordingEntry, find_missing


@pytest.fixture
def entries(tmp_path: Path) -> dict[str, RecordingEntry]:
    """Twenty recordings in ``d`` and one in ``usb``, of half an hour of speech each."""
    paths = [tmp_path / "d" / f"{n:02}.wav" for n in range(20)] + [tmp_path / "usb" / "x.wav"]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    return {str(path): RecordingEntry(str(path), "", 0, 0, "", indexed_s=1800) for path in paths}


def gone(entries: dict[str, RecordingEntry], *names: str) -> None:
    for path in map(Path, entries):
        if f"{path.parent.name}/{path.name}" in names:
            path.unlink()


def test_a_few_files_of_a_folder_may_go(entries: dict[str, RecordingEntry]) -> None:
    assert (find_missing(entries).paths, find_missing(entries).doubt) == ([], "")
    gone(entries, "d/03.wav", "d/07.wav")
    missing = find_missing(entries)
    assert [Path(path).name for path in missing.paths] == ["03.wav", "07.wav"]
    assert (missing.doubt, str(missing)) == ("", "2 of 21 recordings with 1.00 hours of speech")


def test_more_than_a_tenth_is_doubtful(entries: dict[str, RecordingEntry]) -> None:
    gone(entries, "d/03.wav", "d/07.wav", "d/09.wav")
    assert find_missing(entries).doubt == "that is more than a tenth"


@pytest.mark.parametrize("unmounted", ["empty", "missing"])
def test_a_folder_that_is_gone_is_doubtful(entries: dict[str, RecordingEntry], tmp_path: Path, unmounted: str) -> None:
    gone(entries, "usb/x.wav")
    if unmounted == "missing":
        (tmp_path / "usb").rmdir()
    assert find_missing(entries).doubt == f"{tmp_path / 'usb'} is missing or empty"
