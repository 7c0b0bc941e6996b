"""Whisper's English normaliser, by which word error rates of Whisper are published (arXiv:2212.04356, appendix C)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import cache

from clsr import extras

log = logging.getLogger("clsr")

FOREIGN_SHARE = 0.01  # of words with letters beyond ASCII (café, Zoë) that an English text may have


@cache
def english_normaliser() -> Callable[[str], str] | None:
    """Return what writes out contractions, numbers and British spellings alike; None where its package is missing."""
    if extras.missing(["whisper_normalizer"]):
        log.info(
            "no word error rate by Whisper's English normaliser: %s", extras.how_to_install(["whisper_normalizer"])
        )
        return None
    from whisper_normalizer.english import EnglishTextNormalizer

    return EnglishTextNormalizer()


def is_english(texts: Iterable[str]) -> bool:
    """Return whether texts may be English: nearly all of their words are written in ASCII.

    >>> is_english(["a café by the river"] + ["the cat sat"] * 100), is_english(["où est le café"])
    (True, False)
    """
    words = [word for text in texts for word in text.split()]
    return sum(not word.isascii() for word in words) <= FOREIGN_SHARE * len(words)
