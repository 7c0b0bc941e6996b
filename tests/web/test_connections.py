"""Tests of connections that are slow, broken off or cut off, and of the links that are printed."""

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

pytest.importorskip("gradio")

from clsr.web import connections, guard
from clsr.web.config import ServeConfig
from clsr.web.serve import links
from clsr.web.service import SearchService

Connect = Callable[[], socket.socket]


@pytest.fixture
def connect(serve: Callable[..., str], service: SearchService, monkeypatch: pytest.MonkeyPatch) -> Connect:
    """Connect to a server that waits half a second for headers, and for parts of a body."""
    monkeypatch.setattr(connections, "HEADERS_S", 0.5)
    monkeypatch.setattr(guard, "BODY_WAIT_S", 0.5)
    place = urlsplit(serve(service))
    return lambda: socket.create_connection((place.hostname, place.port), timeout=20)


@pytest.mark.parametrize("sent", [b"", b"GET /api/health HTTP/1.1\r\nHost: localh"])
def test_half_sent_headers_end_the_connection(connect: Connect, sent: bytes) -> None:
    with connect() as connection:
        connection.sendall(sent)
        assert connection.recv(100) == b""
    with connect() as connection:  # and so after a request that was whole
        connection.sendall(b"GET /api/health HTTP/1.1\r\nHost: localhost\r\n\r\n" + sent)
        answer = b""
        while part := connection.recv(1000):
            answer += part
        assert answer.startswith(b"HTTP/1.1 200")


def test_bodies_that_stall_are_ended(connect: Connect, tmp_path: Path) -> None:
    with connect() as connection:
        connection.sendall(b"PUT /api/recordings/a.wav HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nhalf")
        answer = b""
        while part := connection.recv(1000):
            answer += part
    assert answer.startswith(b"HTTP/1.1 408") and os.listdir(tmp_path / "uploads") == []


def test_clients_that_leave_are_one_line(connect: Connect, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    caplog.set_level(logging.INFO)
    logging.getLogger("uvicorn.error").setLevel(logging.INFO)
    with connect() as connection:
        connection.sendall(b"PUT /api/recordings/a.wav HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nhalf")
        time.sleep(0.2)
    end_s = time.monotonic() + 20
    while not any("left" in record.getMessage() for record in caplog.records) and time.monotonic() < end_s:
        time.sleep(0.05)
    time.sleep(0.2)
    told = [record for record in caplog.records if record.name in ("clsr", "uvicorn.error")]
    assert [record.getMessage() for record in told] == ["127.0.0.1 left: PUT /api/recordings/a.wav"]
    assert not any(record.exc_info for record in caplog.records) and os.listdir(tmp_path / "uploads") == []


@pytest.mark.parametrize(
    ("host", "first"),
    [("0.0.0.0", "127.0.0.1"), ("::", "127.0.0.1"), ("192.168.1.2", "192.168.1.2"), ("::1", "[::1]")],
)
def test_links_can_be_opened(host: str, first: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clsr.web.serve._own_address", lambda: "10.0.0.7")
    printed = links(ServeConfig(host, 80))
    others = ["http://10.0.0.7:80/ from other machines"] if host in ("0.0.0.0", "::") else []
    assert printed == [f"http://{first}:80/", *others]


SERVER = """
import asyncio, os
import clsr.web.serve as serve
from clsr.web.config import ServeConfig, ServiceConfig

class Working:  # something computes that cannot be stopped
    def __init__(self, config): ...
    def close(self, within_s): return False

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await asyncio.sleep(1000)  # as an open page does

os.environ["GRADIO_TEMP_DIR"] = os.path.abspath("cache")
serve.SearchService, serve.make_app, serve.require_packages = Working, lambda *_: app, lambda: None
raise SystemExit(serve.serve(ServiceConfig("index"), ServeConfig(port=PORT)))
"""


def test_a_stop_is_quiet_and_quick(tmp_path: Path) -> None:
    """With a connection open, and with work going on that would abort the end of Python."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "cache").mkdir()
    command: list[Any] = [sys.executable, "-c", SERVER.replace("PORT", str(port))]
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen(
        command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(root)}, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    ) as server:  # fmt: skip
        assert server.stdout and server.stdout.readline() == f"http://127.0.0.1:{port}/\n"
        connection = None
        while connection is None:
            try:
                connection = socket.create_connection(("127.0.0.1", port))
            except OSError:
                time.sleep(0.05)
        with connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            time.sleep(0.5)
            start_s = time.monotonic()
            server.send_signal(signal.SIGINT)
            _, told = server.communicate(timeout=30)
    assert (server.returncode, told) == (130, "") and not (tmp_path / "cache").exists()
    assert time.monotonic() - start_s < 5.0  # on a busy machine; 0.5 s on an idle one
