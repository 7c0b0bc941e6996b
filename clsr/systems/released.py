"""Released models of transformers, from folders in Hugging Face's layout and from nowhere else."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from clsr.errors import InputError

WEIGHTS = "model.safetensors"


def load_released(folder: Path, model: Any, *others: Any) -> tuple[Any, ...]:
    """Load a model, ready for inference, and what comes with it: a tokenizer, a feature extractor.

    Args:
        folder: as ``save_pretrained`` writes it.
        model: class of the model.
        others: classes of the rest.

    Raises:
        InputError: the folder, or a file in it, is missing or damaged, or weights of the model are missing.
    """
    if not (folder / WEIGHTS).is_file():
        raise InputError(
            f"{folder}: no {WEIGHTS}: name a folder with config.json, {WEIGHTS}, preprocessor_config.json and "
            "tokenizer.json, as Hugging Face has them"
        )
    from transformers.utils.logging import disable_progress_bar, set_verbosity_error

    disable_progress_bar()
    set_verbosity_error()  # this package reports the faults itself, in one line
    try:
        loaded, info = model.from_pretrained(folder, local_files_only=True, output_loading_info=True)
        rest = [other.from_pretrained(folder, local_files_only=True) for other in others]
    except Exception as error:  # files that are missing, no JSON, of another model: each its own kind
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{folder}: not a readable {model.__name__} ({reason}): copy the folder again") from error
    if info["missing_keys"]:
        name = min(info["missing_keys"])
        raise InputError(f"{folder / WEIGHTS}: lacks weight {name} of {model.__name__}: copy the file again")
    return loaded.eval(), *rest


def weights_digest(folder: Path | None) -> str:
    """Return 16 hexadecimal digits that stand for the weights in a folder; empty without one."""
    return hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()[:16] if folder is not None else ""
