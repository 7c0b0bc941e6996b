"""Tests of what happens to uploads: none that was accepted is forgotten, and none that failed stays."""

import io
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from clsr.audio.waveform import SAMPLE_RATE
from clsr.index.index import Index
from clsr.index.location import IndexLocation
from clsr.web.config import ServiceConfig
from clsr.web.folders import Missing
from clsr.web.jobs import Job
from clsr.web.searches import Busy
from clsr.web.service import SearchService

Speak = Callable[[Path, str], Path]


def upload(service: SearchService, content: bytes, name: str = "new.wav") -> Job:
    part = service.new_upload()
    part.write_bytes(content)
    return service.index_uploads([(part, name)])


def names(service: SearchService) -> list[str]:
    return [recording.name for recording in service.recordings()]


def again(service: SearchService) -> SearchService:
    """The service as it is after a restart."""
    return SearchService(ServiceConfig(service.index_dir, None, (), service.folders.uploads))


@pytest.fixture
def speech(speak: Speak, tmp_path: Path) -> bytes:
    return speak(tmp_path / "speech.wav", "boat boat").read_bytes()


def test_uploads_survive_a_restart(service: SearchService, settled: Callable, speech: bytes, tmp_path: Path) -> None:
    service.close()  # begins no job any more, like a server that is killed
    upload(service, speech)
    assert names(service) == ["talks/a.wav", "talks/sub/b.wav"]
    (tmp_path / "uploads" / "link.wav").symlink_to(tmp_path / "private.wav")
    old, young = tmp_path / "uploads" / ".old.part", tmp_path / "uploads" / ".young.part"
    for part in (old, young):
        part.write_bytes(b"half")
    os.utime(old, (0, 0))
    restarted = again(service)
    settled(restarted)
    assert "new.wav" in names(restarted) and "link.wav" not in names(restarted)
    assert young.exists() and not old.exists()
    assert again(service).jobs() == []  # nothing is left to do


def test_uploads_wait_for_other_writers(service: SearchService, settled: Callable, speech: bytes) -> None:
    with IndexLocation.of(service.index_dir).locked():
        job = upload(service, speech)
        end_s = time.monotonic() + 20
        while not job.error and time.monotonic() < end_s:
            time.sleep(0.02)
        assert job.active and "another process is writing into this index" in str(job.error)
    settled(service)
    assert (job.state, job.error) == ("done", None) and "new.wav" in names(service)


def test_failed_uploads_leave_nothing(service: SearchService, settled: Callable, tmp_path: Path, talks: Path) -> None:
    job = upload(service, b"RIFF, but nothing more")
    settled(service)
    assert job.files[0].status == "failed" and os.listdir(tmp_path / "uploads") == []
    assert not [path for path in service.index.entries() if path.startswith(str(tmp_path / "uploads"))]
    (talks / "bad.wav").write_bytes(b"RIFF")
    (tmp_path / "uploads" / "own.wav").write_bytes(b"RIFF")  # laid there by someone, not uploaded
    service.start_indexing(["talks"])
    settled(service)
    settled(again(service))
    assert (talks / "bad.wav").exists() and (tmp_path / "uploads" / "own.wav").exists()


def test_uploads_are_bounded_in_length(service: SearchService, settled: Callable, tmp_path: Path) -> None:
    service._longest_upload_s = 60.0
    for seconds, status in ((59, "silent"), (70, "failed")):
        stream = io.BytesIO()
        soundfile.write(stream, np.zeros(seconds * SAMPLE_RATE, np.int16), SAMPLE_RATE, format="FLAC")
        job = upload(service, stream.getvalue(), f"{seconds}.flac")
        settled(service)
        assert job.files[0].status == status
    assert str(job.files[0].reason).endswith("70.flac: longer than 1 minutes; cut it into parts")
    assert os.listdir(tmp_path / "uploads") == ["59.flac"]


def test_uploads_are_removed_and_nothing_else(
    service: SearchService, settled: Callable, speech: bytes, tmp_path: Path, talks: Path
) -> None:
    upload(service, speech)
    settled(service)
    ids = {recording.name: recording.id for recording in service.recordings()}
    with pytest.raises(Missing, match="only uploads can be removed"):
        service.remove_upload(ids["talks/a.wav"])
    with pytest.raises(Missing, match="no such recording"):
        service.remove_upload("0" * 16)
    with IndexLocation.of(service.index_dir).locked(), pytest.raises(Busy, match="when that is done"):
        service.remove_upload(ids["new.wav"])
    assert "new.wav" in names(service)
    service.remove_upload(ids["new.wav"])
    assert names(service) == ["talks/a.wav", "talks/sub/b.wav"] and os.listdir(tmp_path / "uploads") == []
    assert (talks / "a.wav").exists() and Index.open(service.index_dir).verify().damage == []


def test_jobs_are_cancelled(
    service: SearchService, settled: Callable, speech: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one at work stops when it next reports, the one that waits at once; their uploads are gone."""
    going, go_on = threading.Event(), threading.Event()
    add = Index.add

    def slow(index: Index, paths: Any, watch: Any) -> Any:
        watch(paths[0], 0.0)
        going.set()
        go_on.wait(20)
        return add(index, paths, watch)

    monkeypatch.setattr(Index, "add", slow)
    running, waiting = upload(service, speech), upload(service, speech + b"more", "other.wav")
    assert going.wait(20)
    with pytest.raises(Missing, match="no such job"):
        service.cancel(99)
    service.cancel(waiting.id)
    assert (waiting.state, waiting.files[0].status) == ("cancelled", "cancelled")
    assert os.listdir(tmp_path / "uploads") == ["new.wav"]
    service.cancel(running.id)
    go_on.set()
    settled(service)
    assert (running.state, running.files[0].status) == ("cancelled", "cancelled")
    assert os.listdir(tmp_path / "uploads") == [] and names(service) == ["talks/a.wav", "talks/sub/b.wav"]
    assert service.cancel(running.id).state == "cancelled"  # again, without effect
