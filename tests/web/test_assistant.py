"""What an assistant is given over the Model Context Protocol, asked by the protocol's own client."""

import asyncio
import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

mcp = pytest.importorskip("mcp")

from clsr.cli.main import main  # noqa: E402
from clsr.web.assistant import MOST_CHARACTERS, make_assistant  # noqa: E402
from clsr.web.config import ServeConfig  # noqa: E402
from clsr.web.serve import assistant_app  # noqa: E402
from clsr.web.service import SearchService, recording_id  # noqa: E402

OLD = Path(__file__).parents[1] / "fixtures" / "version_0_1"
READ_ONLY = ["search_recordings", "get_transcript", "list_recordings", "recording_status"]


def call(server: Any, *calls: tuple[str, dict[str, Any]]) -> list[Any]:
    """The answers of tools: what they give, or the message of their refusal."""

    async def asked() -> list[Any]:
        async with mcp.Client(server) as client:
            results = [await client.call_tool(name, arguments) for name, arguments in calls]
            return [one.content[0].text if one.is_error else one.structured_content for one in results]

    return asyncio.run(asked())


def tools(server: Any) -> list[str]:
    async def listed() -> list[str]:
        async with mcp.Client(server) as client:
            return [tool.name for tool in (await client.list_tools()).tools]

    return asyncio.run(listed())


def test_moments_have_times_and_a_place_to_play(service: SearchService, talks: Path) -> None:
    ((found,),) = [answer["moments"] for answer in call(
        make_assistant(service), ("search_recordings", {"query": "boat", "mode": "bm25", "limit": 1}))]  # fmt: skip
    a = recording_id(str(talks / "a.wav"))
    assert (found["recording"], found["recording_id"], found["rank"]) == ("talks/a.wav", a, 1)
    assert found["text"].split().index("boat") >= 0 and found["start_ms"] <= 11_000 < found["end_ms"]
    start, end = found["start_ms"] // 1000, found["end_ms"] // 1000
    assert found["time"] == f"0:00:{start:02}-0:00:{end:02}"
    assert found["audio"] == f"/api/audio/{a}#t={found['start_ms'] / 1000:.3f},{found['end_ms'] / 1000:.3f}"


def test_searches_keep_to_a_folder_and_a_date(service: SearchService, talks: Path) -> None:
    def search(**options: str) -> set[str]:
        (answer,) = call(make_assistant(service), ("search_recordings", {"query": "sea", "mode": "bm25", **options}))
        return {moment["recording"] for moment in answer["moments"]} if isinstance(answer, dict) else {answer}

    assert search() == {"talks/a.wav", "talks/sub/b.wav"}
    assert search(folder="talks/sub/") == {"talks/sub/b.wav"}
    assert search(folder="elsewhere/") == set() == search(since="2999-01-01")
    assert search(since="1990-01-01") == search()
    (fault,) = search(since="soon")
    assert "soon" in fault and "date" in fault


def test_transcripts_are_read_by_parts(service: SearchService) -> None:
    whole, part, unknown = call(
        make_assistant(service),
        ("get_transcript", {"recording": "talks/a.wav"}),
        ("get_transcript", {"recording": "talks/a.wav", "start_ms": 9_000, "end_ms": 11_000}),
        ("get_transcript", {"recording": "talks/c.wav"}),
    )
    assert whole["text"] == ("[0:00:00] cat the dog the\n[0:00:08] tea sea sun boat\n[0:00:16] cat tea cat tea")
    assert (whole["start_ms"], whole["end_ms"], whole["next_start_ms"]) == (0, 24_000, None)
    assert part["text"] == "[0:00:09] sea sun"
    assert unknown.endswith("talks/c.wav: no such recording; list_recordings lists them")


def test_long_transcripts_say_where_they_go_on(service: SearchService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clsr.web.assistant.MOST_CHARACTERS", 60)
    server, texts, start_ms = make_assistant(service), [], 0
    while start_ms is not None:
        (part,) = call(server, ("get_transcript", {"recording": "talks/a.wav", "start_ms": start_ms}))
        texts.append(part["text"])
        start_ms = part["next_start_ms"]
    assert texts == ["[0:00:00] cat the dog the\n[0:00:08] tea sea sun boat", "[0:00:16] cat tea cat tea"]
    assert MOST_CHARACTERS >= 1000


def test_recordings_are_listed_and_known(service: SearchService, talks: Path) -> None:
    listed, second, status = call(
        make_assistant(service),
        ("list_recordings", {}),
        ("list_recordings", {"offset": 1, "limit": 1}),
        ("recording_status", {"recording": recording_id(str(talks / "a.wav"))}),
    )
    names = [one["name"] for one in listed["recordings"]]
    assert (listed["total"], names) == (2, ["talks/a.wav", "talks/sub/b.wav"])
    assert (second["total"], [one["name"] for one in second["recordings"]]) == (2, names[1:])
    assert (status["recording"], status["status"], status["duration_ms"]) == ("talks/a.wav", "indexed", 24_000)


def test_nothing_is_indexed_unless_that_is_allowed(
    service: SearchService, talks: Path, settled: Callable, speak: Callable
) -> None:
    assert tools(make_assistant(service)) == READ_ONLY
    server = make_assistant(service, indexing=True)
    assert tools(server) == [*READ_ONLY, "list_folders", "index_recordings", "indexing_job"]
    speak(talks / "sub" / "c.wav", "boat boat")
    job, outside = call(
        server, ("index_recordings", {"paths": ["talks/sub"]}), ("index_recordings", {"paths": ["private.wav"]})
    )
    settled(service)
    assert "no such recording or folder among those allowed" in outside and str(talks.parent) not in outside
    (done,) = call(server, ("indexing_job", {"id": job["id"]}))
    assert (done["state"], done["done"], done["total"], done["faults"]) == ("done", 2, 2, [])
    (found,) = call(server, ("search_recordings", {"query": "boat", "mode": "bm25", "limit": 1}))
    assert found["moments"][0]["recording"] in ("talks/sub/c.wav", "talks/a.wav")


def test_transcripts_are_resources(service: SearchService, talks: Path) -> None:
    async def read(id_: str) -> str:
        async with mcp.Client(make_assistant(service)) as client:
            try:
                return (await client.read_resource(f"transcript://{id_}")).contents[0].text
            except mcp.MCPError as error:
                return str(error)

    assert asyncio.run(read(recording_id(str(talks / "sub" / "b.wav")))) == "sea sun\n"
    assert "no such recording" in asyncio.run(read("0123456789abcdef"))


@pytest.fixture
def address(service: SearchService) -> Iterator[Callable[[ServeConfig], str]]:
    """Serve assistants by HTTP on a free port; the address."""
    from clsr.web.connections import make_server

    running: list[tuple[Any, threading.Thread]] = []

    def start(config: ServeConfig) -> str:
        server = make_server(assistant_app(make_assistant(service), config), port=0, log_level="critical")
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.02)
        running.append((server, thread))
        return f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/mcp"

    yield start
    for server, thread in running:
        server.should_exit = server.force_exit = True
        thread.join(10)


def test_http_needs_the_token(address: Callable[[ServeConfig], str]) -> None:
    import httpx2
    from mcp.client.streamable_http import streamable_http_client

    url, token = address(ServeConfig(token="correct horse")), {"authorization": "Bearer correct horse"}

    def listed(headers: dict[str, str]) -> int:
        http_client = httpx2.AsyncClient(headers=headers)
        (answer,) = call(streamable_http_client(url, http_client=http_client), ("list_recordings", {}))
        return answer["total"]

    assert listed(token) == 2
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    foreign = {"origin": "http://evil.example"}
    cases = (({}, 401), ({"authorization": "Bearer wrong horse"}, 401), (token | foreign, 200), (foreign, 403))
    for headers, status in cases:
        accepted = {"accept": "application/json, text/event-stream", **headers}
        assert httpx2.post(url, json=body, headers=accepted).status_code == status, headers
    assert httpx2.post(url.replace("/mcp", "/other"), json=body, headers=token).status_code == 404


def test_an_index_is_needed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mcp", "--index", str(tmp_path / "none")]) == 2
    assert "none: holds no index: make one with clsr index" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
    shutil.copytree(OLD / "index", tmp_path / "index")
    assert main(["mcp", "--index", str(tmp_path / "index"), "--http", "--host", "0.0.0.0"]) == 2
    assert "lets other machines search" in capsys.readouterr().err


@pytest.mark.slow
def test_an_assistant_starts_the_server_itself(tone_model: Path, say_in_tones: Callable, tmp_path: Path) -> None:
    from clsr.audio.waveform import write_waveform

    write_waveform(tmp_path / "a.wav", say_in_tones("old boat red dog"))
    assert main(["index", "--model", str(tone_model), "--index", str(tmp_path / "index"), str(tmp_path / "a.wav")]) == 0
    code = "import sys; from clsr.cli.main import main; sys.exit(main(sys.argv[1:]))"
    server = mcp.StdioServerParameters(
        command=sys.executable, args=["-c", code, "mcp", "--index", str(tmp_path / "index")],
        env={name: os.environ[name] for name in ("PYTHONPATH", "OMP_NUM_THREADS") if name in os.environ},
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    found, transcript = call(
        server, ("search_recordings", {"query": "red dog", "limit": 1}), ("get_transcript", {"recording": "a.wav"})
    )
    assert found["moments"][0]["recording"] == "a.wav" and "red dog" in found["moments"][0]["text"]
    assert transcript["text"] == "[0:00:00] old boat red dog" and json.dumps(transcript)
