"""What an index is made of: LanceDB tables of windows and of recordings, and a file that says which model built it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from clsr.errors import InputError
from clsr.index.location import Place, locked, make, read_text, to_place, write_text

if TYPE_CHECKING:
    import pyarrow
    from lancedb.table import LanceTable

WINDOWS, RECORDINGS = "windows", "recordings"
DESCRIPTION = "index.json"


class IndexDescription(NamedTuple):
    """What an index was built with: ``index.json`` beside the table."""

    model: str  # checkpoint folder
    fingerprint: str  # of the checkpoint, its text encoder included
    windows: str = "40/30"  # how recordings to come are cut, as clsr.index.windows.join_cuts writes it


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
            "text": pyarrow.string(),
            "words": pyarrow.list_(word),
            "stretches": pyarrow.binary(),  # vectors of what lies between pauses, see clsr.index.segments
            "checksum": pyarrow.string(),  # of all the rest, see clsr.index.rows
        }
    )


def recordings_schema() -> pyarrow.Schema:
    """Columns of the table of recordings: the fields of ``clsr.index.recordings.Entry``, and a checksum."""
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
        }
    )


def read_description(index_dir: str | Path) -> IndexDescription:
    """What the index was built with.

    Raises:
        InputError: there is no index, or its description is damaged.
    """
    place = to_place(index_dir)
    try:
        text = read_text(place, DESCRIPTION)
        if text is not None:
            return IndexDescription(**json.loads(text))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(
            f"{place}/{DESCRIPTION}: cannot be read ({error}); delete the folder and index again"
        ) from error
    raise InputError(f"{index_dir}: no index here ({DESCRIPTION} is missing); make one with clsr index")


def is_index(index_dir: str | Path) -> bool:
    """Whether there is an index, if only its description."""
    return read_text(to_place(index_dir), DESCRIPTION) is not None


def open_table(index_dir: str | Path, name: str = WINDOWS) -> LanceTable | None:
    """Open a table; it shows what was written last, by this process or another. ``None``: not yet made.

    Raises:
        InputError: the table is damaged.
    """
    from datetime import timedelta

    from lancedb.db import LanceDBConnection

    with reading(index_dir):
        try:
            return LanceDBConnection(index_dir, read_consistency_interval=timedelta(0)).open_table(name)
        except ValueError as error:
            if "was not found" not in str(error):
                raise
            return None  # a folder without a first transaction is none either


def open_or_make(index_dir: str | Path, name: str, schema: pyarrow.Schema) -> LanceTable:
    """Open a table for writing, an empty one where there is none.

    Raises:
        InputError: the table is damaged, or of an earlier version of clsr.
    """
    import lancedb

    lancedb.connect(index_dir).create_table(name, schema=schema, exist_ok=True)
    table = open_table(index_dir, name)
    assert table is not None
    require_current(index_dir, table, schema)
    return table


def require_current(index_dir: str | Path, table: LanceTable, schema: pyarrow.Schema) -> None:
    """Refuse a table that lacks columns.

    Raises:
        InputError: it does; the message names one.
    """
    with reading(index_dir):
        missing = set(schema.names) - set(table.schema.names)
    if missing:
        raise InputError(f"{index_dir}: of an earlier version (no {min(missing)}); delete the folder, index again")


def require_same_model(index_dir: str | Path, built_with: str, given: str) -> None:
    """Refuse a model other than the one that built the index, by their fingerprints.

    Raises:
        InputError: the fingerprints differ; the message has both.
    """
    if built_with != given:
        raise InputError(
            f"{index_dir}: built by model {built_with}, but the model given is {given}; "
            "give the one that built it, or index into another folder"
        )


def claim(place: Place, model_path: Path, windows: str | None = None) -> IndexDescription:
    """Describe the index as built by this model, unless another has built it.

    Args:
        place: of the index.
        model_path: checkpoint folder.
        windows: how recordings are cut from now on; ``None`` leaves that as it is.

    Raises:
        InputError: another model has built the index, or it is damaged or cannot be written.
    """
    from clsr import checkpoint

    ours = IndexDescription(str(model_path), checkpoint.fingerprint(model_path))
    if is_index(place):
        before = read_description(place)
        require_same_model(place, before.fingerprint, ours.fingerprint)
        ours = ours._replace(windows=before.windows)
    if windows is not None:
        ours = ours._replace(windows=windows)
    with writing(place):
        write_text(place, DESCRIPTION, json.dumps(ours._asdict(), indent=2) + "\n")
    return ours


@contextmanager
def only_writer(place: Place) -> Iterator[None]:
    """Make the folder of an index, and keep others from writing into it (``clsr.index.location.locked``).

    Raises:
        InputError: someone else is writing, or the folder cannot be written.
    """
    with ExitStack() as held:
        with writing(place):
            make(place)
            held.enter_context(locked(place))
        yield


@contextmanager
def writing(index_dir: Place) -> Iterator[None]:
    """What the disk or LanceDB says against a write becomes an InputError; LanceDB raises RuntimeError for both."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"{index_dir}: cannot be written ({brief(error)}); what was indexed before is whole: "
            "free space or mend the permissions, then run again"
        ) from error


@contextmanager
def confirmed(index_dir: Place, table: LanceTable, count: int) -> Iterator[None]:
    """Read back the ``count`` rows that a transaction has written, and undo it if they are not there whole.

    LanceDB may report a transaction as done of which the disk took only a part: a last write that was cut short.

    Raises:
        InputError: the index cannot be written.
    """
    before = table.version
    with writing(index_dir):
        yield
        try:
            end = table.count_rows()
            table.take_offsets(list(range(end - count, end))).to_arrow()
        except (OSError, RuntimeError) as error:
            table.checkout(before)
            table.restore()
            raise OSError("the disk has kept only a part") from error


@contextmanager
def reading(index_dir: str | Path) -> Iterator[None]:
    """What the disk or LanceDB says against a read becomes an InputError; damage can make LanceDB raise anything."""
    try:
        yield
    except Exception as error:
        raise InputError(f"{index_dir}: cannot be read ({brief(error)}); delete the folder, index again") from error


def brief(error: Exception) -> str:
    """Return the error's message in one line, without the line of LanceDB's own source that it appends."""
    return " ".join(str(error).split(", /")[0].split())
