"""Released FunASR models: a folder of ``config.yaml``, ``model.pt``, ``am.mvn`` and tokens becomes a checkpoint.

Read are Paraformers with a SAN-M encoder and decoder, such as Paraformer-large in Chinese and English, their BiCif and
SeACo variants included. Only PyYAML and torch are needed, and of ``model.pt`` nothing but tensors is ever loaded.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from clsr.checkpoint import current_commit, save_checkpoint
from clsr.checkpoint_folder import RELEASE, Meta
from clsr.config import OFFLINE_TEXT_ENCODER, CifConfig, DecoderConfig, ModelConfig, TrainingConfig
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
from clsr.models.paraformer import Paraformer
from clsr.models.text_encoder import load_text_encoder
from clsr.settings import read_yaml
from clsr.vocabulary import ReleaseVocabulary, Vocabulary

FILES = ("config.yaml", "model.pt", "am.mvn")
TOKEN_FILES = ("tokens.json", "tokens.txt")  # the first that is there, as FunASR does
OUTPUT_LAYER = "decoder.output_layer."

# What stands in a release beside the recogniser: an embedding that nothing reads, BiCif's second predictor for time
# stamps, SeACo's bias towards given words, and the CTC branch of training.
IGNORED = (
    "decoder.embed.",
    "predictor.upsample_cnn.",
    "predictor.blstm.",
    "predictor.self_attn.",
    "predictor.cif_output2.",
    "seaco_decoder.",
    "bias_encoder.",
    "bias_embed.",
    "lstm_proj.",
    "hotword_output_layer.",
    "ctc.",
)

# Settings that change the network, with what is implemented here; the first value is what FunASR takes where a file
# says nothing, if that is another one.
CHOICES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "model": (None, ("Paraformer", "BiCifParaformer", "SeacoParaformer")),
    "encoder": (None, ("SANMEncoder",)),
    "decoder": (None, ("ParaformerSANMDecoder",)),
    "predictor": (None, ("CifPredictorV2", "CifPredictorV3")),
    "frontend": (None, ("WavFrontend",)),
    "normalize": (None, (None,)),
    "model_conf.blank_id": (0, (0,)),
    "model_conf.sos": (1, (1,)),
    "model_conf.eos": (2, (2,)),
    "encoder_conf.input_layer": ("conv2d", ("pe",)),
    "encoder_conf.selfattention_layer_type": ("sanm", ("sanm",)),
    "encoder_conf.positionwise_layer_type": ("linear", ("linear",)),
    "encoder_conf.normalize_before": (True, (True,)),
    "encoder_conf.concat_after": (False, (False,)),
    "encoder_conf.interctc_layer_idx": ([], ([], None)),
    "encoder_conf.sanm_shfit": (0, (0,)),
    "encoder_conf.lora_list": (None, (None, [])),
    "decoder_conf.normalize_before": (True, (True,)),
    "decoder_conf.concat_after": (False, (False,)),
    "decoder_conf.use_output_layer": (True, (True,)),
    "decoder_conf.sanm_shfit": (0, (0,)),
    "decoder_conf.lora_list": (None, (None, [])),
    "predictor_conf.smooth_factor": (1.0, (1.0,)),
    "predictor_conf.noise_threshold": (0, (0,)),
} | FRONTEND_CHOICES
SIZES = {
    "encoder_conf": "output_size attention_heads linear_units num_blocks kernel_size dropout_rate",
    "decoder_conf": "attention_heads linear_units num_blocks att_layer_num kernel_size dropout_rate",
    "predictor_conf": "idim l_order r_order threshold tail_threshold",
}  # not of the front end: FunASR's takes any other key without a look at it
INDIFFERENT = {  # names, training, streaming, and what belongs to ignored weights
    "encoder_conf": "positional_dropout_rate attention_dropout_rate pos_enc_class padding_idx lora_rank lora_alpha "
    "lora_dropout interctc_use_conditioning positionwise_conv_kernel_size tf2torch_tensor_name_prefix_torch "
    "tf2torch_tensor_name_prefix_tf",
    "decoder_conf": "positional_dropout_rate self_attention_dropout_rate src_attention_dropout_rate input_layer "
    "wo_input_layer pos_enc_class lora_rank lora_alpha lora_dropout chunk_multiply_factor "
    "tf2torch_tensor_name_prefix_torch tf2torch_tensor_name_prefix_tf",
    "predictor_conf": "dropout tail_mask smooth_factor2 noise_threshold2 upsample_times upsample_type use_cif1_cnn "
    "tf2torch_tensor_name_prefix_torch tf2torch_tensor_name_prefix_tf",
}


class Release(NamedTuple):
    """What a folder holds.

    Attributes:
        model: settings of the recogniser.
        vocabulary: its own tokens.
        weights: by our names, normalisation included, float32.
        ignored: weights beside the recogniser, counted by the start of their names.
        shared: pieces of a new output layer whose rows were copied, since the release has the same words.
    """

    model: ModelConfig
    vocabulary: ReleaseVocabulary
    weights: dict[str, Tensor]
    ignored: dict[str, int]
    shared: int = 0


def import_release(folder: Path, output: Path, text_encoder: str | None = None, seed: int = 0) -> Release:
    """Turn a FunASR folder into a checkpoint.

    Args:
        folder: ``config.yaml``, ``model.pt``, ``am.mvn`` and ``tokens.json`` or ``tokens.txt``.
        output: checkpoint folder, new or empty.
        text_encoder: reference of a text encoder whose pieces a new output layer is for, and the checkpoint is then
            marked as untrained; without one the release keeps its own tokens.
        seed: of the new rows of the output layer.

    Returns:
        What was read, with the weights as they were written.

    Raises:
        InputError: a file is missing or damaged, or the model is none that can be imported; nothing is then written.
    """
    _require_free(output)
    release = read_release(folder)
    meta = Meta(RELEASE, "", "", commit=current_commit())
    config = TrainingConfig(text_encoder or OFFLINE_TEXT_ENCODER, "whole", model=release.model)
    vocabulary: Vocabulary | ReleaseVocabulary = release.vocabulary
    if text_encoder is not None:
        encoder = load_text_encoder(text_encoder)
        vocabulary = Vocabulary.whole(encoder.tokenizer)
        meta = Meta("asr", text_encoder, encoder.fingerprint, commit=current_commit(), untrained=True)
        layer, shared = _output_layer(release, vocabulary, seed)
        release.weights.update(layer)
        release = release._replace(shared=shared)
        own = CifConfig()  # what is trained from here on ends utterances as our own models do, not as FunASR's
        config.model.cif.ending, config.model.cif.length_margin = own.ending, own.length_margin
    save_checkpoint(output, release.weights, config, vocabulary, meta)
    return release


def read_release(folder: Path) -> Release:
    """Read a FunASR folder.

    Raises:
        InputError: a file is missing or damaged, or does not fit the others.
    """
    require_files(folder, *([name] for name in FILES), TOKEN_FILES)
    tokens = next(folder / name for name in TOKEN_FILES if (folder / name).is_file())
    model = read_model_config(folder / "config.yaml")
    cmvn = read_cmvn(folder / "am.mvn")
    vocabulary = read_tokens(tokens)
    weights = read_weights(folder / "model.pt")
    ignored = {start: sum(name.startswith(start) for name in weights) for start in IGNORED}
    kept = {name: weight.float() for name, weight in weights.items() if not name.startswith(IGNORED)}
    _require_fit(kept, model, vocabulary, folder / "model.pt", tokens)
    return Release(model, vocabulary, cmvn | kept, {start: count for start, count in ignored.items() if count})


def read_model_config(path: Path) -> ModelConfig:
    """Read the sizes of a model out of FunASR's ``config.yaml``.

    Raises:
        InputError: it describes something else than a Paraformer that can be imported; the key is named.
    """
    values = read_yaml(path)
    ConfigKeys(CHOICES, SIZES, INDIFFERENT).require_known(values, path)
    encoder, decoder = (Section(path, f"{name}_conf", values) for name in ("encoder", "decoder"))
    predictor = Section(path, "predictor_conf", values)
    width = encoder.size("output_size", 256)
    predictor.require("idim", width)
    blocks, layers = decoder.size("num_blocks", 6), decoder.size("att_layer_num", 6)
    if blocks > layers:
        raise InputError(
            f"{path}: decoder_conf.num_blocks is {blocks} and att_layer_num {layers}: only decoders whose every layer "
            "looks at the frames can be imported"
        )
    return ModelConfig(
        encoder=encoder_sizes(encoder),
        cif=CifConfig(
            left_context=predictor.size("l_order", None, least=0),
            right_context=predictor.size("r_order", None, least=0),
            threshold=predictor.number("threshold", 1.0, 1e-3, 100.0),
            ending="tail",
            length_margin=0,
            # Without a tail FunASR rounds where it should count; no release does without.
            tail=predictor.number("tail_threshold", 0.0, 1e-3, 1.0),
        ),
        decoder=DecoderConfig(
            hidden=decoder.size("linear_units", 2048),
            layers=layers,
            heads=decoder.divisor("attention_heads", 4, width),
            kernel=decoder.size("kernel_size", 21),
            dropout=decoder.number("dropout_rate", 0.1, 0.0, 1.0),
        ),
    )


def read_tokens(path: Path) -> ReleaseVocabulary:
    """Read ``tokens.json``, a list, or ``tokens.txt``, a token a line.

    Raises:
        InputError: it is damaged, or a token comes twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
        pieces = (
            json.loads(text) if path.suffix == ".json" else [line.rstrip() for line in text.rstrip("\n").split("\n")]
        )
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}): copy it again") from error
    if not isinstance(pieces, list) or not all(isinstance(piece, str) for piece in pieces):
        raise InputError(f"{path}: no list of tokens: copy it again")
    try:
        return ReleaseVocabulary(pieces)
    except InputError as error:
        raise InputError(f"{path}: {error}: copy the file that belongs to the model") from error


def _require_fit(
    weights: Mapping[str, Tensor], model: ModelConfig, vocabulary: ReleaseVocabulary, path: Path, tokens: Path
) -> None:
    """See that weights, settings and tokens belong together."""
    outputs = weights[OUTPUT_LAYER + "bias"].shape[0] if OUTPUT_LAYER + "bias" in weights else len(vocabulary)
    if outputs != len(vocabulary):
        raise InputError(
            f"{tokens}: {len(vocabulary)} tokens, but decoder.output_layer of {path.name} has {outputs} outputs: copy "
            "the file that belongs to the model"
        )
    with torch.device("meta"):  # names and shapes alone
        own = Paraformer(model, len(vocabulary)).state_dict()
    own = {name: weight for name, weight in own.items() if not name.startswith("cmvn.")}
    require_fit(weights, own, path)


def _output_layer(release: Release, vocabulary: Vocabulary, seed: int) -> tuple[dict[str, Tensor], int]:
    """Return an output layer over other pieces, and how many of its rows are the release's own.

    Rows of words that both vocabularies have are copied; all others are random.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layer = nn.Linear(release.model.encoder.width, len(vocabulary))
    words = release.vocabulary.whole_words()
    shared = {index: words[piece] for index, piece in enumerate(vocabulary.pieces) if piece in words}
    weights = {OUTPUT_LAYER + name: weight.detach().clone() for name, weight in layer.named_parameters()}
    for name, weight in weights.items():
        weight[list(shared)] = release.weights[name][list(shared.values())]
    return weights, len(shared)


def _require_free(output: Path) -> None:
    """See that nothing is overwritten but what an import cut short has left."""
    leftover = {"model.safetensors", "config.yaml", "vocabulary.txt"}
    names: Iterable[str] = (item.name for item in output.iterdir()) if output.is_dir() else ()
    if foreign := sorted(set(names) - leftover):
        raise InputError(f"{output}: not empty ({foreign[0]}): name another --output, or delete it first")
