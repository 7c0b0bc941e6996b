"""Tests of the API and of the guard before it and the page: what is answered, what is refused, what is never opened."""

import asyncio
import base64
import http.client
import io
import itertools
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import av
import numpy as np
import pytest

httpx = pytest.importorskip("httpx")
pytest.importorskip("gradio")

import clsr  # noqa: E402
from clsr.audio.waveform import SAMPLE_RATE, read_waveform  # noqa: E402
from clsr.web.config import ServeConfig  # noqa: E402
from clsr.web.guard import FAILED_CALL  # noqa: E402
from clsr.web.serve import make_app  # noqa: E402
from clsr.web.service import Found, SearchService, recording_id  # noqa: E402

TOKEN = "correct horse"
FOREIGN = {"origin": "http://evil.example"}
HIDDEN = {"origin": "null", "sec-fetch-site": "none"}
JSON = {"content-type": "application/json"}
TOUCHES = {"open", "os.listdir", "os.scandir", "os.remove", "os.rename", "os.link", "shutil.copyfile"}
SECRET = b"nobody may read this"
Speak = Callable[[Path, str], Path]
Client = Callable[..., Any]


@pytest.fixture
def client(service: SearchService) -> Iterator[Client]:
    """Ask the API, as this machine does; settings of the server can be given."""
    loop = asyncio.new_event_loop()

    def make(**settings: Any) -> Callable[..., httpx.Response]:
        app = make_app(service, ServeConfig(**settings))
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        inner = httpx.AsyncClient(transport=transport, base_url="http://localhost:7860")

        def ask(method: str, url: str, **request: Any) -> httpx.Response:
            return loop.run_until_complete(inner.request(method, url, **request))

        ask.app = app  # type: ignore[attr-defined]
        return ask

    yield make
    loop.close()


def make_app_of(client: Client, **settings: Any) -> Callable[[], httpx.AsyncClient]:
    """Make clients of one server, for requests that run at once."""
    app = client(**settings).app

    def make() -> httpx.AsyncClient:
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url="http://localhost:7860")

    return make


@pytest.fixture
def ask(client: Client) -> Callable[..., Any]:
    """Ask a server of this machine without token."""
    return client()


def test_search_answers_with_moments_to_play(ask: Any, talks: Path) -> None:
    a = recording_id(str(talks / "a.wav"))
    answer = ask("POST", "/api/search", json={"question": "cat", "mode": "dense", "top_k": 1, "profile": True})
    assert answer.status_code == 200
    (hit,) = answer.json()["hits"]
    assert {name: hit[name] for name in ("rank", "recording", "recording_id", "start_s", "end_s", "score", "text")} == {
        "rank": 1, "recording": "talks/a.wav", "recording_id": a, "start_s": 16.0, "end_s": 20.0, "score": 0.7071,
        "text": "cat tea cat tea",
    }  # fmt: skip
    assert hit["matches"] == [["cat", 16.0, 17.0], ["cat", 18.0, 19.0]]
    assert hit["audio"] == f"/api/audio/{a}#t=16.000,20.000"
    assert [window[:2] for window in hit["profile"]] == [[0.0, 4.0], [8.0, 12.0], [16.0, 20.0]]
    assert str(talks) not in answer.text


def test_modes_and_recordings_limit_a_search(ask: Any, talks: Path) -> None:
    b = recording_id(str(talks / "sub" / "b.wav"))
    by_words = ask("POST", "/api/search", json={"question": "boat", "mode": "bm25"}).json()["hits"]
    assert [hit["text"] for hit in by_words] == ["tea sea sun boat"]
    only = ask("POST", "/api/search", json={"question": "sea boat", "recordings": [b]}).json()["hits"]
    assert [hit["recording"] for hit in only] == ["talks/sub/b.wav"]


def test_mode_is_the_best_of_the_index(ask: Any, service: SearchService) -> None:
    (hit,) = ask("POST", "/api/search", json={"question": "cat", "top_k": 1}).json()["hits"]
    assert [(token, word) for token, word, *_ in hit["tokens"]] == [("cat", "cat")]
    run = ask("POST", "/api/search", json={"question": "boat", "unit": "tokens", "top_k": 1}).json()["hits"][0]
    assert run["end_s"] - run["start_s"] < run["window_end_s"] - run["window_start_s"]
    whole = ask("POST", "/api/search", json={"question": "cat", "unit": "recording"}).json()["hits"]
    assert sorted((one["recording"], one["start_s"], one["end_s"]) for one in whole) == [
        (recording.name, 0.0, recording.duration_s) for recording in service.recordings()
    ]
    refused = ask("POST", "/api/search", json={"question": "cat", "mode": "dense", "unit": "tokens"})
    assert refused.status_code == 400 and "maxsim" in refused.json()["detail"]


def test_a_spoken_question(ask: Any, speak: Speak, tmp_path: Path) -> None:
    audio = speak(tmp_path / "q.wav", "cat tea").read_bytes()
    spoken = ask("POST", "/api/search/spoken?top_k=1", content=audio).json()
    assert spoken["question"] == "cat tea"
    assert spoken["hits"] == ask("POST", "/api/search", json={"question": "cat tea", "top_k": 1}).json()["hits"]
    broken = ask("POST", "/api/search/spoken", content=b"no audio")
    assert broken.status_code == 400 and broken.json()["detail"].startswith("the spoken question: cannot be read")
    assert ask("POST", "/api/search/spoken", content=b"").status_code == 400


def test_texts_and_speech_are_one_question(ask: Any, talks: Path, speak: Speak, tmp_path: Path) -> None:
    audio = base64.b64encode(speak(tmp_path / "q.wav", "cat tea").read_bytes()).decode()
    parts = [{"text": "the"}, {"audio": audio}, {"text": "boat"}]
    for options in ({"top_k": 2}, {"mode": "bm25", "recordings": [recording_id(str(talks / "a.wav"))]}):
        found = ask("POST", "/api/search/parts", json={"parts": parts} | options).json()
        typed = ask("POST", "/api/search", json={"question": "the cat tea boat"} | options).json()
        assert found["question"] == "the cat tea boat" and found["hits"] == typed["hits"]
    broken = ask("POST", "/api/search/parts", json={"parts": [{"text": "sea"}, {"audio": "AAAA"}]})
    assert broken.status_code == 400
    assert broken.json()["detail"].startswith("the question, part 2: the audio: cannot be read")


def test_uploads_are_indexed_and_found(
    ask: Any, service: SearchService, settled: Callable, speak: Speak, tmp_path: Path
) -> None:
    audio = speak(tmp_path / "new.wav", "boat boat").read_bytes()
    answer = ask("PUT", "/api/recordings/my%20boat.wav", content=audio)
    assert answer.status_code == 202 and answer.json()["files"][0]["recording"] == "my boat.wav"
    settled(service)
    index = ask("GET", "/api/index").json()
    assert (index["recordings"], index["windows"], index["duration_s"]) == (3, 8, 28.0)
    assert index["jobs"][0] | {"id": 0} == {
        "id": 0, "state": "done", "done": 1, "total": 1, "share": 1.0, "error": None,
        "files": [{"recording": "my boat.wav", "status": "indexed", "duration_s": 2.0, "share": 1.0, "reason": None}],
    }  # fmt: skip
    hit = ask("POST", "/api/search", json={"question": "boat", "mode": "dense", "top_k": 1}).json()["hits"][0]
    assert hit["recording"] == "my boat.wav"
    assert ask("GET", hit["audio"]).content == audio
    assert [one["name"] for one in ask("GET", "/api/recordings").json()] == [
        "my boat.wav",
        "talks/a.wav",
        "talks/sub/b.wav",
    ]


def in_container(waveform: Any, kind: str, codec: str) -> bytes:
    """A waveform ``(N,)`` at 16 kHz in one of the formats that FFmpeg writes."""
    stream = io.BytesIO()
    with av.open(stream, "w", format=kind) as file:
        track = file.add_stream(codec, rate=48_000 if codec == "libopus" else SAMPLE_RATE, layout="mono")
        resampler = av.AudioResampler(track.format, "mono", track.rate, track.codec_context.frame_size or 1_024)
        frame = av.AudioFrame.from_ndarray(waveform[None], "fltp", "mono")
        frame.sample_rate, frame.pts = SAMPLE_RATE, 0
        for part in [*resampler.resample(frame), *resampler.resample(None), None]:
            file.mux(track.encode(part))
    return stream.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("suffix", "kind", "codec", "native"),
    [
        ("m4a", "ipod", "aac", "audio/mp4"),
        ("mp4", "mp4", "aac", "audio/mp4"),
        ("aac", "adts", "aac", None),
        ("mka", "matroska", "pcm_s16le", None),
        ("webm", "webm", "libopus", None),
    ],
)
def test_other_formats_are_taken_found_and_played(
    ask: Any, service: SearchService, settled: Callable, speak: Speak, tmp_path: Path, suffix: str, kind: str,
    codec: str, native: str | None,
) -> None:  # fmt: skip
    waveform = read_waveform(speak(tmp_path / "new.wav", "boat boat sun"))
    audio = in_container(waveform, kind, codec)
    assert ask("PUT", f"/api/recordings/new.{suffix}", content=audio).status_code == 202
    settled(service)
    (file,) = ask("GET", "/api/index").json()["jobs"][0]["files"]
    assert file["status"] == ("silent" if codec == "libopus" else "indexed")  # which keeps no loudness that is constant
    assert file["duration_s"] == pytest.approx(3.0, abs=0.13 if suffix == "aac" else 0.001)
    url = next(one["audio"] for one in ask("GET", "/api/recordings").json() if one["name"] == f"new.{suffix}")
    assert url.endswith(".wav") == (native is None)
    played = ask("GET", url)
    assert played.headers["content-type"] == (native or "audio/wav")
    assert abs(len(read_waveform(played.content)) - file["duration_s"] * SAMPLE_RATE) <= 1
    if codec != "libopus":
        np.testing.assert_allclose(read_waveform(played.content)[18_000:30_000], 7 / 16, atol=0.02)
        hit = ask("POST", "/api/search", json={"question": "boat boat sun", "top_k": 1}).json()["hits"][0]
        assert hit["recording"] == f"new.{suffix}" and hit["text"].startswith("boat boat sun")
        found = ask("POST", "/api/search/spoken?top_k=1", content=audio).json()
        assert found["question"].startswith("boat boat sun")  # the padding of aac is part of a fourth second


def test_spoken_questions_that_hang_decoding_are_refused(
    ask: Any, service: SearchService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service.decoder, "timeout_s", 0.0)
    answer = ask("POST", "/api/search/spoken", content=b"RIFF" + bytes(1000))
    assert (answer.status_code, answer.json()["detail"]) == (
        400, "the spoken question: decoding hung for 0 s; convert it to wav or flac",
    )  # fmt: skip
    assert ask("POST", "/api/search", json={"question": "cat"}).status_code == 200


def test_folders_are_indexed(ask: Any, service: SearchService, settled: Callable, speak: Speak, talks: Path) -> None:
    speak(talks / "sub" / "c.wav", "dog dog")
    (talks / "sub" / "bad.wav").write_bytes(b"RIFF")
    assert ask("GET", "/api/folders").json() == ["talks", "talks/sub"]
    assert ask("POST", "/api/index", json={"paths": ["talks/sub"]}).status_code == 202
    settled(service)
    files = {file["recording"]: file for file in ask("GET", "/api/index").json()["jobs"][0]["files"]}
    assert {name: file["status"] for name, file in files.items()} == {
        "talks/sub/b.wav": "indexed", "talks/sub/bad.wav": "failed", "talks/sub/c.wav": "indexed",
    }  # fmt: skip
    assert files["talks/sub/bad.wav"]["reason"].startswith("bad.wav: cannot be read as audio")


def test_audio_is_served_by_ranges_of_bytes(ask: Any, talks: Path) -> None:
    url, content = f"/api/audio/{recording_id(str(talks / 'a.wav'))}", (talks / "a.wav").read_bytes()
    whole = ask("GET", url)
    assert (whole.status_code, whole.content) == (200, content)
    assert (whole.headers["content-type"], whole.headers["accept-ranges"]) == ("audio/wav", "bytes")
    part = ask("GET", url, headers={"range": "bytes=1000-1999"})
    assert (part.status_code, part.content) == (206, content[1000:2000])
    assert part.headers["content-range"] == f"bytes 1000-1999/{len(content)}"
    assert ask("GET", url, headers={"range": f"bytes={len(content)}-"}).status_code == 416


def test_audio_as_wav_is_served_by_ranges_too(ask: Any, talks: Path) -> None:
    url = f"/api/audio/{recording_id(str(talks / 'a.wav'))}.wav"
    whole = ask("GET", url)
    assert (read_waveform(whole.content) == read_waveform(talks / "a.wav")).all()
    part = ask("GET", url, headers={"range": "bytes=44-"})
    assert part.status_code == 206 and part.content == whole.content[44:]
    assert part.headers["content-range"] == f"bytes 44-{44 + 48 * SAMPLE_RATE - 1}/{44 + 48 * SAMPLE_RATE}"
    assert ask("GET", url, headers={"range": "bytes=99999999-"}).status_code == 416


def test_transcripts_are_downloads_without_paths(ask: Any, talks: Path) -> None:
    url = f"/api/recordings/{recording_id(str(talks / 'a.wav'))}/transcript"
    text = ask("GET", url)
    assert text.status_code == 200 and text.headers["content-type"] == "text/plain; charset=utf-8"
    assert text.headers["content-disposition"] == "attachment; filename*=utf-8''a.txt"
    subtitles = ask("GET", f"{url}?format=srt").text
    assert subtitles.startswith("1\n00:00:") and text.text.split()[0] in subtitles
    content = ask("GET", f"{url}?format=json").json()
    assert content["audio"] == "talks/a.wav" and " ".join(word["text"] for word in content["words"]) == content["text"]
    assert content["text"].split() == text.text.split()
    assert ask("GET", f"{url}?format=doc").status_code == 422
    assert ask("GET", "/api/recordings/0123456789abcdef/transcript").status_code == 404


def test_the_api_describes_itself(ask: Any) -> None:
    paths = ask("GET", "/openapi.json").json()["paths"]
    assert set(paths) == {
        "/api/health", "/api/search", "/api/search/spoken", "/api/search/parts", "/api/index", "/api/folders",
        "/api/recordings", "/api/recordings/{name}", "/api/recordings/{id}", "/api/recordings/{id}/transcript",
        "/api/index/jobs/{id}", "/api/audio/{id}",
        "/api/audio/{id}.wav",
    }  # fmt: skip
    page = ask("GET", "/docs")
    assert page.headers["content-type"].startswith("text/html") and "http" not in page.text.replace(
        "<!doctype html>", ""
    )
    assert all(path in page.text for path in paths) and "SearchRequest" in page.text
    assert "TextPart" in page.text and "AudioPart" in page.text  # what the items of a list may be


BAD_REQUESTS = [
    ("POST", "/api/search", {"json": {}}, 422),
    ("POST", "/api/search", {"json": {"question": ""}}, 422),
    ("POST", "/api/search", {"json": {"question": "  "}}, 400),
    ("POST", "/api/search", {"json": {"question": 5}}, 422),
    ("POST", "/api/search", {"json": {"question": None}}, 422),
    ("POST", "/api/search", {"json": {"question": ["cat"]}}, 422),
    ("POST", "/api/search", {"json": {"question": "x" * 2001}}, 422),
    ("POST", "/api/search", {"json": ["cat"]}, 422),
    ("POST", "/api/search", {"json": {"question": "cat", "top_k": 0}}, 422),
    ("POST", "/api/search", {"json": {"question": "cat", "top_k": 10**30}}, 422),
    ("POST", "/api/search", {"json": {"question": "cat", "top_k": "3"}}, 422),
    ("POST", "/api/search", {"json": {"question": "cat", "top_k": True}}, 422),
    ("POST", "/api/search", {"json": {"question": "cat", "mode": "other"}}, 422),
    ("POST", "/api/search", {"json": {"question": "cat", "recordings": ["../a.wav"]}}, 422),
    ("POST", "/api/search", {"json": {"question": "cat", "recordings": ["0" * 16]}}, 404),
    ("POST", "/api/search", {"json": {"question": "cat", "folder": "/"}}, 422),
    ("POST", "/api/search", {"content": b'{"question": "cat", "top_k": NaN}', "headers": JSON}, 422),
    ("POST", "/api/search", {"content": b'{"question": "\\ud800"}', "headers": JSON}, 422),
    ("POST", "/api/search", {"content": b"\xff\xfe", "headers": JSON}, 422),
    ("POST", "/api/search", {"content": b"{", "headers": JSON}, 422),
    ("POST", "/api/search", {"content": b"[" * 500_000, "headers": JSON}, 400),
    ("POST", "/api/search", {"content": b'{"question": "cat"}', "headers": {"content-type": "text/plain"}}, 422),
    ("POST", "/api/search", {"content": b'{"question": "' + b"x" * (1 << 20) + b'"}'}, 413),
    ("POST", "/api/search/spoken", {"content": b"x" * ((16 << 20) + 1)}, 413),
    ("POST", "/api/search/spoken?top_k=x", {"content": b""}, 422),
    ("POST", "/api/search/parts", {"json": {}}, 422),
    ("POST", "/api/search/parts", {"json": {"parts": []}}, 422),
    ("POST", "/api/search/parts", {"json": {"parts": [{"text": "cat"}] * 17}}, 422),
    ("POST", "/api/search/parts", {"json": {"parts": ["cat"]}}, 422),
    ("POST", "/api/search/parts", {"json": {"parts": [{"text": 5}]}}, 422),
    ("POST", "/api/search/parts", {"json": {"parts": [{"text": "cat", "audio": ""}]}}, 422),
    ("POST", "/api/search/parts", {"json": {"parts": [{"path": "/etc/passwd"}]}}, 422),
    ("POST", "/api/search/parts", {"json": {"parts": [{"audio": "no base64!"}]}}, 400),
    ("POST", "/api/search/parts", {"json": {"parts": [{"text": "x" * 2001}]}}, 422),
    ("POST", "/api/search/parts", {"json": {"parts": [{"text": " "}]}}, 400),
    ("POST", "/api/search/parts", {"json": {"parts": [{"text": "cat"}, {"audio": ""}]}}, 400),
    ("POST", "/api/search/parts", {"json": {"parts": [{"text": "cat"}], "recordings": ["0" * 16]}}, 404),
    ("POST", "/api/search/parts", {"content": b"x" * ((16 << 20) + 1), "headers": JSON}, 413),
    ("PUT", "/api/recordings/a.wav", {"content": b"x" * ((1 << 20) + 1)}, 413),
    ("PUT", "/api/recordings/a.wav", {"headers": {"content-length": "-5"}}, 400),
    ("PUT", "/api/recordings/a.exe", {"content": b"x"}, 400),
    ("PUT", "/api/recordings/..%2F..%2Fa.wav", {"content": b"x"}, 404),
    ("GET", "/api/search", {}, 404),
    ("DELETE", "/api/recordings/a.wav", {}, 404),
    ("GET", "/api/nothing", {}, 404),
    ("GET", "/api/audio/0000000000000000", {}, 404),
    ("GET", "/api/audio/0000000000000000.wav", {}, 404),
    ("POST", "/gradio_api/run/predict", {"json": {"data": []}}, 404),
    ("POST", "/gradio_api/call/ask", {"json": {"data": ["cat"]}}, 404),
    ("POST", "/gradio_api/upload", {"content": b"x" * (17 << 20)}, 413),
    ("GET", "/gradio_api/info", {}, 404),
    ("GET", "/gradio_api/proxy=http://localhost:1/x", {}, 404),
    ("GET", "/gradio_api/file=http://localhost:1/x", {}, 404),
    ("GET", "/monitoring", {}, 404),
    ("OPTIONS", "/api/search", {"headers": FOREIGN | {"access-control-request-method": "POST"}}, 403),
    ("POST", "/api/search", {"json": {"question": "cat"}, "headers": FOREIGN}, 403),
    ("POST", "/api/search", {"json": {"question": "cat"}, "headers": {"origin": "null"}}, 403),
    ("POST", "/api/search", {"json": {"question": "cat"}, "headers": HIDDEN}, 403),
    ("POST", "/api/search", {"json": {"question": "cat"}, "headers": FOREIGN | {"sec-fetch-site": "same-origin"}}, 403),
    ("POST", "/gradio_api/queue/join", {"json": {}, "headers": {"sec-fetch-site": "cross-site"}}, 403),
    ("GET", "/api/index", {"headers": {"host": "evil.example"}}, 421),
    ("GET", "/api/index", {"headers": {"host": "localhost.evil.example:7860"}}, 421),
    ("GET", "/api/index", {"headers": {"host": "localhost@evil.example"}}, 421),
]  # fmt: skip


@pytest.mark.parametrize(("method", "url", "request_", "status"), BAD_REQUESTS)
def test_bad_requests_are_refused(
    client: Client, method: str, url: str, request_: dict, status: int, tmp_path: Path
) -> None:
    answer = client(max_upload_mb=1)(method, url, **request_)
    assert answer.status_code == status, answer.text
    assert "Traceback" not in answer.text and str(tmp_path) not in answer.text
    if status == 422:
        assert all({"loc", "msg"} == set(fault) for fault in answer.json()["detail"])
    uploads = tmp_path / "uploads"
    assert not uploads.exists() or not os.listdir(uploads)  # nothing half-received stays


def traversals(secret: Path, allowed: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Requests that try to reach a file, by every door there is."""
    path = str(secret)
    up = ["../" * n + path.lstrip("/") for n in (1, 4, 12)]
    ways = [path, f"file://{path}", *up, *(way.replace("../", "..\\") for way in up)]
    ways += [way.replace("../", "%2e%2e%2f") for way in up] + [way.replace("../", "%252e%252e%252f") for way in up]
    ways += [way.replace("../", "..%00/") for way in up] + [way.replace("..", "%c0%ae%c0%ae") for way in up]
    doors = [
        "/api/audio/",
        "/gradio_api/file=",
        "/gradio_api/file/",
        "/file=",
        "/file/",
        "/static/",
        "/assets/",
        "/svelte/",
    ]
    doors += ["/gradio_api/custom_component/", "/gradio_api/stream/", f"/gradio_api/file={allowed}/", "/docs/", "/"]
    for door in doors:
        yield from (("GET", door + way, {}) for way in ways)
    for way in ways:
        yield "POST", "/api/index", {"json": {"paths": [way, f"talks/{way}"]}}
        yield "POST", "/api/search", {"json": {"question": "cat", "recordings": [way]}}
        yield "PUT", f"/api/recordings/{way}", {"content": b"x"}


@pytest.fixture(scope="module")
def opened() -> Iterator[list[str]]:
    """What this process opens, lists or removes, by whatever way Python knows."""
    names: list[str] = []
    watching = [True]

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if watching[0] and event in (
            "open",
            "os.listdir",
            "os.scandir",
            "os.remove",
            "os.rename",
            "os.link",
            "shutil.copyfile",
        ):
            names.extend(os.fsdecode(one) for one in arguments[:2] if isinstance(one, str | bytes | os.PathLike))

    sys.addaudithook(note)  # there is no way to take it off again
    yield names
    watching[0] = False


def test_no_request_reaches_a_file(
    serve: Callable[..., str], service: SearchService, opened: list[str], tmp_path: Path
) -> None:
    secret = tmp_path / "secret.wav"
    secret.write_bytes(SECRET)
    server = urlsplit(serve(service))
    allowed = os.environ["GRADIO_TEMP_DIR"]
    opened.clear()
    open(secret, "rb").close()
    assert str(secret) in opened  # the hook sees what is opened
    opened.clear()
    statuses = []
    connection = http.client.HTTPConnection(server.hostname or "", server.port, timeout=20)  # which sends ".." as it is
    for method, url, request in traversals(secret, allowed):
        body = json.dumps(request["json"]) if "json" in request else request.get("content")
        connection.request(method, url, body, JSON if "json" in request else {})
        answer = connection.getresponse()
        content = answer.read()
        assert 300 < answer.status < 500, (method, url, answer.status)
        assert SECRET not in content and b"root:" not in content
        statuses.append(answer.status)
    assert len(statuses) > 300
    foreign = {name for name in opened if "secret" in name or name.startswith(("/etc", "/proc", "/root"))}
    assert not foreign


def test_the_functions_of_the_page_take_no_paths(
    serve: Callable[..., str], service: SearchService, opened: list[str], tmp_path: Path
) -> None:
    """Each is given, for each of its inputs, a file that was never uploaded: Gradio would copy it and serve it."""
    secret = tmp_path / "secret.wav"
    secret.write_bytes(SECRET)
    with httpx.Client(base_url=serve(service), timeout=20) as inner:
        functions = [(one["id"], len(one["inputs"])) for one in inner.get("/config").json()["dependencies"]]
        cache = os.environ["GRADIO_TEMP_DIR"]
        opened.clear()
        statuses = []
        for number, inputs in functions:
            for place, path in itertools.product(
                range(inputs),
                [str(secret), f"http://127.0.0.1:1{secret}", f"{cache}/../../..{secret}", f"//{secret}", None, 5],
            ):
                file = {"path": path, "url": path, "orig_name": "a.wav", "meta": {"_type": "gradio.FileData"}}
                for given in (file, [file], {"a": [file]}):
                    data = [given if i == place else None for i in range(inputs)]
                    call = {"data": data, "fn_index": number, "session_hash": "s"}
                    statuses.append(inner.post("/gradio_api/queue/join", json=call).status_code)
        assert len(functions) >= 5 and len(statuses) > 100 and set(statuses) <= {200, 422}
        for body in (b'{"data": [{"path": "x", "path": "/etc/passwd"}]}', b"[" * 200_000, b"no JSON", b"\xff"):
            assert inner.post("/gradio_api/queue/join", content=body, headers=JSON).status_code == 422
        inner.get("/gradio_api/queue/data", params={"session_hash": "s"})  # till all is done
    assert secret.read_bytes() == SECRET and opened.count(str(secret)) == 1  # just now
    assert not [name for name in os.listdir(cache) if name]


def test_canaries_are_recognised(tmp_path: Path, opened: list[str]) -> None:
    """The same check does find a file that is opened by way of a link."""
    (tmp_path / "secret").write_bytes(SECRET)
    opened.clear()
    (tmp_path / "secret").read_bytes()
    assert [name for name in opened if "secret" in name] == [str(tmp_path / "secret")]


def test_without_the_token_nothing_is_answered(client: Client, talks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clsr.web.guard.WRONG_TOKEN_WAIT_S", 0.0)
    ask = client(host="0.0.0.0", token=TOKEN)
    a = recording_id(str(talks / "a.wav"))
    requests = [
        ("POST", "/api/search"), ("GET", "/api/index"), ("GET", f"/api/audio/{a}"), ("GET", "/openapi.json"),
        ("GET", "/docs"), ("GET", "/config"), ("POST", "/gradio_api/queue/join"), ("POST", "/gradio_api/upload"),
        ("PUT", "/api/recordings/a.wav"), ("GET", "/gradio_api/queue/data?session_hash=a"),
    ]  # fmt: skip
    wrong: list[dict[str, Any]] = [
        {}, {"authorization": "Bearer wrong"}, {"authorization": TOKEN}, {"authorization": f"Basic {TOKEN}"},
        {"authorization": "Bearer"}, {"authorization": b"Bearer \xff"}, {"cookie": f"clsr={TOKEN}"},
        {"cookie": "clsr=;;=\x01"},
    ]  # fmt: skip
    for method, url in requests:
        for headers in wrong:
            answer = ask(method, url, headers=headers)
            assert answer.status_code == 401, (url, headers)
            assert answer.headers["www-authenticate"] == "Bearer" and "token is needed" in answer.json()["detail"]
    assert ask("GET", "/api/health").json() == {"status": "ok", "version": clsr.__version__}
    assert ask("GET", "/api/index", headers={"authorization": f"Bearer {TOKEN}"}).json()["recordings"] == 2
    assert ask("GET", "/api/index", headers={"authorization": f"Bearer {TOKEN}", "host": "any.name"}).status_code == 200
    for kind in ("bearer", "BEARER"):  # RFC 9110: schemes are of any case
        assert ask("GET", "/api/index", headers={"authorization": f"{kind} {TOKEN}"}).status_code == 200


def test_wrong_tokens_wait_and_are_logged(
    client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Those of one client are looked at one after another, by whatever way they come, and not without end."""
    monkeypatch.setattr("clsr.web.guard.WRONG_TOKEN_WAIT_S", 0.1)
    app = make_app_of(client, token=TOKEN)

    async def tries() -> list[int]:
        async with app() as inner:
            wrong = [inner.get("/api/index", headers={"authorization": f"Bearer wrong {n}"}) for n in range(4)]
            forms = [inner.post("/login", data={"token": f"wrong {n}"}) for n in range(3)]
            late = inner.get("/api/index", headers={"authorization": f"Bearer {TOKEN}"})
            answers = await asyncio.gather(*wrong, *forms, late)
            return [answer.status_code for answer in answers]

    start_s = time.monotonic()
    assert asyncio.run(tries()) == [401] * 7 + [200]
    assert time.monotonic() - start_s >= 0.7
    assert [record.getMessage() for record in caplog.records].count("wrong token from 127.0.0.1") == 7

    async def flood() -> list[int]:
        async with app() as inner:
            wrong = [inner.get("/api/index", headers={"authorization": f"Bearer wrong {n}"}) for n in range(20)]
            return [answer.status_code for answer in await asyncio.gather(*wrong)]

    assert sorted(asyncio.run(flood())) == [401] * 16 + [429] * 4


def test_servers_of_one_host_keep_their_logins(client: Client) -> None:
    cookies = []
    for token in (TOKEN, "another horse"):
        cookie = client(token=token)("GET", "/", params={"token": token}).headers["set-cookie"].partition(";")[0]
        cookies.append((token, cookie))
    assert len({cookie.partition("=")[0] for _, cookie in cookies}) == 2
    both = {"cookie": "; ".join(cookie for _, cookie in cookies)}
    for token, _ in cookies:
        assert client(token=token)("GET", "/api/index", headers=both).status_code == 200


def test_head_is_answered_like_get(ask: Any, talks: Path) -> None:
    a = recording_id(str(talks / "a.wav"))
    for url in (
        f"/api/audio/{a}",
        f"/api/audio/{a}.wav",
        "/api/health",
        "/api/index",
        "/api/recordings",
        "/api/folders",
    ):
        whole, head = ask("GET", url), ask("HEAD", url)
        assert (head.status_code, head.content) == (200, b"")
        assert {name: head.headers.get(name) for name in ("content-length", "content-type", "accept-ranges")} == {
            name: whole.headers.get(name) for name in ("content-length", "content-type", "accept-ranges")
        }
    assert ask("HEAD", "/api/audio/0000000000000000").status_code == 404


def test_faults_of_gradio_quote_no_program(ask: Any) -> None:
    for body in (
        {},
        {"data": None},
        {"data": [], "fn_index": 10**6, "session_hash": "s"},
        {"data": 5, "fn_index": "x"},
    ):
        answer = ask("POST", "/gradio_api/queue/join", json=body)
        assert answer.status_code >= 400 and answer.json() == {
            "detail": "no request of the page" if answer.status_code < 500 else FAILED_CALL
        }


def test_searches_of_clients_that_left_are_dropped(
    serve: Callable[..., str], service: SearchService, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, going, go_on, made = serve(service), threading.Event(), threading.Event(), []

    def slow(question: str, *_: Any) -> Found:
        made.append(question)
        going.set()
        go_on.wait(60)
        return Found(question, [], 0.0)

    monkeypatch.setattr(service, "search", slow)

    async def visits() -> None:
        async with httpx.AsyncClient(base_url=url, timeout=120) as inner:

            def search(question: str) -> asyncio.Task[httpx.Response]:
                return asyncio.create_task(inner.post("/api/search", json={"question": question}))

            async def until_health_is(status: str) -> None:
                for _ in range(1000):
                    if (await inner.get("/api/health")).json()["status"] == status:
                        return
                    await asyncio.sleep(0.05)
                raise AssertionError(status)

            first = search("first")
            await asyncio.to_thread(going.wait, 60)
            await until_health_is("ok")
            left = [search("left") for _ in range(63)]
            while len(service._searches) < 64:
                await asyncio.sleep(0.05)
            await until_health_is("busy")
            refused = await search("too many")
            assert (refused.status_code, refused.json()["detail"]) == (
                503, "64 searches of yours are waiting; try again in a moment",
            )  # fmt: skip
            for one in left:
                one.cancel()
            await until_health_is("ok")
            while len(service._searches) > 1:
                await asyncio.sleep(0.05)
            next_one = search("next")
            go_on.set()
            assert (await first).status_code == (await next_one).status_code == 200

    asyncio.run(visits())
    assert made == ["first", "next"]


@pytest.mark.parametrize("way", ["address", "form"])
def test_the_page_is_opened_with_the_token_once(client: Client, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clsr.web.guard.WRONG_TOKEN_WAIT_S", 0.01)
    ask = client(host="0.0.0.0", token=TOKEN)
    first = ask("GET", "/")
    assert first.status_code == 401 and '<form method="post" action="/login">' in first.text

    def give(token: str) -> Any:
        if way == "form":
            return ask("POST", "/login", data={"token": token})
        return ask("GET", "/", params={"token": token, "__theme": "dark"})

    wrong = give("wrong token")
    assert wrong.status_code == 401 and "not the token" in wrong.text and "set-cookie" not in wrong.headers
    right = give(TOKEN)
    assert right.status_code == 303
    assert right.headers["location"] == ("/" if way == "form" else "/?__theme=dark")
    cookie = right.headers["set-cookie"]
    assert cookie.endswith("; HttpOnly; SameSite=Strict; Path=/") and TOKEN not in cookie
    assert ask("GET", "/").status_code == 200  # the client keeps cookies, as browsers do
    assert ask("GET", "/api/index").status_code == 200
    assert ask("POST", "/api/search", json={"question": "cat"}, headers=FOREIGN).status_code == 403


def test_long_bodies_without_a_length_are_stopped(client: Client) -> None:
    sent = []

    async def endless() -> Any:
        for _ in range(1000):
            sent.append(1)
            yield b"x" * 65536

    answer = client(max_upload_mb=1)("PUT", "/api/recordings/a.wav", content=endless())
    assert answer.status_code == 413 and len(sent) < 1000


@pytest.mark.slow
def test_fifty_clients_at_once(
    serve: Callable[..., str], service: SearchService, talks: Path, speak: Speak, tmp_path: Path
) -> None:
    """Typed and spoken searches, audio, status and bad requests, all at once, while a folder is indexed."""
    url, a = serve(service), recording_id(str(talks / "a.wav"))
    audio = speak(tmp_path / "q.wav", "cat tea").read_bytes()
    for number in range(10):
        speak(talks / f"more{number}.wav", "boat the " * 20)

    async def client(inner: httpx.AsyncClient, number: int) -> list[int]:
        statuses = []
        for turn in range(2):
            word = "cat dog tea sea sun boat".split()[(number + turn) % 6]
            answer = await inner.post(
                "/api/search", json={"question": word, "mode": ["dense", "bm25", "hybrid"][turn % 3]}
            )
            assert answer.status_code == 200 and all(word in hit["text"] for hit in answer.json()["hits"][:1])
            spoken = await inner.post("/api/search/spoken", content=audio)
            assert spoken.json()["hits"][0]["text"] == "cat tea cat tea"
            part = await inner.get(f"/api/audio/{a}", headers={"range": f"bytes={number * 100}-{number * 100 + 99}"})
            assert part.content == (talks / "a.wav").read_bytes()[number * 100 : number * 100 + 100]
            statuses += [answer.status_code, spoken.status_code, part.status_code]
            statuses.append((await inner.get("/api/index")).status_code)
            statuses.append((await inner.get("/api/audio/..%2f..%2fetc%2fpasswd")).status_code)
            statuses.append((await inner.post("/api/search", json={"question": 1})).status_code)
        return statuses

    async def all_clients() -> list[list[int]]:
        async with httpx.AsyncClient(base_url=url, timeout=60, limits=httpx.Limits(max_connections=50)) as inner:
            assert (await inner.post("/api/index", json={"paths": ["talks"]})).status_code == 202
            return await asyncio.gather(*(client(inner, number) for number in range(50)))

    assert asyncio.run(all_clients()) == [[200, 200, 206, 200, 404, 422] * 2] * 50
    assert json.loads(httpx.get(f"{url}/api/index").text)["jobs"][0]["error"] is None
