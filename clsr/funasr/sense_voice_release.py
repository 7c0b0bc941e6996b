"""A released SenseVoice-small: ``config.yaml``, ``model.pt``, ``am.mvn`` and the pieces become a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch

from clsr.errors import InputError
from clsr.funasr.release_files import (
    FRONTEND_CHOICES,
    ConfigKeys,
    Section,
    encoder_sizes,
    read_cmvn,
    read_weights,
    require_files,
    require_fit,
)
from clsr.funasr.sense_voice import SenseVoice, SenseVoiceConfig
from clsr.funasr.sentence_pieces import SENSE_VOICE_PIECES, SentencePieces
from clsr.settings import read_yaml

MODEL = "SenseVoiceSmall"

CHOICES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "model": (None, (MODEL,)),
    "encoder": (None, ("SenseVoiceEncoderSmall",)),
    "frontend": (None, ("WavFrontend",)),
    "normalize": (None, (None,)),
    "model_conf.blank_id": (0, (0,)),
    "encoder_conf.sanm_shfit": (0, (0,)),
    "ctc_conf.extra_linear": (True, (True,)),
} | FRONTEND_CHOICES
KEYS = ConfigKeys(
    CHOICES,
    {"encoder_conf": "output_size attention_heads linear_units num_blocks tp_blocks kernel_size dropout_rate"},
    {  # training, and settings that FunASR's encoder takes and does not look at
        "encoder_conf": "positional_dropout_rate attention_dropout_rate stochastic_depth_rate input_layer "
        "pos_enc_class normalize_before concat_after positionwise_layer_type positionwise_conv_kernel_size "
        "padding_idx selfattention_layer_type"
    },
)


def release_model(folder: Path) -> str:
    """FunASR's name for the model of a folder; empty where the folder does not say."""
    config = folder / "config.yaml"
    return str(read_yaml(config).get("model", "")) if config.is_file() else ""


def is_sense_voice(folder: Path) -> bool:
    """Whether a release is a SenseVoice-small."""
    return release_model(folder) == MODEL


class SenseVoiceRelease(NamedTuple):
    """What a folder holds."""

    network: SenseVoice  # for inference, float32
    pieces: SentencePieces


def read_sense_voice(folder: Path) -> SenseVoiceRelease:
    """Read a released SenseVoice-small.

    Raises:
        InputError: a file is missing or damaged, or does not fit the others.
    """
    require_files(folder, ["config.yaml"], ["model.pt"], ["am.mvn"], [SENSE_VOICE_PIECES])
    cmvn = read_cmvn(folder / "am.mvn")
    pieces = SentencePieces.load(folder / SENSE_VOICE_PIECES)
    config = read_sense_voice_config(folder / "config.yaml", len(pieces))
    weights = {name: weight.float() for name, weight in read_weights(folder / "model.pt").items()}
    outputs = len(weights["ctc.ctc_lo.bias"]) if "ctc.ctc_lo.bias" in weights else len(pieces)
    if outputs != len(pieces):
        raise InputError(
            f"{folder / SENSE_VOICE_PIECES}: {len(pieces)} pieces, but ctc.ctc_lo of model.pt has {outputs} outputs: "
            "copy the file that belongs to the model"
        )
    with torch.device("meta"):  # names and shapes alone
        network = SenseVoice(config)
    own = {name: weight for name, weight in network.state_dict().items() if not name.startswith("cmvn.")}
    require_fit(weights, own, folder / "model.pt")
    network.load_state_dict(weights | cmvn, assign=True)
    return SenseVoiceRelease(network.eval().requires_grad_(False), pieces)


def read_sense_voice_config(path: Path, tokens: int) -> SenseVoiceConfig:
    """Read the sizes of a network with so many outputs out of FunASR's ``config.yaml``.

    Raises:
        InputError: it describes something else than a SenseVoice-small; the key is named.
    """
    values = read_yaml(path)
    KEYS.require_known(values, path)
    encoder = Section(path, "encoder_conf", values)
    return SenseVoiceConfig(encoder_sizes(encoder), encoder.size("tp_blocks", 0, least=0), tokens)
