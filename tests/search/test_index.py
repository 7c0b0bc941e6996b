import json
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clsr.errors import InputError
from clsr.search.index import (
    IndexConfig,
    RecordingStatus,
    find_recordings,
    index_recordings,
)
from clsr.search.table import open_table, read_description

SMALL = IndexConfig(window_s=4.0, hop_s=3.0, batch_windows=2)
Speak = Callable[[Path, str], Path]


def rows(index_dir: Path) -> list[dict[str, Any]]:
    table = open_table(index_dir)
    assert table is not None
    return sorted(table.to_arrow().to_pylist(), key=lambda row: row["id"])


def test_windows_are_stored_with_transcripts_and_times(
    speech_encoder: Any, model: Path, speak: Speak, tmp_path: Path
) -> None:
    path = speak(tmp_path / "a.wav", "cat the - dog tea sea sun")
    statuses = index_recordings(speech_encoder, model, tmp_path / "index", [path], SMALL)
    assert statuses == [RecordingStatus(str(path), "indexed", 7.0, 7.0, 0.0, windows=2)]
    first, second = rows(tmp_path / "index")
    assert (first["start_s"], first["end_s"], first["text"]) == (0.0, 4.0, "cat the dog")
    assert (second["start_s"], second["end_s"], second["text"]) == (3.0, 7.0, "dog tea sea sun")
    assert first["words"][2] == {"text": "dog", "start_s": 3.0, "end_s": 4.0}
    assert second["words"][0] == {"text": "dog", "start_s": 3.0, "end_s": 4.0}  # the same moment in both windows
    assert second["vector"] == pytest.approx([0, 0, 0, 0.5, 0.5, 0.5, 0.5, 0])
    assert second["id"] == f"{path}#t=3.000,7.000"


def test_every_second_is_indexed_or_silent(speech_encoder: Any, model: Path, speak: Speak, tmp_path: Path) -> None:
    part = speak(tmp_path / "part.wav", "cat - - - - - - - - -")  # windows 0-4, 3-7, 6-10: only the first has a word
    none = speak(tmp_path / "none.wav", "- -")
    statuses = index_recordings(speech_encoder, model, tmp_path / "index", [part, none], SMALL)
    assert statuses[0] == RecordingStatus(str(part), "indexed", 10.0, 4.0, 6.0, windows=3)
    assert statuses[1] == RecordingStatus(str(none), "silent", 2.0, 0.0, 2.0, windows=1)
    assert index_recordings(speech_encoder, model, tmp_path / "index", [part, none], SMALL) == statuses


def test_batches_change_nothing(speech_encoder: Any, model: Path, speak: Speak, tmp_path: Path) -> None:
    path = speak(tmp_path / "a.wav", "cat dog tea sea sun boat the cat dog tea sea sun boat the")
    tables = []
    for size, calls in ((1, [1, 1, 1, 1, 1]), (2, [2, 2, 1]), (8, [5])):
        speech_encoder.batches.clear()
        index_recordings(speech_encoder, model, tmp_path / f"{size}", [path], IndexConfig(4.0, 3.0, size))
        assert speech_encoder.batches == calls
        tables.append(rows(tmp_path / f"{size}"))
    assert tables[0] == tables[1] == tables[2]


def test_who_watches_is_told_of_each_recording(speech_encoder: Any, model: Path, speak: Speak, tmp_path: Path) -> None:
    paths = [speak(tmp_path / "a.wav", "cat " * 10), speak(tmp_path / "b.wav", "sea")]  # three windows, and one
    told: list[Any] = []
    for _ in range(2):
        statuses = index_recordings(
            speech_encoder, model, tmp_path / "index", paths, SMALL, lambda *state: told.append(state)
        )
    first, second = ((path, status) for path, status in zip(paths, statuses, strict=True))
    a, b = paths
    assert told == [
        (a, 0.0),
        (a, 2 / 3),
        (a, 1.0),
        first,
        (b, 0.0),
        (b, 1.0),
        second,
        (a, 0.0),
        first,
        (b, 0.0),
        second,
    ]


def test_unchanged_recording_is_skipped(speech_encoder: Any, model: Path, speak: Speak, tmp_path: Path) -> None:
    path = speak(tmp_path / "a.wav", "cat dog tea sea sun")
    first = index_recordings(speech_encoder, model, tmp_path / "index", [path], SMALL)
    speech_encoder.batches.clear()
    assert index_recordings(speech_encoder, model, tmp_path / "index", [path], SMALL) == first
    assert speech_encoder.batches == []


def test_changed_recording_is_replaced(speech_encoder: Any, model: Path, speak: Speak, tmp_path: Path) -> None:
    path, other = speak(tmp_path / "it's.wav", "cat dog tea sea sun boat the"), speak(tmp_path / "b.wav", "sea")
    index_recordings(speech_encoder, model, tmp_path / "index", [path, other], SMALL)
    speak(path, "sun")
    index_recordings(speech_encoder, model, tmp_path / "index", [path, other], SMALL)
    assert [(row["recording"], row["text"]) for row in rows(tmp_path / "index")] == [
        (str(other), "sea"),
        (str(path), "sun"),
    ]


def test_other_windows_replace(speech_encoder: Any, model: Path, speak: Speak, tmp_path: Path) -> None:
    path = speak(tmp_path / "a.wav", "cat dog tea sea")
    index_recordings(speech_encoder, model, tmp_path / "index", [path], SMALL)
    index_recordings(speech_encoder, model, tmp_path / "index", [path], IndexConfig(2.0, 2.0))
    assert [row["text"] for row in rows(tmp_path / "index")] == ["cat dog", "tea sea"]


def test_each_version_of_the_table_has_whole_recordings(
    speech_encoder: Any, model: Path, speak: Speak, tmp_path: Path
) -> None:
    """A killed run leaves one of the table's versions: none may have a part of a recording, or old and new windows."""
    path = speak(tmp_path / "a.wav", "cat dog tea sea sun boat the")
    index_recordings(speech_encoder, model, tmp_path / "index", [path], SMALL)
    speak(path, "sun sun sun sun sun sun sun sun sun sun")
    index_recordings(speech_encoder, model, tmp_path / "index", [path], SMALL)
    table = open_table(tmp_path / "index")
    assert table is not None
    seen: list[list[str]] = []
    for version in table.list_versions():
        table.checkout(version["version"])
        texts = sorted(table.to_arrow()["text"].to_pylist())
        if not seen or seen[-1] != texts:
            seen.append(texts)
    assert seen == [[], ["cat dog tea sea", "sea sun boat the"], ["sun sun sun sun"] * 3]


def test_interrupted_run_leaves_what_was_there(speech_encoder: Any, model: Path, speak: Speak, tmp_path: Path) -> None:
    path, second = speak(tmp_path / "a.wav", "cat"), speak(tmp_path / "b.wav", "sea")
    index_recordings(speech_encoder, model, tmp_path / "index", [path], SMALL)
    speak(path, "sun " * 20)
    encode = speech_encoder.encode

    def stop_in_second_batch(waveforms: Any) -> Any:
        if len(speech_encoder.batches) == 2:
            raise KeyboardInterrupt
        return encode(waveforms)

    speech_encoder.batches.clear()
    speech_encoder.encode = stop_in_second_batch
    with pytest.raises(KeyboardInterrupt):
        index_recordings(speech_encoder, model, tmp_path / "index", [second, path], SMALL)
    assert [row["text"] for row in rows(tmp_path / "index")] == ["cat", "sea"]


def test_failure_is_reported_and_the_rest_goes_on(
    speech_encoder: Any, model: Path, speak: Speak, tmp_path: Path
) -> None:
    good, damaged, empty = speak(tmp_path / "c.wav", "cat"), tmp_path / "a.wav", tmp_path / "b.wav"
    damaged.write_bytes(b"RIFF no sound in here")
    empty.touch()
    statuses = index_recordings(speech_encoder, model, tmp_path / "index", [tmp_path], SMALL)
    assert [(status.path, status.status) for status in statuses] == [
        (str(damaged), "failed"),
        (str(empty), "failed"),
        (str(good), "indexed"),
    ]
    assert "a.wav" in str(statuses[0].reason)
    assert "empty" in str(statuses[1].reason)
    assert [row["text"] for row in rows(tmp_path / "index")] == ["cat"]


def test_model_that_fails_on_a_recording_is_reported_with_its_duration(
    speech_encoder: Any, model: Path, speak: Speak, tmp_path: Path
) -> None:
    def fail(waveforms: Any) -> Any:
        raise ValueError("too short")

    speech_encoder.encode = fail
    path = speak(tmp_path / "a.wav", "cat")
    statuses = index_recordings(speech_encoder, model, tmp_path / "index", [path], SMALL)
    assert statuses == [RecordingStatus(str(path), "failed", 1.0, reason="ValueError: too short")]
    assert open_table(tmp_path / "index") is None


def test_other_model_is_refused_with_both_fingerprints(
    speech_encoder: Any, model: Path, speak: Speak, tmp_path: Path
) -> None:
    path = speak(tmp_path / "a.wav", "cat")
    index_recordings(speech_encoder, model, tmp_path / "index", [path], SMALL)
    before = read_description(tmp_path / "index")
    assert before == (str(model), "model-1")
    (model / "weights").write_text("model-2")
    with pytest.raises(InputError, match="by model model-1, but the model given is model-2"):
        index_recordings(speech_encoder, model, tmp_path / "index", [path], SMALL)
    assert read_description(tmp_path / "index") == before


def test_full_disk_is_one_clear_line_and_leaves_what_was_there(
    speech_encoder: Any, model: Path, speak: Speak, tmp_path: Path
) -> None:
    path, second = speak(tmp_path / "a.wav", "cat"), speak(tmp_path / "b.wav", "sea " * 20)
    index_recordings(speech_encoder, model, tmp_path / "index", [path], SMALL)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(InputError, match=r"index: cannot be written \(.*too large.*\); what was indexed before is"):
            index_recordings(speech_encoder, model, tmp_path / "index", [second], SMALL)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [row["text"] for row in rows(tmp_path / "index")] == ["cat"]
    index_recordings(speech_encoder, model, tmp_path / "index", [second], SMALL)
    assert len(rows(tmp_path / "index")) == 8


def test_index_that_is_a_file_is_refused(speech_encoder: Any, model: Path, speak: Speak, tmp_path: Path) -> None:
    (tmp_path / "index").write_text("something else")
    with pytest.raises(InputError, match="index"):
        index_recordings(speech_encoder, model, tmp_path / "index", [speak(tmp_path / "a.wav", "cat")], SMALL)


def test_damaged_table_is_refused(speech_encoder: Any, model: Path, speak: Speak, tmp_path: Path) -> None:
    path = speak(tmp_path / "a.wav", "cat")
    index_recordings(speech_encoder, model, tmp_path / "index", [path], SMALL)
    for manifest in (tmp_path / "index" / "windows.lance" / "_versions").iterdir():
        manifest.write_bytes(b"x")
    with pytest.raises(InputError, match="index: cannot be read"):
        open_table(tmp_path / "index")


def test_damaged_description_is_refused(tmp_path: Path) -> None:
    (tmp_path / "index.json").write_text('{"model": ')
    with pytest.raises(InputError, match=r"index\.json: cannot be read"):
        read_description(tmp_path)


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


@pytest.mark.parametrize("values", [(40.0, 41.0), (40.0, 0.0), (40.0, 30.0, 0)])
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
