"""Where an index is: a folder, or an address in an object store such as ``s3://bucket/index``. Internal."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from clsr.errors import InputError

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

LOCK = "lock"


class IndexLocked(InputError):
    """Another process is writing into the index."""


@dataclass(frozen=True)
class IndexLocation:
    """The place of one index; as text it is the folder's absolute path, or the address.

    Attributes:
        uri: absolute path of a folder, or an address without a slash at its end.
    """

    uri: str

    @classmethod
    def of(cls, where: str | Path) -> IndexLocation:
        """The location of a folder or an address.

        >>> str(IndexLocation.of("s3://bucket/index/"))
        's3://bucket/index'
        """
        text = str(where)
        return cls(text.rstrip("/") if "://" in text else str(Path(where).resolve()))

    def __str__(self) -> str:
        return self.uri

    @property
    def folder(self) -> Path | None:
        """The folder; ``None`` in an object store."""
        return None if "://" in self.uri else Path(self.uri)

    def identity(self, name: str) -> object:
        """What changes when a folder inside the index is deleted and made again; nothing in an object store."""
        if self.folder is None:
            return None
        try:
            state = (self.folder / name).stat()
        except OSError:
            return None
        return state.st_ino, state.st_ctime_ns  # a new folder may get the number of the old one, but not its time

    def read_text(self, name: str) -> str | None:
        """Content of a small file of the index; ``None`` if it is not there.

        Raises:
            OSError, UnicodeDecodeError: it cannot be read.
        """
        try:
            if self.folder:
                return (self.folder / name).read_text(encoding="utf-8")
            store, path = self._store()
            with store.open_input_stream(f"{path}/{name}") as stream:
                return stream.read().decode()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def write_text(self, name: str, text: str) -> None:
        """Write a small file of the index; it appears whole or not at all.

        Raises:
            OSError: it cannot be written.
        """
        if not self.folder:
            store, path = self._store()
            with store.open_output_stream(f"{path}/{name}") as stream:  # an object appears when it is closed
                stream.write(text.encode())
            return
        temporary = self.folder / f".{name}.{os.getpid()}.tmp"
        try:
            temporary.write_text(text, encoding="utf-8")
            os.replace(temporary, self.folder / name)
        finally:
            temporary.unlink(missing_ok=True)

    def make(self) -> None:
        """Make the folder, where it is one.

        Raises:
            OSError: it cannot be made.
        """
        if self.folder:
            self.folder.mkdir(parents=True, exist_ok=True)
        elif self.uri.startswith("file:"):
            store, path = self._store()
            store.create_dir(path)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other writers out of a folder, in this process or another; readers are not held up.

        The lock is the operating system's, so that it is gone with its process, however that ends. Object stores have
        none: there the caller sees to it that one process writes.

        Raises:
            IndexLocked: someone else is writing.
            OSError: the folder cannot be written.
        """
        if not self.folder:
            yield
            return
        handle = os.open(self.folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise IndexLocked(
                    f"{self}: another process is writing into this index; wait until it is done"
                ) from None
            yield
        finally:
            os.close(handle)

    def _store(self) -> tuple[FileSystem, str]:
        from pyarrow.fs import FileSystem

        try:
            return FileSystem.from_uri(self.uri)
        except (ValueError, NotImplementedError) as error:  # pyarrow.ArrowInvalid is a ValueError
            raise InputError(f"{self}: is no address that can be used ({error}); give a folder, or s3://...") from error
