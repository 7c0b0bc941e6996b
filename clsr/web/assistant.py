"""Tools for assistants: search, transcripts and indexing over the Model Context Protocol (MCP)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, Field

import clsr
from clsr.errors import InputError
from clsr.extras import require
from clsr.index.config import Mode
from clsr.index.filters import first_instant
from clsr.index.rows import date_of
from clsr.subtitles import split_at_pauses
from clsr.transcribe import Transcript
from clsr.vocabulary import join_words
from clsr.web.folders import Missing
from clsr.web.jobs import Job
from clsr.web.playback import NATIVE
from clsr.web.service import FoundHit, Recording, SearchService

if TYPE_CHECKING:
    from mcp.server import MCPServer

Result = TypeVar("Result")
MOST_CHARACTERS = 8_000  # of a transcript at once: some 2,000 tokens of a language model
MOST_LISTED = 200  # recordings at once
INSTRUCTIONS = (
    "Search recordings of speech and read their transcripts. Transcripts are automatic and have errors. To answer a "
    "question, search first, then read the transcript around the best moments, and name recording and time."
)

Name = Annotated[str, Field(description="name or id of a recording, as the other tools give them")]
Milliseconds = Annotated[int, Field(ge=0, description="from the start of the recording")]


class FoundMoment(BaseModel):
    """A moment that matches a query."""

    rank: int
    recording: str = Field(description="its name")
    recording_id: str
    start_ms: int
    end_ms: int
    time: str = Field(description="start and end as h:mm:ss")
    score: float
    weak: bool = Field(description="whether the score is so low that this is probably no answer")
    text: str = Field(description="what was recognised")
    audio: str = Field(description="where a server of clsr serve plays it")


class FoundMoments(BaseModel):
    """FoundMoments, best first."""

    moments: list[FoundMoment]


class TranscriptPart(BaseModel):
    """What was said in a span of a recording."""

    recording: str
    start_ms: int
    end_ms: int
    text: str = Field(description="lines that begin with their time as h:mm:ss")
    next_start_ms: int | None = Field(description="where the rest begins, if the text was too long")


class RecordingLine(BaseModel):
    """A recording of the index."""

    name: str
    id: str
    duration_ms: int


class Recordings(BaseModel):
    """Some of the recordings, by name."""

    total: int
    recordings: list[RecordingLine]


class Status(BaseModel):
    """What the index holds of a recording."""

    recording: str
    status: str = Field(description="indexed, partial, silent or failed")
    duration_ms: int
    silent_ms: int
    confidence: float | None = Field(description="of its words, 0 to 1; null where it is not known")
    flagged: bool = Field(description="whether it is probably not speech in the model's language")
    reason: str = Field(description="what is wrong with it; empty where all is well")


class JobStatus(BaseModel):
    """Progress of an indexing job."""

    id: int
    state: Literal["waiting", "running", "done", "failed", "cancelled"]
    done: int = Field(description="recordings finished")
    total: int
    error: str | None
    faults: list[str] = Field(description="recordings that failed, with the reason")


def make_assistant(service: SearchService, indexing: bool = False) -> MCPServer[Any]:
    """Return an MCP server for an index.

    Args:
        service: searches the index.
        indexing: whether recordings may be indexed.

    Raises:
        InputError: the package mcp is not installed.
    """
    require("mcp")
    from mcp.server import MCPServer

    server: MCPServer[Any] = MCPServer("clsr", version=clsr.__version__, instructions=INSTRUCTIONS, log_level="WARNING")
    _add_search(server, service)
    _add_recordings(server, service)
    if indexing:
        _add_indexing(server, service)
    return server


def _add_search(server: MCPServer[Any], service: SearchService) -> None:
    @server.tool()
    async def search_recordings(
        query: Annotated[str, Field(min_length=1, max_length=2000, description="question or words")],
        folder: Annotated[str | None, Field(description="only recordings whose names begin with it")] = None,
        since: Annotated[str | None, Field(description="only files changed then or later: 2026-05-31")] = None,
        mode: Annotated[Mode | None, Field(description="ranking; by default the best that the index has")] = None,
        limit: Annotated[int, Field(ge=1, le=50, description="moments at most")] = 10,
    ) -> FoundMoments:
        """Find the moments of the recordings that answer a question."""
        wanted = await _of_service(service, lambda: _wanted(service, folder, since))
        if wanted == []:
            return FoundMoments(moments=[])
        searching = await _of_service(
            service, lambda: service.submit_search(query, limit, mode, wanted or (), client="assistant")
        )
        found = await _of_service(service, searching.result)
        return FoundMoments(moments=[_moment(hit) for hit in found.hits])


def _add_recordings(server: MCPServer[Any], service: SearchService) -> None:
    from mcp.server.mcpserver.exceptions import ResourceNotFoundError

    @server.tool()
    async def get_transcript(
        recording: Name, start_ms: Milliseconds = 0, end_ms: Milliseconds | None = None
    ) -> TranscriptPart:
        """Read what was said in a recording, or in a span of it."""
        transcript = await _of_service(service, lambda: service.transcript(_find(service, recording).id))
        return _part(transcript, start_ms, end_ms)

    @server.tool()
    async def list_recordings(
        folder: Annotated[str | None, Field(description="only those whose names begin with it")] = None,
        offset: Annotated[int, Field(ge=0, description="how many to leave out first")] = 0,
        limit: Annotated[int, Field(ge=1, le=MOST_LISTED)] = MOST_LISTED,
    ) -> Recordings:
        """List the recordings by name."""
        found = [one for one in service.recordings() if _is_in(one, folder)]
        return Recordings(
            total=len(found),
            recordings=[
                RecordingLine(name=one.name, id=one.id, duration_ms=_ms(one.duration_s))
                for one in found[offset : offset + limit]
            ],
        )

    @server.tool()
    async def recording_status(recording: Name) -> Status:
        """Say what the index holds of a recording, and whether it was understood."""
        return await _of_service(service, lambda: _status(service, recording))

    @server.resource("transcript://{id}", mime_type="text/plain")
    async def transcript(id: str) -> str:
        """The whole transcript of a recording, by its id."""
        try:
            return (await asyncio.to_thread(service.transcript, id)).format("txt")
        except InputError as error:
            raise ResourceNotFoundError(service.without_paths(str(error))) from error


def _add_indexing(server: MCPServer[Any], service: SearchService) -> None:
    @server.tool()
    async def list_folders() -> list[str]:
        """List the folders whose recordings may be indexed, with their subfolders."""
        return await _of_service(service, service.folders.listing)

    @server.tool()
    async def index_recordings(
        paths: Annotated[list[str], Field(min_length=1, max_length=100, description="as list_folders names them")],
    ) -> JobStatus:
        """Start to index recordings and folders; indexing_job says how far it is."""
        return _job(await _of_service(service, lambda: service.start_indexing(paths)), service)

    @server.tool()
    async def indexing_job(id: int) -> JobStatus:
        """Say how far an indexing job is."""
        found = next((job for job in service.jobs() if job.id == id), None)
        return _job(found, service) if found else await _of_service(service, lambda: _no_job(id))


async def _of_service(service: SearchService, work: Callable[[], Result]) -> Result:
    """What a thread finds; faults of a request are told to the assistant, without paths of this machine.

    Raises:
        ToolError: the request is at fault.
    """
    from mcp.server.mcpserver.exceptions import ToolError

    try:
        return await asyncio.to_thread(work)
    except InputError as error:
        raise ToolError(service.without_paths(str(error))) from error


def _no_job(id_: int) -> JobStatus:
    raise Missing(f"no job {id_}; it may have ended long ago")


def _find(service: SearchService, name: str) -> Recording:
    """The recording of this id or name.

    Raises:
        Missing: there is none, or several have the name.
    """
    found = [one for one in service.recordings() if name in (one.id, one.name)]
    if len(found) != 1:
        why = f"{len(found)} recordings have this name: give an id" if found else "no such recording"
        raise Missing(f"{name}: {why}; list_recordings lists them")
    return found[0]


def _wanted(service: SearchService, folder: str | None, since: str | None) -> Sequence[str] | None:
    """Ids of the recordings to search; ``None`` for all.

    Raises:
        InputError: ``since`` is no date.
    """
    if folder is None and since is None:
        return None
    inside = [one for one in service.recordings() if _is_in(one, folder)]
    if since is not None:
        entries, first = service.index.entries(), first_instant(since)
        inside = [one for one in inside if date_of(entries[str(one.path)].modified_ns) >= first]
    return [one.id for one in inside]


def _is_in(recording: Recording, folder: str | None) -> bool:
    return folder is None or recording.name.startswith(folder)


def _moment(found: FoundHit) -> FoundMoment:
    hit, recording = found.hit, found.recording
    place = f"/api/audio/{recording.id}{'' if recording.path.suffix.lower() in NATIVE else '.wav'}"
    return FoundMoment(
        rank=hit.rank, recording=recording.name, recording_id=recording.id, start_ms=_ms(hit.start_s),
        end_ms=_ms(hit.end_s), time=f"{_clock(hit.start_s)}-{_clock(hit.end_s)}", score=round(hit.score, 4),
        weak=hit.weak, text=hit.text, audio=f"{place}#t={hit.start_s:.3f},{hit.end_s:.3f}",
    )  # fmt: skip


def _part(transcript: Transcript, start_ms: int, end_ms: int | None) -> TranscriptPart:
    """The lines of a span, as many as a language model reads at once, but for one at least."""
    last_ms = _ms(transcript.duration_s) if end_ms is None else end_ms
    words = [word for word in transcript.words if word.end_s * 1000 > start_ms and word.start_s * 1000 < last_ms]
    lines: list[str] = []
    following_ms: int | None = None
    for run in split_at_pauses(words):
        line = f"[{_clock(run[0].start_s)}] {join_words(word.text for word in run)}"
        if lines and sum(map(len, lines)) + len(line) > MOST_CHARACTERS:
            following_ms = _ms(run[0].start_s)
            break
        lines.append(line)
    return TranscriptPart(
        recording=transcript.audio, start_ms=start_ms, end_ms=last_ms if following_ms is None else following_ms,
        text="\n".join(lines), next_start_ms=following_ms,
    )  # fmt: skip


def _status(service: SearchService, name: str) -> Status:
    recording = _find(service, name)
    found = service.status(recording.id)
    return Status(
        recording=recording.name, status=found.status, duration_ms=_ms(found.duration_s), silent_ms=_ms(found.silent_s),
        confidence=found.confidence, flagged=found.flagged, reason=service.without_paths(found.reason or ""),
    )  # fmt: skip


def _job(job: Job, service: SearchService) -> JobStatus:
    faults = [f"{service.folders.name(file.path)}: {service.without_paths(file.reason or '')}"
              for file in job.files if file.status == "failed"]  # fmt: skip
    error = service.without_paths(job.error) if job.error else None
    return JobStatus(id=job.id, state=job.state, done=job.done, total=len(job.files), error=error, faults=faults)


def _clock(seconds: float) -> str:
    """``h:mm:ss``.

    >>> _clock(3725.9)
    '1:02:05'
    """
    minutes = int(seconds) // 60
    return f"{minutes // 60}:{minutes % 60:02}:{int(seconds) % 60:02}"


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
