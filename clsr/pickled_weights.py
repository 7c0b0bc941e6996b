"""Weights of releases that have no safetensors: ``pytorch_model.bin``, converted once and kept in a cache."""

from __future__ import annotations

import hashlib
import logging
import shutil
import tempfile
from pathlib import Path

from clsr.errors import InputError
from clsr.wheels import cache_folder, file_sha256

PICKLED, SAFE = "pytorch_model.bin", "model.safetensors"
OTHERS = (SAFE, "model.bin", "model.pt")  # weights that are read as they are
BESIDE = {".json", ".txt", ".model", ".yaml", ".jinja"}  # suffixes of what is copied

log = logging.getLogger("clsr")


def in_safetensors(folder: Path) -> Path:
    """Return a folder whose weights are safetensors: the one given, or a copy with its weights converted.

    A ``pytorch_model.bin`` is a pickle, which could run code: only tensors are taken from it (``weights_only``).

    Raises:
        InputError: it holds something else than tensors, is damaged, or the copy cannot be written.
    """
    if not (folder / PICKLED).is_file() or any((folder / name).is_file() for name in OTHERS):
        return folder
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    beside = [file for file in files if file.suffix in BESIDE]
    pickled = [file for file in files if file.name == PICKLED]
    parts = [f"{file.relative_to(folder)} {file_sha256(file)}" for file in (*beside, *pickled)]
    converted = (
        cache_folder() / "safetensors" / hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16] / folder.name
    )
    if converted.is_dir():
        return converted
    log.info("%s: converting %s to safetensors, once, into %s", folder, PICKLED, converted)
    try:
        converted.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=converted.parent) as partial:
            for file in (*beside, *pickled):
                copy = Path(partial, "model", file.relative_to(folder))
                copy.parent.mkdir(parents=True, exist_ok=True)
                if file.name == PICKLED:
                    _convert(file, copy.with_name(SAFE))
                else:
                    shutil.copyfile(file, copy)
            shutil.move(Path(partial, "model"), converted)
    except OSError as error:
        raise InputError(
            f"{converted}: cannot be written ({error.strerror}): make room, or set XDG_CACHE_HOME"
        ) from error
    return converted


def _convert(pickled: Path, safe: Path) -> None:
    import torch
    from safetensors.torch import save_file

    try:
        weights = torch.load(pickled, map_location="cpu", weights_only=True)
        tensors = {name: weight.clone().contiguous() for name, weight in weights.items() if torch.is_tensor(weight)}
    except OSError:
        raise
    except Exception as error:  # torch's own words say how to run the code in it
        raise InputError(f"{pickled}: holds more than weights, or is damaged: copy the model again") from error
    save_file(tensors, safe, metadata={"format": "pt"})
