"""An index and its model: query -> ranked hits with times. ``Retriever`` is ``clsr.Retriever``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clsr.errors import InputError
from clsr.index.config import MODES, Mode
from clsr.index.filters import Filter
from clsr.index.index import Index
from clsr.model import Model
from clsr.search.hit import Hit
from clsr.search.moments import find_moments
from clsr.search.passage_cache import PassageCache
from clsr.search.query import EncodedQuery, Query, encode_queries

if TYPE_CHECKING:
    from clsr.config import Precision


class Retriever:
    """Finds the moments of indexed recordings that answer a query.

    Args:
        index: with at least one recording.
        model: that built it, for queries.

    Raises:
        InputError: nothing is indexed yet, or another model has built the index.
    """

    def __init__(self, index: Index, model: Model) -> None:
        index.require_model(model)
        index.require_windows()
        self.index = index
        self.model = model
        self._passages = PassageCache(model.query_encoder)

    @classmethod
    def open(
        cls, uri: str | Path, model: str | Path | None = None, device: str = "cpu", precision: Precision = "auto"
    ) -> Retriever:
        """Open an index and the model that built it; of the model, only the text encoder is loaded.

        Args:
            uri: folder of the index, or its address in an object store.
            model: the model's reference, where its folder is no longer the one that built the index.
            device: to load the whole model on, for spoken queries; typed ones are encoded on the processor.
            precision: numbers that queries are encoded in; typed ones in "auto" where the device is no processor.

        Raises:
            InputError: there is no index or nothing in it, or the model is missing or another one.
        """
        index = Index.open(uri)
        return cls(index, index.load_model(model, device, precision))

    def search(
        self,
        query: Query,
        top_k: int = 10,
        mode: Mode = "dense",
        only: Filter | None = None,
        exact: bool = False,
    ) -> list[Hit]:
        """Best moments for a query, best first, fewer than ``top_k`` if the recordings have no more.

        Windows without recognised words are never hits. Of overlapping windows, only the best is a hit
        (``clsr.index.ranking.merge``). A hit's times are those of the best segment of its window
        (``clsr.search.moments.find_moments``).

        Args:
            query: typed (a text), or spoken (a ``Path``, a waveform ``(N,)`` at 16 kHz, or a ``Clip``) for up to a
                minute, or a list of such parts, which are one query in their order. BM25 takes typed words and those
                recognised in the spoken parts.
            top_k: hits at most.
            mode: rank by cosine of vectors ("dense"), by BM25 of transcripts, in which only windows that share a word
                with the query are hits ("bm25"), or by both, fused by reciprocal ranks ("hybrid").
            only: recordings, folder and dates to look at; ``None`` is all.
            exact: compare every window, even if the index has an approximate index of vectors.

        Raises:
            InputError: the query is empty or cannot be read or understood, ``top_k`` is below 1, there is no such
                mode, or a recording that is looked at is not in the index.
        """
        return self.search_many([query], top_k, mode, only, exact)[0]

    def search_many(
        self,
        queries: Sequence[Query],
        top_k: int = 10,
        mode: Mode = "dense",
        only: Filter | None = None,
        exact: bool = False,
    ) -> list[list[Hit]]:
        """The hits of each query, as ``search`` finds them; queries are encoded together."""
        if mode not in MODES:
            raise InputError(f"there is no mode {mode!r}; give {', '.join(MODES)}")
        return [self._hits(one, top_k, mode, only, exact) for one in self.encode_many(queries)]

    def encode(self, query: Query) -> EncodedQuery:
        """Encode a query once; the result can be searched for several times.

        Raises:
            InputError: the query is empty or cannot be read or understood.
        """
        return self.encode_many([query])[0]

    def encode_many(self, queries: Sequence[Query], ids: Sequence[str] = ()) -> list[EncodedQuery]:
        """The words and vectors of queries, encoded together; messages about their parts name these ids."""
        return encode_queries(queries, self.model, ids)

    def _hits(self, query: EncodedQuery, top_k: int, mode: Mode, only: Filter | None, exact: bool) -> list[Hit]:
        vector, words = query.vector if mode != "bm25" else None, query.text if mode != "dense" else None
        found = self.index.recognised(self.index.search(vector, words, top_k, only, exact))
        flagged = self.index.flagged()
        moments = find_moments(self._passages, query.vector, [recognised for _, recognised in found])
        return [
            Hit(
                rank=rank,
                recording=window.recording,
                start_s=moment.start_s,
                end_s=moment.end_s,
                window_start_s=window.start_s,
                window_end_s=window.end_s,
                score=window.score,
                text=moment.text,
                window_text=recognised.text,
                matches=moment.matches,
                flagged=window.recording in flagged,
            )
            for rank, ((window, recognised), moment) in enumerate(zip(found, moments, strict=True), start=1)
        ]
