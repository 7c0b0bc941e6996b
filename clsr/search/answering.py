"""A question -> the windows that may hold its answer -> the answer, in words."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from clsr.audio.decoding import Decoder
from clsr.errors import InputError
from clsr.index.config import Mode
from clsr.index.filters import Filter
from clsr.search.answerers import Answerer, load_answerer
from clsr.search.hit import Hit
from clsr.search.query import read_spoken_query
from clsr.search.retriever import Retriever


@dataclass(frozen=True)
class Reply:
    """The reply to a question.

    Attributes:
        question: as typed, or as recognised.
        answer: in words; None without answerer, without sources, or where the answerer failed.
        sources: the windows that were handed over, best first.
        error: what the answerer failed by.
    """

    question: str
    answer: str | None
    sources: list[Hit]
    error: str | None = None

    def to_json(self) -> str:
        """The reply as one line of JSON; sources as ``clsr search --json`` has them."""
        values = {"question": self.question, "answer": self.answer, "sources": [hit.values() for hit in self.sources]}
        return json.dumps(values | ({"error": self.error} if self.error else {}), ensure_ascii=False)


def ask(
    retriever: Retriever,
    question: str | Path,
    answerer: Answerer | str | None = None,
    top_k: int = 3,
    mode: Mode | None = None,
    only: Filter | None = None,
    exact: bool = False,
) -> Reply:
    """Find the windows for a question and give their audio to the answerer, best window first.

    The answerer gets windows whole, not only the moments in them: an answer may need what was said before.

    Args:
        retriever: of the index.
        question: typed, or the path of a spoken one, which the answerer gets as it is spoken.
        answerer: answers, or its reference (``clsr.search.answerers.load_answerer``); None finds windows only.
        top_k: windows at most.
        mode, only, exact: as for ``Retriever.search``.

    Raises:
        InputError: as ``Retriever.search`` does. A fault of the answerer is in the reply, beside the windows.
    """
    query = retriever.encode(question)
    hits = retriever.search(query, top_k, mode, only, exact)
    if answerer is None or not hits:
        return Reply(query.text, None, hits)
    try:
        if isinstance(answerer, str):
            answerer = load_answerer(answerer)
        with Decoder() as decoder:
            windows = [decoder.read_waveform(hit.recording, hit.window_start_s, hit.window_end_s) for hit in hits]
            put = question if isinstance(question, str) else read_spoken_query(question, decoder.read_waveform)
        return Reply(query.text, answerer.answer(put, windows), hits)
    except InputError as error:
        return Reply(query.text, None, hits, str(error))
    except Exception as error:  # a third-party model may raise anything; the windows are returned all the same
        reason = " ".join(str(error).split())[:200]
        return Reply(query.text, None, hits, f"the answerer failed ({type(error).__name__}: {reason})")
