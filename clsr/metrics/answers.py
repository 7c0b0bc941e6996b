"""Exact match and F1 of an answer, as SQuAD defines them (arXiv:1606.05250)."""

import re
import string
from collections import Counter

_PUNCTUATION = str.maketrans("", "", string.punctuation)


def exact_match(answer: str, reference: str) -> float:
    """1 where two answers are the same words, else 0.

    Lower case, without ASCII punctuation, without the articles a, an and the, white space apart.

    >>> exact_match("The red hat!", "a red hat")
    1.0
    """
    return float(answer_words(answer) == answer_words(reference))


def f1(answer: str, reference: str) -> float:
    """The harmonic mean of precision and recall over words, each word counted as often as it is there.

    With ``n`` words in common, of ``a`` in the answer and ``r`` in the reference, this is ``2 n / (a + r)``; where one
    is empty, it is 1 if both are, else 0. Words are those of ``exact_match``: Chinese, written without spaces, is one
    word.

    >>> f1("a red hat", "the hat")
    0.6666666666666666
    """
    given, wanted = answer_words(answer), answer_words(reference)
    if not given or not wanted:
        return float(given == wanted)
    return 2 * (Counter(given) & Counter(wanted)).total() / (len(given) + len(wanted))


def answer_words(text: str) -> list[str]:
    """The words of an answer that are compared."""
    return re.sub(r"\b(a|an|the)\b", " ", text.lower().translate(_PUNCTUATION)).split()
