"""A span of a recording, or samples with their rate -> waveform; and how a part of a query is spelled in text."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr

from clsr.audio.waveform import AUDIO_SUFFIXES, READABLE_RATES, SAMPLE_RATE, read_waveform
from clsr.errors import InputError

_SPELLED = re.compile(
    rf"(?P<path>.*(?:{'|'.join(map(re.escape, AUDIO_SUFFIXES))}))"
    r"(?::(?P<start>\d+(?:\.\d+)?)-(?P<end>\d+(?:\.\d+)?)?)?",
    re.IGNORECASE | re.DOTALL,
)  # fmt: skip


@dataclass(frozen=True)
class Clip:
    """Audio where a path or a waveform at 16 kHz does not say enough: a span, or samples at another rate.

    Attributes:
        audio: path of the file, or samples of one channel, ``(N,)``.
        start_s: where the span begins, in seconds.
        end_s: where it ends; ``None`` is the end of the audio.
        rate: of the samples, in Hz; a file says its own.

    Raises:
        InputError: the span is empty or begins before 0, or the rate is none of audio.
    """

    audio: str | Path | np.ndarray
    start_s: float = 0.0
    end_s: float | None = None
    rate: int = SAMPLE_RATE

    def __post_init__(self) -> None:
        end_s = math.inf if self.end_s is None else self.end_s
        if not 0 <= self.start_s < end_s or math.isinf(self.start_s):
            raise InputError(f"{self}: the span is empty; give 0 <= start < end in seconds")
        if self.rate not in READABLE_RATES:
            raise InputError(f"{self}: a rate of {self.rate} Hz; give the rate of the samples")

    def __str__(self) -> str:
        """Its name in messages: ``PATH``, or ``PATH:START-END``."""
        name = "the samples" if isinstance(self.audio, np.ndarray) else str(self.audio)
        if self.start_s == 0 and self.end_s is None:
            return name
        return f"{name}:{self.start_s:g}-{'' if self.end_s is None else f'{self.end_s:g}'}"


def read_clip(
    clip: Clip,
    longest_s: float = math.inf,
    read: Callable[[Path, float, float | None], np.ndarray] = read_waveform,
) -> np.ndarray:
    """The waveform ``(N,)`` of a clip at 16 kHz; of one that is too long, a second more than ``longest_s``.

    Args:
        clip: what is read.
        longest_s: of it.
        read: reads a span of a file.

    Raises:
        InputError: the file cannot be read, or has nothing in this span.
    """
    last_s = clip.start_s + longest_s + 1
    end_s = last_s if clip.end_s is None else min(clip.end_s, last_s)
    if not isinstance(clip.audio, np.ndarray):
        return read(Path(clip.audio), clip.start_s, None if math.isinf(end_s) else end_s)
    first = round(clip.start_s * clip.rate)
    samples = clip.audio[first : None if math.isinf(end_s) else round(end_s * clip.rate)]
    if clip.rate == SAMPLE_RATE or samples.ndim != 1 or samples.dtype.kind not in "fiu":
        return samples
    return soxr.resample(samples.astype(np.float32), clip.rate, SAMPLE_RATE)


def parse_part(spelled: str, folder: Path = Path()) -> str | Path | Clip:
    """A part of a query as a command or a file spells it: audio by its suffix, else text.

    ``talk.wav`` is a file and ``talk.wav:12.5-20`` its seconds 12.5 to 20 (``talk.wav:12.5-`` goes to its end).

    Args:
        spelled: the part.
        folder: that relative paths count from.

    Raises:
        InputError: the span is empty.

    >>> parse_part("what does")
    'what does'
    >>> str(parse_part("talks/a.WAV:12.5-20"))
    'talks/a.WAV:12.5-20'
    """
    found = _SPELLED.fullmatch(spelled)
    if not found:
        return spelled
    path, start_s, end_s = folder / found["path"], found["start"], found["end"]
    return path if start_s is None else Clip(path, float(start_s), None if end_s is None else float(end_s))


def parse_parts(data: object, folder: Path = Path()) -> list[str | Path | Clip]:
    """The parts of a query as JSON gives them, each spelled as for ``parse_part``.

    Args:
        data: what JSON has in their place.
        folder: that relative paths count from.

    Raises:
        InputError: it is no list, has no parts, or one is no text or an empty span; the message has its position.
    """
    if not isinstance(data, list) or not data:
        raise InputError("data is no list of parts, or has none; give texts and paths of audio")
    parts = []
    for number, part in enumerate(data, start=1):
        if not isinstance(part, str):
            raise InputError(f"part {number}: is neither text nor the path of audio; give one of them")
        try:
            parts.append(parse_part(part, folder))
        except InputError as error:
            raise InputError(f"part {number}: {error}") from error
    return parts
