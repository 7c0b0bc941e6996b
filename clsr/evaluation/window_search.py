"""Windows of long recordings in memory, ranked as an index ranks them: by cosine, by BM25, or by both."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from clsr.errors import InputError
from clsr.evaluation.longform_report import FoundWindow
from clsr.index.config import WindowMode
from clsr.index.filters import quote
from clsr.index.ranking import Ranker
from clsr.index.tables import SPAN_COLUMNS, TEXT_COLUMN, full_text_config
from clsr.lance import TableReader
from clsr.vocabulary import Word, join_words, normalise

UNWRITTEN = "speech"  # text of the windows of a system that writes none: a window without text is no candidate


class EncodedWindows(NamedTuple):
    """Windows in which something was recognised."""

    places: list[FoundWindow]
    vectors: np.ndarray  # (W, E), unit rows
    texts: list[str] | None  # what was recognised; None from a system that writes none


class WindowSearch:
    """Ranks windows with the index's own ranker, on a table in memory.

    Args:
        windows: at least one.
    """

    def __init__(self, windows: EncodedWindows) -> None:
        import pyarrow
        from lancedb.db import LanceDBConnection

        texts = windows.texts or [UNWRITTEN] * len(windows.places)
        vectors = np.ascontiguousarray(windows.vectors, np.float32)
        columns = [
            [str(at) for at in range(len(texts))], *zip(*(place[:3] for place in windows.places), strict=True)
        ]  # fmt: skip
        table = dict(zip(SPAN_COLUMNS, map(list, columns), strict=True)) | {TEXT_COLUMN: texts}
        table["vector"] = pyarrow.FixedSizeListArray.from_arrays(vectors.ravel(), vectors.shape[1])
        rows = LanceDBConnection("memory://").create_table("windows", pyarrow.table(table))
        if windows.texts is not None:
            rows.create_index(TEXT_COLUMN, config=full_text_config())
        self.writes = windows.texts is not None
        self._ranker = Ranker(TableReader.of(rows))

    def search(
        self, vector: np.ndarray, text: str, mode: WindowMode, recording: str | None, top_k: int
    ) -> list[FoundWindow]:
        """The best windows, of those that overlap the best alone.

        Args:
            vector: unit vector ``(E,)`` of the question.
            text: of the question.
            mode: what counts.
            recording: whose windows alone are searched; None: all.
            top_k: windows at most.

        Raises:
            InputError: words are to count, and the system writes none.
        """
        if mode != "dense" and not self.writes:
            raise InputError(f"mode {mode}: needs transcripts, which this system does not write; use mode dense")
        where = f"recording = {quote(recording)}" if recording else ""
        found = self._ranker.search(vector if mode != "bm25" else None, text if mode != "dense" else None, top_k, where)
        return [FoundWindow(window.recording, window.start_s, window.end_s, window.score) for window in found]


def read_words(file: Path) -> dict[str, list[Word]]:
    """The words of each recording, by its resolved path, from what ``clsr transcribe --json`` printed.

    Raises:
        InputError: with file and line: it is missing, or is something else.
    """
    if not file.is_file():
        raise InputError(f"{file}: no such file; write it with clsr transcribe --json")
    words = {}
    for number, line in enumerate(file.read_bytes().splitlines(), start=1):
        try:
            row = json.loads(line)
            words[str(Path(row["audio"]).resolve())] = [Word(str(t), float(a), float(b)) for t, a, b in row["words"]]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{file}:{number}: is no transcript with words ({error!r}); transcribe again") from error
    return words


def windows_of_words(words: Mapping[str, Sequence[Word]], places: Iterable[FoundWindow]) -> dict[FoundWindow, str]:
    """The text of each window with words: those whose middle lies in it.

    Raises:
        InputError: a recording has no transcript.
    """
    texts: dict[FoundWindow, str] = {}
    middles: dict[str, np.ndarray] = {}
    for place in places:
        at = str(Path(place.recording).resolve())
        if at not in words:
            raise InputError(f"{place.recording}: is not among the words; transcribe it too")
        if at not in middles:
            middles[at] = np.array([(word.start_s + word.end_s) / 2 for word in words[at]])
        first, end = np.searchsorted(middles[at], [place.start_s, place.end_s])
        text = normalise(join_words(word.text for word in words[at][first:end]))
        if text:
            texts[place] = text
    return texts
