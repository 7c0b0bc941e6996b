import json
import os
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clsr.cli.main import main
from clsr.errors import InputError
from clsr.index import indexer
from clsr.index.config import IndexConfig
from clsr.index.filters import Filter
from clsr.index.index import Index
from clsr.index.location import IndexLocation
from clsr.index.recordings import INTERRUPTED, UNKNOWN, RecordingStatus, stored_ns
from clsr.index.rows import date_of
from clsr.index.tables import IndexTables, only_writer
from clsr.index.windows import merge_words
from clsr.model import Model
from clsr.search.retriever import Retriever
from clsr.vocabulary import Word

SMALL = IndexConfig("4/3", batch_s=8.0)
Speak = Callable[[Path, str], Path]


def rows(index_dir: Path) -> list[dict[str, Any]]:
    table = IndexTables(IndexLocation.of(index_dir)).windows
    assert table is not None
    return sorted(table.to_arrow().to_pylist(), key=lambda row: row["id"])


def test_windows_are_stored_with_transcripts_and_times(
    speech_encoder: Any, model: Model, speak: Speak, tmp_path: Path
) -> None:
    path = speak(tmp_path / "a.wav", "cat the - dog tea sea sun")
    statuses = Index.create(tmp_path / "index", model, SMALL).add([path])
    assert statuses == [RecordingStatus(str(path), "indexed", 7.0, 7.0, 0.0, windows=2)]
    first, second = rows(tmp_path / "index")
    assert (first["start_s"], first["end_s"], first["text"]) == (0.0, 4.0, "cat the dog")
    assert (second["start_s"], second["end_s"], second["text"]) == (3.0, 7.0, "dog tea sea sun")
    assert first["words"][2] == {"text": "dog", "start_s": 3.0, "end_s": 4.0}
    assert second["words"][0] == {"text": "dog", "start_s": 3.0, "end_s": 4.0}  # the same moment in both windows
    assert second["vector"] == pytest.approx([0, 0, 0, 0.5, 0.5, 0.5, 0.5, 0])
    assert second["id"] == f"{path}#t=3.000,7.000"


def test_every_second_is_indexed_or_silent(speech_encoder: Any, model: Model, speak: Speak, tmp_path: Path) -> None:
    part = speak(tmp_path / "part.wav", "cat - - - - - - - - -")  # one word, in the first window of 0-4, 3-7, 6-10
    none = speak(tmp_path / "none.wav", "- -")
    statuses = Index.create(tmp_path / "index", model, SMALL).add([part, none])
    assert statuses[0] == RecordingStatus(str(part), "indexed", 10.0, 1.0, 9.0, windows=3)
    assert statuses[1] == RecordingStatus(str(none), "silent", 2.0, 0.0, 2.0, windows=1)
    assert Index.create(tmp_path / "index", model, SMALL).add([part, none]) == statuses


def test_batches_change_nothing(speech_encoder: Any, model: Model, speak: Speak, tmp_path: Path) -> None:
    path = speak(tmp_path / "a.wav", "cat dog tea sea sun boat the cat dog tea sea sun boat the")
    tables = []
    for seconds, calls in ((1.0, [1, 1, 1, 1, 1]), (8.0, [2, 2, 1]), (32.0, [5])):
        speech_encoder.batches.clear()
        Index.create(tmp_path / f"{seconds}", model, IndexConfig("4/3", seconds)).add([path])
        assert speech_encoder.batches == calls
        tables.append(rows(tmp_path / f"{seconds}"))
    assert tables[0] == tables[1] == tables[2]


def test_short_recordings_share_a_batch_and_a_transaction(
    speech_encoder: Any, model: Model, speak: Speak, tmp_path: Path
) -> None:
    paths = [speak(tmp_path / f"{i}.wav", word) for i, word in enumerate(["cat", "dog", "tea"])]
    statuses = Index.create(tmp_path / "index", model, IndexConfig("4/3", batch_s=2.0)).add(paths)
    assert speech_encoder.batches == [2, 1]
    assert [status.status for status in statuses] == ["indexed"] * 3
    table = IndexTables(IndexLocation.of(tmp_path / "index")).windows
    assert table is not None
    counts = []
    for version in table.list_versions():
        table.checkout(version["version"])
        counts.append(table.count_rows())
    assert set(counts) == {0, 3}


def test_who_watches_is_told_of_each_recording(speech_encoder: Any, model: Model, speak: Speak, tmp_path: Path) -> None:
    paths = [speak(tmp_path / "a.wav", "cat " * 10), speak(tmp_path / "b.wav", "sea")]  # three windows, and one
    told: list[Any] = []
    for _ in range(2):
        statuses = Index.create(tmp_path / "index", model, SMALL).add(paths, lambda *state: told.append(state))
    a, b = paths
    first, second = statuses
    built = told[: len(told) - 4]  # a thread encodes the first recording while the second begins
    assert [state for path, state in built if path == a] == [0.0, 0.7, 1.0, first]
    assert [state for path, state in built if path == b] == [0.0, 1.0, second]
    assert built[0] == (a, 0.0) and built[-4:] == [(a, 1.0), (b, 1.0), (a, first), (b, second)]
    assert told[-4:] == [(a, 0.0), (a, first), (b, 0.0), (b, second)]  # up to date


def test_unchanged_recording_is_skipped(speech_encoder: Any, model: Model, speak: Speak, tmp_path: Path) -> None:
    path = speak(tmp_path / "a.wav", "cat dog tea sea sun")
    first = Index.create(tmp_path / "index", model, SMALL).add([path])
    speech_encoder.batches.clear()
    assert Index.create(tmp_path / "index", model, SMALL).add([path]) == first
    assert speech_encoder.batches == []


def test_changed_recording_is_replaced(speech_encoder: Any, model: Model, speak: Speak, tmp_path: Path) -> None:
    path, other = speak(tmp_path / "it's.wav", "cat dog tea sea sun boat the"), speak(tmp_path / "b.wav", "sea")
    Index.create(tmp_path / "index", model, SMALL).add([path, other])
    speak(path, "sun")
    Index.create(tmp_path / "index", model, SMALL).add([path, other])
    assert [(row["recording"], row["text"]) for row in rows(tmp_path / "index")] == [
        (str(other), "sea"),
        (str(path), "sun"),
    ]


def test_other_windows_replace(speech_encoder: Any, model: Model, speak: Speak, tmp_path: Path) -> None:
    path = speak(tmp_path / "a.wav", "cat dog tea sea")
    Index.create(tmp_path / "index", model, SMALL).add([path])
    Index.create(tmp_path / "index", model, IndexConfig("2/2")).add([path])
    assert [row["text"] for row in rows(tmp_path / "index")] == ["cat dog", "tea sea"]


def test_no_table_version_mixes_two_contents(
    speech_encoder: Any, model: Model, speak: Speak, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A killed run leaves one of the table's versions, and a search may see any."""
    path = speak(tmp_path / "a.wav", "cat dog tea sea sun boat the")
    Index.create(tmp_path / "index", model, SMALL).add([path])
    speak(path, "sun " * 10)
    monkeypatch.setattr("clsr.index.indexer.COMMIT_AUDIO_S", 0.0)  # each batch is a transaction
    Index.create(tmp_path / "index", model, SMALL).add([path])
    table = IndexTables(IndexLocation.of(tmp_path / "index")).windows
    assert table is not None
    seen: list[list[str]] = []
    for version in table.list_versions():
        table.checkout(version["version"])
        texts = sorted(table.to_arrow()["text"].to_pylist())
        if not seen or seen[-1] != texts:
            seen.append(texts)
    assert seen == [
        [],
        ["cat dog tea sea", "sea sun boat the"],
        ["sun sun sun sun"] * 2,
        ["sun sun sun sun"] * 3,
    ]


def test_interrupted_recording_goes_on_where_it_was(
    speech_encoder: Any, model: Model, speak: Speak, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clsr.index.indexer.COMMIT_AUDIO_S", 0.0)
    path, second = (
        speak(tmp_path / "a.wav", "cat dog tea sea sun boat the cat dog tea sea sun boat"),
        tmp_path / "b.wav",
    )
    encode = speech_encoder.encode

    def stop_in_second_batch(waveforms: Any) -> Any:
        if len(speech_encoder.batches) == 1:
            raise KeyboardInterrupt
        return encode(waveforms)

    speech_encoder.encode = stop_in_second_batch
    with pytest.raises(KeyboardInterrupt):
        Index.create(tmp_path / "index", model, SMALL).add([path])
    assert [row["start_s"] for row in rows(tmp_path / "index")] == [0.0, 3.0]
    status = Index.open(tmp_path / "index").status()[0]
    assert status == RecordingStatus(str(path), "failed", 13.0, 7.0, 0.0, 2, INTERRUPTED)
    assert Index.open(tmp_path / "index").verify() == ([], [f"{path}: {INTERRUPTED}"])

    speech_encoder.encode = encode
    speech_encoder.batches.clear()
    went_on = Index.create(tmp_path / "index", model, SMALL).add([path])
    assert speech_encoder.batches == [2]  # the two windows that were there are not encoded again
    assert went_on == Index.create(tmp_path / "undisturbed", model, SMALL).add([path])
    assert rows(tmp_path / "index") == rows(tmp_path / "undisturbed")
    assert Index.open(tmp_path / "index").verify() == ([], [])
    assert not second.exists()


def test_recording_changed_after_interruption_is_indexed_anew(
    speech_encoder: Any, model: Model, speak: Speak, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = speak(tmp_path / "a.wav", "cat dog tea sea sun boat the cat")
    Index.create(tmp_path / "index", model, SMALL).add([path])
    speak(path, "sun sun sun sun")
    with monkeypatch.context() as patch:  # killed after it is said that the new content is begun, before it is written
        patch.setattr("clsr.index.writer.IndexWriter._write", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            Index.create(tmp_path / "index", model, SMALL).add([path])
    assert rows(tmp_path / "index")[0]["text"] == "cat dog tea sea"
    assert Index.open(tmp_path / "index").status() == [
        RecordingStatus(str(path), "failed", 4.0, reason=INTERRUPTED)
    ]  # none of it
    assert Index.open(tmp_path / "index").verify().damage == []
    Index.create(tmp_path / "index", model, SMALL).add([path])
    assert [row["text"] for row in rows(tmp_path / "index")] == ["sun sun sun sun"]


def test_failure_is_reported_and_the_rest_goes_on(
    speech_encoder: Any, model: Model, speak: Speak, tmp_path: Path
) -> None:
    good, damaged, empty = speak(tmp_path / "c.wav", "cat"), tmp_path / "a.wav", tmp_path / "b.wav"
    damaged.write_bytes(b"RIFF no sound in here")
    empty.touch()
    statuses = Index.create(tmp_path / "index", model, SMALL).add([tmp_path])
    assert [(status.path, status.status) for status in statuses] == [
        (str(damaged), "failed"),
        (str(empty), "failed"),
        (str(good), "indexed"),
    ]
    assert "a.wav" in str(statuses[0].reason)
    assert "empty" in str(statuses[1].reason)
    assert [row["text"] for row in rows(tmp_path / "index")] == ["cat"]


def test_model_failure_is_reported_with_the_duration(
    speech_encoder: Any, model: Model, speak: Speak, tmp_path: Path
) -> None:
    def fail(waveforms: Any) -> Any:
        raise ValueError("too short")

    speech_encoder.encode = fail
    path = speak(tmp_path / "a.wav", "cat")
    statuses = Index.create(tmp_path / "index", model, SMALL).add([path])
    assert statuses == [RecordingStatus(str(path), "failed", 1.0, reason=f"{path}: ValueError at 0.0 s: too short")]
    assert IndexTables(IndexLocation.of(tmp_path / "index")).windows is None


def test_failed_window_is_lost_alone_and_retried(
    speech_encoder: Any, model: Model, speak: Speak, tmp_path: Path
) -> None:
    path, other = speak(tmp_path / "a.wav", "cat - - - sea sea sun sun sun sun"), speak(tmp_path / "b.wav", "tea")
    encode = speech_encoder.encode

    def fail_on_sea(waveforms: Any) -> Any:
        if any(round(float(waveform[0]) * 16) == 5 for waveform in waveforms):
            raise ValueError("sea-sick")
        return encode(waveforms)

    speech_encoder.encode = fail_on_sea
    found = Index.create(tmp_path / "index", model, IndexConfig("4/4")).add([path, other])
    reason = f"{path}: ValueError at 4.0 s: sea-sick"  # 0-4 has a word, 6-10 too, and of 4-8 two seconds are in neither
    assert found[0] == RecordingStatus(str(path), "failed", 10.0, 5.0, 3.0, 2, reason)  # 1-4 is silent
    assert found[1] == RecordingStatus(str(other), "indexed", 1.0, 1.0, 0.0, 1)
    speech_encoder.encode = encode
    speech_encoder.batches.clear()
    found = Index.create(tmp_path / "index", model, IndexConfig("4/4")).add([path, other])
    assert speech_encoder.batches == [1]
    assert found[0] == RecordingStatus(str(path), "indexed", 10.0, 10.0, 0.0, 3)


def test_touched_file_is_not_encoded_again(speech_encoder: Any, model: Model, speak: Speak, tmp_path: Path) -> None:
    path = speak(tmp_path / "a.wav", "cat dog")
    first = Index.create(tmp_path / "index", model, SMALL).add([path])
    os.utime(path, (1e9, 1e9))
    speech_encoder.batches.clear()
    assert Index.open(tmp_path / "index").verify().stale == [
        f"{path}: its file has changed since it was indexed; index it again"
    ]
    assert Index.create(tmp_path / "index", model, SMALL).add([path]) == first
    assert speech_encoder.batches == []
    assert Index.open(tmp_path / "index").verify() == ([], [])


def test_dates_of_wrong_clocks_stop_nothing(speech_encoder: Any, model: Model, speak: Speak, tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    seconds = {"1965": -144_936_000, "1980": 328_708_800, "2098": 4_052_635_200, "2300": 10_427_054_400}
    for year, date in seconds.items():
        os.utime(speak(tmp_path / "r" / f"{year}.wav", "cat"), (date, date))
    speak(tmp_path / "r" / "now.wav", "cat")
    index = Index.create(tmp_path / "index", model, SMALL)
    assert [status.status for status in index.add([tmp_path / "r"])] == ["indexed"] * 5
    speech_encoder.batches.clear()
    assert [status.status for status in index.add([tmp_path / "r"])] == ["indexed"] * 5
    assert speech_encoder.batches == []  # all are unchanged
    assert index.verify() == ([], [])
    retriever = Retriever.open(tmp_path / "index")
    for since, count in (("1970-01-01", 4), ("2050-01-01", 2), ("2299-01-01", 1), ("0001-01-01", 5)):
        assert len(retriever.search("cat", only=Filter(since=since))) == count, since
    for until, count in (("1970-01-01", 1), ("9999-12-31", 5), ("0001-01-01", 0)):
        assert len(retriever.search("cat", only=Filter(until=until))) == count, until


@pytest.mark.parametrize("modified_ns", [-(10**21), -1, 0, 2**63, 10**22])
def test_every_date_can_be_stored(modified_ns: int) -> None:
    assert -(2**63) <= stored_ns(modified_ns) < 2**63
    assert date_of(modified_ns).tzinfo is not None


def test_file_that_became_unreadable_keeps_its_windows(
    speech_encoder: Any, model: Model, speak: Speak, tmp_path: Path
) -> None:
    path = speak(tmp_path / "a.wav", "cat dog")
    Index.create(tmp_path / "index", model, SMALL).add([path])
    path.write_bytes(b"RIFF nothing")
    (found,) = Index.create(tmp_path / "index", model, SMALL).add([path])
    assert (found.status, found.indexed_s, found.windows) == ("failed", 2.0, 1)
    assert [row["text"] for row in rows(tmp_path / "index")] == ["cat dog"]
    speak(path, "sea")
    assert Index.create(tmp_path / "index", model, SMALL).add([path])[0].status == "indexed"
    assert [row["text"] for row in rows(tmp_path / "index")] == ["sea"]


def test_windows_of_two_lengths_are_both_there(speech_encoder: Any, model: Model, speak: Speak, tmp_path: Path) -> None:
    long, short = speak(tmp_path / "a.wav", "cat dog tea sea sun"), speak(tmp_path / "b.wav", "boat")
    found = Index.create(tmp_path / "index", model, IndexConfig("2/2,4/4")).add([long, short])
    spans = [(row["start_s"], row["end_s"]) for row in rows(tmp_path / "index") if row["recording"] == str(long)]
    assert sorted(spans) == [(0.0, 2.0), (0.0, 4.0), (1.0, 5.0), (2.0, 4.0), (3.0, 5.0)]
    assert found[0] == RecordingStatus(str(long), "indexed", 5.0, 5.0, 0.0, 5)
    assert found[1] == RecordingStatus(str(short), "indexed", 1.0, 1.0, 0.0, 1)  # one window for both lengths


def test_later_runs_cut_as_the_index_was_cut(speech_encoder: Any, model: Model, speak: Speak, tmp_path: Path) -> None:
    path, second = speak(tmp_path / "a.wav", "cat dog"), speak(tmp_path / "b.wav", "tea sea")
    Index.create(tmp_path / "index", model, IndexConfig("1")).add([path])
    found = Index.create(tmp_path / "index", model).add([path, second])
    assert [status.windows for status in found] == [3, 3]  # of 1 s every 0.75 s
    assert Index.open(tmp_path / "index").description.windows == "1/0.75"


def test_odd_names_are_indexed_undecodable_ones_refused(
    speech_encoder: Any, model: Model, speak: Speak, tmp_path: Path
) -> None:
    names = ["it's", 'a "b", c', "new\nline", "%25 _*", "茶", b"\xff".decode(errors="surrogateescape")]
    paths = [speak(tmp_path / f"{name}.wav", "cat") for name in names]
    for _ in range(2):
        found = Index.create(tmp_path / "index", model, SMALL).add(paths)
        assert [status.status for status in found] == ["indexed"] * 5 + ["failed"]
        assert found[-1].reason == f"{tmp_path.resolve()}/?.wav: its name is not UTF-8; rename it"
    assert {row["recording"] for row in rows(tmp_path / "index")} == {str(path) for path in paths[:5]}
    assert json.loads(Index.open(tmp_path / "index").status([tmp_path])[-1].to_json())["path"].endswith("?.wav")
    assert Index.open(tmp_path / "index").verify() == ([], [])


def test_file_deleted_during_indexing_has_failed(
    speech_encoder: Any, model: Model, speak: Speak, tmp_path: Path
) -> None:
    first, second = speak(tmp_path / "a.wav", "cat"), speak(tmp_path / "b.wav", "sea")

    def take_away(path: Path, state: Any) -> None:
        second.unlink(missing_ok=True)

    found = Index.create(tmp_path / "index", model, SMALL).add([first, second], take_away)
    assert [status.status for status in found] == ["indexed", "failed"]
    assert (
        found[1].reason == f"{second}: cannot be read (No such file or directory); check the path and its permissions"
    )


def test_file_written_during_indexing_is_checked_again(
    speech_encoder: Any, model: Model, speak: Speak, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = speak(tmp_path / "a.wav", "cat dog")
    read = indexer.content_hash

    def read_and_write(path: Path) -> str:
        found = read(path)
        speak(path, "sea sun")
        return found

    with monkeypatch.context() as patch:
        patch.setattr(indexer, "content_hash", read_and_write)
        Index.create(tmp_path / "index", model, SMALL).add([path])
    speech_encoder.batches.clear()
    Index.create(tmp_path / "index", model, SMALL).add([path])
    assert speech_encoder.batches == [1]
    assert [(row["text"], row["content_hash"]) for row in rows(tmp_path / "index")] == [("sea sun", read(path))]


def test_run_that_has_nothing_to_do_writes_nothing(
    speech_encoder: Any, model: Model, speak: Speak, tmp_path: Path
) -> None:
    path = speak(tmp_path / "a.wav", "cat dog")
    Index.create(tmp_path / "index", model, SMALL).add([path])
    opened = IndexTables(IndexLocation.of(tmp_path / "index"))
    tables = [opened.windows, opened.recordings]
    versions = [table.version for table in tables if table is not None]
    Index.create(tmp_path / "index", model, SMALL).add([path])
    assert [table.version for table in tables if table is not None] == versions


def test_index_of_silence_alone_is_sound(speech_encoder: Any, model: Model, speak: Speak, tmp_path: Path) -> None:
    path = speak(tmp_path / "a.wav", "- -")
    for _ in range(2):
        assert Index.create(tmp_path / "index", model, SMALL).add([path])[0].status == "silent"
    assert Index.open(tmp_path / "index").verify() == ([], [])
    assert Retriever.open(tmp_path / "index").search("sea", mode="hybrid") == []


def test_pruning_forgets_what_is_gone(speech_encoder: Any, model: Model, speak: Speak, tmp_path: Path) -> None:
    gone, kept = speak(tmp_path / "it's gone.wav", "cat"), speak(tmp_path / "b.wav", "sea")
    Index.create(tmp_path / "index", model, SMALL).add([gone, kept])
    gone.unlink()
    assert Index.open(tmp_path / "index").verify() == (
        [],
        [f"{gone}: its file is gone; put it back, or remove it with clsr index --prune"],
    )
    with pytest.raises(InputError, match=r"1 of 2 .*more than a tenth: nothing is removed.*prune\(yes=True\)"):
        Index.open(tmp_path / "index").prune()
    assert len(rows(tmp_path / "index")) == 2
    assert Index.open(tmp_path / "index").prune(yes=True).paths == [str(gone)]
    assert Index.open(tmp_path / "index").prune().paths == []
    assert [row["text"] for row in rows(tmp_path / "index")] == ["sea"]
    assert [status.path for status in Index.open(tmp_path / "index").status()] == [str(kept)]
    assert Index.open(tmp_path / "index").verify() == ([], [])


def test_index_at_an_address_equals_a_local_one(
    speech_encoder: Any, model: Model, speak: Speak, tmp_path: Path
) -> None:
    path, gone = speak(tmp_path / "a.wav", "cat dog tea sea sun"), speak(tmp_path / "b.wav", "sea")
    address = f"file://{tmp_path}/store/index"
    for _ in range(2):
        found = Index.create(address, model, SMALL).add([path, gone])
    assert found == Index.create(tmp_path / "index", model, SMALL).add([path, gone])
    assert rows(tmp_path / "store" / "index") == rows(tmp_path / "index")
    assert Index.open(address).description == Index.open(tmp_path / "index").description
    assert Index.open(address).status() == Index.open(tmp_path / "index").status()
    gone.unlink()
    assert Index.open(address).prune(yes=True).paths == [str(gone)]
    assert Index.open(address).verify() == ([], [])
    assert Retriever.open(address).search("tea sea")[0].recording == str(path)


def test_an_address_that_leads_nowhere_is_refused(
    speech_encoder: Any, model: Model, speak: Speak, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="no address that can be used"):
        Index.create("gopher://a/b", model, SMALL).add([speak(tmp_path / "a.wav", "cat")])


def test_two_writers_are_one_too_many(speech_encoder: Any, model: Model, speak: Speak, tmp_path: Path) -> None:
    path = speak(tmp_path / "a.wav", "cat")
    with (
        only_writer(IndexLocation.of(tmp_path / "index")),
        pytest.raises(InputError, match="another process is writing"),
    ):
        Index.create(tmp_path / "index", model, SMALL).add([path])
    assert Index.create(tmp_path / "index", model, SMALL).add([path])[0].status == "indexed"


def test_status_counts_files_not_in_the_index(speech_encoder: Any, model: Model, speak: Speak, tmp_path: Path) -> None:
    path, other = speak(tmp_path / "a.wav", "cat - -"), speak(tmp_path / "b.wav", "sea")
    Index.create(tmp_path / "index", model, SMALL).add([path])
    assert Index.open(tmp_path / "index").status() == [RecordingStatus(str(path), "indexed", 3.0, 3.0, 0.0, 1)]
    assert Index.open(tmp_path / "index").status([tmp_path])[1] == RecordingStatus(
        str(other), "failed", 0.0, reason=UNKNOWN
    )


def test_other_model_is_refused_with_both_fingerprints(
    speech_encoder: Any, model: Model, speak: Speak, tmp_path: Path
) -> None:
    path = speak(tmp_path / "a.wav", "cat")
    Index.create(tmp_path / "index", model, SMALL).add([path])
    before = Index.open(tmp_path / "index").description
    assert before == (str(model.path), "model-1", "4/3", "", True, 0, 1)
    (model.path / "weights").write_text("model-2")
    with pytest.raises(InputError, match=r"by model .* \(model-1\), but the model given is .* \(model-2\)"):
        Index.create(tmp_path / "index", Model(model.path, recogniser=speech_encoder), SMALL).add([path])
    assert Index.open(tmp_path / "index").description == before


@pytest.mark.parametrize(("limit", "reason"), [(100, "too large"), (1000, "kept only a part")])
def test_full_disk_is_one_line_and_loses_nothing(
    speech_encoder: Any, model: Model, speak: Speak, tmp_path: Path, limit: int, reason: str
) -> None:
    path, second = speak(tmp_path / "a.wav", "cat"), speak(tmp_path / "b.wav", "sea " * 20)
    Index.create(tmp_path / "index", model, SMALL).add([path])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(InputError, match=rf"index: cannot be written \(.*{reason}.*\); what was indexed before is"):
            Index.create(tmp_path / "index", model, SMALL).add([second])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [row["text"] for row in rows(tmp_path / "index")] == ["cat"]
    Index.create(tmp_path / "index", model, SMALL).add([second])
    assert len(rows(tmp_path / "index")) == 8


def test_index_that_is_a_file_is_refused(speech_encoder: Any, model: Model, speak: Speak, tmp_path: Path) -> None:
    (tmp_path / "index").write_text("something else")
    with pytest.raises(InputError, match="index"):
        Index.create(tmp_path / "index", model, SMALL).add([speak(tmp_path / "a.wav", "cat")])


def test_damaged_table_is_refused(speech_encoder: Any, model: Model, speak: Speak, tmp_path: Path) -> None:
    path = speak(tmp_path / "a.wav", "cat")
    Index.create(tmp_path / "index", model, SMALL).add([path])
    for manifest in (tmp_path / "index" / "windows.lance" / "_versions").iterdir():
        manifest.write_bytes(b"x")
    with pytest.raises(InputError, match="index: cannot be read"):
        IndexTables(IndexLocation.of(tmp_path / "index")).windows  # noqa: B018
    with pytest.raises(InputError, match="index: cannot be read"):
        Index.open(tmp_path / "index").search(words="cat")


def test_a_damaged_earlier_version_is_one_line(speech_encoder: Any, model: Model, speak: Speak, tmp_path: Path) -> None:
    index = Index.create(tmp_path / "index", model, SMALL)
    index.add([speak(tmp_path / "a.wav", "cat")])
    first = max((tmp_path / "index" / "windows.lance" / "_versions").glob("*.manifest"))  # numbers count down
    first.write_bytes(2 * first.read_bytes())
    with pytest.raises(InputError, match="index: a file in it is damaged"):
        index.add([speak(tmp_path / "b.wav", "sea")])
    assert sorted(row["text"] for row in rows(tmp_path / "index")) == ["cat", "sea"]


def test_damaged_description_is_refused(tmp_path: Path) -> None:
    (tmp_path / "index.json").write_text('{"model": ')
    with pytest.raises(InputError, match=r"index\.json: cannot be read"):
        Index.open(tmp_path)


@pytest.mark.parametrize("values", [("40/41",), ("x",), ("40", 0.0), ("40", 1.0, -1)])
def test_settings_out_of_range_are_refused(values: tuple[Any, ...]) -> None:
    with pytest.raises(InputError, match="give"):
        IndexConfig(*values)


def test_status_as_json() -> None:
    status = RecordingStatus("a.wav", "failed", 0.0, reason="a.wav: is empty")
    assert json.loads(status.to_json()) == {
        "path": "a.wav",
        "status": "failed",
        "duration_s": 0.0,
        "indexed_s": 0.0,
        "silent_s": 0.0,
        "windows": 0,
        "reason": "a.wav: is empty",
    }


def test_a_rebuilt_folder_is_read_anew(speech_encoder: Any, model: Model, speak: Speak, tmp_path: Path) -> None:
    first, second = speak(tmp_path / "a.wav", "cat dog"), speak(tmp_path / "b.wav", "tea sea")
    index = Index.create(tmp_path / "index", model, SMALL)
    index.add([first])
    index.search(words="dog")
    assert [status.path for status in index.status()] == [str(first)]
    shutil.rmtree(tmp_path / "index")
    Index.create(tmp_path / "index", model, SMALL).add([second])  # its tables reach the same versions
    assert [status.path for status in index.status()] == [str(second)]
    assert [window.recording for window in index.search(words="dog sea")] == [str(second)]


@pytest.mark.parametrize("changed", [{"windows": 5}, {"windows": "bogus"}, {"fingerprint": 4}, {"model": None}])
def test_a_description_of_wrong_values_is_damaged(
    changed: dict[str, Any], speech_encoder: Any, model: Model, speak: Speak, tmp_path: Path
) -> None:
    index = Index.create(tmp_path / "index", model, SMALL)
    index.add([speak(tmp_path / "a.wav", "cat dog")])
    file = tmp_path / "index" / "index.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changed))
    with pytest.raises(InputError, match=r"index\.json: cannot be read"):
        Index.open(tmp_path / "index")


def test_a_query_of_another_width_is_refused(speech_encoder: Any, model: Model, speak: Speak, tmp_path: Path) -> None:
    index = Index.create(tmp_path / "index", model, SMALL)
    index.add([speak(tmp_path / "a.wav", "cat dog")])
    with pytest.raises(InputError, match=r"holds vectors of 8 numbers; the query's has shape \(3,\)"):
        index.search(np.zeros(3, np.float32))


def test_a_model_is_what_load_returns(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the model of an index is a str; give what clsr\.load returns"):
        Index.create(tmp_path / "index", "exp/joint")  # type: ignore[arg-type]


@pytest.mark.parametrize("windows", ["4/3", "4/3,10/7.5", "10/10"])
def test_transcripts_have_each_word_once(
    speech_encoder: Any, model: Model, speak: Speak, tmp_path: Path, windows: str
) -> None:
    text = "cat the - dog tea sea sun boat - the cat dog tea"
    path = speak(tmp_path / "a.wav", text)
    index = Index.create(tmp_path / "index", model, IndexConfig(windows))
    index.add([path, speak(tmp_path / "none.wav", "- -")])
    transcript = Index.open(tmp_path / "index").transcript(path)
    assert transcript.text == text.replace("- ", "") and transcript.duration_s == 13.0
    spoken = [second for second, word in enumerate(text.split()) if word != "-"]
    assert [(word.start_s, word.end_s) for word in transcript.words] == [(float(s), s + 1.0) for s in spoken]
    assert Index.open(tmp_path / "index").transcript(tmp_path / "none.wav").text == ""
    path.unlink()
    assert Index.open(tmp_path / "index").transcript(path) == transcript  # the audio is not read
    with pytest.raises(InputError, match=r"b.wav: not in the index"):
        index.transcript(tmp_path / "b.wav")


def test_transcripts_are_exported_from_an_index(
    speech_encoder: Any, model: Model, speak: Speak, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index = Index.create(tmp_path / "index", model, SMALL)
    (tmp_path / "in").mkdir()
    index.add([speak(tmp_path / "in" / "a.wav", "cat the dog"), speak(tmp_path / "in" / "b.wav", "tea sea")])
    command = ["index", "--index", str(tmp_path / "index"), "--export", str(tmp_path / "out"), "--format", "srt"]
    assert main(command) == 0
    assert (tmp_path / "out" / "a.srt").read_text() == "1\n00:00:00,000 --> 00:00:03,000\ncat the dog\n"
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["a.srt", "b.srt"]
    assert main(command) == 0 and "2 of 2 transcripts are there already" in capsys.readouterr().err
    unknown = speak(tmp_path / "in" / "c.wav", "cat")
    assert main([*command, str(unknown)]) == 2
    assert "c.wav: failed: not indexed yet" in capsys.readouterr().err


def test_overlapping_windows_may_disagree() -> None:
    rng = np.random.default_rng(0)
    said = [Word(str(number), number + 0.0, number + 0.9) for number in range(60)]
    for _ in range(100):  # each window has all words that lie in it as a whole, at slightly other times
        windows = []
        for start_s in np.arange(0.0, 50.0, 7.5):
            heard = [
                Word(word.text, word.start_s + shift, word.end_s + shift)
                for word in said
                if start_s <= word.start_s and word.end_s <= start_s + 10.0
                for shift in [float(rng.uniform(-0.04, 0.04))]
            ]
            windows.append((float(start_s), float(start_s) + 10.0, heard))
        rng.shuffle(windows)
        assert [word.text for word in merge_words(windows)] == [str(number) for number in range(55)]
