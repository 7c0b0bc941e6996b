"""Released FunASR models: a folder of ``config.yaml``, ``model.pt``, ``am.mvn`` and tokens becomes a checkpoint.

Read are Paraformers with a SAN-M encoder and decoder, such as Paraformer-large in Chinese and English, their BiCif and
SeACo variants included. Only PyYAML and torch are needed, and of ``model.pt`` nothing but tensors is ever loaded.
"""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from clsr.audio.features import FEATURE_SIZE
from clsr.checkpoint import current_commit, save_checkpoint
from clsr.checkpoint_folder import RELEASE, Meta
from clsr.config import OFFLINE_TEXT_ENCODER, CifConfig, DecoderConfig, EncoderConfig, ModelConfig, TrainingConfig
from clsr.errors import InputError
from clsr.models.paraformer import Paraformer
from clsr.models.text_encoder import load_text_encoder
from clsr.settings import read_yaml
from clsr.vocabulary import ReleaseVocabulary, Vocabulary

FILES = ("config.yaml", "model.pt", "am.mvn")
TOKEN_FILES = ("tokens.json", "tokens.txt")  # the first that is there, as FunASR does
OUTPUT_LAYER = "decoder.output_layer."
MOST_NAMES = 100  # of weights, in a message

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
    "frontend_conf.fs": (16000, (16000,)),
    "frontend_conf.window": ("hamming", ("hamming",)),
    "frontend_conf.n_mels": (80, (80,)),
    "frontend_conf.frame_length": (25, (25,)),
    "frontend_conf.frame_shift": (10, (10,)),
    "frontend_conf.lfr_m": (1, (7,)),
    "frontend_conf.lfr_n": (1, (6,)),
    "frontend_conf.snip_edges": (True, (True,)),
    "frontend_conf.upsacle_samples": (True, (True,)),
}
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
    missing = [name for name in FILES if not (folder / name).is_file()]
    tokens = next((folder / name for name in TOKEN_FILES if (folder / name).is_file()), None)
    if missing or tokens is None:
        names = ", ".join([*missing, *([] if tokens else [" or ".join(TOKEN_FILES)])])
        raise InputError(f"{folder}: no {names} in it: name the whole folder of a FunASR model")
    model = read_model_config(folder / "config.yaml")
    cmvn = read_cmvn(folder / "am.mvn")
    vocabulary = read_tokens(tokens)
    weights = _read_weights(folder / "model.pt")
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
    _require_known(values, path)
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
        encoder=EncoderConfig(
            width=width,
            hidden=encoder.size("linear_units", 2048),
            layers=encoder.size("num_blocks", 6),
            heads=encoder.divisor("attention_heads", 4, width),
            kernel=encoder.size("kernel_size", 11),
            dropout=encoder.number("dropout_rate", 0.1, 0.0, 1.0),
        ),
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


class Section:
    """One ``..._conf`` of a ``config.yaml``, with FunASR's defaults for what it leaves out."""

    def __init__(self, path: Path, name: str, values: Mapping[str, Any]):
        self.path = path
        self.name = name
        self.values: Mapping[str, Any] = values.get(name) or {}

    def _fault(self, key: str, wanted: str) -> InputError:
        found = repr(self.values[key]) if key in self.values else "not given"
        return InputError(f"{self.path}: {self.name}.{key} is {found}, and should be {wanted}: mend the file")

    def size(self, key: str, default: int | None, least: int = 1) -> int:
        """Return a whole number."""
        value = self.values.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise self._fault(key, f"a whole number of at least {least}")
        return value

    def divisor(self, key: str, default: int, whole: int) -> int:
        """Return a whole number that divides another."""
        value = self.size(key, default)
        if whole % value:
            raise self._fault(key, f"a divisor of {whole}, encoder_conf.output_size")
        return value

    def number(self, key: str, default: float, least: float, most: float) -> float:
        """Return a number in a range."""
        value = self.values.get(key, default)
        if not isinstance(value, int | float) or not least <= value <= most:
            raise self._fault(key, f"a number from {least} to {most}")
        return float(value)

    def require(self, key: str, wanted: int) -> None:
        """See that a number is the one that others imply."""
        if self.size(key, None) != wanted:
            raise self._fault(key, f"{wanted}, as encoder_conf.output_size is")


def _require_known(values: Mapping[str, Any], path: Path) -> None:
    """See that a ``config.yaml`` describes a network that is implemented here."""
    for key, (default, known) in CHOICES.items():
        section, _, name = key.rpartition(".")
        inside = values.get(section) or {} if section else values
        if not isinstance(inside, Mapping):
            raise InputError(f"{path}: {section} is {inside!r}, and should hold keys and values: mend the file")
        value = inside.get(name, default)
        if value not in known:
            found = repr(value) if name in inside else f"not given, which means {default!r}"
            raise InputError(f"{path}: {key} is {found}; what can be imported has {' or '.join(map(repr, known))}")
    for section in SIZES:
        known_keys = {key.rpartition(".")[2] for key in CHOICES if key.startswith(f"{section}.")}
        known_keys |= {*SIZES[section].split(), *INDIFFERENT[section].split()}
        if unknown := sorted(map(str, (values.get(section) or {}).keys() - known_keys)):
            raise InputError(f"{path}: {section} has {', '.join(unknown)}, and it is not known what that changes")


def read_cmvn(path: Path) -> dict[str, Tensor]:
    """Read ``am.mvn``, Kaldi's text form of two layers: what is added to a stacked feature, and what scales the sum.

    Returns:
        ``cmvn.shift`` and ``cmvn.scale``, ``(560,)`` each.

    Raises:
        InputError: a layer is missing, or does not hold 560 numbers.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}): copy it again") from error
    found = {}
    for name, layer in (("cmvn.shift", "<AddShift>"), ("cmvn.scale", "<Rescale>")):
        match = re.search(rf"{layer}\s+\d+\s+\d+\s+<LearnRateCoef>\s+\S+\s+\[([^\]]*)\]", text)
        try:
            values = torch.tensor([float(value) for value in match[1].split()]) if match else torch.empty(0)
        except ValueError as error:
            raise InputError(f"{path}: {layer} holds something else than numbers ({error}): copy it again") from error
        if len(values) != FEATURE_SIZE or not values.isfinite().all():
            raise InputError(
                f"{path}: {layer} holds {len(values)} numbers, not {FEATURE_SIZE} finite ones: copy it again"
            )
        found[name] = values
    return found


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


def _read_weights(path: Path) -> dict[str, Tensor]:
    """Load tensors by name; anything in the file that would run code is refused by torch before it is looked at."""
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if named := re.search(r"GLOBAL (\S+)", str(error)):
            raise InputError(
                f"{path}: asks to call {named[1]}, which weights never need, and nothing of it was run: get the model "
                "from a source that you trust"
            ) from error
        raise InputError(f"{path}: damaged, or no weights of PyTorch: copy it again") from error
    except Exception as error:  # torch and zipfile raise many kinds for a file cut short
        reason = " ".join(str(error).split()).partition(". ")[0][:120] or type(error).__name__
        raise InputError(f"{path}: damaged or cut short ({reason}): copy it again") from error
    for inside in ("state_dict", "model_state_dict", "model"):
        if isinstance(weights, Mapping) and isinstance(weights.get(inside), Mapping):
            weights = weights[inside]
    if not isinstance(weights, Mapping) or not all(isinstance(weight, Tensor) for weight in weights.values()):
        raise InputError(f"{path}: holds something else than tensors by name: name the folder of a FunASR model")
    return dict(weights)


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
    for fault, names in (("unknown", weights.keys() - own.keys()), ("missing", own.keys() - weights.keys())):
        if names:
            raise InputError(
                f"{path}: {len(names)} {fault} weights, so it is not the model that config.yaml describes: "
                f"{_listed(sorted(names))}"
            )
    for name, weight in weights.items():
        if weight.shape != own[name].shape:
            raise InputError(
                f"{path}: weight {name} is {tuple(weight.shape)}, but {tuple(own[name].shape)} by config.yaml: bring "
                "the two files that belong together"
            )


def _listed(names: Sequence[str]) -> str:
    rest = len(names) - MOST_NAMES
    return ", ".join(names) if rest <= 0 else f"{', '.join(names[:MOST_NAMES])} and {rest} more"


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
