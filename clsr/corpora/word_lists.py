"""Lists of words in random order: speech with the words that running text hardly has, for a recogniser."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from clsr.vocabulary import normalise

if TYPE_CHECKING:
    from tokenizers import Tokenizer

LIST_WORDS = 12  # words in a list


def whole_words(tokenizer: Tokenizer) -> list[str]:
    """Return the words that a WordPiece vocabulary writes as one piece, sorted: letters and digits of ASCII alone.

    Others are characters and syllables of languages that the voices of one language do not speak.
    """
    pieces = tokenizer.get_vocab()
    return sorted(piece for piece in pieces if piece.isascii() and piece.isalnum() and normalise(piece) == piece)


def word_lists(words: Iterable[str], counts: Counter[str], times: int, seed: int) -> Iterator[str]:
    """Make lists of words so that each is spoken at least so many times.

    >>> list(word_lists({"a", "b"}, Counter(a=2, b=1), 2, seed=0))
    ['b']
    """
    missing = [word for word in sorted(words) for _ in range(times - counts[word])]
    random.Random(seed).shuffle(missing)
    for start in range(0, len(missing), LIST_WORDS):
        yield " ".join(missing[start : start + LIST_WORDS])
