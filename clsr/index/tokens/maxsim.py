"""A query's token vectors -> scores of windows by MaxSim, and the tokens that matched. Internal."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from clsr.audio.pauses import Span
from clsr.errors import InputError
from clsr.index.filters import quote
from clsr.index.ranking import RankedWindow, read
from clsr.index.tables import TOKENS, IndexTables
from clsr.index.tokens.compression import Projection, scales_of
from clsr.index.tokens.description import DESCRIPTION, MEMBER, TokenDescription, read_description
from clsr.lance import TableReader
from clsr.text.encoder import TextTokens

FEW = 100  # recordings whose token vectors are read by themselves at a first search; else all are read, and kept
TILE_BYTES = 4096  # of the vectors of a tile, about: 20 s of speech
BLOCK = 512  # vectors that become floats at once: they stay in the processor's cache
COLUMNS = ["recording", "start_s", "end_s", "window_start_s", "window_end_s", "members", "vectors"]

_log = logging.getLogger("clsr")


class MatchedToken(NamedTuple):
    """The best match of a query's token in a window."""

    token: int  # of the query, its number
    cosine: float
    source: Span  # the window whose words these are, which may be a neighbour
    words: list[int]  # their places in it


class TokenCache:
    """The token vectors of recordings in memory.

    Args:
        rows: of the table of token vectors, with ``COLUMNS``.
        width: of a vector, R.
    """

    def __init__(self, rows: Sequence[dict[str, Any]], width: int) -> None:
        rows = sorted(rows, key=lambda row: (row["recording"], row["start_s"]))
        self._recordings = {recording: n for n, recording in enumerate(dict.fromkeys(r["recording"] for r in rows))}
        numbers = [self._recordings[row["recording"]] for row in rows]
        self._starts = _keys(numbers, [row["start_s"] for row in rows])
        self._ends = _keys(numbers, [row["end_s"] for row in rows])
        self._sources = [(row["window_start_s"], row["window_end_s"]) for row in rows]
        self._members = [row["members"] for row in rows]
        self.vectors = np.frombuffer(b"".join(row["vectors"] for row in rows), np.int8).reshape(-1, width)
        self._first = np.cumsum([0, *(len(row["vectors"]) // width for row in rows)])  # vector of each tile
        self._scales = np.concatenate([scales_of(part) for part in _blocks(self.vectors)])

    def scores(self, windows: Sequence[RankedWindow], query: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """The MaxSim of each window: of the query's tokens, the weighted mean of the best cosine with a token of it.

        Args:
            windows: to score.
            query: projected token vectors, unit rows ``(Q, R)``.
            weights: of the query's tokens, ``(Q,)``, of sum 1.

        Returns:
            ``(W,)`` float32, -1 to 1; NaN for a window without token vectors.
        """
        first, end = self._tiles(windows)
        none = first >= end
        scores = np.full(len(windows), np.nan, np.float32)
        if none.all():
            return scores
        borders = np.zeros(len(self._sources) + 1, np.int32)  # tiles that lie in any window
        np.add.at(borders, first[~none], 1)
        np.add.at(borders, end[~none], -1)
        needed = np.cumsum(borders[:-1]) > 0
        best = self._best_of_tiles(np.flatnonzero(needed), query)  # (Q, T)
        place = np.concatenate([[0], np.cumsum(needed)])  # of each tile among those needed
        pairs = np.stack([place[first[~none]], place[end[~none]]], 1).ravel()
        closed = np.pad(best, ((0, 0), (0, 1)))  # so that a pair may end there
        scores[~none] = weights @ np.maximum.reduceat(closed, pairs, 1)[:, ::2]
        return scores

    def matches(self, window: RankedWindow, query: np.ndarray) -> list[MatchedToken]:
        """The best match of each token of a query in a window; none without token vectors."""
        (first,), (end,) = self._tiles([window])
        if first >= end:
            return []
        tiles = np.arange(first, end)
        start = int(self._first[first])
        cosines = self._cosines(np.arange(start, self._first[end]), query)
        found = []
        for token, at in enumerate(cosines.argmax(1).tolist()):
            tile = int(tiles[np.searchsorted(self._first[tiles], start + at, "right") - 1])
            members = np.frombuffer(self._members[tile], MEMBER)
            words = members["word"][members["cluster"] == start + at - self._first[tile]]
            found.append(MatchedToken(token, float(cosines[token, at]), self._sources[tile], np.unique(words).tolist()))
        return found

    def _tiles(self, windows: Sequence[RankedWindow]) -> tuple[np.ndarray, np.ndarray]:
        """The first tile of each window, and the one after its last."""
        numbers = [self._recordings.get(window.recording, -1) for window in windows]
        first = np.searchsorted(self._starts, _keys(numbers, [window.start_s for window in windows]))
        end = np.searchsorted(self._ends, _keys(numbers, [window.end_s for window in windows]), "right")
        return first, end

    def _best_of_tiles(self, tiles: np.ndarray, query: np.ndarray) -> np.ndarray:
        """The best cosine of each token of a query in each tile, ``(Q, T)``."""
        counts = self._first[tiles + 1] - self._first[tiles]
        starts = np.concatenate([[0], np.cumsum(counts)])
        at = np.arange(starts[-1]) + np.repeat(self._first[tiles] - starts[:-1], counts)
        return np.maximum.reduceat(self._cosines(at, query), starts[:-1], 1)

    def _cosines(self, at: np.ndarray, query: np.ndarray) -> np.ndarray:
        """Cosines of a query's tokens and of vectors, by their places: ``(Q, N)``."""
        cosines = np.empty((len(query), len(at)), np.float32)
        for start in range(0, len(at), BLOCK):
            block = at[start : start + BLOCK]
            np.matmul(query, self.vectors[block].astype(np.float32).T, out=cosines[:, start : start + BLOCK])
        cosines *= self._scales[at]
        return cosines


class MaxSim:
    """Ranks windows of an index again by the vectors of their tokens.

    Those of few recordings are read from the disk at the first search of a version of the table. From the second on,
    those of all are kept in memory, where they fit.

    Args:
        tables: of the index.
        cache_bytes: that may be kept.
    """

    def __init__(self, tables: IndexTables, cache_bytes: int) -> None:
        self.tables = tables
        self.location = tables.location
        self.cache_bytes = cache_bytes
        self._state: tuple[object, ...] | None = None  # of table and description at the last search
        self._description: TokenDescription | None = None
        self._searches = 0  # of this state
        self._all: TokenCache | None = None  # of this state

    @property
    def is_there(self) -> bool:
        """Whether the index has token vectors.

        Raises:
            InputError: their description is damaged.
        """
        self._refresh()
        return self._description is not None

    def rerank(self, windows: Sequence[RankedWindow], tokens: TextTokens) -> list[RankedWindow]:
        """Windows with their MaxSim as the score, in the order given.

        Those that have no token vectors yet get the score that goes with their cosine, on the line of least squares
        through the others: what is being indexed is found, too.

        Args:
            windows: as a ranking by vectors has them.
            tokens: of the query.

        Raises:
            InputError: the index has no token vectors, or they have another width; it cannot be read.
        """
        cache, description = self._open(windows)
        query = _projected(description.projection, tokens)
        scores = cache.scores(windows, query, description.weights(tokens.ids))
        without = np.isnan(scores)
        if without.any():
            scores[without] = expected(np.array([window.score for window in windows], np.float32), scores)[without]
            _log.warning("%s: %d of %d windows have no token vectors yet and are ranked by their own vectors; where no "
                         "indexing is under way, add them with clsr index --token-vectors", self.location,
                         without.sum(), len(windows))  # fmt: skip
        return [window._replace(score=score) for window, score in zip(windows, scores.tolist(), strict=True)]

    def matches(self, windows: Sequence[RankedWindow], tokens: TextTokens) -> list[list[MatchedToken]]:
        """Of each window, the best match of each token of a query, in the order of the query.

        Args:
            windows: as ``rerank`` gave them.
            tokens: of the query.

        Raises:
            InputError: as ``rerank``.
        """
        cache, description = self._open(windows)
        query = _projected(description.projection, tokens)
        return [cache.matches(window, query) for window in windows]

    def _refresh(self) -> TableReader | None:
        """The table of token vectors; what was read of it and of its description is dropped if either has changed."""
        table = self.tables.reader(TOKENS)
        version = read(lambda: table.version) if table is not None else 0
        state = (table, version, self.location.identity(DESCRIPTION))
        if state != self._state:
            self._description, self._searches, self._all = read_description(self.location), 0, None
            self._state = state
        return table

    def _open(self, windows: Sequence[RankedWindow]) -> tuple[TokenCache, TokenDescription]:
        """Token vectors of at least the recordings of windows, and what they were made with."""
        table, description = self._refresh(), self._description
        if description is None or table is None:
            raise InputError(
                f"{self.location}: has no token vectors, which mode maxsim compares; add them with clsr index --index "
                f"{self.location} --token-vectors, which recognises nothing again"
            )
        if self._all is None:
            self._searches += 1
            wanted = list(dict.fromkeys(window.recording for window in windows))
            first = len(wanted) <= FEW and self._searches == 1
            if first or read(table.count_rows) * TILE_BYTES > self.cache_bytes:
                return _read(table, description.projection, wanted), description
            self._all = _read(table, description.projection)
        return self._all, description


def expected(cosines: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """The score that goes with each cosine, by those that are no NaN; the cosine itself where these give no line."""
    known = ~np.isnan(scores)
    if len(np.unique(cosines[known])) < 2:
        return cosines
    slope, intercept = np.polyfit(cosines[known], scores[known], 1)
    return slope * cosines + intercept


def _projected(projection: Projection, tokens: TextTokens) -> np.ndarray:
    """The vectors of a query's tokens, ``(Q, R)``."""
    width = len(projection.matrix)
    if not tokens.ids or tokens.vectors.shape[1:] != (width,):
        raise InputError(f"token vectors of this index have {width} numbers; the query's are {tokens.vectors.shape}")
    return projection.apply(tokens.vectors)


def _read(table: TableReader, projection: Projection, recordings: Sequence[str] | None = None) -> TokenCache:
    """The token vectors of recordings, by default of all."""
    where = f"projection = {quote(projection.id)}"
    if recordings is not None:
        where += f" AND recording IN ({', '.join(map(quote, recordings))})"
    rows = read(lambda: table.scan(COLUMNS, where)).to_pylist()
    return TokenCache(rows, projection.matrix.shape[1])


def _keys(recordings: Sequence[int], times_s: Sequence[float]) -> np.ndarray:
    """One number for each place: of the recording first, then of its millisecond."""
    return np.asarray(recordings, np.int64) * 10**12 + np.rint(np.asarray(times_s) * 1000).astype(np.int64)


def _blocks(vectors: np.ndarray) -> list[np.ndarray]:
    return [vectors[start : start + BLOCK] for start in range(0, max(1, len(vectors)), BLOCK)]
