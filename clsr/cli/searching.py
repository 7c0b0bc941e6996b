"""The commands that put questions to an index, ``clsr search`` and ``clsr ask``; modules are imported when they run."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clsr.errors import InputError

if TYPE_CHECKING:
    from clsr.index.filters import Filter
    from clsr.search.hit import Hit
    from clsr.search.query import ListedQuery

Add = Callable[[argparse._SubParsersAction, str, str, Callable], argparse.ArgumentParser]
"""Add a command: to what, its name, its title, what runs it."""

MODES = ("dense", "bm25", "hybrid")  # those of clsr.index.config


def add_asking(commands: argparse._SubParsersAction, add: Add) -> None:
    """Add ``clsr search`` and ``clsr ask``."""
    search = add(commands, "search", "find the moments that answer a question", _search)
    _add_question(search)
    search.add_argument(
        "--questions", type=Path, metavar="FILE", help="many questions: one a line, or *.jsonl with id and question"
    )
    _add_looking(search, top_k=5)
    search.add_argument("--json", action="store_true", help="one object a hit")
    search.add_argument("--srt", metavar="FILE", help="write the hits as subtitles into a new file (-: print them)")
    search.add_argument("--save-clips", type=Path, metavar="DIR", help="write each hit as a wav file")
    answer = add(commands, "ask", "have a question answered from the moments found", _ask)
    _add_question(answer)
    answer.add_argument(
        "--answerer", metavar="REF", help="what answers: local:FOLDER (Qwen2-Audio) or http://HOST:PORT/v1#MODEL"
    )
    _add_looking(answer, top_k=3)
    answer.add_argument("--json", action="store_true", help="one object: question, answer, sources")


def _add_question(command: argparse.ArgumentParser) -> None:
    command.add_argument("question", nargs="?", help="typed")
    command.add_argument("--audio", type=Path, metavar="FILE", help="a spoken question, of a minute at most")


def _add_looking(command: argparse.ArgumentParser, top_k: int) -> None:
    command.add_argument("--index", required=True, metavar="DIR", dest="index_dir", help="its folder, or s3://...")
    command.add_argument("--model", type=Path, metavar="DIR", help="the model, if it was moved since")
    command.add_argument("--top-k", type=int, default=top_k, metavar="N", help=f"hits at most ({top_k})")
    command.add_argument("--mode", choices=MODES, default="dense", help="rank by vectors, by words, or by both (dense)")
    command.add_argument(
        "--recording", type=Path, action="append", default=[], metavar="FILE", help="look in this one; may be repeated"
    )
    command.add_argument("--folder", type=Path, metavar="DIR", help="look only at recordings in this folder")
    command.add_argument("--since", metavar="DATE", help="look only at files changed since: 2026-05-31[T18:30]")
    command.add_argument("--until", metavar="DATE", help="look only at files changed until then; a day counts as whole")
    command.add_argument(
        "--exact", action="store_true", help="compare every window, whatever index of vectors there is"
    )


def _search(options: argparse.Namespace) -> None:
    from clsr.search.retriever import Retriever

    listed_queries = _queries(options)
    only = _only(options)
    retriever = Retriever.open(options.index_dir, options.model)
    queries = retriever.encode_many([listed.query for listed in listed_queries])
    for listed, query in zip(listed_queries, queries, strict=True):
        if isinstance(listed.query, Path):
            print(f"{listed.query}: {query.text}", file=sys.stderr)
    found = retriever.search_many(queries, options.top_k, options.mode, only, options.exact)
    if options.questions:
        _print_batch(listed_queries, [query.text for query in queries], found, options.json)
    elif options.srt != "-":
        for hit in found[0]:
            print(hit.to_json() if options.json else hit)
    _export(options, found[0])


def _print_batch(
    queries: Sequence[ListedQuery], texts: Sequence[str], found: Sequence[Sequence[Hit]], as_json: bool
) -> None:
    for listed, text, hits in zip(queries, texts, found, strict=True):
        if not as_json:
            print(f"{listed.id}  {text}")
        for hit in hits:
            values = {"question_id": listed.id} | hit.values()
            print(json.dumps(values, ensure_ascii=False) if as_json else f"  {hit}")


def _export(options: argparse.Namespace, hits: list[Hit]) -> None:
    from clsr.search.export import format_srt, save_clips, write_srt

    if options.srt == "-":
        print(format_srt(hits), end="")
    elif options.srt:
        write_srt(hits, Path(options.srt))
    if options.save_clips:
        for file in save_clips(hits, options.save_clips):
            print(file, file=sys.stderr)


def _ask(options: argparse.Namespace) -> int:
    from clsr.search.answering import ask
    from clsr.search.retriever import Retriever

    question = _one_question(options)
    only = _only(options)
    retriever = Retriever.open(options.index_dir, options.model)
    reply = ask(retriever, question, options.answerer, options.top_k, options.mode, only, options.exact)
    if isinstance(question, Path):
        print(f"{question}: {reply.question}", file=sys.stderr)
    if options.json:
        print(reply.to_json())
    else:
        if reply.answer is not None:
            print(reply.answer)
        for hit in reply.sources:
            print(hit)
    if reply.error:
        raise InputError(reply.error)
    if not options.answerer:
        print(
            "clsr: not answered; name what answers by --answerer local:FOLDER or http://HOST:PORT/v1#MODEL",
            file=sys.stderr,
        )
    elif not reply.sources:
        print("clsr: not answered, for nothing was found", file=sys.stderr)
    return 0


def _queries(options: argparse.Namespace) -> list[ListedQuery]:
    from clsr.search.query import ListedQuery, read_queries

    if not options.questions:
        return [ListedQuery("1", _one_question(options))]
    if options.question is not None or options.audio:
        raise InputError("--questions stands for all that is asked: leave out the question, and --audio")
    if options.srt or options.save_clips:
        raise InputError("--srt and --save-clips are for the hits of one question: leave out --questions")
    return read_queries(options.questions)


def _one_question(options: argparse.Namespace) -> str | Path:
    if (options.question is None) == (options.audio is None):
        given = "a question, or --audio FILE" + (", or --questions FILE" if "questions" in options else "")
        raise InputError(f"what is asked? Give {given}, and one of them only")
    return options.audio or options.question


def _only(options: argparse.Namespace) -> Filter | None:
    from clsr.index.filters import Filter

    if not (options.recording or options.folder or options.since or options.until):
        return None
    return Filter(options.recording, options.folder, options.since, options.until)
