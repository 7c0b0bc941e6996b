"""Windows and what was heard in them -> rows of the table of windows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import numpy as np

from clsr.audio.pauses import find_pauses, without_pauses
from clsr.index.recordings import Entry
from clsr.index.schema import windows_schema
from clsr.index.segments import encode_stretches
from clsr.index.windows import Sound, Span
from clsr.vocabulary import Word

if TYPE_CHECKING:
    import pyarrow

    from clsr.models.speech_encoder import SpeechEncoding
    from clsr.models.text_encoder import TextEncoder

Row = dict[str, Any]


def window_id(recording: str, span: Span) -> str:
    """What a window goes by: its recording and times, as a media fragment.

    >>> window_id("talk.wav", (30.0, 70.0))
    'talk.wav#t=30.000,70.000'
    """
    return f"{recording}#t={span[0]:.3f},{span[1]:.3f}"


def to_rows(
    recordings: Sequence[Entry], sounds: Sequence[Sound], encoding: SpeechEncoding, fingerprint: str,
    text_encoder: TextEncoder,
) -> list[Row]:  # fmt: skip
    """The row of each window.

    Args:
        recordings: that of each window.
        sounds: the windows.
        encoding: of their waveforms, in the same order.
        fingerprint: of the model.
        text_encoder: of the model, for the vectors of stretches.
    """
    said = [_said(sound, words) for sound, words in zip(sounds, encoding.words, strict=True)]
    stretches, rows = encode_stretches(text_encoder, said), []
    for entry, sound, vector, text, words, vectors in zip(
        recordings, sounds, encoding.vectors, encoding.transcripts, said, stretches, strict=True
    ):
        row = {
            "id": window_id(entry.recording, (sound.start_s, sound.end_s)),
            "recording": entry.recording,
            "content_hash": entry.content_hash,
            "fingerprint": fingerprint,
            "modified": datetime.fromtimestamp(entry.modified_ns // 1000 / 1e6, timezone.utc),
            "cut": entry.cut,
            "start_s": sound.start_s,
            "end_s": sound.end_s,
            "vector": vector,
            "text": text,
            "words": [word._asdict() for word in words],
            "stretches": vectors,
        }
        rows.append(row | {"checksum": checksum(row)})
    return rows


def to_arrow(rows: Sequence[Row]) -> pyarrow.Table:
    """Rows, one at least, as they are written into the table."""
    import pyarrow

    return pyarrow.Table.from_pylist(list(rows), schema=windows_schema(len(rows[0]["vector"])))


def checksum(row: Mapping[str, Any]) -> str:
    """BLAKE2b of everything in a row but the checksum, 16 hexadecimal digits: LanceDB itself does not notice damage."""
    words: Iterable[Mapping[str, Any]] = row["words"]
    told = [row[name] for name in ("id", "recording", "content_hash", "fingerprint", "cut", "start_s", "end_s", "text")]
    told += [row["modified"].isoformat(), *([word["text"], word["start_s"], word["end_s"]] for word in words)]
    digest = hashlib.blake2b(json.dumps(told).encode(), digest_size=8)
    digest.update(np.asarray(row["vector"], dtype="<f4").tobytes() + row["stretches"])
    return digest.hexdigest()


def _said(sound: Sound, words: Iterable[Word]) -> list[Word]:
    """The words of a window, whose times count from its start, in the time of the recording and without pauses."""
    return [
        Word(word.text, sound.start_s + word.start_s, sound.start_s + word.end_s)
        for word in without_pauses(words, find_pauses(sound.waveform))
    ]
