"""Filters as conditions that a table understands, whatever a path has in it."""

import os
import unicodedata
from collections.abc import Callable
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from clsr.errors import InputError
from clsr.index.config import IndexConfig
from clsr.index.filters import Filter, quote
from clsr.index.index import Index
from clsr.model import Model
from clsr.search.retriever import Retriever

Speak = Callable[[Path, str], Path]
NAMES = [
    "a.wav",
    'it\'s "here".wav',
    "100% _.wav",
    "talks/a.wav",
    "talks2/a.wav",
    "talks/deep/ü.wav",
    "talks/x'; --.wav",
]


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    return tmp_path / "recordings"


@pytest.fixture
def retriever(speech_encoder: Any, model: Model, speak: Speak, tmp_path: Path, recordings: Path) -> Retriever:
    """Recordings that all say "sea", the first changed on 1 May 2026, the second on 2 May, and so on, at noon UTC."""
    for day, name in enumerate(NAMES, start=1):
        (recordings / name).parent.mkdir(parents=True, exist_ok=True)
        path = speak(recordings / name, "sea")
        noon = datetime(2026, 5, day, 12, tzinfo=timezone.utc).timestamp()
        os.utime(path, (noon, noon))
    Index.create(tmp_path / "index", model, IndexConfig("4/3")).add([recordings])
    return Retriever.open(tmp_path / "index")


def found(retriever: Retriever, folder: Path, only: Filter, mode: Any = "dense") -> set[str]:
    return {str(Path(hit.recording).relative_to(folder)) for hit in retriever.search("sea", mode=mode, only=only)}


@pytest.mark.parametrize("mode", ["dense", "bm25", "hybrid"])
@pytest.mark.parametrize("name", NAMES)
def test_a_recording_with_anything_in_its_name(retriever: Retriever, recordings: Path, name: str, mode: str) -> None:
    assert found(retriever, recordings, Filter(recordings=[recordings / name]), mode) == {name}


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_names_of_moved_files_find_their_windows(retriever: Retriever, recordings: Path, form: Any) -> None:
    deep = recordings / "talks" / "deep" / "ü.wav"
    deep.unlink()  # the index alone knows how its letters are composed
    only = Filter(recordings=[unicodedata.normalize(form, str(deep))])
    assert found(retriever, recordings, only) == {"talks/deep/ü.wav"}


def test_several_recordings(retriever: Retriever, recordings: Path) -> None:
    some = {NAMES[1], NAMES[4]}
    assert found(retriever, recordings, Filter(recordings=[str(recordings / name) for name in some])) == some


def test_folder_filter_takes_only_what_is_below(retriever: Retriever, recordings: Path) -> None:
    assert found(retriever, recordings, Filter(folder=recordings)) == set(NAMES)
    inside = {name for name in NAMES if name.startswith("talks/")}
    assert found(retriever, recordings, Filter(folder=recordings / "talks")) == inside
    assert found(retriever, recordings, Filter(folder=f"{recordings}/talks/")) == inside
    assert found(retriever, recordings, Filter(folder=recordings / "t_lks")) == set()  # "_" is no wildcard
    assert found(retriever, recordings, Filter(folder="/")) == set(NAMES)


def test_paths_may_be_relative(retriever: Retriever, recordings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(recordings / "talks")
    assert found(retriever, recordings, Filter(recordings=["a.wav"])) == {"talks/a.wav"}
    assert found(retriever, recordings, Filter(folder="deep")) == {"talks/deep/ü.wav"}


@pytest.mark.parametrize(
    ("only", "days"),
    [
        (Filter(since="2026-05-06T12:00+00:00"), [6, 7]),
        (Filter(since="2026-05-06T12:00:01Z"), [7]),
        (Filter(until="2026-05-02T12:00+00:00"), [1, 2]),
        (Filter(until=datetime(2026, 5, 2, 11, 59, tzinfo=timezone.utc)), [1]),
        (Filter(since="2026-05-03", until="2026-05-04"), [3, 4]),
        (Filter(since=date(2026, 5, 3), until=date(2026, 5, 3)), [3]),
        (Filter(since="2026-05-08"), []),
    ],
)
def test_dates(retriever: Retriever, recordings: Path, only: Filter, days: list[int]) -> None:
    assert found(retriever, recordings, only) == {NAMES[day - 1] for day in days}


def test_all_conditions_have_to_be_met(retriever: Retriever, recordings: Path) -> None:
    only = Filter(
        recordings=[recordings / name for name in NAMES[2:6]], folder=recordings / "talks", since="2026-05-05"
    )
    assert found(retriever, recordings, only) == {"talks/deep/ü.wav"}


def test_a_day_is_a_local_one(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setenv("TZ", "Asia/Tokyo")  # nine hours before UTC
    time.tzset()
    try:
        condition = Filter(since="2026-05-03", until="2026-05-03").to_sql()
    finally:
        monkeypatch.undo()
        time.tzset()
    assert condition == (
        "modified >= timestamp '2026-05-02 15:00:00.000000+00:00' AND "
        "modified < timestamp '2026-05-03 15:00:00.000000+00:00'"
    )


def test_what_is_no_filter_is_refused(retriever: Retriever, recordings: Path) -> None:
    with pytest.raises(InputError, match="'yesterday' is no date"):
        Filter(since="yesterday")
    with pytest.raises(InputError, match="'2026-02-30' is no date"):
        Filter(until="2026-02-30")
    with pytest.raises(InputError, match="since 2026-05-02 and until 2026-05-01"):
        Filter(since="2026-05-02", until="2026-05-01")
    with pytest.raises(InputError, match="give a list"):
        Filter(recordings="a.wav")
    with pytest.raises(InputError, match=r"b\.wav: not in the index"):
        retriever.search("sea", only=Filter(recordings=[recordings / "a.wav", recordings / "b.wav"]))


def test_quotes_are_doubled() -> None:
    assert quote("a'b''c") == "'a''b''''c'"
