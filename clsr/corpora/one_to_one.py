"""Pairs of a question and a passage -> pairs in which each question, and each passage, stands once.

Corpora of question answering ask several things about a passage, and sometimes the same thing about two. A retrieval
set made one to one of them has one right passage a question and one right question a passage, as the sets that the
CLSR paper marks with an asterisk.
"""

import unicodedata
from collections.abc import Iterable
from typing import Protocol, TypeVar


class QuestionPassage(Protocol):
    """A question and the passage that answers it."""

    @property
    def id(self) -> str:
        """Name of the pair."""

    @property
    def question(self) -> str:
        """Text of the question."""

    @property
    def context(self) -> str:
        """The passage."""


AnyPair = TypeVar("AnyPair", bound=QuestionPassage)


def one_to_one(pairs: Iterable[AnyPair], before: Iterable[QuestionPassage] = ()) -> list[AnyPair]:
    """Return the pairs, in their order, whose id, question and passage none that is kept before them has.

    The rule is greedy: a pair is kept unless something of it is taken, and what a dropped pair says is free for the
    next. So the first question of a passage is kept, and the first passage of a question; the number of pairs is not
    the largest possible. Texts are equal that are so after NFKC, case folding and with white space made single.

    Args:
        pairs: in the order that decides.
        before: pairs of other sets that none of these may share anything with.
    """
    taken = {key for pair in before for key in _keys(pair)}
    kept = []
    for pair in pairs:
        keys = _keys(pair)
        if taken.isdisjoint(keys):
            kept.append(pair)
            taken.update(keys)
    return kept


def same_text(text: str) -> str:
    """What two texts have in common that count as equal here.

    >>> same_text("Ｗｈｏ  is\\tthat?") == same_text("who is THAT?")
    True
    """
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _keys(pair: QuestionPassage) -> list[tuple[str, str]]:
    return [(name, same_text(getattr(pair, name))) for name in ("id", "question", "context")]
