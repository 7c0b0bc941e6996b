"""The folder of a Whisper: its conversion for CTranslate2, its tokens as words with times, signs of made-up text."""

from __future__ import annotations

import hashlib
import logging
import re
import shutil
import tempfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clsr.errors import InputError
from clsr.extras import require
from clsr.vocabulary import HAN, Word
from clsr.wheels import cache_folder, file_sha256

if TYPE_CHECKING:
    from tokenizers import Tokenizer

START, NO_TIMES, TRANSCRIBE = "<|startoftranscript|>", "<|notimestamps|>", "<|transcribe|>"
COMPRESSION = 2.4  # a text that zlib makes smaller than so many times repeats itself: Whisper's own threshold
REPEATS = 4  # times in a row that a phrase is written where it is made up

BESIDE = ("tokenizer.json", "preprocessor_config.json")  # copied by a conversion

_UNFINISHED = "\N{REPLACEMENT CHARACTER}"  # of a character whose bytes go on in the next token
_HAN = re.compile(f"[{HAN}]")

log = logging.getLogger("clsr")


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


def in_ctranslate2(folder: Path) -> Path:
    """Return a folder of CTranslate2's layout: the one given, or its conversion.

    Raises:
        InputError: the folder has neither layout, its tokenizer is missing or not of a Whisper model, or it cannot
            be converted or written.
    """
    if (folder / "model.bin").is_file():
        return folder
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        if not (folder / name).is_file():
            raise InputError(
                f"{folder}: no {name}: name a Whisper folder, with model.bin (CTranslate2) or model.safetensors "
                "(Hugging Face), config.json and tokenizer.json"
            )
    load_tokenizer(folder)  # of another kind of model nothing is converted
    parts = [file_sha256(folder / name) for name in ("model.safetensors", "config.json", *BESIDE)
             if (folder / name).is_file()]  # fmt: skip
    converted = cache_folder() / "whisper" / hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
    if not converted.is_dir():
        _convert(folder, converted)
    return converted


def _convert(folder: Path, converted: Path) -> None:
    """Convert into a folder of its own, which then takes its place at once."""
    require("ctranslate2")
    from ctranslate2.converters import TransformersConverter

    log.info("%s: converting to CTranslate2's layout, once, into %s", folder, converted)
    beside = [name for name in BESIDE if (folder / name).is_file()]
    try:
        converted.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=converted.parent) as partial:
            TransformersConverter(str(folder), copy_files=beside).convert(f"{partial}/model")
            shutil.move(f"{partial}/model", converted)
    except OSError as error:
        raise InputError(
            f"{converted}: cannot be written ({error.strerror}): make room, or set XDG_CACHE_HOME"
        ) from error
    except Exception as error:  # transformers and ctranslate2 raise many kinds
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{folder}: not a readable Whisper model ({reason}): copy the folder again") from error
