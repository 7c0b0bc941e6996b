"""Transcripts -> files: a name for each recording, and nothing half-written. Internal."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from clsr.config import TranscriptFormat
from clsr.data.kaldi import Utterance
from clsr.errors import InputError
from clsr.transcribe import Transcript


class TranscriptFolder(NamedTuple):
    """A folder of transcripts of one format.

    Attributes:
        folder: that holds them.
        kind: their format.
        overwrite: whether those that are there already are written anew.
    """

    folder: Path
    kind: TranscriptFormat
    overwrite: bool = False

    def files(self, utterances: Sequence[Utterance]) -> dict[Utterance, Path]:
        """Return the file of each transcript that is to be written: none of those that are there already.

        Raises:
            InputError: two utterances have the same id.
        """
        files = dict(zip(utterances, self._names(utterances), strict=True))
        return {one: file for one, file in files.items() if self.overwrite or not file.exists()}

    def _names(self, utterances: Sequence[Utterance]) -> list[Path]:
        """``talk.srt`` of ``talk.mp3``, or named by the id of an utterance.

        Recordings of several folders keep those below the one that holds them all. Where two of a folder differ in
        their suffixes alone, these are part of the name: ``talk.mp3.srt``.
        """
        paths = [os.path.abspath(one.recording) for one in utterances]
        common = os.path.commonpath([os.path.dirname(path) for path in paths]) if paths else ""
        whole = [
            one.id.replace("/", "_") or os.path.relpath(path, common)
            for one, path in zip(utterances, paths, strict=True)
        ]
        stems = [name if one.id else os.path.splitext(name)[0] for one, name in zip(utterances, whole, strict=True)]
        counts = Counter(stems)
        for one, stem in zip(utterances, stems, strict=True):
            if one.id and counts[stem] > 1:
                raise InputError(f"utterance {one.id}: two have this id: transcribe their data directories one by one")
        names = (stem if counts[stem] == 1 else name for stem, name in zip(stems, whole, strict=True))
        return [self.folder / f"{name}.{self.kind}" for name in names]

    def write(self, transcript: Transcript, file: Path) -> Path:
        """Write a transcript, whole or not at all, and return its file, whose folders are made.

        Raises:
            InputError: it cannot be written.
        """
        partial = file.with_name(f".{file.name}.{os.getpid()}.tmp")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text(transcript.format(self.kind), encoding="utf-8")
            partial.replace(file)
        except OSError as error:
            raise InputError(f"{file}: cannot be written ({error.strerror}): name another folder") from error
        finally:
            with suppress(OSError):
                partial.unlink()
        return file


def whole_files(paths: Iterable[str | Path]) -> list[Utterance]:
    """Return recordings as utterances without ids."""
    return [Utterance("", Path(path), 0.0, 0.0, None, "") for path in paths]
