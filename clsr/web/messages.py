"""Requests and answers of the JSON API, field by field."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Base64Bytes, BaseModel, ConfigDict, Field

from clsr.index.config import HitUnit, Mode

Id = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]


class SearchOptions(BaseModel):
    """How to search."""

    model_config = ConfigDict(extra="forbid")

    top_k: int = Field(10, ge=1, le=100, strict=True, description="hits at most")
    mode: Mode | None = Field(
        None,
        description="ranking: vectors, words, both, or tokens; by default tokens where the index has their vectors",
    )
    unit: HitUnit = Field("window", description="what a hit is; tokens with mode maxsim alone")
    recordings: list[Id] = Field([], max_length=1000, description="ids of the recordings to look at; none for all")
    profile: bool = Field(False, description="whether to give the score of every window of the recordings found")


class SearchRequest(SearchOptions):
    """A query and its options."""

    question: str = Field(min_length=1, max_length=2000, examples=["who sold the old horse?"])


class TextPart(BaseModel):
    """A text in a query."""

    model_config = ConfigDict(extra="forbid")

    text: str = Field(max_length=2000)


class AudioPart(BaseModel):
    """Speech in a query."""

    model_config = ConfigDict(extra="forbid")

    audio: Base64Bytes = Field(description="a file of any format that is read, up to a minute, in base64")


class PartsRequest(SearchOptions):
    """A query of text and speech in turn, and its options."""

    parts: list[TextPart | AudioPart] = Field(min_length=1, max_length=16, description="in their order")


class HitAnswer(BaseModel):
    """A moment; times in seconds from the start of the recording."""

    rank: int
    recording: str = Field(description="its name")
    recording_id: str
    start_s: float
    end_s: float
    window_start_s: float
    window_end_s: float
    score: float
    weak: bool = Field(False, description="whether hardly any right hit has so low a score")
    text: str
    matches: list[tuple[str, float, float]] = Field(description="words that match best: text, start, end")
    tokens: list[tuple[str, str, float, float, float]] = Field(
        [], description="mode maxsim: tokens of the question and the words they match: token, word, start, end, cosine"
    )
    audio: str = Field(description="where to play it, from its start to its end")
    profile: list[tuple[float, float, float]] | None = Field(None, description="windows: start, end, score")


class SearchAnswer(BaseModel):
    """Hits, best first."""

    question: str = Field(description="as typed, or as recognised")
    hits: list[HitAnswer]
    seconds: float = Field(description="the search took")


class RecordingAnswer(BaseModel):
    """A recording of the index."""

    id: str
    name: str
    duration_s: float
    windows: int
    audio: str


class IndexRequest(BaseModel):
    """What is to be indexed."""

    model_config = ConfigDict(extra="forbid")

    paths: list[Annotated[str, Field(min_length=1, max_length=1000)]] = Field(
        min_length=1, max_length=100, description="recordings and folders, as GET /api/folders names them"
    )


class FileAnswer(BaseModel):
    """Progress of a recording."""

    recording: str
    status: Literal["waiting", "indexing", "indexed", "partial", "silent", "failed", "cancelled"]
    duration_s: float
    share: float
    reason: str | None


class JobAnswer(BaseModel):
    """Progress of an indexing job."""

    id: int
    state: Literal["waiting", "running", "done", "failed", "cancelled"]
    done: int = Field(description="recordings finished")
    total: int
    share: float = Field(description="of the work done, 0 to 1")
    error: str | None = Field(description="why it failed, or what it waits for")
    files: list[FileAnswer]


class IndexAnswer(BaseModel):
    """Size of the index, and the recordings being added."""

    recordings: int
    windows: int
    duration_s: float
    jobs: list[JobAnswer] = Field(description="newest first")


class HealthAnswer(BaseModel):
    """That the server answers."""

    status: Literal["ok", "busy"] = Field(description="busy: a search would wait for a second or more")
    version: str
