"""Commands that put queries to an index: ``clsr search`` and ``clsr ask``."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from clsr.cli.options import File, Folder, Location, Ref, options_of, positional, repeated
from clsr.errors import InputError, printable_line
from clsr.index.config import HitUnit, Mode

if TYPE_CHECKING:
    from clsr.config import Precision
    from clsr.index.filters import Filter
    from clsr.search.hit import Hit
    from clsr.search.query import EncodedQuery, ListedQuery

NONE_FOUND = "no hits: no window passes the filters, or the index is empty"
WEAK = "clsr: nothing matches well: hardly any right hit has so low a score"
NO_WORD_FOUND = "no hits: no window that passes the filters has a word of this question; --mode dense compares meanings"


@dataclass(kw_only=True)
class Where:
    """Which windows of an index are searched, and how.

    Args:
        index: folder of the index, or its address such as s3://bucket/index
        model: model that built the index, if its folder was moved.
        mode: rank by vectors, by words, by both, or by the vectors of tokens; by default by these where the index has
            them, else by vectors.
        recording: search only in this recording; may be repeated.
        folder: search only in recordings of this folder, at any depth.
        since: search only in files changed since then, such as 2026-05-31 or 2026-05-31T18:30.
        until: search only in files changed until then; a day counts as a whole.
        exact: compare with every window, even where there is an approximate index of vectors.
    """

    index: Location
    model: Ref | None = None
    mode: Mode | None = None
    recording: tuple[File, ...] = repeated("append")
    folder: Folder | None = None
    since: Annotated[str | None, "DATE"] = None
    until: Annotated[str | None, "DATE"] = None
    exact: bool = False

    @property
    def filter(self) -> Filter | None:
        """What limits the search; None for nothing."""
        from clsr.index.filters import Filter

        if not (self.recording or self.folder or self.since or self.until):
            return None
        return Filter(self.recording, self.folder, self.since, self.until)


@dataclass(kw_only=True)
class Search:
    """Find the moments that answer a question.

    Args:
        question: typed question.
        audio: recording of a spoken question, of a minute at most.
        part: part of a question of text and sound in turn: a text, FILE.wav (or any audio suffix), or
            FILE.wav:START-END in seconds; may be repeated.
        questions: file of many questions, one per line, or *.jsonl with id and question, audio or data (parts).
        top_k: number of hits at most.
        unit: what a hit is: a run of words around the tokens that matched (with --mode maxsim), a segment between two
            pauses, a window, or a whole recording, by the sum of its three best windows.
        code_pooling: number of successive codes of spoken questions whose mean takes their place; by default that of
            the index.
        json: print one object per hit.
        srt: new file to write the hits to as subtitles; - prints them.
        save_clips: folder to write each hit to as a wav file.
    """

    question: Annotated[str | None, "QUESTION"] = positional(default=None)
    audio: File | None = None
    part: Annotated[tuple[str, ...], "PART"] = repeated("append")
    questions: File | None = None
    where: Where = options_of(Where)
    top_k: int = 5
    unit: HitUnit = "window"
    code_pooling: int | None = None
    json: bool = False
    srt: Annotated[str | None, "FILE"] = None
    save_clips: Folder | None = None

    def run(self) -> None:
        """Search, print the hits, and write what else is wanted of them."""
        precision: Precision = "auto"
        if self.question is not None:
            # A process that ends after one typed question starts sooner without PyTorch, which other precisions need;
            # and the products of NumPy are so small that their threads would only wait for each other.
            precision = "float32"
            os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # read when NumPy is loaded
        from clsr.search.retriever import Retriever

        listed_queries, only = self._queries(), self.where.filter
        place, pooling = self.where, self.code_pooling
        retriever = Retriever.open(place.index, place.model, precision=precision, code_pooling=pooling)
        queries = retriever.encode_many(
            [listed.query for listed in listed_queries], [listed.id for listed in listed_queries]
        )
        for listed, query in zip(listed_queries, queries, strict=True):
            if not isinstance(listed.query, str):
                name = listed.query if isinstance(listed.query, Path) else listed.id
                print(printable_line(f"{name}: {query.text}"), file=sys.stderr)
        found = retriever.search_many(queries, self.top_k, self.where.mode, only, self.where.exact, self.unit)
        if self.questions:
            self._print_batch(zip(listed_queries, queries, found, strict=True))
        elif self.srt != "-":
            for hit in found[0]:
                print(hit.to_json() if self.json else hit)
        if not self.questions and not found[0]:
            print(NO_WORD_FOUND if self.where.mode == "bm25" else NONE_FOUND, file=sys.stderr)
        elif not self.questions and all(hit.weak for hit in found[0]):
            print(WEAK, file=sys.stderr)
        self._export(found[0])

    def _queries(self) -> list[ListedQuery]:
        from clsr.audio.clip import parse_part
        from clsr.search.query import ListedQuery, read_queries

        if self.part:
            if self.question is not None or self.audio or self.questions:
                raise InputError("--part makes the whole question: leave out the question, --audio and --questions")
            return [ListedQuery("the question", [parse_part(part) for part in self.part])]
        if not self.questions:
            return [ListedQuery("1", one_question(self.question, self.audio, ", --part PART, or --questions FILE"))]
        if self.question is not None or self.audio:
            raise InputError("--questions replaces the question: leave out the question and --audio")
        if self.srt or self.save_clips:
            raise InputError("--srt and --save-clips are for the hits of one question: leave out --questions")
        return read_queries(self.questions)

    def _print_batch(self, batch: Iterable[tuple[ListedQuery, EncodedQuery, Sequence[Hit]]]) -> None:
        for listed, query, hits in batch:
            if not self.json:
                print(printable_line(f"{listed.id}  {query.text}"))
            for hit in hits:
                values = {"question_id": listed.id} | hit.values()
                print(json.dumps(values, ensure_ascii=False) if self.json else f"  {hit}")

    def _export(self, hits: list[Hit]) -> None:
        from clsr.search.export import format_srt, save_clips, write_srt

        if self.srt == "-":
            print(format_srt(hits), end="")
        elif self.srt:
            write_srt(hits, Path(self.srt))
        if self.save_clips:
            for file in save_clips(hits, self.save_clips):
                print(file, file=sys.stderr)


@dataclass(kw_only=True)
class Ask:
    """Answer a question from the moments found, with an audio language model.

    Args:
        question: typed question.
        audio: recording of a spoken question, of a minute at most.
        answerer: audio language model: local:FOLDER (Qwen2-Audio) or http://HOST:PORT/v1#MODEL.
        top_k: largest number of moments that it gets.
        json: print one object: question, answer, sources.
    """

    question: Annotated[str | None, "QUESTION"] = positional(default=None)
    audio: File | None = None
    answerer: Annotated[str | None, "REF"] = None
    where: Where = options_of(Where)
    top_k: int = 3
    json: bool = False

    def run(self) -> None:
        """Print the answer and the moments that it is from."""
        from clsr.search.answering import ask
        from clsr.search.retriever import Retriever

        question, only = one_question(self.question, self.audio), self.where.filter
        retriever = Retriever.open(self.where.index, self.where.model)
        reply = ask(retriever, question, self.answerer, self.top_k, self.where.mode, only, self.where.exact)
        if isinstance(question, Path):
            print(printable_line(f"{question}: {reply.question}"), file=sys.stderr)
        if self.json:
            print(reply.to_json())
        else:
            for line in (*([] if reply.answer is None else [reply.answer]), *reply.sources):
                print(line)
        if reply.error:
            raise InputError(reply.error)
        if not self.answerer:
            how = "name what answers by --answerer local:FOLDER or http://HOST:PORT/v1#MODEL"
            print(f"clsr: not answered; {how}", file=sys.stderr)
        elif not reply.sources:
            print("clsr: not answered, for nothing was found", file=sys.stderr)


def one_question(typed: str | None, audio: Path | None, other: str = "") -> str | Path:
    """Return the one question that was given, typed or spoken.

    Raises:
        InputError: none was given, or both.
    """
    if (typed is None) == (audio is None):
        raise InputError(f"no question, or more than one: give a question or --audio FILE{other}")
    return typed if typed is not None else audio  # type: ignore[return-value]
