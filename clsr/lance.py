"""Tables of LanceDB, read through its compiled core: the package around it takes one to two seconds to import.

The core's interface is what ``lancedb._lancedb`` offers to that package; setup.py holds its minor version.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Future
from functools import cache
from importlib import import_module
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import numpy as np
    import pyarrow
    from lancedb.table import LanceTable

CORE = "lancedb._lancedb"

Result = TypeVar("Result")
_loading = threading.Lock()


class TableReader:
    """A table that is read; it shows the last write of any process. Any number of threads may call it.

    Args:
        table: the core's.
    """

    def __init__(self, table: Any) -> None:
        self._table = table

    @classmethod
    def open(cls, uri: str, name: str) -> TableReader:
        """Open a table of the database at a folder or an address.

        Raises:
            ValueError: there is none of this name.
            RuntimeError, OSError: it cannot be read.
        """

        async def opened() -> Any:
            connection = await _core().connect(uri, read_consistency_interval=0.0)
            return await connection.open_table(name)

        return cls(_run(opened))

    @classmethod
    def of(cls, table: LanceTable) -> TableReader:
        """The reader of a table that is open already."""
        return cls(table._table._inner)

    @property
    def schema(self) -> pyarrow.Schema:
        """The columns of the last version."""
        return _run(self._table.schema)

    @property
    def version(self) -> int:
        """The number of the last version."""
        return _run(self._table.version)

    def count_rows(self, where: str = "") -> int:
        """Number of rows that meet a condition in SQL."""
        return _run(lambda: self._table.count_rows(where or None))

    def is_indexed(self, column: str) -> bool:
        """Whether there is an index of a column."""
        return any(index.columns == [column] for index in _run(self._table.list_indices))

    def scan(self, columns: Sequence[str], where: str = "", row_ids: bool = False) -> pyarrow.Table:
        """Rows that meet a condition, all rows without one; with ``_rowid``, the table's own numbers, if wanted."""
        return _run(lambda: _collect(self._selected(self._table.query(), columns, where, row_ids)))

    def batches(self, columns: Sequence[str], where: str = "", row_ids: bool = False) -> Iterator[pyarrow.RecordBatch]:
        """``scan`` piece by piece, for tables of any size."""

        async def started() -> Any:
            return await self._selected(self._table.query(), columns, where, row_ids).execute(None, None)

        stream = _run(started)

        async def following() -> pyarrow.RecordBatch | None:
            return await anext(stream, None)

        while (batch := _run(following)) is not None:
            yield batch

    def nearest(
        self, vector: np.ndarray, limit: int, columns: Sequence[str], where: str = "", prefilter: bool = True,
        probes: int | None = None, refine: int | None = None,
    ) -> pyarrow.Table:  # fmt: skip
        """The rows whose ``vector`` has the greatest inner product with one, with ``_rowid`` and ``_distance``.

        Args:
            vector: ``(E,)``.
            limit: rows at most.
            columns: that are wanted.
            where: condition in SQL that rows have to meet.
            prefilter: look for rows that meet it; otherwise leave out of what was found those that do not.
            probes: partitions of an approximate index to read; ``None`` compares all rows.
            refine: how many times the limit an approximate index has to find before distances are exact.
        """
        wanted = _floats(vector)

        async def found() -> pyarrow.Table:
            query = self._selected(self._table.query(), [*columns, "_distance"], where, True)
            query.limit(limit)
            query = query.nearest_to(wanted)
            query.column("vector")
            query.distance_type("dot")
            if probes is None:
                query.bypass_vector_index()
            else:
                query.nprobes(probes)
                query.refine_factor(refine or 1)
            if not prefilter:
                query.postfilter()
            return await _collect(query)

        return _run(found)

    def matching(self, terms: str, limit: int, columns: Sequence[str], where: str = "") -> Future[pyarrow.Table]:
        """The rows that share words with terms by falling BM25, with ``_rowid`` and ``_score``, once they are found.

        Args:
            terms: words, separated by spaces.
            limit: rows at most.
            columns: that are wanted.
            where: condition in SQL that rows have to meet.
        """

        async def found() -> pyarrow.Table:
            query = self._selected(self._table.query(), [*columns, "_score"], where, True)
            query.limit(limit)
            return await _collect(query.nearest_to_text({"query": terms}))

        return asyncio.run_coroutine_threadsafe(found(), _loop())

    def take(self, rows: Sequence[int], columns: Sequence[str]) -> pyarrow.Table:
        """Rows by the table's own numbers.

        Raises:
            RuntimeError, OSError, ValueError: there is no such row any more.
        """

        async def taken() -> pyarrow.Table:
            query = self._table.take_row_ids(list(rows))
            query.select_columns(list(columns))
            return await _collect(query)

        return _run(taken)

    @staticmethod
    def _selected(query: Any, columns: Sequence[str], where: str, row_ids: bool) -> Any:
        query.select_columns(list(columns))
        if where:
            query.where(where)
        if row_ids:
            query.with_row_id()
        return query


def _floats(vector: np.ndarray) -> pyarrow.Array:
    """A vector ``(E,)`` as Arrow has it; ``pyarrow.array`` would import pandas to see whether it is of its kind."""
    import numpy as np
    import pyarrow

    values = np.ascontiguousarray(vector, np.float32)
    return pyarrow.Array.from_buffers(pyarrow.float32(), len(values), [None, pyarrow.py_buffer(values)])


def numbers(column: pyarrow.ChunkedArray | pyarrow.Array) -> np.ndarray:
    """The numbers of a column ``(N,)``, or the rows of a column of vectors ``(N, E)``; none may be missing.

    Arrow's own ``to_numpy`` would import pandas, and ``flatten`` all of Arrow's functions.
    """
    import numpy as np
    import pyarrow

    array = column.combine_chunks() if isinstance(column, pyarrow.ChunkedArray) else column
    if pyarrow.types.is_fixed_size_list(array.type):
        rows = np.from_dlpack(array.values).reshape(-1, array.type.list_size)
        return rows[array.offset : array.offset + len(array)]
    return np.from_dlpack(array)


async def _collect(query: Any) -> pyarrow.Table:
    import pyarrow

    stream = await query.execute(None, None)
    return pyarrow.Table.from_batches([batch async for batch in stream], stream.schema)


def _core() -> Any:
    """The compiled core, under the name by which lancedb finds it if it is imported too."""
    with _loading:
        if CORE in sys.modules or "lancedb" in sys.modules:
            return import_module(CORE)
        package = find_spec("lancedb")
        spec = PathFinder.find_spec(CORE, package.submodule_search_locations if package else None)
        if spec is None or spec.loader is None:
            return import_module(CORE)  # which says what is missing
        core = module_from_spec(spec)
        sys.modules[CORE] = core
        spec.loader.exec_module(core)
        return core


def _run(start: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
    """Wait for what the core does: it calls back into an event loop, which runs in a thread of its own."""

    async def started() -> Result:
        return await start()

    waiting = asyncio.run_coroutine_threadsafe(started(), _loop())
    try:
        return waiting.result()
    except BaseException:
        waiting.cancel()
        raise


@cache
def _loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="lance", daemon=True).start()
    return loop


if hasattr(os, "register_at_fork"):  # a child has none of the threads of its parent
    os.register_at_fork(after_in_child=_loop.cache_clear)
