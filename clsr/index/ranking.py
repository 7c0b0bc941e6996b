"""A query's vector and words -> a ranking of windows: by cosine, by BM25, or by both. Internal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import numpy as np

from clsr.errors import InputError
from clsr.index.filters import quote
from clsr.index.tables import SEGMENTS_COLUMN, SPAN_COLUMNS, SPOKEN, TEXT_COLUMN, brief, full_text_config
from clsr.index.vector_cache import CACHE_BYTES, VectorCache, cache_vectors, cosines_of
from clsr.lance import TableReader, numbers
from clsr.vocabulary import Word, fold_accents, normalise

if TYPE_CHECKING:
    import pyarrow

RECOGNISED_COLUMNS = ["id", TEXT_COLUMN, "words", SEGMENTS_COLUMN]
RECIPROCAL_K = 60  # of reciprocal rank fusion, as Cormack et al. (2009) have it
FUSED_DEPTH = 1000  # windows of each ranking that fusion reads: below it a rank is worth less than 0.001
PROBES = 350  # partitions of an approximate index that a search reads: more raise recall and time
REFINED = 400  # windows found by an approximate index whose exact cosines are computed, at least; else twice the wanted

Result = TypeVar("Result")


class ScoredSpan(Protocol):
    """A window of a recording and its score."""

    @property
    def recording(self) -> str: ...

    @property
    def start_s(self) -> float: ...

    @property
    def end_s(self) -> float: ...

    @property
    def score(self) -> float: ...


SpanT = TypeVar("SpanT", bound=ScoredSpan)


class RankedWindow(NamedTuple):
    """A window of a ranking."""

    id: str
    recording: str
    start_s: float
    end_s: float
    score: float
    row: int = -1  # the table's own number of the row, until a writer moves it; -1 where it is not known


class CachedRanking(NamedTuple):
    """Windows of a vector cache, best first."""

    at: np.ndarray  # (N,) their positions
    scores: np.ndarray  # (N,)


class RecognisedWindow(NamedTuple):
    """What was recognised in a window; times in seconds from the start of the recording."""

    start_s: float
    end_s: float
    text: str
    words: list[Word]
    segments: bytes  # vectors of its segments, see clsr.index.segments


class Ranker:
    """Ranks the windows of a table in which words were recognised.

    From the second search by vectors of one version of the table on, the vectors are cached in memory, where they fit.
    The first search reads them from the disk: it may be the only one, or a writer may be making versions all the time.

    Args:
        table: of windows, as ``clsr.index.tables`` describes it.
        cache_bytes: of vectors that may be cached in memory; 0 caches none.
    """

    def __init__(self, table: TableReader, cache_bytes: int = CACHE_BYTES) -> None:
        self.table = table
        self.width: int = table.schema.field("vector").type.list_size  # of the vectors
        self.cache_bytes = cache_bytes
        self._version: int | None = None  # of the table, at the last search
        self._searches = 0  # by vectors, of this version
        self._cache: VectorCache | None = None  # of this version
        self._texts: tuple[int | None, TableReader] | None = (
            None  # version of the table, and what has its full-text index
        )

    def search(
        self, vector: np.ndarray | None, words: str | None, top_k: int, where: str = "", exact: bool = False
    ) -> list[RankedWindow]:
        """The best windows by vector, by words, or by both (``fuse``); overlapping windows count as one.

        Args:
            vector: unit vector ``(E,)`` of the query; ``None`` ranks by words alone.
            words: the query as text; ``None`` ranks by the vector alone.
            top_k: windows at most.
            where: a condition in SQL that windows have to meet.
            exact: compare every window, even if the table has an approximate index of vectors.
        """
        if vector is not None and words is not None:
            return read_down(lambda limit: self._fused(vector, words, top_k, limit, where, exact), top_k, FUSED_DEPTH)

        def ranking(limit: int) -> tuple[list[RankedWindow], bool]:
            dense = self.dense(vector, limit, where, exact) if vector is not None else []
            found = dense or (self.bm25(words, limit, where) if words is not None else [])
            return found, len(found) >= limit

        return read_down(ranking, top_k, 4 * top_k)

    def _fused(
        self, vector: np.ndarray, words: str, top_k: int, limit: int, where: str, exact: bool
    ) -> tuple[list[RankedWindow], bool]:
        """The head of both rankings fused, long enough for ``top_k`` after merging, and whether there may be more.

        LanceDB looks for the words while vectors are compared here.
        """
        cache = read(self._cached)
        matches = self._matching(words, limit, where, cache, self._version)
        if cache is None:
            dense, by_words = self._dense_on_disk(vector, limit, where, exact), matches()
            assert not isinstance(by_words, CachedRanking)  # for there is no cache
            return fuse(dense, by_words), max(len(dense), len(by_words)) >= limit
        near, found = CachedRanking(*cache.nearest(vector, limit, self._among(cache, where))), matches()
        if isinstance(found, CachedRanking):
            return _fused_head(cache, near.at, found.at, top_k), max(len(near.at), len(found.at)) >= limit
        return fuse(_cached_windows(cache, near), found), max(len(near.at), len(found)) >= limit

    def dense(self, vector: np.ndarray, limit: int, where: str = "", exact: bool = False) -> list[RankedWindow]:
        """The windows whose vectors have the greatest cosine with a unit vector ``(E,)``, greatest first.

        Every window is compared, unless the vectors are not cached in memory, the table has an approximate index of
        metric "dot" (one of another metric is ignored), and ``exact`` is false; the cosines of what that finds are
        exact too.
        """
        cache = read(self._cached)
        if cache is None:
            return self._dense_on_disk(vector, limit, where, exact)
        return _cached_windows(cache, CachedRanking(*cache.nearest(vector, limit, self._among(cache, where))))

    def _dense_on_disk(self, vector: np.ndarray, limit: int, where: str, exact: bool) -> list[RankedWindow]:
        found = read(lambda: self._on_disk(vector, limit, where, exact))
        cosines = cosines_of(numbers(found["vector"]), vector)  # as from memory, to the last digit
        windows = _windows(found, cosines.tolist())
        return [windows[i] for i in np.lexsort((numbers(found["_rowid"]), -cosines)).tolist()]

    def _among(self, cache: VectorCache, where: str) -> np.ndarray | None:
        """Positions of the windows that meet a condition; ``None`` without one."""
        if not where:
            return None
        among = cache.positions(self._rows(where))
        return among[among >= 0]

    def _on_disk(self, vector: np.ndarray, limit: int, where: str, exact: bool) -> pyarrow.Table:
        def search(condition: str, prefilter: bool) -> pyarrow.Table:
            probes, refine = (None, None) if exact else (PROBES, max(2, -(-REFINED // limit)))
            columns = [*SPAN_COLUMNS, "vector"]
            return self.table.nearest(vector, limit, columns, condition, prefilter, probes, refine)

        if where:
            return search(f"({where}) AND {SPOKEN}", True)
        # Finding the silent windows first takes as long as comparing all; silent ones rarely rank high.
        found = search(SPOKEN, False)
        return found if len(found) == limit else search(SPOKEN, True)

    def bm25(self, text: str, limit: int, where: str = "") -> list[RankedWindow]:
        """The windows whose transcripts share words with a text, by falling BM25 of LanceDB's full-text search.

        Rows that were written since the full-text index was brought up to date are searched too; where there is no
        such index, one is made in memory.
        """
        version = read(lambda: self.table.version)
        cache = self._cache if self._version == version else None
        found = self._matching(text, limit, where, cache, version)()
        if isinstance(found, CachedRanking):
            assert cache is not None  # or it would be one of windows
            return _cached_windows(cache, found)
        return found

    def _matching(
        self, text: str, limit: int, where: str, cache: VectorCache | None, version: int | None
    ) -> Callable[[], CachedRanking | list[RankedWindow]]:
        """Start to look for words; what comes back waits for their ranking.

        Args:
            text, limit, where: as for ``bm25``.
            cache: of the vectors, which has the windows too; a ranking of others is one of windows.
            version: of the table.
        """
        terms = _terms(text)
        if not terms:
            return list
        texts = read(lambda: self._full_text(version))

        def start(columns: list[str]) -> Future[pyarrow.Table]:
            return texts.matching(terms, limit, columns, where)

        cached = cache is not None and texts is self.table
        started = [start([] if cached else SPAN_COLUMNS)]

        def wait() -> CachedRanking | list[RankedWindow]:
            found = read(lambda: (started.pop() if started else start([] if cached else SPAN_COLUMNS)).result())
            if cache is not None and cached:
                at = cache.positions(numbers(found["_rowid"]))
                if (at >= 0).all():
                    return CachedRanking(at, numbers(found["_score"]))
                found = read(lambda: start(SPAN_COLUMNS).result())  # a writer has been there since
            windows = _windows(found, found["_score"].to_pylist())
            return windows if texts is self.table else [window._replace(row=-1) for window in windows]

        return wait

    def recognised(self, windows: Iterable[RankedWindow]) -> dict[str, RecognisedWindow]:
        """Recognised text of windows by id, without windows that a writer has deleted since."""
        wanted = {window.id: window for window in windows}
        found = self._taken(wanted)
        ids = ", ".join(quote(id_) for id_ in wanted if id_ not in found)
        if ids:
            found |= _by_id(read(lambda: self.table.scan(RECOGNISED_COLUMNS, f"id IN ({ids})")), wanted)
        return found

    def _taken(self, wanted: dict[str, RankedWindow]) -> dict[str, RecognisedWindow]:
        """``recognised`` for the windows that are still in the rows where they were found, usually all."""
        rows = [window.row for window in wanted.values() if window.row >= 0]
        if not rows:
            return {}
        try:
            return _by_id(self.table.take(rows, RECOGNISED_COLUMNS), wanted)
        except (OSError, RuntimeError, ValueError):  # a writer has moved them
            return {}

    def _cached(self) -> VectorCache | None:
        version = self.table.version
        if version != self._version:
            self._version, self._searches, self._cache = version, 0, None
        self._searches += 1
        if self._searches == 2:
            self._cache = cache_vectors(self.table, self.cache_bytes)
        return self._cache

    def _rows(self, where: str) -> np.ndarray:
        """The table's own numbers of the rows that meet a condition."""
        # Without any column, LanceDB takes ten times as long.
        return numbers(read(lambda: self.table.scan(["recording"], where, row_ids=True))["_rowid"])

    def _full_text(self, version: int | None) -> TableReader:
        """What is searched for words: the table, or in its place a copy of its texts that has an index."""
        if self._texts is None or self._texts[0] != version:
            indexed = self.table.is_indexed(TEXT_COLUMN)
            self._texts = version, self.table if indexed else _index_in_memory(self.table)
        return self._texts[1]


def fuse(*rankings: Sequence[RankedWindow]) -> list[RankedWindow]:
    """Reciprocal rank fusion (Cormack, Clarke and Buettcher, SIGIR 2009): windows by the sum of their reciprocal ranks.

    The first window of a ranking has rank 1::

        score(window) = sum over rankings that have it of 1 / (60 + rank)

    Equal sums go by recording, then by start.
    """
    sums: dict[str, float] = {}
    windows: dict[str, RankedWindow] = {}
    for ranking in rankings:
        for rank, window in enumerate(ranking, start=1):
            sums[window.id] = sums.get(window.id, 0.0) + 1.0 / (RECIPROCAL_K + rank)
            windows[window.id] = window
    fused = [windows[id_]._replace(score=score) for id_, score in sums.items()]
    return sorted(fused, key=lambda window: (-window.score, window.recording, window.start_s))


def read_down(ranking: Callable[[int], tuple[list[RankedWindow], bool]], top_k: int, limit: int) -> list[RankedWindow]:
    """Read a ranking until ``top_k`` windows are left after merging those that overlap, or none are left to read.

    Args:
        ranking: so many of its windows, and whether there may be more.
        top_k: windows wanted.
        limit: windows read first.
    """
    while True:
        windows, more = ranking(limit)
        merged = merge(windows, top_k)
        if len(merged) == top_k or not more:
            return merged
        limit *= 4


def merge(hits: Iterable[SpanT], top_k: int | None = None) -> list[SpanT]:
    """The best of each group of overlapping hits, best first.

    Greedy: hits are taken by falling score, and one that overlaps a hit already taken from its recording is dropped.
    Windows that only touch do not overlap. Equal scores go by recording, then by start. Dropping depends on better hits
    alone, so the first hits of a longer list are those of its head.

    Args:
        hits: in any order.
        top_k: hits at most; ``None`` is all.
    """
    kept: list[SpanT] = []
    of_recording: dict[str, list[SpanT]] = {}
    for hit in sorted(hits, key=lambda hit: (-hit.score, hit.recording, hit.start_s)):
        if len(kept) == top_k:
            break
        taken = of_recording.setdefault(hit.recording, [])
        if not any(_overlap(hit, other) for other in taken):
            kept.append(hit)
            taken.append(hit)
    return kept


def read(search: Callable[[], Result]) -> Result:
    """Run a search, and rerun it once if it fails: a writer may have deleted the files of its version.

    Raises:
        InputError: it failed twice.
    """
    try:
        return search()
    except Exception:  # LanceDB raises any on damage, even those of Rust
        try:
            return search()
        except InputError:
            raise
        except Exception as error:
            raise InputError(f"the index cannot be read ({brief(error)}); see what clsr index --verify says") from error


def _overlap(one: ScoredSpan, other: ScoredSpan) -> bool:
    return one.start_s < other.end_s and other.start_s < one.end_s


def _terms(text: str) -> str:
    """The words of a query; some recognisers write no accents, so words without them are searched for as well.

    Those of Latin letters are left to the full-text index, which knows no accents of theirs.
    """
    words = normalise(text).split()
    folded = [fold_accents(word) for word in words]
    return " ".join([*words, *(f for word, f in zip(words, folded, strict=True) if f != word and not f.isascii())])


def _windows(found: pyarrow.Table, scores: Sequence[float]) -> list[RankedWindow]:
    columns: list[list[Any]] = [found[name].to_pylist() for name in SPAN_COLUMNS]
    return [RankedWindow(*row) for row in zip(*columns, scores, found["_rowid"].to_pylist(), strict=True)]


def _cached_windows(cache: VectorCache, ranking: CachedRanking) -> list[RankedWindow]:
    columns = ranking.at.tolist(), ranking.scores.tolist(), cache.rows[ranking.at].tolist()
    return [RankedWindow(*cache.spans[i], *found) for i, *found in zip(*columns, strict=True)]


def _fused_head(cache: VectorCache, near: np.ndarray, matches: np.ndarray, top_k: int) -> list[RankedWindow]:
    """The best windows of two rankings fused, as ``fuse`` has them, enough for ``top_k`` after merging, or all.

    Two rankings are a thousand windows each, of which few are hits: to make objects of all takes longer than to fuse.

    Args:
        cache: that has the windows.
        near, matches: positions of the windows in it, best first.
        top_k: windows wanted after merging.
    """
    ranks = np.concatenate([np.arange(len(near)), np.arange(len(matches))]) + 1
    at, places = np.unique(np.concatenate([near, matches]), return_inverse=True)
    sums = np.bincount(places, 1.0 / (RECIPROCAL_K + ranks), len(at))
    order = np.argsort(-sums)
    at, sums = at[order], sums[order]
    windows: list[RankedWindow] = []
    for count in (4 * top_k, len(at)):
        ties = int(np.searchsorted(-sums, -sums[count - 1], "right")) if count <= len(at) and count else len(at)
        windows = _cached_windows(cache, CachedRanking(at[:ties], sums[:ties]))
        if len(merge(windows, top_k)) == top_k:
            break
    return windows


def _by_id(found: pyarrow.Table, wanted: dict[str, RankedWindow]) -> dict[str, RecognisedWindow]:
    rows = {row["id"]: row for row in found.to_pylist() if row["id"] in wanted}
    return {
        id_: RecognisedWindow(
            wanted[id_].start_s, wanted[id_].end_s, row[TEXT_COLUMN], [Word(**word) for word in row["words"]],
            row[SEGMENTS_COLUMN],
        )
        for id_, row in rows.items()
    }  # fmt: skip


def _index_in_memory(table: TableReader) -> TableReader:
    from lancedb.db import LanceDBConnection

    rows = table.scan([*SPAN_COLUMNS, "modified", TEXT_COLUMN], SPOKEN)
    copy = LanceDBConnection("memory://").create_table("texts", rows)
    copy.create_index(TEXT_COLUMN, config=full_text_config())
    return TableReader.of(copy)
