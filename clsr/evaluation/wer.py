"""Word errors, counted by jiwer and pooled: a rate is never the mean of rates."""

import re
from collections.abc import Iterable
from typing import NamedTuple

import jiwer

_HAN = re.compile("([\u3400-\u4dbf\u4e00-\u9fff])")


class WordErrors(NamedTuple):
    """Word errors of one utterance or of many together.

    Attributes:
        errors: substitutions, deletions and insertions, at least 0.
        words: words of the reference, at least 0.
    """

    errors: int
    words: int

    @property
    def value(self) -> float:
        """Word error rate, ``errors / words``: at least 0, above 1 where insertions abound.

        Raises:
            ValueError: there are no reference words, so there is no rate.
        """
        if self.words == 0:
            raise ValueError(f"no word error rate: {self.errors} errors against no reference word")
        return self.errors / self.words


def word_errors(reference: str, hypothesis: str) -> WordErrors:
    """Count the fewest word substitutions, deletions and insertions that turn reference into hypothesis.

    Words are what white space separates, and each Han character is one: a rate of Chinese is its character error
    rate. Case and punctuation count: both texts should have passed the same
    normalisation. Against an empty reference every word of the hypothesis is an insertion.

    >>> word_errors("the cat sat", "a cat sat down")
    WordErrors(errors=2, words=3)
    >>> word_errors("設定 wi-fi", "设定wi-fi")
    WordErrors(errors=1, words=3)
    """
    reference_words, hypothesis_words = (_HAN.sub(r" \1 ", text).split() for text in (reference, hypothesis))
    if not reference_words:  # jiwer's rate would be 1, whatever was inserted
        return WordErrors(len(hypothesis_words), 0)
    counts = jiwer.process_words(" ".join(reference_words), " ".join(hypothesis_words))
    return WordErrors(counts.substitutions + counts.deletions + counts.insertions, len(reference_words))


def pool(utterances: Iterable[WordErrors]) -> WordErrors:
    """Add up errors and reference words, so that every word weighs the same.

    >>> pool([WordErrors(1, 1), WordErrors(0, 9)]).value
    0.1
    """
    counts = list(utterances)
    return WordErrors(sum(count.errors for count in counts), sum(count.words for count in counts))
