"""The output layer of a released recogniser in its own byte pairs, and the text encoder's rows that they stand for."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from clsr.errors import InputError
from clsr.vocabulary import BLANK, SPECIAL_PIECES, UNKNOWN, CodeRows, Vocabulary, Word, fold_accents, join_words

if TYPE_CHECKING:
    from tokenizers import Tokenizer

RELEASE_TOKENIZER = "tokenizer.json"  # in a checkpoint, beside vocabulary.txt
WORDS = "words.txt"  # beside them: the words that a search prefers, with their counts
START = "Ġ"  # the space before a word, as byte pairs write it
WRITTEN = re.compile(rf"{START}?[a-z0-9']+")  # what normalised English text is made of


class BytePairVocabulary:
    """The pieces of a released recogniser that normalised English text is made of, in its own order.

    Output index ``0`` is ``[PAD]`` and ``1`` is ``[UNK]``, as in ``Vocabulary``. A piece is no row of the text encoder:
    the words that pieces make are split by the text encoder's own tokenizer, and a word may be several rows.

    Args:
        release: tokenizer of the release.
        tokenizer: the text encoder's.

    Attributes:
        word_counts: of the words that the search for a transcript prefers; empty before training.

    Raises:
        InputError: the release has no byte pairs that write English.
    """

    never = (BLANK, UNKNOWN)  # output indices that are never recognised
    marks: frozenset[int] = frozenset()  # output indices that are left out of token lists

    def __init__(self, release: Tokenizer, tokenizer: Tokenizer):
        known = sorted((i, piece) for piece, i in release.get_vocab().items() if WRITTEN.fullmatch(piece))
        if not any(piece.startswith(START) for _, piece in known):
            raise InputError("the release's tokenizer has no byte pairs that start a word: give a Whisper release")
        self.release = release
        self.tokenizer = tokenizer
        self.word_counts: Counter[str] = Counter()
        end = release.token_to_id("<|endoftext|>") or 0
        self.pieces = [*SPECIAL_PIECES, *(piece for _, piece in known)]
        self.release_ids = [end, end, *(i for i, _ in known)]
        self._index = {release_id: index for index, (release_id, _) in enumerate(known, start=len(SPECIAL_PIECES))}
        self._rows_of = lru_cache(2**16)(self._split)

    @classmethod
    def load(cls, folder: Path, tokenizer: Tokenizer) -> BytePairVocabulary:
        """Read the tokenizer of the release from a checkpoint, and see that ``vocabulary.txt`` has its pieces.

        Raises:
            InputError: a file is missing, or they do not belong together.
        """
        vocabulary = cls(read_tokenizer(folder / RELEASE_TOKENIZER), tokenizer)
        path = folder / "vocabulary.txt"
        if not path.is_file() or path.read_text(encoding="utf-8") != str(vocabulary):
            raise InputError(f"{path}: missing, or not of {RELEASE_TOKENIZER} beside it: copy the checkpoint again")
        if (folder / WORDS).is_file():
            vocabulary.word_counts = read_words(folder / WORDS)
        return vocabulary

    def count_words(self, texts: Iterable[str]) -> None:
        """Add the words of transcripts to the list, and those that the text encoder writes as one piece."""
        for text in texts:
            self.word_counts.update(fold_accents(text).split())
        for piece in self.tokenizer.get_vocab():
            if WRITTEN.fullmatch(piece) and not piece.startswith(START):
                self.word_counts.setdefault(piece, 0)

    @property
    def token_ids(self) -> list[int]:
        """The id that each output index is reported by: the release's."""
        return self.release_ids

    def __len__(self) -> int:
        return len(self.pieces)

    def __str__(self) -> str:
        """The lines of ``vocabulary.txt``: a piece, a tab, the release's id."""
        return "".join(f"{piece}\t{i}\n" for piece, i in zip(self.pieces, self.release_ids, strict=True))

    def encode(self, text: str) -> list[int]:
        """Turn text into output indices; what the pieces cannot write becomes ``UNKNOWN``."""
        ids = self.release.encode(f" {fold_accents(text)}", add_special_tokens=False).ids
        return [self._index.get(i, UNKNOWN) for i in ids]

    def decode(self, indices: Sequence[int]) -> str:
        """Join output indices into text."""
        return self.join(word.text for word in self.words(indices, [(0.0, 0.0)] * len(indices)))

    def join(self, texts: Iterable[str]) -> str:
        """Join words, or transcripts of successive pieces, by spaces."""
        return join_words(texts)

    def words(self, indices: Sequence[int], times: Sequence[tuple[float, float]]) -> list[Word]:
        """Join pieces into words, each from the start of its first piece to the end of its last."""
        return [
            Word(self._text(indices[start:stop]), times[start][0], times[stop - 1][1])
            for start, stop in self._spans(indices)
        ]

    def text_token_ids(self, indices: Sequence[int]) -> list[int]:
        """Return the text encoder's ids of the words that output indices make."""
        spans = self._spans(indices)
        return [row for start, stop in spans for row in self._rows_of(self._text(indices[start:stop]))]

    def code_rows(self, tokens: np.ndarray) -> CodeRows:
        """Return the text encoder's rows that stand for the best outputs ``(U, K)`` of an utterance.

        The words of the best outputs are split into rows. A word of one piece may be a mixture with the other outputs
        of its position that are whole words of as many rows; a word of several pieces is never one.
        """
        positions: list[int] = []
        rows: list[list[int]] = []
        for start, stop in self._spans(tokens[:, 0].tolist()):
            best = self._rows_of(self._text(tokens[start:stop, 0].tolist()))
            columns = [best]
            if stop == start + 1:
                columns += [self._alternative(piece, len(best)) for piece in tokens[start, 1:].tolist()]
            columns += [(-1,) * len(best)] * (tokens.shape[1] - len(columns))
            positions += [start] * len(best)
            rows += [list(row) for row in zip(*columns, strict=True)]
        return CodeRows(np.array(positions, np.int64), np.array(rows, np.int64).reshape(-1, tokens.shape[1]))

    def _alternative(self, index: int, count: int) -> tuple[int, ...]:
        """Return the rows of an output that is a word of so many rows, else -1 for each."""
        piece = self.pieces[index]
        rows = self._rows_of(piece.removeprefix(START)) if piece.startswith(START) else ()
        return rows if len(rows) == count else (-1,) * count

    def _spans(self, indices: Sequence[int]) -> list[tuple[int, int]]:
        """Return where each word starts and stops among output indices."""
        starts = [i for i, index in enumerate(indices) if i == 0 or self.pieces[index].startswith(START)]
        return list(pairwise([*starts, len(indices)]))

    def _text(self, indices: Iterable[int]) -> str:
        return "".join(self._letters(indices))

    def _letters(self, indices: Iterable[int]) -> Iterator[str]:
        return (self.pieces[index].removeprefix(START) for index in indices)

    def _split(self, word: str) -> tuple[int, ...]:
        return tuple(self.tokenizer.encode(word, add_special_tokens=False).ids)


TextVocabulary = Vocabulary | BytePairVocabulary
"""What a recogniser writes whose outputs stand for rows of a text encoder."""


def read_words(path: Path) -> Counter[str]:
    """Read a list of words: a word, a tab and its count on each line.

    Raises:
        InputError: a line is none.
    """
    words: Counter[str] = Counter()
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        word, _, count = line.partition("\t")
        if not word or not count.isdecimal():
            raise InputError(f"{path}:{number}: is no word with a tab and its count: copy the checkpoint again")
        words[word] = int(count)
    return words


def read_tokenizer(path: Path) -> Tokenizer:
    """Read a ``tokenizer.json``.

    Raises:
        InputError: it is missing or damaged.
    """
    from tokenizers import Tokenizer

    if not path.is_file():
        raise InputError(f"{path}: missing: a Whisper release has its tokenizer there; copy it again")
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing narrower
        raise InputError(f"{path}: damaged ({error}): copy it again") from error
