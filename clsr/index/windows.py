"""How recordings are cut (``10,40/30``, ``speech:40``); a recording -> windows with their waveforms. Internal."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from clsr.audio.pauses import Span
from clsr.audio.waveform import SAMPLE_RATE
from clsr.errors import InputError
from clsr.vocabulary import Word

HOP_SHARE = 0.75  # of a window, from one start to the next, where none is given: the paper's 40 s then begin every 30 s
SPEECH_S = 40.0  # longest speech-aware window, where none is given
LEAST_SPEECH_S = 1.0  # of that: shorter windows hold no word for certain
ROUNDING_S = 1e-6  # a window that would start later than its predecessor by less is float noise, not a window
LONGEST_S = 300.0  # of any window: attention grows with its square

_CUT = re.compile(r"(?P<speech>speech)(?::(?P<most>[\d.]+))?|(?P<length>[\d.]+)(?:/(?P<hop>[\d.]+))?")


class Cut(NamedTuple):
    """One way to cut a recording: windows of one length, or along the pauses of speech."""

    length_s: float  # of a window; of speech-aware ones the most
    hop_s: float  # from one start to the next; 0 for speech-aware windows

    def __str__(self) -> str:
        """The cut as ``parse_cuts`` reads it."""
        return f"{self.length_s:g}/{self.hop_s:g}" if self.hop_s else f"speech:{self.length_s:g}"


class AudioWindow(NamedTuple):
    """A window of a recording with its waveform."""

    start_s: float
    end_s: float
    waveform: np.ndarray  # (N,) at 16 kHz


class Cutter(Protocol):
    """Finds the complete windows of a recording block by block; the result does not depend on the blocks."""

    @property
    def needed_from_s(self) -> float:
        """Earliest start of the windows to come."""

    def feed(self, block: np.ndarray) -> list[Span]:
        """Windows completed by the next samples ``(n,)``."""

    def finish(self) -> list[Span]:
        """Windows left at the end of the recording."""


def windows(duration_s: float, length_s: float, hop_s: float) -> list[tuple[float, float]]:
    """Start and end of each window of a recording, in seconds.

    Windows start every ``hop_s``. The last one ends with the recording and is moved back to keep its full length, so
    that all scores are of equally long windows; a recording shorter than a window gives one window.

    >>> windows(75.0, length_s=40.0, hop_s=30.0)
    [(0.0, 40.0), (30.0, 70.0), (35.0, 75.0)]

    Args:
        duration_s: length of the recording, above 0.
        length_s: length of a window, above 0.
        hop_s: from one start to the next, above 0 and at most ``length_s``: no second stays uncovered.

    Raises:
        ValueError: one of the three is out of its range.
    """
    if not (duration_s > 0 and 0 < hop_s <= length_s):
        raise ValueError(f"no windows of {length_s} s every {hop_s} s in a recording of {duration_s} s")
    last_start_s = max(0.0, duration_s - length_s)
    starts_s = [index * hop_s for index in range(math.ceil((last_start_s - ROUNDING_S) / hop_s))]
    return [(start_s, start_s + length_s) for start_s in starts_s] + [(last_start_s, duration_s)]


def covered_s(spans: Iterable[tuple[float, float]]) -> float:
    """Seconds that lie in at least one of the spans.

    >>> covered_s([(30.0, 70.0), (0.0, 40.0), (100.0, 110.0)])
    80.0
    """
    total_s, reached_s = 0.0, -math.inf
    for start_s, end_s in sorted(spans):
        total_s += max(0.0, end_s - max(start_s, reached_s))
        reached_s = max(reached_s, end_s)
    return total_s


def merge_words(windows: Iterable[tuple[float, float, Sequence[Word]]]) -> list[Word]:
    """Return the words of a recording, each once, from those of its overlapping windows.

    Of two windows that overlap, the first has the words up to the longest pause in the middle half of what they share,
    and the second those after it. A window that lies in another adds nothing.

    >>> words = merge_words([
    ...     (0.0, 4.0, [Word("so", 0.0, 1.0), Word("far", 1.5, 2.5), Word("goo", 3.0, 4.0)]),
    ...     (2.0, 6.0, [Word("r", 2.0, 2.4), Word("good", 3.0, 4.5)])])
    >>> [word.text for word in words]
    ['so', 'far', 'good']

    Args:
        windows: start and end in seconds, and words with times from the start of the recording.
    """
    merged: list[Word] = []
    reached_s = -math.inf
    for start_s, end_s, words in sorted(windows, key=lambda window: (window[0], -window[1])):
        if end_s <= reached_s:
            continue
        edge_s = _quiet_s(merged, start_s, reached_s) if start_s < reached_s else start_s
        while merged and _middle_s(merged[-1]) >= edge_s:
            merged.pop()
        merged += [word for word in words if _middle_s(word) >= edge_s]
        reached_s = end_s
    return merged


def _quiet_s(words: Sequence[Word], start_s: float, end_s: float) -> float:
    """The middle of the longest pause of words in the middle half of a span, or of the span where there is none."""
    quarter_s = (end_s - start_s) / 4
    low_s, high_s = start_s + quarter_s, end_s - quarter_s
    edges = [low_s, *(edge for word in words for edge in (word.start_s, word.end_s) if word.end_s > low_s), high_s]
    pauses = ((max(a, low_s), min(b, high_s)) for a, b in zip(edges[::2], edges[1::2], strict=True))
    longest = max(pauses, key=lambda pause: pause[1] - pause[0])
    return sum(longest) / 2 if longest[1] > longest[0] else (start_s + end_s) / 2


def _middle_s(word: Word) -> float:
    return (word.start_s + word.end_s) / 2


def parse_cuts(text: str) -> list[Cut]:
    """Read how to cut: lengths in seconds with the step between starts, and ``speech``, separated by commas.

    >>> [str(cut) for cut in parse_cuts("10,40/20,speech")]
    ['10/7.5', '40/20', 'speech:40']

    Raises:
        InputError: the text says none, or a length or step out of range.
    """
    cuts = []
    for part in text.split(","):
        found = _CUT.fullmatch(part.strip())
        try:
            cut = _cut(found.groupdict()) if found else None
        except ValueError:
            cut = None
        if cut is None or not 0 <= cut.hop_s <= cut.length_s or not 0 < cut.length_s <= LONGEST_S:
            raise InputError(
                f"windows {text!r}: {part.strip()!r} is no way to cut; give lengths in seconds up to {LONGEST_S:g}, "
                "such as 40, 10,40 or 40/20 (a window every 20 s, at most its length), or speech, or speech:20"
            )
        cuts.append(cut)
    return cuts


def join_cuts(cuts: Iterable[Cut]) -> str:
    """Write down ways to cut as ``parse_cuts`` reads them."""
    return ",".join(map(str, cuts))


def open_cutter(cut: Cut) -> Cutter:
    """A cutter at the start of a recording."""
    if cut.hop_s:
        return FixedCutter(cut)
    from clsr.audio.voice_activity import SpeechCutter

    return SpeechCutter(cut.length_s)


class FixedCutter:
    """Windows of one length, those of ``windows``, of a recording whose end is not known yet."""

    def __init__(self, cut: Cut) -> None:
        self.cut = cut
        self._index = 0  # of the next window
        self._samples = 0  # decoded

    @property
    def needed_from_s(self) -> float:
        """The start of the next window, or of the last, which is moved back to end with the recording."""
        return min(self._index * self.cut.hop_s, max(0.0, self._decoded_s - self.cut.length_s))

    def feed(self, block: np.ndarray) -> list[Span]:
        """All windows with decoded audio after them; the last window of the recording may still move."""
        self._samples += len(block)
        settled = []
        while (start_s := self._index * self.cut.hop_s) < self._decoded_s - self.cut.length_s - ROUNDING_S:
            settled.append((start_s, start_s + self.cut.length_s))
            self._index += 1
        return settled

    def finish(self) -> list[Span]:
        """The window that ends with the recording."""
        return [(max(0.0, self._decoded_s - self.cut.length_s), self._decoded_s)] if self._samples else []

    @property
    def _decoded_s(self) -> float:
        return self._samples / SAMPLE_RATE


class WindowStream:
    """Cuts one recording in all given ways, with at most the longest window in memory.

    Args:
        cuts: ways to cut it.
    """

    def __init__(self, cuts: Sequence[Cut]) -> None:
        self._cutters = [open_cutter(cut) for cut in cuts]
        self._kept = np.empty(0, np.float32)
        self._first = 0  # sample of the recording with which what is kept begins
        self._given: set[Span] = set()
        self.to_come_from_s = 0.0  # earliest start of the windows that were not given yet

    @property
    def decoded_s(self) -> float:
        """Seconds of the recording that were decoded."""
        return (self._first + len(self._kept)) / SAMPLE_RATE

    def windows(self, blocks: Iterable[np.ndarray]) -> Iterator[AudioWindow]:
        """The windows of a recording, each once, as soon as it is complete.

        Args:
            blocks: the recording, 16 kHz, ``(n,)`` each.

        Raises:
            InputError: raised by ``blocks``; passed on after the windows of the decoded part.
        """
        damage = None
        try:
            for block in blocks:
                self._kept = np.concatenate([self._kept, block])
                self.to_come_from_s = self._needed_from_s
                yield from self._audio([span for cutter in self._cutters for span in cutter.feed(block)])
                self._forget()
        except InputError as error:
            damage = error
        self.to_come_from_s = self._needed_from_s
        yield from self._audio([span for cutter in self._cutters for span in cutter.finish()])
        if damage:
            raise damage

    def _audio(self, spans: Iterable[Span]) -> Iterator[AudioWindow]:
        for span in spans:
            if span not in self._given:  # two lengths give a recording shorter than both the same window
                self._given.add(span)
                start, end = (round(time_s * SAMPLE_RATE) - self._first for time_s in span)
                yield AudioWindow(*span, self._kept[start:end].copy())

    @property
    def _needed_from_s(self) -> float:
        return min(cutter.needed_from_s for cutter in self._cutters)

    def _forget(self) -> None:
        needed = int(self._needed_from_s * SAMPLE_RATE) - 1  # -1: rounding
        passed = min(max(0, needed - self._first), len(self._kept))
        self._kept, self._first = self._kept[passed:], self._first + passed


def _cut(parts: dict[str, str | None]) -> Cut:
    if parts["speech"]:
        most_s = float(parts["most"] or SPEECH_S)
        if most_s < LEAST_SPEECH_S:
            raise ValueError("too short for words")
        return Cut(most_s, 0.0)
    length_s = float(parts["length"] or "")
    hop_s = float(parts["hop"]) if parts["hop"] else HOP_SHARE * length_s
    if not hop_s:
        raise ValueError("a step of nothing")
    return Cut(length_s, hop_s)
