"""Words with times -> cues of two short lines -> subtitles (SubRip, WebVTT), tables and plain text. Internal."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

from clsr.audio.pauses import LEAST_PAUSE_S
from clsr.vocabulary import Word, join_words

SubtitleFormat = Literal["srt", "vtt", "tsv", "txt"]

LINE_COLUMNS = 42  # of a line; a Han character takes two columns
LONGEST_S = 7.0  # that a cue stays
SHORTEST_S = 1.0  # that it stays, unless the next one begins
LONG_PAUSE_S = 1.0  # ends a cue, and a line of plain text
SENTENCE_END, CLAUSE_END = tuple(".?!。？！…"), tuple(",;:，；：、")
SENTENCE_S, CLAUSE_S = 1.0, 0.3  # of pause, that the end of a sentence or clause is worth where a cue may end


class Cue(NamedTuple):
    """Lines that stand on the screen together."""

    start_s: float
    end_s: float
    lines: list[str]  # one or two, of 42 columns at most


def make_cues(words: Sequence[Word]) -> list[Cue]:
    """Cut words into cues: at pauses, and where two lines of 42 columns or 7 s are full.

    A full cue ends at the longest pause in its second half, where there is one. The ends of sentences and clauses count
    as pauses.
    A cue that would stay for less than a second stays that long, or until the next begins.

    >>> make_cues([Word("Good", 0.0, 0.4), Word("morning.", 0.4, 1.0), Word("So", 2.5, 2.7)])
    [Cue(start_s=0.0, end_s=1.0, lines=['Good morning.']), Cue(start_s=2.5, end_s=3.5, lines=['So'])]
    """
    cues = [Cue(some[0].start_s, some[-1].end_s, _lines(some) or []) for some in _groups(_narrow(words))]
    following = [cue.start_s for cue in cues[1:]] + [float("inf")]
    return [
        cue._replace(end_s=max(cue.end_s, min(cue.start_s + SHORTEST_S, next_s)))
        for cue, next_s in zip(cues, following, strict=False)
    ]


def _groups(words: Sequence[Word]) -> Iterator[Sequence[Word]]:
    """The words of each cue."""
    start = 0
    while start < len(words):
        stop = start + 1
        while stop < len(words) and _pause_s(words, stop) < LONG_PAUSE_S and _fits(words[start : stop + 1]):
            stop += 1
        if stop < len(words) and _pause_s(words, stop) < LONG_PAUSE_S:  # full
            half = start + 1 + (stop - start) // 2
            stop = max(range(half, stop + 1), key=lambda at: (_worth_s(words, at), at), default=stop)
        yield words[start:stop]
        start = stop


def _fits(words: Sequence[Word]) -> bool:
    return words[-1].end_s - words[0].start_s <= LONGEST_S and _lines(words) is not None


def _pause_s(words: Sequence[Word], at: int) -> float:
    """The pause before a word."""
    return words[at].start_s - words[at - 1].end_s


def _worth_s(words: Sequence[Word], at: int) -> float:
    """How good a cue's end is before a word, in seconds of pause."""
    before = words[at - 1].text
    ends = SENTENCE_S if before.endswith(SENTENCE_END) else CLAUSE_S if before.endswith(CLAUSE_END) else 0.0
    pause_s = _pause_s(words, at)
    return ends + (pause_s if pause_s >= LEAST_PAUSE_S else 0.0)


def _lines(words: Sequence[Word]) -> list[str] | None:
    """One line, or two that are as even as can be; None of words that need more."""
    whole = join_words(word.text for word in words)
    if (width := columns(whole)) <= LINE_COLUMNS:
        return [whole]
    if width > 2 * LINE_COLUMNS + 1:  # and the space between them
        return None
    splits, end = [], 0
    for word in words[:-1]:
        end = whole.index(word.text, end) + len(word.text)
        splits.append([whole[:end], whole[end:].lstrip()])
    fitting = [lines for lines in splits if max(map(columns, lines)) <= LINE_COLUMNS]
    return min(fitting, key=lambda lines: abs(columns(lines[0]) - columns(lines[1])), default=None)


def columns(text: str) -> int:
    """Return how many columns a text takes: two for a wide character, none for a combining one.

    >>> columns("Zürich"), columns("北京")
    (6, 4)
    """
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
        for character in text
    )


def _narrow(words: Sequence[Word]) -> list[Word]:
    """The words, those cut into parts of equal length that are wider than a line."""
    found: list[Word] = []
    for word in words:
        parts = -(-columns(word.text) // LINE_COLUMNS)
        size = -(-len(word.text) // max(1, parts))
        texts = [word.text[first : first + size] for first in range(0, len(word.text), size or 1)]
        step_s = (word.end_s - word.start_s) / max(1, len(texts))
        edges = [word.start_s + number * step_s for number in range(len(texts))] + [word.end_s]
        found += [Word(text, start_s, end_s) for text, (start_s, end_s) in zip(texts, pairwise(edges), strict=True)]
    return found


def format_words(words: Sequence[Word], kind: SubtitleFormat) -> str:
    """Write words down as SubRip, as WebVTT, as a table (start and end in milliseconds, text), or as plain text.

    Plain text has a line for each run of speech without a pause of a second.
    """
    if kind == "txt":
        return "".join(f"{join_words(word.text for word in run)}\n" for run in split_at_pauses(words))
    cues = make_cues(words)
    if kind == "tsv":
        rows = (f"{_ms(cue.start_s)}\t{_ms(cue.end_s)}\t{' '.join(cue.lines)}\n" for cue in cues)
        return "start\tend\ttext\n" + "".join(rows)
    if kind == "srt":
        return "\n".join(
            f"{number}\n{time_stamp(cue.start_s)} --> {time_stamp(cue.end_s)}\n{_text(cue)}\n"
            for number, cue in enumerate(cues, 1)
        )
    stamped = (f"\n{time_stamp(cue.start_s, '.')} --> {time_stamp(cue.end_s, '.')}\n{_escape(cue)}\n" for cue in cues)
    return "WEBVTT\n" + "".join(stamped)


def split_at_pauses(words: Sequence[Word]) -> Iterator[Sequence[Word]]:
    """Return the runs of words without a pause of a second."""
    start = 0
    for at in range(1, len(words)):
        if _pause_s(words, at) >= LONG_PAUSE_S:
            yield words[start:at]
            start = at
    if words:
        yield words[start:]


def _text(cue: Cue) -> str:
    return "\n".join(cue.lines)


def _escape(cue: Cue) -> str:
    return _text(cue).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def time_stamp(seconds: float, point: str = ",") -> str:
    """Return a time as subtitles have it.

    >>> time_stamp(3725.5), time_stamp(0.0404, ".")
    ('01:02:05,500', '00:00:00.040')
    """
    minutes, milliseconds = divmod(_ms(seconds), 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{milliseconds // 1000:02}{point}{milliseconds % 1000:03}"
