"""The language of loudness, served: an allowed folder with two recordings, their index, and page and API on it."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from clsr.index.config import IndexConfig
from clsr.index.index import Index
from clsr.model import Model
from clsr.web.config import ServeConfig, ServiceConfig
from clsr.web.serve import make_app
from clsr.web.service import SearchService

SMALL = IndexConfig("4/4")
LONG = "cat the dog the - - - - tea sea sun boat - - - - cat tea cat tea - - - -"


@pytest.fixture
def talks(tmp_path: Path, speak: Callable[[Path, str], Path]) -> Path:
    """A folder of two recordings, 24 and 2 seconds; beside it lies one that nobody may have."""
    folder = tmp_path / "talks"
    (folder / "sub").mkdir(parents=True)
    speak(folder / "a.wav", LONG)
    speak(folder / "sub" / "b.wav", "sea sun")
    speak(tmp_path / "private.wav", "cat cat cat")
    return folder.resolve()


@pytest.fixture
def loaded(model_folder: Path, speech_encoder: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The model's folder, and the model comes when it is loaded from there."""
    monkeypatch.setattr("loudness.LoudnessSource.load_speech_encoder", lambda *_: speech_encoder)
    return model_folder


@pytest.fixture
def service(loaded: Path, model: Model, talks: Path, tmp_path: Path) -> SearchService:
    """The folder indexed and allowed."""
    Index.create(tmp_path / "index", model, SMALL).add([talks])
    return SearchService(ServiceConfig(tmp_path / "index", None, (talks,), tmp_path / "uploads"))


@pytest.fixture
def empty_service(loaded: Path, talks: Path, tmp_path: Path) -> SearchService:
    """The folder allowed, and nothing indexed."""
    return SearchService(ServiceConfig(tmp_path / "index", loaded, (talks,), tmp_path / "uploads", SMALL))


@pytest.fixture
def serve() -> Iterator[Callable[..., str]]:
    """Serve page and API of a service on a free port; the address."""
    from clsr.web.connections import QuietServer, make_server

    running: list[tuple[QuietServer, threading.Thread]] = []

    def start(service: SearchService, config: ServeConfig | None = None) -> str:
        app = make_app(service, config or ServeConfig(port=0))
        server = make_server(app, port=0, log_level="critical")
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.02)
        running.append((server, thread))
        return f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"

    yield start
    for server, thread in running:
        server.should_exit = server.force_exit = True
        thread.join(10)


def wait_for_jobs(service: SearchService, seconds: float = 120.0) -> None:
    """Wait until nothing is being indexed."""
    end = time.monotonic() + seconds
    while any(job.active for job in service.jobs()):
        assert time.monotonic() < end, "indexing does not end"
        time.sleep(0.02)


@pytest.fixture
def settled() -> Callable[[SearchService], None]:
    """Wait until a service has indexed all it was given."""
    return wait_for_jobs
