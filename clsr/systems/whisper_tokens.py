"""Whisper's tokens: text, words and their times; signs that a transcript is made up."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clsr.errors import InputError
from clsr.vocabulary import HAN, Word

if TYPE_CHECKING:
    from tokenizers import Tokenizer

START, NO_TIMES, TRANSCRIBE = "<|startoftranscript|>", "<|notimestamps|>", "<|transcribe|>"
COMPRESSION = 2.4  # a text that zlib makes smaller than so many times repeats itself: Whisper's own threshold
REPEATS = 4  # times in a row that a phrase is written where it is made up

_UNFINISHED = "\N{REPLACEMENT CHARACTER}"  # of a character whose bytes go on in the next token
_HAN = re.compile(f"[{HAN}]")


def load_tokenizer(folder: Path) -> Tokenizer:
    """Load the tokenizer of a Whisper model.

    Raises:
        InputError: it is missing, unreadable, or not of a Whisper model.
    """
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    if not path.is_file():
        raise InputError(f"{path}: missing: copy tokenizer.json of the released model into the folder")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the package raises its own kind
        raise InputError(f"{path}: not a readable tokenizer: copy the file again") from error
    if tokenizer.token_to_id(START) is None or tokenizer.token_to_id(NO_TIMES) is None:
        raise InputError(f"{path}: lacks {START} or {NO_TIMES}: copy tokenizer.json of the released model")
    return tokenizer


def token_words(tokenizer: Tokenizer, token_ids: Sequence[int], times: Sequence[tuple[float, float]]) -> list[Word]:
    """Join tokens into words, each from the start of its first token to the end of its last.

    A word begins after a space, and a Han character is a word. Punctuation belongs to the word that it touches.
    """
    words: list[Word] = []
    pending: list[int] = []  # tokens of an unfinished character
    start_s = 0.0
    for token_id, (begin_s, end_s) in zip(token_ids, times, strict=True):
        start_s = start_s if pending else begin_s
        pending.append(token_id)
        text = tokenizer.decode(pending)
        if text.endswith(_UNFINISHED):
            continue
        pending = []
        last = words[-1].text if words else ""
        if not words or text.startswith(" ") or (last and _HAN.search(last[-1:] + text[:1])):
            words.append(Word(text.lstrip(), start_s, end_s))
        else:
            words[-1] = Word(last + text, words[-1].start_s, end_s)
    return [Word(word.text.strip(), word.start_s, word.end_s) for word in words if word.text.strip()]


def repeats_itself(text: str) -> bool:
    """Say whether a text says one thing over and over, as Whisper does where it makes things up.

    >>> repeats_itself("so it goes and so it goes"), repeats_itself("thank you. " * 5)
    (False, True)
    """
    encoded = text.encode()
    if len(encoded) > COMPRESSION * len(zlib.compress(encoded)):
        return True
    words = text.lower().split()
    return any(
        words[start : start + size] * REPEATS == words[start : start + size * REPEATS]
        for size in range(1, len(words) // REPEATS + 1)
        for start in range(len(words) - size * REPEATS + 1)
    )
