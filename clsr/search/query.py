"""A query, typed, spoken or both in turn -> its words and its vector. Internal."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from clsr.audio.clip import Clip, parse_parts
from clsr.audio.files import printable
from clsr.audio.sounding import leave_out_dead
from clsr.audio.spelling import as_on_disk
from clsr.audio.waveform import read_waveform
from clsr.errors import InputError, each_once
from clsr.model import LONGEST_S, Model, Parts, Speech, read_parts, read_speech

if TYPE_CHECKING:
    from clsr.text.encoder import SentenceEncoder

log = logging.getLogger("clsr")

TOO_LONG = "ask in fewer words"


class EncodedQuery(NamedTuple):
    """An encoded query."""

    text: str  # as typed, or as recognised; of parts, one after the other
    vector: np.ndarray  # (E,), of norm 1


Query = str | Speech | Parts | EncodedQuery
"""Typed; or spoken, as a path (a ``Path``: a text is a typed query), a waveform ``(N,)`` at 16 kHz or a ``Clip``; or a
list of typed and spoken parts; or encoded before."""


class ListedQuery(NamedTuple):
    """A query of a file."""

    id: str
    query: str | Speech | list[str | Speech]


def encode_queries(queries: Sequence[Query], model: Model, ids: Sequence[str] = ()) -> list[EncodedQuery]:
    """Encode queries, typed ones in one batch and spoken ones in another; an encoded query is returned unchanged.

    A spoken query is encoded as a passage is, with soft codes, but without the passage projection, as in
    ``clsr evaluate``.

    Args:
        queries: typed, spoken, or lists of parts, in any order; those that are encoded already are taken as they are.
        model: its text encoder alone is loaded unless any query is spoken or a list of parts.
        ids: of the queries, for messages about their parts.

    Raises:
        InputError: a query is empty, cannot be read, lasts longer than a minute, or has no word in it.
    """
    if isinstance(queries, str):
        raise InputError("queries are one text; give a list of them, or call search")
    for query in queries:
        if not isinstance(query, str | Speech | list | tuple):
            raise InputError(f"a query is of type {type(query).__name__}; give a str, a Path, or samples at 16 kHz")
    encoded = {i: query for i, query in enumerate(queries) if isinstance(query, EncodedQuery)}
    typed = {i: _require_words(query) for i, query in enumerate(queries) if isinstance(query, str)}
    spoken = {i: query for i, query in enumerate(queries) if isinstance(query, Speech)}
    interleaved = {i: query for i, query in enumerate(queries) if i not in encoded and isinstance(query, list | tuple)}
    if typed:
        for text in typed.values():
            _say_what_is_cut(text, model.query_encoder)
        vectors = np.asarray(model.query_encoder.encode(list(typed.values()), "question"))
        encoded |= {i: EncodedQuery(typed[i], vector) for i, vector in zip(typed, vectors, strict=True)}
    if spoken:
        from clsr.audio.decoding import Decoder
        from clsr.models.sounding import encode_sounding

        with Decoder() as decoder:
            waveforms = [read_spoken_query(query, decoder.read_waveform) for query in spoken.values()]
        encode = partial(model.speech_encoder.encode, side="question")
        found = encode_sounding(encode, model.text_encoder, waveforms, "question")
        for i, text, vector in zip(spoken, found.transcripts, found.vectors, strict=True):
            if not text:
                raise InputError(f"{_name(spoken[i])}: no words were recognised in this question; ask it again")
            encoded[i] = EncodedQuery(text, vector)
    if interleaved:
        names = {i: ids[i] if ids else f"query {i + 1}" if len(queries) > 1 else "the query" for i in interleaved}
        encoded |= _encode_interleaved(interleaved, names, model)
    return [encoded[i] for i in range(len(queries))]


def _encode_interleaved(
    queries: Mapping[int, Parts], names: Mapping[int, str], model: Model
) -> dict[int, EncodedQuery]:
    """Encode queries of parts together, spoken parts without what is dead in them."""
    from clsr.audio.decoding import Decoder

    with Decoder() as decoder:
        read = {i: read_query_parts(query, names[i], decoder.read_waveform) for i, query in queries.items()}
    sounding = [[_sounding(part) for part in parts] for parts in read.values()]
    inputs = [[part for part in parts if len(part)] for parts in sounding]
    for i, parts in zip(queries, inputs, strict=True):
        if not parts:
            raise InputError(f"{names[i]}: no part has words or speech; give some words to look for")
    found = model.speech_encoder.encode_parts(inputs, side="question")
    for i, text in zip(queries, found.texts, strict=True):
        if not text:
            raise InputError(f"{names[i]}: no words were recognised in this question; ask it again")
    return {i: EncodedQuery(*one) for i, *one in zip(queries, found.texts, found.vectors, strict=True)}


def _sounding(part: str | np.ndarray) -> str | np.ndarray:
    """A part without what has no part in the query: spaces around words, and dead sound."""
    return printable(part.strip()) if isinstance(part, str) else leave_out_dead(part).waveform


def read_query_parts(
    query: Parts, name: str = "the query", read: Callable[[Path, float, float | None], np.ndarray] = read_waveform
) -> list[str | np.ndarray]:
    """The parts of a query: texts, and the waveforms ``(N,)`` of spoken ones.

    Args:
        query: its parts.
        name: of the query in messages.
        read: reads a span of a file; ``Decoder.read_waveform`` for an untrusted file.

    Raises:
        InputError: there are none, or one is neither text nor readable audio of a minute at most.
    """
    return read_parts([part if isinstance(part, str) else _on_disk(part) for part in query], name, TOO_LONG, read)


def read_spoken_query(
    query: Speech, read: Callable[[Path, float, float | None], np.ndarray] = read_waveform
) -> np.ndarray:
    """The waveform ``(N,)`` of a spoken query.

    Args:
        query: its file, its waveform, or a clip.
        read: reads a span of a file; ``Decoder.read_waveform`` for an untrusted file.

    Raises:
        InputError: it cannot be read, is no mono waveform, or lasts longer than a minute.
    """
    query = _on_disk(query)
    return read_speech(query, LONGEST_S, _name(query), TOO_LONG, read)


def read_queries(path: Path) -> list[ListedQuery]:
    """Queries of a file, in its order.

    A line is a typed query, whose id is the line's number; empty lines are skipped. In a file ``*.jsonl`` a line
    is an object with ``id`` and ``question``, or ``audio``: the path of a spoken one, which counts from the file; or
    ``data``: a list of parts, each a text, or audio as ``clsr.audio.clip.parse_part`` knows it.

    Raises:
        InputError: with file and line: it cannot be read, a line is no question, or an id is there twice.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as text in UTF-8 ({error}); check the path") from error
    queries: dict[str, ListedQuery] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            listed = _listed(line, path) if path.suffix == ".jsonl" else ListedQuery(str(number), line.strip())
        except InputError as error:
            raise InputError(f"{path}:{number}: {error}") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"{path}:{number}: is no question ({error!r}); give id, and question, audio or data"
            ) from error
        if listed.id in queries:
            raise InputError(f"{path}:{number}: {listed.id}: is there twice; make ids unique")
        queries[listed.id] = listed
    if not queries:
        raise InputError(f"{path}: holds no question; write one a line")
    return list(queries.values())


def _listed(line: str, path: Path) -> ListedQuery:
    row = json.loads(line, object_pairs_hook=each_once)
    kinds = [kind for kind in ("question", "audio", "data") if row.get(kind) is not None]
    if not isinstance(row["id"], str | int) or len(kinds) != 1:
        raise ValueError("id is no text, or there is not one of question, audio and data")
    value = row[kinds[0]]
    if kinds[0] == "data":
        try:
            return ListedQuery(str(row["id"]), [*parse_parts(value, path.parent)])
        except InputError as error:
            raise InputError(f"{row['id']}: {error}") from error
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{kinds[0]} is no text")
    return ListedQuery(str(row["id"]), path.parent / value if kinds[0] == "audio" else value)


def _on_disk(query: Speech) -> Speech:
    if isinstance(query, Clip) and not isinstance(query.audio, np.ndarray):
        return replace(query, audio=as_on_disk(Path(query.audio)))
    return as_on_disk(query) if isinstance(query, Path) else query


def _name(query: Speech) -> str:
    return "the spoken question" if isinstance(query, np.ndarray) else str(query)


def _require_words(query: str) -> str:
    if not query.strip():
        raise InputError("the question is empty; give some words to look for")
    return printable(query)


def _say_what_is_cut(text: str, text_encoder: SentenceEncoder) -> None:
    surplus = text_encoder.surplus(text, "question")
    if surplus:
        log.warning(
            "the question is longer than the text encoder reads: its last %d of %d tokens have no part in its vector; "
            "shorten it (%s...)", surplus, surplus + text_encoder.max_tokens, " ".join(text.split())[:40],
        )  # fmt: skip
