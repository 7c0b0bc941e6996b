"""The LanceDB tables of an index, of windows, recordings and tokens: columns, opening, plain errors. Internal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from clsr.errors import InputError
from clsr.index.location import IndexLocation
from clsr.lance import TableReader

if TYPE_CHECKING:
    import pyarrow
    from lancedb.index import FTS
    from lancedb.table import LanceTable

WINDOWS, RECORDINGS, TOKENS = "windows", "recordings", "tokens"
SPAN_COLUMNS = ["id", "recording", "start_s", "end_s"]
TEXT_COLUMN = "text"
SUMMARY_COLUMNS = ["start_s", "end_s", "text", "words"]  # of windows, that the entry of their recording needs
SEGMENTS_COLUMN = "stretches"  # vectors of segments; the column's name is older than theirs, and indices keep it
CONFIDENCE_COLUMN = "confidence"  # of both tables; those of version 0.1 lack it until something is written
SPOKEN = "text != ''"  # windows in which something was recognised
# Lucene's English list and the question words. ICU's own list joins many languages and drops "sea" and "dog".
STOP_WORDS = """
    a an and are as at be but by for if in into is it no not of on or such that the their then there these they this to
    was will with do does did how what when where which who whom whose why
""".split()


def windows_schema(width: int) -> pyarrow.Schema:
    """Columns of the table of windows, vectors ``width`` wide, times in seconds from the start of the recording."""
    import pyarrow

    word = pyarrow.struct({"text": pyarrow.string(), "start_s": pyarrow.float64(), "end_s": pyarrow.float64()})
    return pyarrow.schema(
        {
            "id": pyarrow.string(),
            "recording": pyarrow.string(),
            "content_hash": pyarrow.string(),
            "fingerprint": pyarrow.string(),  # of the model
            "modified": pyarrow.timestamp("us", tz="UTC"),  # of the file
            "cut": pyarrow.string(),  # how the recording was cut: seconds a window / from one start to the next
            "start_s": pyarrow.float64(),
            "end_s": pyarrow.float64(),
            "vector": pyarrow.list_(pyarrow.float32(), width),
            TEXT_COLUMN: pyarrow.string(),
            "words": pyarrow.list_(word),
            SEGMENTS_COLUMN: pyarrow.binary(),  # see clsr.index.segments
            "checksum": pyarrow.string(),  # of all the rest, see clsr.index.rows
            CONFIDENCE_COLUMN: pyarrow.float64(),  # of the tokens recognised, 0 to 1; null where it is not known
        }
    )


def recordings_schema() -> pyarrow.Schema:
    """Columns of the table of recordings: the fields of ``clsr.index.recordings.RecordingEntry``, and a checksum."""
    import pyarrow

    text, number, seconds = pyarrow.string(), pyarrow.int64(), pyarrow.float64()
    return pyarrow.schema(
        {
            "recording": text,
            "content_hash": text,
            "size_bytes": number,
            "modified_ns": number,
            "cut": text,
            "state": text,
            "duration_s": seconds,
            "indexed_s": seconds,
            "silent_s": seconds,
            "windows": number,
            "reason": text,
            "checksum": text,  # of all the rest
            CONFIDENCE_COLUMN: pyarrow.float64(),
        }
    )


def tokens_schema() -> pyarrow.Schema:
    """Columns of the table of token vectors, a row a tile (``clsr.index.tokens.tiles``); indices may have none."""
    import pyarrow

    text, seconds, binary = pyarrow.string(), pyarrow.float64(), pyarrow.binary()
    return pyarrow.schema(
        {
            "recording": text,
            "windows": text,  # digest of the recording's windows: of others, the tiles are out of date
            "projection": text,  # its id
            "start_s": seconds,
            "end_s": seconds,
            "window_start_s": seconds,  # the window that has the words
            "window_end_s": seconds,
            "members": binary,  # of each token, its word's place in that window, and its cluster: two uint16
            "vectors": binary,  # of each cluster, signed bytes
            "checksum": text,  # of all the rest
        }
    )


def full_text_config() -> FTS:
    """How the full-text index of transcripts is built, for ``table.create_index(TEXT_COLUMN, config=...)``.

    Words are found by ICU's dictionaries, so that Chinese, which is written without spaces, is split too; English words
    are reduced to their stems, and words such as "the" and "what" (``STOP_WORDS``) are left out.
    """
    from lancedb.index import FTS

    return FTS(base_tokenizer="icu", custom_stop_words=STOP_WORDS)


class IndexTables:
    """The tables at one location, each opened once; they show the last write of any process.

    Args:
        location: of the index.
    """

    def __init__(self, location: IndexLocation) -> None:
        self.location = location
        self._opened: dict[str, tuple[object, LanceTable]] = {}  # what is on the disk, and the table
        self._readers: dict[str, tuple[object, TableReader]] = {}

    @property
    def windows(self) -> LanceTable | None:
        """The table of windows; ``None``: not yet made.

        Raises:
            InputError: the table is damaged, or of an earlier version of clsr.
        """
        return self._open(WINDOWS, windows_schema(1))

    @property
    def recordings(self) -> LanceTable | None:
        """The table of recordings; ``None``: not yet made.

        Raises:
            InputError: the table is damaged, or of an earlier version of clsr.
        """
        return self._open(RECORDINGS, recordings_schema())

    @property
    def tokens(self) -> LanceTable | None:
        """The table of token vectors; ``None``: the index has none.

        Raises:
            InputError: the table is damaged.
        """
        return self._open(TOKENS, tokens_schema())

    def reader(self, name: str) -> TableReader | None:
        """The table of a name for reading alone, which takes no time to start; ``None``: not yet made.

        Args:
            name: ``WINDOWS``, ``RECORDINGS`` or ``TOKENS``.

        Raises:
            InputError: the table is damaged, or of an earlier version of clsr.
        """
        on_disk = self.location.identity(f"{name}.lance")
        if name in self._readers and self._readers[name][0] == on_disk:
            return self._readers[name][1]
        if self.location.folder is not None and on_disk is None:
            return None
        with reading(self.location):
            try:
                reader = TableReader.open(str(self.location), name)
            except ValueError as error:
                if "was not found" not in str(error):
                    raise
                return None  # a folder without a first transaction is none either
            names = reader.schema.names
        schemas = {WINDOWS: windows_schema(1), RECORDINGS: recordings_schema(), TOKENS: tokens_schema()}
        self._require_columns(names, schemas[name])
        self._readers[name] = (on_disk, reader)
        return reader

    def make_windows(self, schema: pyarrow.Schema) -> LanceTable:
        """Open the table of windows for writing, an empty one where there is none.

        Raises:
            InputError: the table is damaged, or of an earlier version of clsr.
        """
        return self._make(WINDOWS, schema)

    def make_recordings(self) -> LanceTable:
        """Open the table of recordings for writing, an empty one where there is none.

        Raises:
            InputError: the table is damaged, or of an earlier version of clsr.
        """
        return self._make(RECORDINGS, recordings_schema())

    def make_tokens(self) -> LanceTable:
        """Open the table of token vectors for writing, an empty one where there is none.

        Raises:
            InputError: the table is damaged.
        """
        return self._make(TOKENS, tokens_schema())

    def upgrade(self) -> None:
        """Give tables of an earlier version the columns of today, empty.

        Raises:
            InputError: a table is damaged, of a version that cannot be read, or cannot be written.
        """
        for table in (self.windows, self.recordings):
            if table is not None and CONFIDENCE_COLUMN not in table.schema.names:
                with writing(self.location):
                    table.add_columns({CONFIDENCE_COLUMN: "cast(NULL as double)"})

    def _make(self, name: str, schema: pyarrow.Schema) -> LanceTable:
        import lancedb

        lancedb.connect(str(self.location)).create_table(name, schema=schema, exist_ok=True)
        table = self._open(name, schema)
        assert table is not None
        return table

    def _open(self, name: str, schema: pyarrow.Schema) -> LanceTable | None:
        on_disk = self.location.identity(f"{name}.lance")
        if name in self._opened and self._opened[name][0] == on_disk:
            return self._opened[name][1]
        from datetime import timedelta

        from lancedb.db import LanceDBConnection

        with reading(self.location):
            try:
                connection = LanceDBConnection(str(self.location), read_consistency_interval=timedelta(0))
                table = connection.open_table(name)
            except ValueError as error:
                if "was not found" not in str(error):
                    raise
                return None  # a folder without a first transaction is none either
            names = table.schema.names
        self._require_columns(names, schema)
        self._opened[name] = (on_disk, table)
        return table

    def _require_columns(self, names: Sequence[str], schema: pyarrow.Schema) -> None:
        missing = set(schema.names) - {CONFIDENCE_COLUMN} - set(names)
        if missing:
            raise InputError(
                f"{self.location}: of an earlier version (no {min(missing)}); delete the folder, index again"
            )


@contextmanager
def only_writer(location: IndexLocation) -> Iterator[None]:
    """Make the folder of an index, and keep others from writing into it (``IndexLocation.locked``).

    Raises:
        InputError: someone else is writing, or the folder cannot be written.
    """
    with ExitStack() as entered:
        with writing(location):
            location.make()
            entered.enter_context(location.locked())
        yield


@contextmanager
def writing(location: IndexLocation) -> Iterator[None]:
    """Turn a failed write into an InputError; LanceDB raises RuntimeError for faults of the disk too."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"{location}: cannot be written ({brief(error)}); what was indexed before is whole: "
            "free space or mend the permissions, then run again"
        ) from error
    except ValueError as error:  # LanceDB's word for a file that is not as it was written
        raise InputError(
            f"{location}: a file in it is damaged ({brief(error)}); delete the folder, index again"
        ) from error


@contextmanager
def confirmed(location: IndexLocation, table: LanceTable, count: int) -> Iterator[None]:
    """Read back the ``count`` rows that a transaction has written, and undo it if they are not there whole.

    LanceDB may report a transaction as done of which the disk took only a part: a last write that was cut short.

    Raises:
        InputError: the index cannot be written.
    """
    before = table.version
    with writing(location):
        yield
        try:
            end = table.count_rows()
            table.take_offsets(list(range(end - count, end))).to_arrow()
        except (OSError, RuntimeError) as error:
            table.checkout(before)
            table.restore()
            raise OSError("the disk has kept only a part") from error


@contextmanager
def reading(location: IndexLocation) -> Iterator[None]:
    """Turn a failed read into an InputError; LanceDB raises any exception on damage."""
    try:
        yield
    except Exception as error:
        raise InputError(f"{location}: cannot be read ({brief(error)}); delete the folder, index again") from error


def brief(error: Exception) -> str:
    """Return the error's message in one line, without the line of LanceDB's own source that it appends."""
    return " ".join(str(error).split(", /")[0].split())
