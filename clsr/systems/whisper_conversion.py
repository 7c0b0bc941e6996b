"""A Whisper folder in Hugging Face's layout, converted once into CTranslate2's and kept in a cache."""

from __future__ import annotations

import hashlib
import logging
import shutil
import tempfile
from pathlib import Path

from clsr.errors import InputError
from clsr.extras import require
from clsr.systems.whisper_tokens import load_tokenizer
from clsr.wheels import cache_folder, file_sha256

BESIDE = ("tokenizer.json", "preprocessor_config.json")

log = logging.getLogger("clsr")


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
