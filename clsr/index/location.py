"""Where an index is: a folder, or an address in an object store such as ``s3://bucket/index``."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from clsr.errors import InputError

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

Place = Path | str
LOCK = "lock"


def to_place(where: str | Path) -> Place:
    """A folder as an absolute path, an address as it is, but for a slash at its end.

    >>> to_place("s3://bucket/index/")
    's3://bucket/index'
    """
    text = str(where)
    return text.rstrip("/") if "://" in text else Path(where).resolve()


def read_text(place: Place, name: str) -> str | None:
    """Content of a small file of an index; ``None`` if it is not there.

    Raises:
        OSError, UnicodeDecodeError: it cannot be read.
    """
    try:
        if isinstance(place, Path):
            return (place / name).read_text(encoding="utf-8")
        store, path = _store(place)
        with store.open_input_stream(f"{path}/{name}") as stream:
            return stream.read().decode()
    except FileNotFoundError:
        return None


def write_text(place: Place, name: str, text: str) -> None:
    """Write a small file of an index; it appears whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    if not isinstance(place, Path):
        store, path = _store(place)
        with store.open_output_stream(f"{path}/{name}") as stream:  # an object is there when it is closed
            stream.write(text.encode())
        return
    temporary = place / f".{name}.{os.getpid()}.tmp"
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, place / name)
    finally:
        temporary.unlink(missing_ok=True)


def make(place: Place) -> None:
    """Make the folder, where it is one.

    Raises:
        OSError: it cannot be made.
    """
    if isinstance(place, Path):
        place.mkdir(parents=True, exist_ok=True)
    elif place.startswith("file:"):
        store, path = _store(place)
        store.create_dir(path)


@contextmanager
def locked(place: Place) -> Iterator[None]:
    """Keep others from writing into a folder, in this process or another; whoever reads is let be.

    The lock is the operating system's, so that it is gone with its process, however that ends. Object stores have none:
    there it is up to the caller that one process writes.

    Raises:
        InputError: someone else is writing.
        OSError: the folder cannot be written.
    """
    if not isinstance(place, Path):
        yield
        return
    handle = os.open(place / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{place}: another process is writing into this index; wait until it is done") from None
        yield
    finally:
        os.close(handle)


def _store(address: str) -> tuple[FileSystem, str]:
    from pyarrow.fs import FileSystem

    try:
        return FileSystem.from_uri(address)
    except (ValueError, NotImplementedError) as error:  # pyarrow.ArrowInvalid is a ValueError
        raise InputError(f"{address}: is no address that can be used ({error}); give a folder, or s3://...") from error
