"""The weights of a Whisper release, of either layout, by the names of ``clsr.models.whisper``."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import torch
from torch import Tensor

from clsr.config import WhisperConfig
from clsr.errors import InputError

SPECIFICATION = "WhisperSpec"  # what CTranslate2 calls a Whisper
TYPES = (np.float32, np.int8, np.int16, np.int32, np.float16)  # by the number that stands for them
MAX_STRING = 4096  # bytes; a longer name means that the file is something else

CTRANSLATE2_NAMES = (  # of a layer, theirs and ours
    ("self_attention/layer_norm", "norm1"),
    ("self_attention/linear_0", "self_attn.linear_q_k_v"),
    ("self_attention/linear_1", "self_attn.linear_out"),
    ("attention/layer_norm", "norm2"),
    ("attention/linear_0", "src_attn.linear_q"),
    ("attention/linear_1", "src_attn.linear_k_v"),
    ("attention/linear_2", "src_attn.linear_out"),
    ("ffn/linear_0", "feed_forward.w_1"),
    ("ffn/linear_1", "feed_forward.w_2"),
)
HUGGING_FACE_NAMES = (
    ("self_attn_layer_norm", "norm1"),
    ("self_attn.out_proj", "self_attn.linear_out"),
    ("encoder_attn_layer_norm", "norm2"),
    ("encoder_attn.q_proj", "src_attn.linear_q"),
    ("encoder_attn.out_proj", "src_attn.linear_out"),
    ("fc1", "feed_forward.w_1"),
    ("fc2", "feed_forward.w_2"),
)


class WhisperWeights(NamedTuple):
    """Weights of a release, float32."""

    encoder: dict[str, Tensor]  # of WhisperEncoder
    decoder: dict[str, Tensor]  # of WhisperDecoder: layers, after_norm and positions
    embeddings: Tensor  # (V, D) of all tokens
    config: WhisperConfig


def read_whisper(folder: Path) -> WhisperWeights:
    """Read a release: a folder of CTranslate2 (``model.bin``) or of Hugging Face (``model.safetensors``).

    Raises:
        InputError: it is neither, or damaged.
    """
    if (folder / "model.bin").is_file():
        variables = read_ctranslate2(folder / "model.bin")
        return _assemble(_from_ctranslate2(variables), int(variables["decoder/num_heads"]), folder)
    if (folder / "model.safetensors").is_file():
        return _assemble(_from_hugging_face(folder), _heads(folder / "config.json"), folder)
    raise InputError(f"{folder}: no Whisper release: neither model.bin of CTranslate2 nor model.safetensors is there")


def read_ctranslate2(path: Path) -> dict[str, Tensor]:
    """Read the variables of a CTranslate2 ``model.bin`` as they are, aliases resolved.

    The file is little-endian: version, specification, revision, then each variable with name, shape, type and bytes,
    and at the end the aliases.

    Raises:
        InputError: it is no Whisper, quantised to 8 bits, or cut short.
    """
    try:
        with path.open("rb") as file:
            _number(file)
            if (found := _string(file)) != SPECIFICATION:
                raise InputError(f"{path}: holds a {found[:40]!r}, not a {SPECIFICATION}: give a Whisper release")
            _number(file)
            variables = dict(_variable(file) for _ in range(_number(file)))
            for _ in range(_number(file)):
                alias = _string(file)
                variables[alias] = variables[_string(file)]
    except (struct.error, ValueError, KeyError, IndexError) as error:
        raise InputError(f"{path}: damaged or cut short ({error}): copy it again") from error
    if variables["decoder/embeddings/weight"].dtype in (torch.int8, torch.int16):
        raise InputError(f"{path}: quantised to integers; give the release in float16 or float32")
    return variables


def _number(file: BinaryIO) -> int:
    return struct.unpack("<I", file.read(4))[0]


def _string(file: BinaryIO) -> str:
    length = struct.unpack("<H", file.read(2))[0]
    if not 0 < length < MAX_STRING:
        raise ValueError(f"a name of {length} bytes")
    return file.read(length)[:-1].decode()  # without the NUL


def _variable(file: BinaryIO) -> tuple[str, Tensor]:
    name = _string(file)
    shape = struct.unpack(f"<{(rank := file.read(1)[0])}I", file.read(4 * rank))
    kind, size = TYPES[file.read(1)[0]], _number(file)
    content = file.read(size)
    return name, torch.from_numpy(np.frombuffer(content, kind).reshape(shape).copy())


def _from_ctranslate2(variables: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the variables of CTranslate2: names of ours, behind ``encoder.`` or ``decoder.``."""
    ends = {"weight": "weight", "bias": "bias", "gamma": "weight", "beta": "bias"}
    fixed = {
        "encoder/position_encodings/encodings": "encoder.positions",
        "decoder/position_encodings/encodings": "decoder.positions",
        "decoder/embeddings/weight": "decoder.embeddings",
    }
    named: dict[str, Tensor] = {}
    for name, value in variables.items():
        part, _, rest = name.partition("/")
        stem, _, end = rest.rpartition("/")
        if name in fixed:
            named[fixed[name]] = value
        elif match := re.fullmatch(r"layer_(\d+)/(.+)", stem):
            place = "norm2" if part == "encoder" else "norm3"
            names = dict((*CTRANSLATE2_NAMES, ("ffn/layer_norm", place)))
            if match[2] in names and end in ends:
                named[f"{part}.layers.{match[1]}.{names[match[2]]}.{ends[end]}"] = value
        elif stem in ("conv1", "conv2", "layer_norm") and end in ends:
            named[f"{part}.{stem.replace('layer_norm', 'after_norm')}.{ends[end]}"] = value
    return named


def _from_hugging_face(folder: Path) -> dict[str, Tensor]:
    """Read the weights of Hugging Face's ``WhisperModel``: queries, keys and values joined, as in CTranslate2."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = folder / "model.safetensors"
    try:
        weights = {name.removeprefix("model."): value for name, value in load_file(path).items()}
    except SafetensorError as error:
        raise InputError(f"{path}: damaged or cut short ({error}): copy it again") from error
    named: dict[str, Tensor] = {}
    for name, value in weights.items():
        part, _, rest = name.partition(".")
        if rest == "embed_positions.weight":
            named[f"{part}.positions"] = value
        elif rest == "embed_tokens.weight":
            named["decoder.embeddings"] = value
        elif match := re.fullmatch(r"layers\.(\d+)\.(.+)\.(weight|bias)", rest):
            place = "norm2" if part == "encoder" else "norm3"
            names = dict((*HUGGING_FACE_NAMES, ("final_layer_norm", place)))
            if match[2] in names:
                named[f"{part}.layers.{match[1]}.{names[match[2]]}.{match[3]}"] = value
        elif re.fullmatch(r"(conv[12]|layer_norm)\.(weight|bias)", rest):
            named[f"{part}.{rest.replace('layer_norm', 'after_norm')}"] = value
    for part, theirs, ours, maps in (
        ("encoder", "self_attn", "self_attn.linear_q_k_v", "qkv"),
        ("decoder", "self_attn", "self_attn.linear_q_k_v", "qkv"),
        ("decoder", "encoder_attn", "src_attn.linear_k_v", "kv"),
    ):
        for layer in range(_layers(named, part)):
            stem = f"{part}.layers.{layer}.{theirs}"
            joined = [weights[f"{stem}.{m}_proj.weight"] for m in maps]
            # Keys have no bias there.
            biases = [
                weights.get(f"{stem}.{m}_proj.bias", torch.zeros(len(w))) for m, w in zip(maps, joined, strict=True)
            ]
            named[f"{part}.layers.{layer}.{ours}.weight"] = torch.cat(joined)
            named[f"{part}.layers.{layer}.{ours}.bias"] = torch.cat([b.to(joined[0].dtype) for b in biases])
    return named


def _assemble(named: Mapping[str, Tensor], heads: int, folder: Path) -> WhisperWeights:
    """Sort weights by part, and read the sizes off their shapes."""
    try:
        embeddings = named["decoder.embeddings"].float()
        config = WhisperConfig(
            width=embeddings.shape[1],
            layers=_layers(named, "encoder"),
            decoder_layers=_layers(named, "decoder"),
            heads=heads,
            mel_bins=named["encoder.conv1.weight"].shape[1],
            max_tokens=len(named["decoder.positions"]),
        )
    except KeyError as error:
        raise InputError(f"{folder}: no Whisper release: there is no weight {error}") from error
    parts: dict[str, dict[str, Tensor]] = {"encoder": {}, "decoder": {}}
    for name, value in named.items():
        part, _, rest = name.partition(".")
        if rest != "embeddings":
            parts[part][rest] = value.float()
    return WhisperWeights(parts["encoder"], parts["decoder"], embeddings, config)


def _layers(named: Mapping[str, Tensor], part: str) -> int:
    """Count the layers of a part."""
    return len({name.split(".")[2] for name in named if name.startswith(f"{part}.layers.")})


def _heads(path: Path) -> int:
    try:
        return int(json.loads(path.read_text(encoding="utf-8"))["decoder_attention_heads"])
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path}: does not say decoder_attention_heads ({error}): copy the release again") from error
