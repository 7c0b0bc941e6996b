"""Recordings as browsers play them: the file itself, or any span of it as wav."""

from __future__ import annotations

import logging
import re
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from clsr.audio.waveform import SAMPLE_RATE
from clsr.errors import InputError

HEADER_BYTES = 44
PIECE_S = 20  # decoded at a time
# What browsers play and seek in exactly. MP3, ADTS and recorders' webm have no table of times: browsers guess there.
NATIVE = {
    ".wav": "audio/wav", ".flac": "audio/flac", ".ogg": "audio/ogg", ".oga": "audio/ogg", ".opus": "audio/ogg",
    ".m4a": "audio/mp4", ".mp4": "audio/mp4",
}  # fmt: skip

Read = Callable[[Path, float, float], np.ndarray]
"""Reads a span of a recording, in seconds: ``Decoder.read_waveform``, or ``clsr.audio.waveform.read_waveform``."""

_log = logging.getLogger("clsr")


def wav_bytes(duration_s: float) -> int:
    """Size of a recording as wav of 16 kHz and 16 bits, header included."""
    return HEADER_BYTES + 2 * round(duration_s * SAMPLE_RATE)


def stream_wav(path: Path, duration_s: float, first: int, end: int, read: Read) -> Iterator[bytes]:
    """Bytes ``first`` to ``end`` of the recording as wav, decoding only what they hold.

    From where the recording cannot be decoded, silence stands in for it: the length was promised, and a file that makes
    its decoder hang is not tried again and again.
    """
    lost = False
    if first < HEADER_BYTES:
        yield _header(wav_bytes(duration_s) - HEADER_BYTES)[first:end]
    position = max(0, first - HEADER_BYTES)
    stop = end - HEADER_BYTES
    while position < stop:
        sample = position // 2
        last_sample = min(sample + PIECE_S * SAMPLE_RATE, (stop + 1) // 2)
        waveform = np.zeros(0, np.float32)
        if not lost:
            try:
                waveform = read(path, sample / SAMPLE_RATE, last_sample / SAMPLE_RATE)
            except InputError as error:
                _log.info("%s", error)
                lost = True
        piece = _pcm(waveform, last_sample - sample)
        yield piece[position % 2 : min(len(piece), stop - 2 * sample)]
        position = 2 * last_sample


def parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """First byte and end of ``Range: bytes=first-last``, or ``None`` where all is wanted.

    >>> parse_range("bytes=10-", 100), parse_range("bytes=-5", 100), parse_range("bytes=0-9", 100)
    ((10, 100), (95, 100), (0, 10))

    Raises:
        ValueError: no such bytes.
    """
    found = re.fullmatch(r"\s*bytes\s*=\s*(\d{0,15})-(\d{0,15})\s*", header or "")
    if not found or found.groups() == ("", ""):
        return None  # what is not understood is ignored, as RFC 9110 has it
    first_text, last_text = found.groups()
    first = int(first_text) if first_text else max(0, size - int(last_text))
    end = min(size, int(last_text) + 1) if first_text and last_text else size
    if first >= end:
        raise ValueError(f"bytes {header} of {size}")
    return first, end


def _pcm(waveform: np.ndarray, samples: int) -> bytes:
    waveform = np.pad(waveform[:samples], (0, max(0, samples - len(waveform))))
    return np.clip(np.rint(waveform * 32_768), -32_768, 32_767).astype("<i2").tobytes()


def _header(data_bytes: int) -> bytes:
    size = min(data_bytes, 0xFFFFFFFF - 36)
    form = struct.pack("<HHIIHH", 1, 1, SAMPLE_RATE, 2 * SAMPLE_RATE, 2, 16)
    return (
        b"RIFF"
        + struct.pack("<I", 36 + size)
        + b"WAVEfmt "
        + struct.pack("<I", 16)
        + form
        + b"data"
        + struct.pack("<I", size)
    )
