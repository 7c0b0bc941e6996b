"""The command that cuts a recording into chapters: ``clsr chapters``."""

from __future__ import annotations

import math
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from clsr.cli.options import File, Hardware, Location, Ref, options_of, positional
from clsr.errors import InputError, printable_line

if TYPE_CHECKING:
    from clsr.index.index import Index


@dataclass(kw_only=True)
class Chapters:
    """Cut a recording into chapters where its subject changes, each with its most central words.

    Args:
        recording: audio file.
        index: index that has the recording, which then is not recognised again.
        model: model that recognises it; with an index, the one that built it, if its folder was moved.
        json: print one object per chapter.
    """

    recording: Annotated[File, "RECORDING"] = positional()
    index: Location | None = None
    model: Ref | None = None
    hardware: Hardware = options_of(Hardware)
    json: bool = False

    def run(self) -> None:
        """Print the chapters."""
        from clsr.search.chapters import find_chapters
        from clsr.search.hit import format_clock

        with self._open_index() as index:
            chapters = find_chapters(index, index.model.query_encoder, self.recording)
        for chapter in chapters:
            span = f"{format_clock(math.floor(chapter.start_s))}-{format_clock(math.ceil(chapter.end_s))}"
            print(chapter.to_json() if self.json else printable_line(f"{span}  {', '.join(chapter.words)}"))
        if not chapters:
            print("no chapters: no words were recognised in this recording", file=sys.stderr)

    @contextmanager
    def _open_index(self) -> Iterator[Index]:
        """The index that has the recording, or a new one, which is gone in the end."""
        from clsr.index.index import Index

        device, precision = self.hardware.device, self.hardware.precision
        if self.index is not None:
            there = Index.open(self.index)
            yield Index.open(self.index, there.load_model(self.model, device, precision))
            return
        with tempfile.TemporaryDirectory() as folder:
            index = Index.open_or_create(f"{folder}/index", self.model, device=device, precision=precision)
            (status,) = index.add([self.recording])
            if status.status == "failed" and not status.windows:
                raise InputError(status.reason or f"{self.recording}: cannot be read")
            if status.reason:
                print(printable_line(f"clsr: {status.path}: {status.reason}"), file=sys.stderr)
            yield index
