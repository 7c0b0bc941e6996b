"""Word errors, or character errors of Chinese, counted by jiwer and pooled: a rate is never the mean of rates."""

import re
from collections.abc import Iterable
from typing import Literal, NamedTuple

import jiwer

from clsr.vocabulary import HAN

Unit = Literal["word", "character"]
RATE_NAMES: dict[Unit, str] = {"word": "WER", "character": "CER"}

_HAN = re.compile(f"([{HAN}])")


class WordErrors(NamedTuple):
    """Errors of one utterance or of many together.

    Attributes:
        errors: substitutions, deletions and insertions, at least 0.
        words: words (and Han characters) of the reference, at least 0.
    """

    errors: int
    words: int

    @property
    def value(self) -> float:
        """Error rate, ``errors / words``: at least 0, above 1 where insertions abound.

        Raises:
            ValueError: there are no reference words, so there is no rate.
        """
        if self.words == 0:
            raise ValueError(f"no word error rate: {self.errors} errors against no reference word")
        return self.errors / self.words


def error_unit(texts: Iterable[str]) -> Unit:
    """What errors of these texts are counted in: characters if most of what is counted are Han characters.

    ``RATE_NAMES`` has the name of the rate. A Chinese set with foreign names in it has a character error rate, and an
    English one that quotes a few characters a word error rate.

    >>> error_unit(["設定 wi-fi 密碼", "ok"]), error_unit(["the sign 山 means mountain"]), error_unit([])
    ('character', 'word', 'word')
    """
    counted = [part for text in texts for part in split_units(text)]
    return "character" if 2 * sum(bool(_HAN.fullmatch(part)) for part in counted) > len(counted) else "word"


def split_units(text: str, unit: Unit = "character") -> list[str]:
    """What is counted: words between white space and, unless ``unit`` is "word", each Han character as one.

    A run of Latin letters or digits beside Han characters is a word, as usual for texts of both kinds.

    >>> split_units("打開wi-fi 2008年"), split_units("打開wi-fi 2008年", "word")
    (['打', '開', 'wi-fi', '2008', '年'], ['打開wi-fi', '2008年'])
    """
    return (text if unit == "word" else _HAN.sub(r" \1 ", text)).split()


def word_errors(reference: str, hypothesis: str, unit: Unit = "character") -> WordErrors:
    """Count the fewest substitutions, deletions and insertions that turn reference into hypothesis.

    ``split_units`` defines what is counted: text without Han characters is counted in words either way, so that a
    rate of Chinese is its character error rate and one of English its word error rate. Case and punctuation count:
    both texts should have passed the same normalisation. Against an empty reference all of the hypothesis is inserted.

    >>> word_errors("the cat sat", "a cat sat down")
    WordErrors(errors=2, words=3)
    >>> word_errors("設定 wi-fi", "设定wi-fi")
    WordErrors(errors=1, words=3)
    """
    spoken, recognised = split_units(reference, unit), split_units(hypothesis, unit)
    if not spoken:  # jiwer's rate would be 1, whatever was inserted
        return WordErrors(len(recognised), 0)
    counts = jiwer.process_words(" ".join(spoken), " ".join(recognised))
    return WordErrors(counts.substitutions + counts.deletions + counts.insertions, len(spoken))


def pool(utterances: Iterable[WordErrors]) -> WordErrors:
    """Add up errors and reference words, so that every word weighs the same.

    >>> pool([WordErrors(1, 1), WordErrors(0, 9)]).value
    0.1
    """
    counts = list(utterances)
    return WordErrors(sum(count.errors for count in counts), sum(count.words for count in counts))
