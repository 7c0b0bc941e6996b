"""Retriever, the public object: question in, ranked hits with times out."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from clsr.errors import InputError
from clsr.search.table import open_table, read_description, require_same_model
from clsr.search.windows import merge
from clsr.vocabulary import Word

if TYPE_CHECKING:
    from lancedb.table import LanceTable

    from clsr.models.text_encoder import TextEncoder

BEST_WORDS = 3  # different words marked in a hit, at most


@dataclass(frozen=True)
class Hit:
    """A moment that may answer the question.

    Attributes:
        rank: 1 is the best.
        recording: path of the recording.
        start_s, end_s: the moment, in seconds from the start of the recording.
        score: cosine of the question's vector and the window's, -1 to 1.
        text: what was recognised there, words separated by spaces.
        matches: each occurrence of the words that match the question best, in the order heard.
    """

    rank: int
    recording: str
    start_s: float
    end_s: float
    score: float
    text: str
    matches: tuple[Word, ...]

    def to_json(self) -> str:
        """The hit as one line of JSON; times to the millisecond, the score to four digits."""
        values = {
            "rank": self.rank,
            "recording": self.recording,
            "start_s": round(self.start_s, 3),
            "end_s": round(self.end_s, 3),
            "score": round(self.score, 4),
            "text": self.text,
            "matches": [[word.text, round(word.start_s, 3), round(word.end_s, 3)] for word in self.matches],
        }
        return json.dumps(values, ensure_ascii=False)


class Retriever:
    """Finds the moments of indexed recordings that answer a question."""

    def __init__(self, text_encoder: TextEncoder, table: LanceTable) -> None:
        self.text_encoder = text_encoder
        self.table = table

    @classmethod
    def open(cls, index_dir: str | Path, model_path: str | Path | None = None) -> Retriever:
        """Open an index, loading only the text encoder of the model that built it.

        Args:
            index_dir: folder of the index.
            model_path: the model's checkpoint folder, where it is no longer the one that built the index.

        Raises:
            InputError: there is no index or nothing in it, or the model is missing or another one.
        """
        from clsr import checkpoint

        built_with = read_description(index_dir)
        model_path = Path(model_path or built_with.model)
        if not model_path.is_dir():
            raise InputError(f"{index_dir}: the model that built it is not at {model_path}; say where it is now")
        require_same_model(index_dir, built_with.fingerprint, checkpoint.fingerprint(model_path))
        table = open_table(index_dir)
        if table is None:
            raise InputError(f"{index_dir}: nothing is indexed yet; run clsr index")
        return cls(checkpoint.load_text_side(model_path), table)

    def search(self, question: str, top_k: int = 10) -> list[Hit]:
        """Best moments for a question, best first, fewer than ``top_k`` if the recordings have no more.

        Every window is compared with the question (no approximation). Windows in which nothing was recognised are no
        hits; of windows that overlap, the best is one (``clsr.search.windows.merge``).

        Raises:
            InputError: the question is empty, or ``top_k`` is below 1.
        """
        if not question.strip():
            raise InputError("the question is empty; give some words to look for")
        if top_k < 1:
            raise InputError(f"top_k is {top_k}: give 1 or more")
        vector = self.text_encoder.encode([question], "question")[0]
        found = self._best_windows(vector.tolist(), top_k)
        word_scores = self._word_scores(vector, {word.text for window in found for word in window.words})
        return [
            Hit(
                rank=rank,
                recording=window.recording,
                start_s=window.start_s,
                end_s=window.end_s,
                score=window.score,
                text=window.text,
                matches=_best_matches(window.words, word_scores),
            )
            for rank, window in enumerate(found, start=1)
        ]

    def _best_windows(self, vector: list[float], top_k: int) -> list[_Window]:
        """Read down the ranking until enough windows are left after merging, or none are left to read."""
        limit = 4 * top_k
        while True:
            query = self.table.search(vector).distance_type("dot").where("text != ''").limit(limit)
            windows = [_window(row) for row in query.to_list()]
            merged = merge(windows)[:top_k]
            if len(merged) == top_k or len(windows) < limit:
                return merged
            limit *= 4

    def _word_scores(self, question: Any, words: set[str]) -> dict[str, float]:
        """Cosine of the question's vector ``(E,)`` and that of each word by itself.

        In its context, a word's vector speaks for the sentence, and "the" before a good match beats the match; alone,
        words without meaning of their own come out last.
        """
        distinct = sorted(words)
        return dict(zip(distinct, (self.text_encoder.encode(distinct, "passage") @ question).tolist(), strict=True))


def format_hit(hit: Hit) -> str:
    """The hit as a line: file, ``mm:ss-mm:ss`` (``h:mm:ss`` over an hour), score, transcript with ``*matches*``.

    A file inside the working directory is named from there, and others in full.
    """
    file = Path(hit.recording)
    name = file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file
    marked = {word.text for word in hit.matches}
    text = " ".join(f"*{word}*" if word in marked else word for word in hit.text.split())
    span = f"{_clock(math.floor(hit.start_s))}-{_clock(math.ceil(hit.end_s))}"
    return f"{name}  {span}  {hit.score:.3f}  {text}"


class _Window(NamedTuple):
    recording: str
    start_s: float
    end_s: float
    score: float
    text: str
    words: list[Word]


def _window(row: dict[str, Any]) -> _Window:
    score = 1.0 - row["_distance"]  # LanceDB's dot distance
    words = [Word(**word) for word in row["words"]]
    return _Window(row["recording"], row["start_s"], row["end_s"], score, row["text"], words)


def _best_matches(words: Sequence[Word], scores: dict[str, float]) -> tuple[Word, ...]:
    """Occurrences of the best words: those whose score is nearer to the best than to the mean of the hit's words."""
    ranked = sorted({word.text for word in words}, key=lambda text: (-scores[text], text))
    mean = sum(scores[text] for text in ranked) / len(ranked)
    best = {text for text in ranked[:BEST_WORDS] if scores[text] >= (mean + scores[ranked[0]]) / 2}
    return tuple(word for word in words if word.text in best)


def _clock(seconds: int) -> str:
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes:02}:{seconds:02}"
