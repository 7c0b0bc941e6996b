"""The JSON API: requests over HTTP and the form of their answers."""

from __future__ import annotations

import asyncio
import logging
import re
from concurrent.futures import Future
from pathlib import Path, PurePosixPath
from tempfile import NamedTemporaryFile, TemporaryDirectory
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response, StreamingResponse
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect

import clsr
from clsr.config import TranscriptFormat
from clsr.errors import InputError
from clsr.index.config import HitUnit, Mode
from clsr.model import Speech
from clsr.web.folders import Missing, safe_name
from clsr.web.jobs import FileProgress, Job
from clsr.web.messages import (
    FileAnswer,
    HealthAnswer,
    HitAnswer,
    IndexAnswer,
    IndexRequest,
    JobAnswer,
    PartsRequest,
    RecordingAnswer,
    SearchAnswer,
    SearchRequest,
    TextPart,
)
from clsr.web.playback import NATIVE, parse_range, stream_wav, wav_bytes
from clsr.web.searches import Busy
from clsr.web.service import Found, FoundHit, Recording, SearchService

_log = logging.getLogger("clsr")

TRANSCRIPT_TYPES: dict[TranscriptFormat, str] = {
    "txt": "text/plain",
    "srt": "application/x-subrip",
    "vtt": "text/vtt",
    "tsv": "text/tab-separated-values",
    "json": "application/json",
}


def make_api(service: SearchService) -> FastAPI:
    """The API of a service. Faults of a request are 4xx with a ``detail``, without paths of this machine."""
    app = FastAPI(title="clsr", version=clsr.__version__, docs_url=None, redoc_url=None,
                  description="Find the right moment in hours of speech.")  # fmt: skip
    _add_errors(app, service)
    _add_search(app, service)
    _add_index(app, service)
    _add_audio(app, service)

    @app.get("/api/health", tags=["server"])
    async def health() -> HealthAnswer:
        """Say that the server answers; needs no token."""
        return HealthAnswer(status="busy" if service.busy else "ok", version=clsr.__version__)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        from clsr.web.reference import reference_page

        return HTMLResponse(reference_page(app.openapi()))

    _answer_head(app)
    return app


def _answer_head(app: FastAPI) -> None:
    """Answer HEAD wherever GET is answered, as RFC 9110 has it."""
    for route in [route for route in app.routes if isinstance(route, APIRoute) and "GET" in (route.methods or ())]:
        app.add_api_route(
            route.path, route.endpoint, methods=["HEAD"], response_class=route.response_class,
            response_model=route.response_model, include_in_schema=False,
        )  # fmt: skip


def _add_errors(app: FastAPI, service: SearchService) -> None:
    @app.exception_handler(InputError)
    async def refuse(_: Request, error: InputError) -> JSONResponse:
        status = 404 if isinstance(error, Missing) else 503 if isinstance(error, Busy) else 400
        return JSONResponse({"detail": service.without_paths(str(error))}, status)

    @app.exception_handler(RequestValidationError)
    async def refuse_form(_: Request, error: RequestValidationError) -> JSONResponse:
        faults = [{"loc": [str(part) for part in fault["loc"]], "msg": fault["msg"]} for fault in error.errors()]
        return JSONResponse({"detail": faults}, 422)  # what was sent is not sent back: it may be no JSON

    @app.exception_handler(OSError)
    async def refuse_disk(_: Request, error: OSError) -> JSONResponse:
        _log.error("%s", error)
        return JSONResponse({"detail": f"the server's disk says: {error.strerror}"}, 507)

    @app.exception_handler(Exception)
    async def fail(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"detail": "internal error; the server's log says more"}, 500)


def _add_search(app: FastAPI, service: SearchService) -> None:
    @app.post("/api/search", tags=["search"])
    async def search(query: SearchRequest, request: Request) -> SearchAnswer:
        """Find the moments that answer a typed question."""
        options = (query.top_k, query.mode, query.recordings, _client(request), query.unit)
        found = await _unless_client_leaves(request, service.submit_search(query.question, *options))
        return _search_answer(found, query.profile)

    @app.post("/api/search/spoken", tags=["search"], openapi_extra=_audio_body("the question, up to a minute"))
    async def search_spoken(
        request: Request,
        top_k: Annotated[int, Query(ge=1, le=100)] = 10,
        mode: Mode | None = None,
        unit: HitUnit = "window",
        profile: bool = False,
    ) -> SearchAnswer:
        """Find the moments that answer a spoken question: the body is its audio, in any format that is read."""
        with NamedTemporaryFile(suffix=".wav") as file:
            async for block in request.stream():
                file.write(block)
            file.flush()
            try:
                waiting = service.submit_search(Path(file.name), top_k, mode, client=_client(request), unit=unit)
                found = await _unless_client_leaves(request, waiting)
            except InputError as error:
                if isinstance(error, Missing | Busy):
                    raise
                raise InputError(str(error).replace(file.name, "the spoken question")) from error
        return _search_answer(found, profile)

    @app.post("/api/search/parts", tags=["search"])
    async def search_parts(query: PartsRequest, request: Request) -> SearchAnswer:
        """Find the moments that answer a question of texts and speech in turn, which are one query in their order."""
        with TemporaryDirectory() as folder:
            parts: list[str | Speech] = []
            for number, part in enumerate(query.parts, start=1):
                if isinstance(part, TextPart):
                    parts.append(part.text)
                else:
                    file = Path(folder) / f"{number}.wav"
                    await asyncio.to_thread(file.write_bytes, part.audio)
                    parts.append(file)
            options = (query.top_k, query.mode, query.recordings, _client(request), query.unit)
            try:
                found = await _unless_client_leaves(request, service.submit_search(parts, *options))
            except InputError as error:
                if isinstance(error, Missing | Busy):
                    raise
                raise InputError(re.sub(f"{re.escape(folder)}/\\d+\\.wav", "the audio", str(error))) from error
        return _search_answer(found, query.profile)


def _add_index(app: FastAPI, service: SearchService) -> None:
    @app.get("/api/index", tags=["index"])
    def index() -> IndexAnswer:
        """Size of the index, and progress of the indexing jobs."""
        recordings = service.recordings()
        return IndexAnswer(
            recordings=len(recordings),
            windows=sum(recording.windows for recording in recordings),
            duration_s=round(sum(recording.duration_s for recording in recordings), 3),
            jobs=[_job_answer(job, service) for job in service.jobs()],
        )

    @app.post("/api/index", tags=["index"], status_code=202)
    def start_indexing(wanted: IndexRequest) -> JobAnswer:
        """Start to index recordings and folders of this machine, among those allowed."""
        return _job_answer(service.start_indexing(wanted.paths), service)

    @app.delete("/api/index/jobs/{id}", tags=["index"])
    def cancel_job(id: int) -> JobAnswer:
        """Stop an indexing job. What it has indexed stays; uploads that it has not finished are deleted."""
        return _job_answer(service.cancel(id), service)

    @app.get("/api/folders", tags=["index"])
    def folders() -> list[str]:
        """Folders that may be indexed, with their subfolders."""
        return service.folders.listing()

    @app.get("/api/recordings", tags=["index"])
    def recordings() -> list[RecordingAnswer]:
        """The recordings of the index."""
        return [
            RecordingAnswer(id=recording.id, name=recording.name, duration_s=round(recording.duration_s, 3),
                            windows=recording.windows, audio=audio_url(recording))
            for recording in service.recordings()
        ]  # fmt: skip

    @app.get("/api/recordings/{id}/transcript", tags=["index"], response_class=Response)
    def transcript(id: str, format: TranscriptFormat = "txt") -> Response:
        """What was recognised in a recording: text, subtitles (srt, vtt), a table (tsv), or JSON with all words."""
        found = service.transcript(id)
        name = quote(f"{PurePosixPath(found.audio).stem}.{format}", safe="")
        headers = {"content-disposition": f"attachment; filename*=utf-8''{name}"}
        return Response(found.format(format), headers=headers, media_type=TRANSCRIPT_TYPES[format])

    @app.delete("/api/recordings/{id}", tags=["index"], status_code=204)
    def remove_upload(id: str) -> None:
        """Delete an upload: its file, and what the index has of it."""
        service.remove_upload(id)

    @app.put("/api/recordings/{name}", tags=["index"], status_code=202, openapi_extra=_audio_body("the recording"))
    async def upload(name: str, request: Request) -> JobAnswer:
        """Upload a recording, the body, and start to index it under this name."""
        safe_name(name)  # before anything is received
        part = await asyncio.to_thread(service.new_upload)
        try:
            with open(part, "wb") as file:
                async for block in request.stream():
                    await asyncio.to_thread(file.write, block)
            return _job_answer(await asyncio.to_thread(service.index_uploads, [(part, name)]), service)
        finally:
            part.unlink(missing_ok=True)


def _add_audio(app: FastAPI, service: SearchService) -> None:
    @app.get("/api/audio/{id}.wav", tags=["audio"], response_class=Response)
    def audio_as_wav(id: str, request: Request) -> Response:
        """A recording as wav of 16 kHz, whatever its format; ranges of bytes decode only what they hold."""
        recording = service.playable(id)
        size = wav_bytes(recording.duration_s)
        headers = {"accept-ranges": "bytes", "cache-control": "private, max-age=3600"}
        try:
            span = parse_range(request.headers.get("range"), size)
        except ValueError:
            return Response(status_code=416, headers={"content-range": f"bytes */{size}"})
        first, end = span or (0, size)
        headers["content-length"] = str(end - first)
        if span:
            headers["content-range"] = f"bytes {first}-{end - 1}/{size}"
        if request.method == "HEAD":
            return Response(None, 206 if span else 200, headers, "audio/wav")
        content = stream_wav(recording.path, recording.duration_s, first, end, service.decoder.read_waveform)
        return StreamingResponse(content, 206 if span else 200, headers, "audio/wav")

    @app.get("/api/audio/{id}", tags=["audio"], response_class=FileResponse)
    def audio(id: str) -> FileResponse:
        """The file of a recording as it is; ranges of bytes are served."""
        recording = service.playable(id)
        media_type = NATIVE.get(recording.path.suffix.lower(), "application/octet-stream")
        return FileResponse(recording.path, media_type=media_type, headers={"cache-control": "private, max-age=3600"})


def _client(request: Request) -> str:
    return request.client.host if request.client else ""


async def _unless_client_leaves(request: Request, search: Future[Found]) -> Found:
    """The result of a search, which is cancelled when the client leaves before its turn.

    Raises:
        ClientDisconnect: it has left.
    """
    found = asyncio.wrap_future(search)
    leaving = asyncio.ensure_future(_disconnected(request))
    waiting: list[asyncio.Future[Any]] = [found, leaving]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if not found.done():
            raise ClientDisconnect
        return found.result()
    finally:
        leaving.cancel()
        found.cancel()


async def _disconnected(request: Request) -> None:
    """Wait until the client leaves; the body is read by then."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def audio_url(recording: Recording) -> str:
    """Where a browser plays a recording from: the file, or wav where browsers cannot seek to a second."""
    return f"/api/audio/{recording.id}{'' if recording.path.suffix.lower() in NATIVE else '.wav'}"


def _audio_body(description: str) -> dict[str, Any]:
    content = {"audio/*": {"schema": {"type": "string", "format": "binary"}}}
    return {"requestBody": {"description": description, "required": True, "content": content}}


def _search_answer(found: Found, profile: bool) -> SearchAnswer:
    hits = [_hit_answer(hit, profile) for hit in found.hits]
    return SearchAnswer(question=found.question, hits=hits, seconds=round(found.seconds, 4))


def _hit_answer(found: FoundHit, profile: bool) -> HitAnswer:
    hit, recording = found.hit, found.recording
    return HitAnswer(
        rank=hit.rank,
        recording=recording.name,
        recording_id=recording.id,
        start_s=round(hit.start_s, 3),
        end_s=round(hit.end_s, 3),
        window_start_s=round(hit.window_start_s, 3),
        window_end_s=round(hit.window_end_s, 3),
        score=float(f"{hit.score:.4g}"),
        weak=hit.weak,
        text=hit.text,
        matches=[(word.text, round(word.start_s, 3), round(word.end_s, 3)) for word in hit.matches],
        tokens=[(m.token, m.word, round(m.start_s, 3), round(m.end_s, 3), round(m.cosine, 3)) for m in hit.tokens],
        audio=f"{audio_url(recording)}#t={hit.start_s:.3f},{hit.end_s:.3f}",
        profile=[(round(s, 3), round(e, 3), round(score, 4)) for s, e, score in found.profile] if profile else None,
    )


def _job_answer(job: Job, service: SearchService) -> JobAnswer:
    return JobAnswer(
        id=job.id,
        state=job.state,
        done=job.done,
        total=len(job.files),
        share=round(job.share, 4),
        error=job.error and service.without_paths(job.error),
        files=[_file_answer(file, service) for file in job.files],
    )


def _file_answer(file: FileProgress, service: SearchService) -> FileAnswer:
    return FileAnswer(
        recording=service.folders.name(file.path),
        status=file.status,
        duration_s=round(file.duration_s, 3),
        share=round(file.share, 4),
        reason=file.reason and service.without_paths(file.reason.replace(str(file.path), file.path.name)),
    )
