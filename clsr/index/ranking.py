"""A question's vector and words -> rankings of windows: by cosine, by BM25, or by both."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from clsr.errors import InputError
from clsr.index.filters import quote
from clsr.index.full_text import TEXT_COLUMN, full_text_config
from clsr.index.schema import brief
from clsr.index.spans import merge
from clsr.index.vector_cache import HELD_BYTES, PLACE, SPOKEN, Held, cosines_of, hold
from clsr.vocabulary import Word, normalise

if TYPE_CHECKING:
    import pyarrow
    from lancedb.query import LanceQueryBuilder
    from lancedb.table import LanceTable

SAID = ["id", "text", "words", "stretches"]
RECIPROCAL_K = 60  # of reciprocal rank fusion, as Cormack et al. (2009) have it
FUSED_DEPTH = 1000  # windows of each ranking that fusion reads: below it a rank is worth less than 0.001
PROBES = 100  # partitions of an approximate index that are looked into: recall rises with them, and so does the time
REFINED = 400  # windows found by an approximate index whose exact cosines are computed, at least; else twice the wanted

Result = TypeVar("Result")


class Window(NamedTuple):
    """A window of a ranking."""

    id: str
    recording: str
    start_s: float
    end_s: float
    score: float
    row: int = -1  # the table's own number of the row, until a writer moves it; -1 where it is not known


class Words(NamedTuple):
    """What was recognised in a window."""

    text: str
    words: list[Word]
    stretches: bytes  # vectors of its stretches, see clsr.index.segments


class Rankings:
    """Ranks the windows of a table, those in which nothing was recognised left out.

    From the second search by vectors of one version of the table on, these are held in memory, where they fit. The
    first search reads them from the disk: it may be the only one, or a writer may be making versions all the time.

    Args:
        table: of windows, as ``clsr.index.schema`` describes it.
        held_bytes: of vectors that may be held in memory; 0 holds none.
    """

    def __init__(self, table: LanceTable, held_bytes: int = HELD_BYTES) -> None:
        self.table = table
        self.held_bytes = held_bytes
        self._version: int | None = None  # of the table, at the last search
        self._searches = 0  # by vectors, of this version
        self._held: Held | None = None  # of this version
        self._unindexed: tuple[int, LanceTable] | None = None  # version of the table, and its texts with an index

    def dense(self, vector: np.ndarray, limit: int, where: str = "", exact: bool = False) -> list[Window]:
        """The windows whose vectors have the greatest cosine with a unit vector ``(E,)``, greatest first.

        Every window is compared, unless the vectors are not held in memory, the table has an approximate index of
        metric "dot" (one of another metric is passed over), and ``exact`` is false; the cosines of what that finds are
        exact too.
        """
        held = read(self._hold)
        if held is not None:
            among = held.positions(self._rows(where)) if where else None
            at, cosines = held.nearest(vector, limit, None if among is None else among[among >= 0])
            return _held_windows(held, at, cosines.tolist())
        found = read(lambda: self._on_disk(vector, limit, where, exact))
        vectors = found["vector"].combine_chunks().flatten().to_numpy().reshape(-1, len(vector))
        cosines = cosines_of(vectors, vector)  # as from memory, to the last digit
        best = np.lexsort((found["_rowid"].to_numpy(), -cosines))
        return _windows(found.take(best), cosines[best].tolist())

    def _on_disk(self, vector: np.ndarray, limit: int, where: str, exact: bool) -> pyarrow.Table:
        def search(condition: str, prefilter: bool) -> pyarrow.Table:
            query = self.table.search(vector.tolist()).distance_type("dot").where(condition, prefilter).limit(limit)
            if exact:
                query = query.bypass_vector_index()
            else:
                query = query.nprobes(PROBES).refine_factor(max(2, -(-REFINED // limit)))
            return query.select([*PLACE, "vector", "_distance"]).with_row_id(True).to_arrow()

        if where:
            return search(f"({where}) AND {SPOKEN}", True)
        # To look first which of all windows are silent takes as long as to compare them; silent ones are rarely near.
        found = search(SPOKEN, False)
        return found if len(found) == limit else search(SPOKEN, True)

    def bm25(self, text: str, limit: int, where: str = "") -> list[Window]:
        """The windows whose transcripts share words with a text, by falling BM25 of LanceDB's full-text search.

        Rows that were written since the full-text index was brought up to date are searched too; where there is no
        such index, one is made in memory.
        """
        terms = normalise(text)
        if not terms:
            return []

        texts = read(self._full_text)

        def search(columns: list[str]) -> pyarrow.Table:
            query = texts.search(terms, query_type="fts").limit(limit)
            query = query.where(where) if where else query
            return query.select([*columns, "_score"]).with_row_id(True).to_arrow()

        if texts is not self.table:
            found = read(lambda: search(PLACE))
            return [window._replace(row=-1) for window in _windows(found, found["_score"].to_pylist())]
        held = self._held if self._version == read(lambda: self.table.version) else None
        if held is not None:
            found = read(lambda: search([]))
            at = held.positions(found["_rowid"].to_numpy())
            if (at >= 0).all():
                return _held_windows(held, at, found["_score"].to_pylist())
        found = read(lambda: search(PLACE))
        return _windows(found, found["_score"].to_pylist())

    def words(self, windows: Iterable[Window]) -> dict[str, Words]:
        """What was recognised in windows, by their ids; without those that a writer has removed since."""
        wanted = {window.id: window.row for window in windows}
        said = self._taken(wanted)
        ids = ", ".join(quote(id_) for id_ in wanted if id_ not in said)
        if ids:
            said |= _words(read(lambda: _scan(self.table, f"id IN ({ids})", SAID)))
        return said

    def _taken(self, wanted: dict[str, int]) -> dict[str, Words]:
        """``words`` of windows that are still in the rows where they were found: most often all."""
        rows = [row for row in wanted.values() if row >= 0]
        if not rows:
            return {}
        try:
            taken = self.table.take_row_ids(rows).select(SAID).to_arrow()
        except (OSError, RuntimeError, ValueError):  # a writer has moved them
            return {}
        return {id_: words for id_, words in _words(taken).items() if id_ in wanted}

    def _hold(self) -> Held | None:
        version = self.table.version
        if version != self._version:
            self._version, self._searches, self._held = version, 0, None
        self._searches += 1
        if self._searches == 2:
            self._held = hold(self.table, self.held_bytes)
        return self._held

    def _rows(self, where: str) -> np.ndarray:
        """The table's own numbers of the rows that meet a condition."""
        # Without any column, LanceDB takes ten times as long.
        found = read(lambda: self.table.search().where(where).select(PLACE[1:2]).with_row_id(True).to_arrow())
        return found["_rowid"].to_numpy()

    def _full_text(self) -> LanceTable:
        if any(index.columns == [TEXT_COLUMN] for index in self.table.list_indices()):
            return self.table
        version = self.table.version
        if self._unindexed is None or self._unindexed[0] != version:
            self._unindexed = (version, _index_in_memory(self.table))
        return self._unindexed[1]


def fuse(*rankings: Sequence[Window]) -> list[Window]:
    """Reciprocal rank fusion (Cormack, Clarke and Buettcher, SIGIR 2009): windows by the sum of their reciprocal ranks.

    The first window of a ranking has rank 1::

        score(window) = sum over rankings that have it of 1 / (60 + rank)

    Equal sums go by recording, then by start.
    """
    sums: dict[str, float] = {}
    places: dict[str, Window] = {}
    for ranking in rankings:
        for rank, window in enumerate(ranking, start=1):
            sums[window.id] = sums.get(window.id, 0.0) + 1.0 / (RECIPROCAL_K + rank)
            places[window.id] = window
    fused = [Window(*places[id_][:4], score, places[id_].row) for id_, score in sums.items()]
    return sorted(fused, key=lambda window: (-window.score, window.recording, window.start_s))


def read_down(ranking: Callable[[int], tuple[list[Window], bool]], top_k: int, limit: int) -> list[Window]:
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


def read(search: Callable[[], Result]) -> Result:
    """Run a search once more if it fails: a writer may just have removed the files of the version that was read.

    Raises:
        InputError: it failed twice.
    """
    try:
        return search()
    except (OSError, RuntimeError):
        try:
            return search()
        except (OSError, RuntimeError) as error:
            raise InputError(f"the index cannot be read ({brief(error)}); see what clsr index --verify says") from error


def _scan(table: LanceTable, where: str, columns: list[str]) -> pyarrow.Table:
    query: LanceQueryBuilder = table.search()
    return (query.where(where) if where else query).select(columns).to_arrow()


def _windows(found: pyarrow.Table, scores: Sequence[float]) -> list[Window]:
    columns: list[list[Any]] = [found[name].to_pylist() for name in PLACE]
    return [Window(*row) for row in zip(*columns, scores, found["_rowid"].to_pylist(), strict=True)]


def _held_windows(held: Held, at: np.ndarray, scores: Sequence[float]) -> list[Window]:
    rows = held.rows[at].tolist()
    return [Window(*held.places[i], *found) for i, *found in zip(at.tolist(), scores, rows, strict=True)]


def _words(found: pyarrow.Table) -> dict[str, Words]:
    return {
        row["id"]: Words(row["text"], [Word(**word) for word in row["words"]], row["stretches"])
        for row in found.to_pylist()
    }


def _index_in_memory(table: LanceTable) -> LanceTable:
    from lancedb.db import LanceDBConnection

    rows = _scan(table, "text != ''", [*PLACE, "modified", TEXT_COLUMN])
    copy = LanceDBConnection("memory://").create_table("texts", rows)
    copy.create_index(TEXT_COLUMN, config=full_text_config())
    return copy
