"""What an index is made of: a LanceDB table of windows, and a file that says which model built it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from clsr.errors import InputError

if TYPE_CHECKING:
    import pyarrow
    from lancedb.table import LanceTable

TABLE = "windows"
DESCRIPTION = "index.json"


class IndexDescription(NamedTuple):
    """What an index was built with: ``index.json`` beside the table."""

    model: str  # checkpoint folder
    fingerprint: str  # of the checkpoint, its text encoder included


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
        }
    )


def read_description(index_dir: str | Path) -> IndexDescription:
    """What the index was built with.

    Raises:
        InputError: there is no index, or its description is damaged.
    """
    path = Path(index_dir) / DESCRIPTION
    try:
        return IndexDescription(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise InputError(f"{index_dir}: no index here ({DESCRIPTION} is missing); make one with clsr index") from None
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{path}: cannot be read ({error}); delete the folder and index again") from error


def open_table(index_dir: str | Path) -> LanceTable | None:
    """Open the table of windows; it shows what was written last, by this process or another. ``None``: not yet made.

    Raises:
        InputError: the table is damaged.
    """
    from datetime import timedelta

    from lancedb.db import LanceDBConnection

    try:
        return LanceDBConnection(index_dir, read_consistency_interval=timedelta(0)).open_table(TABLE)
    except ValueError:  # no such table; a folder without a first transaction is none either
        return None
    except (OSError, RuntimeError) as error:
        raise InputError(f"{index_dir}: cannot be read ({brief(error)}); delete the folder, index again") from error


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


def claim(index_dir: Path, model_path: Path) -> str:
    """Describe the index as built by this model, unless another has built it, and return the model's fingerprint.

    Raises:
        InputError: another model has built the index, or it is damaged or cannot be written.
    """
    from clsr import checkpoint

    path = index_dir / DESCRIPTION
    ours = IndexDescription(str(model_path), checkpoint.fingerprint(model_path))
    if path.exists():
        require_same_model(index_dir, read_description(index_dir).fingerprint, ours.fingerprint)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with writing(index_dir):
        index_dir.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_text(json.dumps(ours._asdict(), indent=2) + "\n", encoding="utf-8")
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    return ours.fingerprint


@contextmanager
def writing(index_dir: Path) -> Iterator[None]:
    """What the disk or LanceDB says against a write becomes an InputError; LanceDB raises RuntimeError for both."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"{index_dir}: cannot be written ({brief(error)}); what was indexed before is whole: "
            "free space or mend the permissions, then run again"
        ) from error


def brief(error: Exception) -> str:
    """Return the error's message in one line, without the line of LanceDB's own source that it appends."""
    return " ".join(str(error).split(", /")[0].split())
