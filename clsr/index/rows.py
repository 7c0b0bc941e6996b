"""Windows and what was recognised in them -> rows of the table of windows. Internal."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import numpy as np

from clsr.audio.pauses import Span, find_pauses, without_pauses
from clsr.index.recordings import RecordingEntry, confidence_of
from clsr.index.segments import encode_segments
from clsr.index.tables import CONFIDENCE_COLUMN, SEGMENTS_COLUMN, windows_schema
from clsr.index.windows import AudioWindow
from clsr.vocabulary import Word

if TYPE_CHECKING:
    import pyarrow

    from clsr.models.speech_encoder import SpeechEncoding
    from clsr.models.text_encoder import TextEncoder

WindowRow = dict[str, Any]


def window_id(recording: str, span: Span) -> str:
    """The id of a window: its recording and times, as a media fragment.

    >>> window_id("talk.wav", (30.0, 70.0))
    'talk.wav#t=30.000,70.000'
    """
    return f"{recording}#t={span[0]:.3f},{span[1]:.3f}"


def to_rows(
    recordings: Sequence[RecordingEntry], windows: Sequence[AudioWindow], encoding: SpeechEncoding, fingerprint: str,
    text_encoder: TextEncoder,
) -> list[WindowRow]:  # fmt: skip
    """The row of each window.

    Args:
        recordings: that of each window.
        windows: with their waveforms.
        encoding: of their waveforms, in the same order.
        fingerprint: of the model.
        text_encoder: of the model, for the vectors of segments.
    """
    spoken = [_spoken_words(window, words) for window, words in zip(windows, encoding.words, strict=True)]
    segments, rows = encode_segments(text_encoder, spoken), []
    for entry, window, vector, text, words, vectors, log_probability in zip(
        recordings, windows, encoding.vectors, encoding.transcripts, spoken, segments, encoding.confidences, strict=True
    ):
        row = {
            "id": window_id(entry.recording, (window.start_s, window.end_s)),
            "recording": entry.recording,
            "content_hash": entry.content_hash,
            "fingerprint": fingerprint,
            "modified": date_of(entry.modified_ns),
            "cut": entry.cut,
            "start_s": window.start_s,
            "end_s": window.end_s,
            "vector": vector,
            "text": text,
            "words": [word._asdict() for word in words],
            SEGMENTS_COLUMN: vectors,
            CONFIDENCE_COLUMN: confidence_of(log_probability),
        }
        rows.append(row | {"checksum": checksum(row)})
    return rows


def date_of(modified_ns: int) -> datetime:
    """The date of a file, to the microsecond; one that no calendar of Python has is the nearest that it has.

    >>> date_of(-1).isoformat()
    '1969-12-31T23:59:59.999999+00:00'
    """
    try:
        return datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(microseconds=modified_ns // 1000)
    except OverflowError:
        return (datetime.max if modified_ns > 0 else datetime.min).replace(tzinfo=timezone.utc)


def to_arrow(rows: Sequence[WindowRow]) -> pyarrow.Table:
    """Convert at least one row to the Arrow table that is written."""
    import pyarrow

    return pyarrow.Table.from_pylist(list(rows), schema=windows_schema(len(rows[0]["vector"])))


def checksum(row: Mapping[str, Any]) -> str:
    """BLAKE2b of everything in a row but the checksum, 16 hexadecimal digits: LanceDB itself does not notice damage."""
    words: Iterable[Mapping[str, Any]] = row["words"]
    values = [
        row[name] for name in ("id", "recording", "content_hash", "fingerprint", "cut", "start_s", "end_s", "text")
    ]
    values += [row["modified"].isoformat(), *([word["text"], word["start_s"], word["end_s"]] for word in words)]
    if row.get(CONFIDENCE_COLUMN) is not None:  # windows of version 0.1 have none
        values.append(row[CONFIDENCE_COLUMN])
    digest = hashlib.blake2b(json.dumps(values).encode(), digest_size=8)
    digest.update(np.asarray(row["vector"], dtype="<f4").tobytes() + row[SEGMENTS_COLUMN])
    return digest.hexdigest()


def _spoken_words(window: AudioWindow, words: Iterable[Word]) -> list[Word]:
    """The words of a window, their times moved to the start of the recording and cut at pauses."""
    return [
        Word(word.text, window.start_s + word.start_s, window.start_s + word.end_s)
        for word in without_pauses(words, find_pauses(window.waveform))
    ]
