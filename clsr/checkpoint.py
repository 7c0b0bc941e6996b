"""Checkpoints: a folder of ``model.safetensors``, ``config.yaml``, ``vocabulary.txt`` and ``meta.json``."""

from __future__ import annotations

import logging
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from clsr.byte_pairs import RELEASE_TOKENIZER, WORDS, BytePairVocabulary
from clsr.checkpoint_folder import Meta, find_text_side, is_release, load_config, load_vocabulary, read_meta
from clsr.config import Precision, TrainingConfig
from clsr.errors import InputError
from clsr.models.adaptor import PassageProjection
from clsr.models.paraformer import Paraformer
from clsr.models.precision import lower, lower_text_encoder
from clsr.models.recogniser import Recogniser
from clsr.models.speech_encoder import SpeechEncoder
from clsr.models.text_encoder import TextEncoder, build_text_encoder
from clsr.settings import write_yaml
from clsr.vocabulary import ReleaseVocabulary, Vocabulary

PASSAGE_PROJECTION = "passage_projection.weight"  # among the weights, where joint training had one
FORMER_NAMES = {"passage_map.weight": PASSAGE_PROJECTION}  # in checkpoints of version 0.1
FIRST_WEIGHT = -1.5  # bias of the firing weights: some four tokens a second before training
log = logging.getLogger("clsr")


def save_checkpoint(
    folder: Path,
    weights: Mapping[str, Tensor],
    config: TrainingConfig,
    vocabulary: Vocabulary | BytePairVocabulary | ReleaseVocabulary | None,
    meta: Meta,
) -> None:
    """Write a checkpoint; each file appears whole or not at all, ``meta.json`` last.

    Raises:
        InputError: the disk is full or the folder cannot be written.
    """
    from safetensors.torch import save

    try:
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
        _write(folder / "model.safetensors", save(tensors))
        write_yaml(folder / "config.yaml", config)
        if vocabulary is not None:
            _write(folder / "vocabulary.txt", str(vocabulary).encode())
        if isinstance(vocabulary, BytePairVocabulary):
            _write(folder / RELEASE_TOKENIZER, vocabulary.release.to_str().encode())
            if vocabulary.word_counts:
                lines = (f"{word}\t{count}\n" for word, count in vocabulary.word_counts.most_common())
                _write(folder / WORDS, "".join(lines).encode())
        _write(folder / "meta.json", meta.to_json().encode())
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror}): make room, then run it again") from error


def save_untrained(
    folder: Path,
    config: TrainingConfig,
    vocabulary: Vocabulary | BytePairVocabulary,
    text_encoder: str,
    released: Mapping[str, Tensor],
    seed: int,
) -> None:
    """Write a checkpoint that starts from parts of a release; all others are random.

    Args:
        folder: of the checkpoint.
        config: its settings.
        vocabulary: of the decoder.
        text_encoder: fingerprint of the text encoder that it is for.
        released: weights of the release, by their names in a recogniser.
        seed: of the random parts.

    Raises:
        InputError: the folder holds a checkpoint, or it cannot be written.
    """
    require_free(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        paraformer = Paraformer(config.model, len(vocabulary), 0, vocabulary.never)
    torch.nn.init.constant_(paraformer.predictor.cif_output.bias, FIRST_WEIGHT)
    paraformer.load_state_dict({**paraformer.state_dict(), **released})
    meta = Meta("asr", config.text_encoder, text_encoder, commit=current_commit(), untrained=True)
    save_checkpoint(folder, paraformer.state_dict(), config, vocabulary, meta)


def require_free(folder: Path) -> None:
    """Raise an ``InputError`` if a folder holds a checkpoint."""
    if (folder / "meta.json").exists():
        raise InputError(f"{folder}: holds a checkpoint: name another --output, or delete it first")


def load_weights(folder: Path | str) -> dict[str, Tensor]:
    """Read ``model.safetensors``; weights that an earlier version named otherwise get the names of today.

    Raises:
        InputError: it is missing or truncated.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = Path(folder) / "model.safetensors"
    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: missing or truncated ({error}): copy the checkpoint again") from error
    return {FORMER_NAMES.get(name, name): weight for name, weight in weights.items()}


def load_text_side(
    folder: Path | str, precision: Precision | None = None, text_encoder: str | None = None
) -> TextEncoder:
    """Load the text encoder of a checkpoint, or another one in its place, without the speech side.

    With a precision it computes as in a model that ``load_speech_encoder`` loads with it, and serves inference alone;
    "auto" goes by the size of the text encoder here, and of the whole model there.

    Args:
        folder: the checkpoint.
        precision: numbers to compute in.
        text_encoder: as for ``find_text_side``.

    Raises:
        InputError: as ``find_text_side``.
    """
    encoder = build_text_encoder(find_text_side(folder, text_encoder))
    return encoder if precision is None else lower_text_encoder(encoder, precision)


def load_paraformer(folder: Path | str, vocabulary: Vocabulary | BytePairVocabulary | ReleaseVocabulary) -> Paraformer:
    """Load the recogniser of a checkpoint, ready for inference.

    Raises:
        InputError: weights, settings and vocabulary do not fit.
    """
    units = len(read_meta(folder).ctc_units)
    model = Paraformer(load_config(folder).model, len(vocabulary), units, vocabulary.never)
    restore(model, load_recogniser_weights(folder), folder)
    return model.eval()


def load_recogniser_weights(folder: Path | str) -> dict[str, Tensor]:
    """Read the weights of a checkpoint that belong to its recogniser."""
    return {name: weight for name, weight in load_weights(folder).items() if name != PASSAGE_PROJECTION}


def load_own_projection(folder: Path | str, text_encoder: TextEncoder) -> PassageProjection | None:
    """Load the passage projection of a checkpoint, unless the text encoder is not the one that it was trained for."""
    meta = read_meta(folder)
    if text_encoder.fingerprint == meta.text_encoder_fingerprint:
        return load_passage_projection(folder, text_encoder.width)
    if PASSAGE_PROJECTION in load_weights(folder):
        log.warning("%s: its passage projection is for text encoder %s, so it is left out", folder, meta.text_encoder)
    return None


def load_passage_projection(folder: Path | str, width: int) -> PassageProjection | None:
    """Load the passage projection of a checkpoint, for vectors ``(B, width)``; None where it has none."""
    weights = load_weights(folder)
    if PASSAGE_PROJECTION not in weights:
        return None
    passage_projection = PassageProjection(width)
    restore(passage_projection, {"weight": weights[PASSAGE_PROJECTION]}, folder)
    return passage_projection


def restore(model: torch.nn.Module, weights: Mapping[str, Tensor], source: Path | str) -> None:
    """Put weights into a model.

    Raises:
        InputError: a weight is missing, unknown or of another shape; the first is named with both shapes.
    """
    own = model.state_dict()
    for name in [*own, *weights]:
        here = tuple(own[name].shape) if name in own else "absent"
        there = tuple(weights[name].shape) if name in weights else "absent"
        if here != there:
            raise InputError(f"{source}: weight {name} is {there} there, {here} in the model: use its own settings")
    model.load_state_dict(weights)


def load_speech_encoder(
    folder: Path | str, device: str = "cpu", precision: Precision = "float32", text_encoder: str | None = None
) -> SpeechEncoder:
    """Load a whole CLSR model from a checkpoint folder, ready for inference at a precision.

    With another text encoder the codes are rows of its word embeddings, and the passage projection, which was trained
    for vectors of the first, is left out.

    Args:
        folder: the checkpoint.
        device: to compute on.
        precision: numbers to compute in.
        text_encoder: as for ``load_text_side``.

    Raises:
        InputError: it is none, its text encoder is missing, another one or one of other pieces, or there is no such
            device.
    """
    require_device(device)
    encoder = load_text_side(folder, text_encoder=text_encoder)
    vocabulary = load_vocabulary(folder, encoder.tokenizer)
    paraformer, passage_projection = load_paraformer(folder, vocabulary), load_own_projection(folder, encoder)
    return lower(SpeechEncoder(paraformer, encoder, vocabulary, passage_projection).to(device).eval(), precision)


def load_recogniser(
    folder: Path | str, device: str = "cpu", precision: Precision = "float32", text_encoder: str | None = None
) -> Recogniser:
    """Load what writes down speech: a whole CLSR model, or a release with tokens of its own."""
    if not is_release(folder):
        return load_speech_encoder(folder, device, precision, text_encoder)
    require_device(device)
    vocabulary = ReleaseVocabulary.load(Path(folder) / "vocabulary.txt")
    return lower(Recogniser(load_paraformer(folder, vocabulary), vocabulary).to(device).eval(), precision)


def require_device(device: str) -> None:
    """See that there is a device to compute on.

    Raises:
        InputError: there is none of this name.
    """
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # of a name that is none, and of a build without it
        raise InputError(f"device '{device}' cannot be used here: take cpu, or cuda where there is one") from error


def average(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Return the mean of several states of one model, computed in float64."""
    return {
        name: torch.stack([state[name].double() for state in states]).mean(0).to(states[0][name].dtype)
        for name in states[0]
    }


def current_commit() -> str:
    """Return the commit of the code, or "unknown" outside a checkout."""
    root = Path(__file__).parent.parent
    try:
        run = subprocess.run(["git", "-C", str(root), "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    except OSError:
        return "unknown"
    return run.stdout.strip() or "unknown"


def _write(path: Path, content: bytes) -> None:
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
