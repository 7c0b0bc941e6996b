"""A question's vector and words -> rankings of windows: by cosine, by BM25, or by both."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar, get_args

from clsr.errors import InputError
from clsr.search.filters import quote
from clsr.search.full_text import TEXT_COLUMN, full_text_config
from clsr.search.table import brief
from clsr.search.windows import merge
from clsr.vocabulary import Word, normalise

if TYPE_CHECKING:
    import numpy as np
    import pyarrow
    from lancedb.query import LanceQueryBuilder
    from lancedb.table import LanceTable

Mode = Literal["dense", "bm25", "hybrid"]
MODES: tuple[Mode, ...] = get_args(Mode)
RECIPROCAL_K = 60  # of reciprocal rank fusion, as Cormack et al. (2009) have it
FUSED_DEPTH = 1000  # windows of each ranking that fusion reads: below it a rank is worth less than 0.001
PLACE = ["id", "recording", "start_s", "end_s"]
REFINE = 20  # by an approximate index: so many times the windows wanted have their exact cosine computed

Result = TypeVar("Result")


class Window(NamedTuple):
    """A window of a ranking."""

    id: str
    recording: str
    start_s: float
    end_s: float
    score: float


class Words(NamedTuple):
    """What was recognised in a window."""

    text: str
    words: list[Word]


class Rankings:
    """Ranks the windows of a table, those in which nothing was recognised left out.

    Args:
        table: of windows, as ``clsr.search.table`` describes it.
    """

    def __init__(self, table: LanceTable) -> None:
        self.table = table
        self._unindexed: tuple[int, LanceTable] | None = None  # version of the table, and its texts with an index

    def dense(self, vector: np.ndarray, limit: int, where: str = "", exact: bool = False) -> list[Window]:
        """The windows whose vectors have the greatest cosine with a unit vector ``(E,)``, greatest first.

        Every window is compared, unless the table has an approximate index of metric "dot" (one of another metric is
        passed over) and ``exact`` is false; the cosines of what that finds are exact too.
        """
        condition = f"({where}) AND text != ''" if where else "text != ''"

        def search() -> pyarrow.Table:
            query = self.table.search(vector.tolist()).distance_type("dot").where(condition).limit(limit)
            query = query.bypass_vector_index() if exact else query.refine_factor(REFINE)
            return query.select([*PLACE, "_distance"]).to_arrow()

        found = read(search)
        scores = [1.0 - distance for distance in found["_distance"].to_pylist()]  # LanceDB's dot distance
        return _windows(found, scores)

    def bm25(self, text: str, limit: int, where: str = "") -> list[Window]:
        """The windows whose transcripts share words with a text, by falling BM25 of LanceDB's full-text search.

        Rows that were written since the full-text index was brought up to date are searched too; where there is no
        such index, one is made in memory.
        """
        terms = normalise(text)
        if not terms:
            return []

        def search() -> pyarrow.Table:
            query = self._full_text().search(terms, query_type="fts").limit(limit)
            query = query.where(where) if where else query
            return query.select([*PLACE, "_score"]).to_arrow()

        found = read(search)
        return _windows(found, found["_score"].to_pylist())

    def words(self, windows: Iterable[Window]) -> dict[str, Words]:
        """What was recognised in windows, by their ids; without those that a writer has removed since."""
        ids = ", ".join(quote(window.id) for window in windows)
        if not ids:
            return {}
        rows = read(lambda: _scan(self.table, f"id IN ({ids})", ["id", "text", "words"]))
        return {row["id"]: Words(row["text"], [Word(**word) for word in row["words"]]) for row in rows.to_pylist()}

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
    fused = [places[id_]._replace(score=score) for id_, score in sums.items()]
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
        merged = merge(windows)[:top_k]
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
    return [Window(*row) for row in zip(*columns, scores, strict=True)]


def _index_in_memory(table: LanceTable) -> LanceTable:
    from lancedb.db import LanceDBConnection

    rows = _scan(table, "text != ''", [*PLACE, "modified", TEXT_COLUMN])
    copy = LanceDBConnection("memory://").create_table("texts", rows)
    copy.create_index(TEXT_COLUMN, config=full_text_config())
    return copy
