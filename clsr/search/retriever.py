"""An index and its model: query -> ranked hits with times. ``Retriever`` is ``clsr.Retriever``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from clsr.errors import InputError
from clsr.index.config import HIT_UNITS, MODES, HitUnit, Mode
from clsr.index.filters import Filter
from clsr.index.index import Index
from clsr.index.ranking import RankedWindow, RecognisedWindow
from clsr.model import Model
from clsr.search.hit import Hit
from clsr.search.moments import Moment, find_moments, moments_of
from clsr.search.passage_cache import PassageCache
from clsr.search.query import EncodedQuery, Query, encode_queries
from clsr.search.token_matches import TokenMatch, find_token_matches
from clsr.search.units import best_recordings, best_segments, token_run, windows_wanted
from clsr.search.weak import least_score

if TYPE_CHECKING:
    from clsr.config import Precision
    from clsr.text.encoder import TextTokens

KEPT_QUERIES = 64  # whose token vectors are kept: a page asks for hits, then for profiles


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
        encode = model.query_encoder.encode_tokens
        self._tokens_of = lru_cache(KEPT_QUERIES)(lambda text: encode([text], "question")[0])

    @classmethod
    def open(
        cls,
        uri: str | Path,
        model: str | Path | None = None,
        device: str = "cpu",
        precision: Precision = "auto",
        code_pooling: int | None = None,
    ) -> Retriever:
        """Open an index and the model that built it; of the model, only the text encoder is loaded.

        Args:
            uri: folder of the index, or its address in an object store.
            model: the model's reference, where its folder is no longer the one that built the index.
            device: to load the whole model on, for spoken queries; typed ones are encoded on the processor.
            precision: numbers that queries are encoded in; typed ones in "auto" where the device is no processor.
            code_pooling: number of successive codes of a spoken query whose mean takes their place; by default that of
                the index.

        Raises:
            InputError: there is no index or nothing in it, or the model is missing or another one.
        """
        index = Index.open(uri)
        return cls(index, index.load_model(model, device, precision, code_pooling=code_pooling))

    def search(
        self,
        query: Query,
        top_k: int = 10,
        mode: Mode | None = None,
        only: Filter | None = None,
        exact: bool = False,
        unit: HitUnit = "window",
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
                with the query are hits ("bm25"), by both, fused by reciprocal ranks ("hybrid"), or by cosine and then
                the thousand best again by the vectors of their tokens ("maxsim"; ``Index.add_token_vectors``). By
                default "maxsim" where the index has token vectors, else "dense".
            only: recordings, folder and dates to look at; ``None`` is all.
            exact: compare every window, even if the index has an approximate index of vectors.
            unit: what a hit is. "window": the best segment of a window, as the window ranks. "segment": speech between
                two pauses, of the best windows, ranked by the cosine of its own vector. "recording": a whole one, by
                the sum of its three best windows, whose text is that of its best moment. "tokens": in mode "maxsim"
                the shortest run of words that holds half of what matched, as the window ranks.

        Raises:
            InputError: the query is empty or cannot be read or understood, ``top_k`` is below 1, there is no such
                mode or unit, a recording that is looked at is not in the index, or the index has no token vectors for
                "maxsim".
        """
        return self.search_many([query], top_k, mode, only, exact, unit)[0]

    def search_many(
        self,
        queries: Sequence[Query],
        top_k: int = 10,
        mode: Mode | None = None,
        only: Filter | None = None,
        exact: bool = False,
        unit: HitUnit = "window",
    ) -> list[list[Hit]]:
        """The hits of each query, as ``search`` finds them; queries are encoded together."""
        mode = mode or self.best_mode
        if mode not in MODES:
            raise InputError(f"there is no mode {mode!r}; give {', '.join(MODES)}")
        if unit not in HIT_UNITS:
            raise InputError(f"there is no unit {unit!r}; give {', '.join(HIT_UNITS)}")
        if unit == "tokens" and mode != "maxsim":
            raise InputError("unit tokens shows which tokens matched, which mode maxsim alone compares; give both")
        return [self._hits(one, top_k, mode, only, exact, unit) for one in self.encode_many(queries)]

    @property
    def best_mode(self) -> Mode:
        """The mode of a search that names none: "maxsim" where the index has token vectors, else "dense"."""
        return "maxsim" if self.index.has_token_vectors else "dense"

    def profiles(
        self, query: Query, recordings: Iterable[str], mode: Mode | None = None
    ) -> dict[str, list[tuple[float, float, float]]]:
        """How well each window of some recordings matches a query, as ``Index.profile`` says it, by recording.

        Args:
            query: as for ``search``.
            recordings: their files.
            mode: as for ``search``; scores are those of vectors in modes that compare words.

        Raises:
            InputError: as ``search``.
        """
        encoded = self.encode(query)
        tokens = self._tokens(encoded) if (mode or self.best_mode) == "maxsim" else None
        return {recording: self.index.profile(encoded.vector, recording, tokens) for recording in recordings}

    def encode(self, query: Query) -> EncodedQuery:
        """Encode a query once; the result can be searched for several times.

        Raises:
            InputError: the query is empty or cannot be read or understood.
        """
        return self.encode_many([query])[0]

    def encode_many(self, queries: Sequence[Query], ids: Sequence[str] = ()) -> list[EncodedQuery]:
        """The words and vectors of queries, encoded together; messages about their parts name these ids."""
        return encode_queries(queries, self.model, ids)

    def _hits(
        self, query: EncodedQuery, top_k: int, mode: Mode, only: Filter | None, exact: bool, unit: HitUnit
    ) -> list[Hit]:
        vector, words = query.vector if mode != "bm25" else None, query.text if mode in ("bm25", "hybrid") else None
        tokens = self._tokens(query) if mode == "maxsim" else None
        depth = top_k if unit == "window" else windows_wanted(unit, top_k)
        ranked = self.index.search(vector, words, depth, only, exact, tokens)
        if unit == "recording":
            ranked = best_recordings(ranked, top_k)
        found = self.index.recognised(ranked)
        if unit == "segment":
            runs = best_segments(self._passages, query.vector, found, top_k)
            found = [(one.window._replace(score=one.score), one.run[0]) for one in runs]
        windows = [window for window, _ in found]
        matched = find_token_matches(self.index, windows, query.text, tokens) if tokens else [()] * len(windows)
        if unit == "segment":
            moments = moments_of(self._passages, query.vector, [one.run for one in runs])
        elif unit == "tokens":
            of_tokens = [token_run(window, matches) for (_, window), matches in zip(found, matched, strict=True)]
            moments = moments_of(self._passages, query.vector, of_tokens)
        else:
            moments = find_moments(self._passages, query.vector, [recognised for _, recognised in found])
        if unit == "recording":
            moments = [self._whole(window, moment) for window, moment in zip(windows, moments, strict=True)]
        description = self.index.description
        weak = [
            unit in ("window", "tokens") and window.score < least_score(description, mode, window) for window in windows
        ]
        return self._as_hits(found, moments, matched, weak)

    def _whole(self, window: RankedWindow, moment: Moment) -> Moment:
        """A moment with the times of its whole recording."""
        entry = self.index.entries().get(window.recording)
        return moment._replace(start_s=0.0, end_s=max(window.end_s, entry.duration_s if entry else 0.0))

    def _as_hits(
        self,
        found: Sequence[tuple[RankedWindow, RecognisedWindow]],
        moments: Sequence[Moment],
        matched: Sequence[tuple[TokenMatch, ...]],
        weak: Sequence[bool],
    ) -> list[Hit]:
        flagged = self.index.flagged()
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
                tokens=token_matches,
                weak=is_weak,
            )
            for rank, ((window, recognised), moment, token_matches, is_weak) in enumerate(
                zip(found, moments, matched, weak, strict=True), start=1
            )
        ]

    def _tokens(self, query: EncodedQuery) -> TextTokens:
        """The tokens of a query, of a spoken one those of its transcript.

        Raises:
            InputError: its text has none.
        """
        tokens = self._tokens_of(query.text)
        if not tokens.ids:
            raise InputError("the question has no token that the text encoder knows; ask in words")
        return tokens
