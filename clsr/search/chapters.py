"""A recording of an index -> its chapters: cut where the vectors of what is said change, with their central words."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from clsr.errors import InputError
from clsr.index.filters import Filter, is_recording
from clsr.index.index import Index
from clsr.index.ranking import RecognisedWindow, read
from clsr.index.segments import segment_vectors
from clsr.index.tables import SEGMENTS_COLUMN, SPOKEN, STOP_WORDS
from clsr.lance import numbers
from clsr.search.moments import segments_of
from clsr.vocabulary import Word, join_words, normalise

if TYPE_CHECKING:
    from clsr.text.encoder import SentenceEncoder

CONTEXT_S = 120.0  # of speech on either side of a place, that are compared there
LEAST_S = 120.0  # shortest chapter
DEPTH = 1.0  # standard deviations above the mean, that a valley has to be deep
CENTRAL_WORDS = 5  # of a chapter
LEAST_LETTERS = 3  # of a central word
COLUMNS = ["start_s", "end_s", "text", "words", SEGMENTS_COLUMN, "vector"]


class SpokenUnit(NamedTuple):
    """Speech between two pauses: its words, times in seconds of the recording, and vector."""

    start_s: float
    end_s: float
    words: list[Word]
    vector: np.ndarray  # (E,), of norm 1


@dataclass(frozen=True)
class Chapter:
    """A chapter of a recording.

    Attributes:
        recording: path of the recording.
        start_s, end_s: in seconds from its start.
        words: the most central ones, the most central first.
        text: what was recognised in it.
    """

    recording: str
    start_s: float
    end_s: float
    words: tuple[str, ...]
    text: str

    def to_json(self) -> str:
        """The chapter as one line of JSON; times to the millisecond."""
        times = {"start_s": round(self.start_s, 3), "end_s": round(self.end_s, 3)}
        return json.dumps(asdict(self) | times, ensure_ascii=False)


def find_chapters(index: Index, text_encoder: SentenceEncoder, recording: str | Path) -> list[Chapter]:
    """The chapters of a recording, in order: from its first word to its last, none overlapping.

    Nothing is recognised again: the vectors of segments are those that the index has.

    Args:
        index: that has the recording.
        text_encoder: of its model, for the central words.
        recording: its file.

    Raises:
        InputError: the index does not have the recording, or cannot be read.
    """
    units = read_units(index, recording)
    if not units:
        return []
    (path,) = Filter(recordings=[recording]).paths
    places = boundaries(units)
    parts = [units[start:end] for start, end in zip([0, *places], [*places, len(units)], strict=True)]
    central = central_words(text_encoder, parts)
    times_s = [(before[-1].end_s + after[0].start_s) / 2 for before, after in pairwise(parts)]
    starts_s, ends_s = [units[0].start_s, *times_s], [*times_s, units[-1].end_s]
    texts = [join_words(word.text for unit in part for word in unit.words) for part in parts]
    return [Chapter(path, *values) for values in zip(starts_s, ends_s, central, texts, strict=True)]


def read_units(index: Index, recording: str | Path) -> list[SpokenUnit]:
    """The segments of a recording in order, each second once, with the vectors that the index has of them.

    Raises:
        InputError: the index does not have the recording, or cannot be read.
    """
    table = index.require_windows()
    (path,) = Filter(recordings=[recording]).paths
    found = read(lambda: table.scan(COLUMNS, f"{is_recording(path)} AND {SPOKEN}"))
    if not len(found) and not table.count_rows(is_recording(path)):
        raise InputError(f"{recording}: not in the index; see what clsr index --status lists")
    vectors, rows = numbers(found["vector"]), found.drop_columns(["vector"]).to_pylist()
    units: list[SpokenUnit] = []
    reached_s = -np.inf
    for at in sorted(range(len(rows)), key=lambda i: (rows[i]["start_s"], -rows[i]["end_s"])):
        row = rows[at]
        if row["end_s"] <= reached_s:  # a window inside another one
            continue
        words = [Word(**word) for word in row["words"]]
        window = RecognisedWindow(row["start_s"], row["end_s"], row["text"], words, row[SEGMENTS_COLUMN])
        parts = segments_of(window, vectors.shape[1])
        rows_of_parts = segment_vectors(window.segments, vectors.shape[1]) if len(parts) > 1 else vectors[at : at + 1]
        for part, vector in zip(parts, rows_of_parts, strict=True):
            new = [word for word in part if (word.start_s + word.end_s) / 2 >= reached_s]
            if new:  # the vector stays that of the whole segment
                units.append(SpokenUnit(new[0].start_s, new[-1].end_s, new, vector))
        reached_s = row["end_s"]
    return units


def boundaries(
    units: Sequence[SpokenUnit], context_s: float = CONTEXT_S, least_s: float = LEAST_S, depth: float = DEPTH
) -> list[int]:
    """The places of the units that begin a chapter, but the first: TextTiling (Hearst, 1997) over vectors.

    Between any two units, the mean vector of the speech before is compared with that of the speech after, each unit
    weighing as long as it lasts. Where their cosine has a valley, its depth is the sum of its climbs to the nearest
    peak on either side. Valleys deeper than the mean of all by ``depth`` standard deviations are boundaries, the
    deepest first, and none within ``least_s`` of another one, of the start, or of the end.

    Args:
        units: of a recording, in order.
        context_s: of speech that is compared on either side, in seconds, above 0.
        least_s: shortest chapter, in seconds.
        depth: standard deviations.
    """
    if len(units) < 3:
        return []
    depths = valley_depths(_changes(units, context_s))
    valleys = [gap for gap in range(len(depths)) if depths[gap] > 0]
    if not valleys:
        return []
    least_depth = depths[valleys].mean() + depth * depths[valleys].std()
    taken: list[int] = []
    edges_s = [units[0].start_s, units[-1].end_s]
    for gap in sorted(valleys, key=lambda gap: (-depths[gap], gap)):
        start_s = units[gap + 1].start_s
        if depths[gap] >= least_depth and all(abs(start_s - edge_s) >= least_s for edge_s in edges_s):
            taken.append(gap + 1)
            edges_s.append(start_s)
    return sorted(taken)


def valley_depths(cosines: np.ndarray) -> np.ndarray:
    """The depth of each valley of a curve ``(N,)``, and 0 elsewhere.

    >>> valley_depths(np.array([0.9, 0.5, 0.8, 0.7, 0.7, 1.0])).round(1).tolist()
    [0.0, 0.7, 0.0, 0.4, 0.0, 0.0]
    """
    depths = np.zeros(len(cosines))
    for at, value in enumerate(cosines):
        left = right = at
        while left > 0 and cosines[left - 1] >= cosines[left]:
            left -= 1
        while right + 1 < len(cosines) and cosines[right + 1] >= cosines[right]:
            right += 1
        is_first = at == 0 or cosines[at - 1] > value  # of a flat valley, the first place
        if left < at < right and is_first:
            depths[at] = cosines[left] + cosines[right] - 2 * value
    return depths


def central_words(text_encoder: SentenceEncoder, chapters: Sequence[Sequence[SpokenUnit]]) -> list[tuple[str, ...]]:
    """The words of each chapter whose vectors lie nearest to what sets the chapter apart from the whole.

    That is the chapter's mean vector less the recording's; of a single chapter it is its mean. Words such as "the", and
    ASCII words of fewer than three letters, are no candidates; words that are said more often count more.

    Args:
        text_encoder: of the model.
        chapters: the units of each.
    """
    means = np.stack([_mean(chapter) for chapter in chapters])
    whole = _mean([unit for chapter in chapters for unit in chapter])
    apart = means - whole if len(chapters) > 1 else means
    said = [[normalise(word.text) for unit in chapter for word in unit.words] for chapter in chapters]
    candidates = [
        sorted({w for w in words if w not in STOP_WORDS and (len(w) >= LEAST_LETTERS or not w.isascii()) and w.strip()})
        for words in said
    ]
    texts = sorted({word for words in candidates for word in words})
    if not texts:
        return [()] * len(chapters)
    vectors = dict(zip(texts, np.asarray(text_encoder.encode(texts, "passage")), strict=True))
    central = []
    for words, of_chapter, direction in zip(candidates, said, apart, strict=True):
        scores = {word: float(vectors[word] @ direction) * np.log1p(of_chapter.count(word)) for word in words}
        central.append(tuple(sorted(words, key=lambda word: (-scores[word], word))[:CENTRAL_WORDS]))
    return central


def _changes(units: Sequence[SpokenUnit], context_s: float) -> np.ndarray:
    """The cosine of what is said before and after each gap between units, ``(U - 1,)``."""
    lengths_s = np.array([max(unit.end_s - unit.start_s, 1e-3) for unit in units])
    weighted = np.stack([unit.vector for unit in units]) * lengths_s[:, None]
    sums, spoken_s = np.cumsum(np.pad(weighted, ((1, 0), (0, 0))), 0), np.cumsum(np.pad(lengths_s, (1, 0)))
    cosines = []
    for gap in range(1, len(units)):
        first = min(gap - 1, int(np.searchsorted(spoken_s, spoken_s[gap] - context_s)))
        end = max(gap + 1, int(np.searchsorted(spoken_s, spoken_s[gap] + context_s, "right")) - 1)
        before, after = sums[gap] - sums[first], sums[end] - sums[gap]
        cosines.append(before @ after / max(1e-12, float(np.linalg.norm(before) * np.linalg.norm(after))))
    return np.array(cosines)


def _mean(units: Sequence[SpokenUnit]) -> np.ndarray:
    total = np.sum([unit.vector * (unit.end_s - unit.start_s) for unit in units], 0)
    return total / max(1e-12, float(np.linalg.norm(total)))
