"""A moment that may answer a question, as an object, a line of text and a line of JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clsr.errors import printable_line
from clsr.index.recordings import FLAG
from clsr.search.token_matches import TokenMatch
from clsr.vocabulary import Word


@dataclass(frozen=True)
class Hit:
    """A moment that may answer the question; printed, it is a line.

    Attributes:
        rank: 1 is the best.
        recording: path of the recording.
        start_s, end_s: the moment, in seconds from the start of the recording; it lies inside the window.
        window_start_s, window_end_s: the window that was found, in which the moment is the best segment.
        score: of the window: in mode "dense" the cosine of the query's vector and the window's, -1 to 1; in mode
            "bm25" that of BM25, above 0; in mode "hybrid" the sum of reciprocal ranks, above 0 and below 0.033; in mode
            "maxsim" the mean over the query's tokens of the best cosine with a token of the window, rare tokens
            counting more, -1 to 1.
        text: what was recognised in the moment.
        window_text: what was recognised in the window.
        matches: each occurrence, in the moment, of the words that match the query best, in the order of speech.
        flagged: whether the recording is probably not speech in the model's language.
        weak: whether the score is one that hardly any right hit has, so that this one is probably wrong.
        tokens: in mode "maxsim", each token of the query and the word of the window that it matched best.
    """

    rank: int
    recording: str
    start_s: float
    end_s: float
    window_start_s: float
    window_end_s: float
    score: float
    text: str
    window_text: str
    matches: tuple[Word, ...]
    flagged: bool = False
    tokens: tuple[TokenMatch, ...] = ()
    weak: bool = False

    def __str__(self) -> str:
        """The hit as a line: file, ``mm:ss-mm:ss`` (``h:mm:ss`` over an hour), score, transcript with ``*matches*``.

        A file inside the working directory is named from there, and others in full. What a terminal would obey, or what
        would break the line, is written as an escape.
        """
        file = Path(self.recording)
        name = file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file
        span = f"{format_clock(math.floor(self.start_s))}-{format_clock(math.ceil(self.end_s))}"
        flag = f"  ({FLAG})" if self.flagged else ""
        return printable_line(f"{name}  {span}  {self.score:.3f}  {self.marked()}{flag}")

    def marked(self, before: str = "*", after: str = "*") -> str:
        """The text of the moment, with a mark before and after each matching word."""
        matches = {word.text for word in self.matches}
        return " ".join(f"{before}{word}{after}" if word in matches else word for word in self.text.split())

    def to_json(self) -> str:
        """``values`` as one line of JSON."""
        return json.dumps(self.values(), ensure_ascii=False)

    def values(self) -> dict[str, Any]:
        """The hit as an object of JSON; times to the millisecond, the score to four significant digits.

        ``flagged`` and ``weak`` are there only where they are true, ``tokens`` only in mode "maxsim".
        """
        more: dict[str, Any] = {name: True for name in ("flagged", "weak") if getattr(self, name)}
        if self.tokens:
            more["tokens"] = [[m.token, m.word, *_rounded(m[2:])] for m in self.tokens]
        return {
            "rank": self.rank,
            "recording": self.recording,
            "start_s": round(self.start_s, 3),
            "end_s": round(self.end_s, 3),
            "score": float(f"{self.score:.4g}"),
            "text": self.text,
            "matches": [[word.text, round(word.start_s, 3), round(word.end_s, 3)] for word in self.matches],
            "window_start_s": round(self.window_start_s, 3),
            "window_end_s": round(self.window_end_s, 3),
            "window_text": self.window_text,
        } | more


def _rounded(values: Sequence[float]) -> list[float]:
    return [round(value, 3) for value in values]


def format_clock(seconds: int) -> str:
    """Seconds as ``mm:ss``, or ``h:mm:ss`` from an hour on.

    >>> format_clock(754), format_clock(3600)
    ('12:34', '1:00:00')
    """
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes:02}:{seconds:02}"
