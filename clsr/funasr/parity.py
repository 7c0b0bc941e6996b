"""Beside FunASR on the same folder and the same speech: how far apart the numbers of each step are.

FunASR is the oracle on one utterance at a time; in a padded batch it is not, and can be compared with itself.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from clsr.audio.features import FEATURE_SIZE, HOP_S, MEL_BINS, STACK, STRIDE, WINDOW_MS, fbank, stack_frames
from clsr.errors import InputError
from clsr.models.cif import add_tail
from clsr.models.paraformer import Paraformer
from clsr.padding import pad
from clsr.settings import read_yaml

TOKENS_A_SECOND = 4.0  # of speech, which random weights are set to fire

FIRST_LAYER, STATES = "decoder.decoders.0", "decoder.after_norm"  # of the decoder: its input and its output


class Shape(NamedTuple):
    """Sizes of a released model."""

    width: int
    hidden: int
    heads: int
    encoder_layers: int
    decoder_layers: int
    tokens: int
    second_predictor: bool  # BiCif's, for time stamps


SHAPES = {
    "zh": Shape(512, 2048, 4, 50, 16, 8404, True),
    "en": Shape(512, 2048, 4, 50, 16, 10020, False),
    "tiny": Shape(32, 48, 4, 3, 2, 24, True),
}


class Stages(NamedTuple):
    """What one side makes of an utterance of ``T`` stacked frames and ``U`` tokens."""

    features: Tensor  # (T, 560), normalised
    frames: Tensor  # (T, D), of the encoder
    weights: Tensor  # (T + 1,), firing weights and the tail
    tokens: Tensor  # (U, D), token embeddings
    log_probabilities: Tensor  # (U, V)
    ids: list[int]
    firing_frames: list[int]  # where each token is complete


class Differences(NamedTuple):
    """Largest absolute differences between two sides; ``ids`` is a number of tokens, ``firing_frames`` of frames."""

    features: float
    frames: float
    weights: float
    tokens: float
    log_probabilities: float
    ids: int
    firing_frames: int


def differences(ours: Stages, theirs: Stages) -> Differences:
    """Compare two sides step by step; where the numbers of tokens differ, so does all that comes after."""
    features, frames, weights = (_apart(ours[step], theirs[step]) for step in range(3))
    if len(ours.ids) != len(theirs.ids):
        most = max(len(ours.ids), len(theirs.ids))
        return Differences(features, frames, weights, np.inf, np.inf, most, len(ours.features))
    wrong = sum(a != b for a, b in zip(ours.ids, theirs.ids, strict=True))
    # Not strict: float32 may count a token in FunASR's sum of weights that its integration never completes.
    late = max((abs(a - b) for a, b in zip(ours.firing_frames, theirs.firing_frames, strict=False)), default=0)
    tokens, scores = (_apart(ours[step], theirs[step]) for step in (3, 4))
    return Differences(features, frames, weights, tokens, scores, wrong, late)


def worst(rows: Sequence[Differences]) -> Differences:
    """Return the largest of each difference."""
    return Differences(*(max(values) for values in zip(*rows, strict=True)))


def _apart(a: Any, b: Any) -> float:
    return float((a - b).abs().max()) if a.numel() else 0.0


def stages(paraformer: Paraformer, waveforms: Sequence[np.ndarray]) -> list[Stages]:
    """Run ours on 16 kHz waveforms ``(N_i,)`` in one padded batch, and look at every step on the way."""
    features, lengths = pad([stack_frames(fbank(waveform)) for waveform in waveforms])
    with torch.inference_mode(), _watched(paraformer) as seen:
        hypotheses = paraformer.length_hypotheses(features, lengths)
        frames, _ = seen["encoder"].returned
        _, weights = add_tail(frames, seen["predictor"].returned, lengths, paraformer.config.cif.tail)
        silent = FIRST_LAYER not in seen
        tokens = frames[:, :0] if silent else seen[FIRST_LAYER].given[0]
        logits = paraformer.decoder.output_layer(frames[:, :0] if silent else seen[STATES].returned)
        logits[..., paraformer.never] = -torch.inf
    found = []
    for row, (length, count) in enumerate(zip(lengths.tolist(), hypotheses.token_lengths[0].tolist(), strict=True)):
        scores = logits[row, :count].log_softmax(1)
        # A token is complete in the frame it ends in; one that only the tail completes ends with the last frame.
        fired = [int(np.ceil(end - 1e-6)) - 1 for end in hypotheses.times[0, row, :count, 1].tolist()]
        given = (seen["cmvn"].returned[row, :length], frames[row, :length], weights[row, : length + 1])
        found.append(Stages(*given, tokens[row, :count], scores, scores.argmax(1).tolist(), fired))
    return found


class _Call(NamedTuple):
    given: Any
    returned: Any


@contextmanager
def _watched(paraformer: Paraformer) -> Iterator[dict[str, _Call]]:
    """Note what goes into each part of a recogniser and what comes out."""
    seen: dict[str, _Call] = {}

    def watch(name: str) -> RemovableHandle:
        def note(_: nn.Module, given: Any, returned: Any) -> None:
            seen[name] = _Call(given, returned)

        return paraformer.get_submodule(name).register_forward_hook(note)

    handles = [watch(name) for name in ("cmvn", "encoder", "predictor", FIRST_LAYER, STATES)]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


class FunasrModel:
    """A folder as FunASR itself loads and runs it, without its random noise on the waveform (``dither``).

    Raises:
        InputError: funasr is not installed.
    """

    def __init__(self, folder: Path):
        config = read_yaml(folder / "config.yaml")
        tokens = json.loads((folder / "tokens.json").read_text(encoding="utf-8"))
        settings = config["frontend_conf"] | {"cmvn_file": str(folder / "am.mvn"), "dither": 0.0}
        self.frontend = _tables().frontend_classes.get(config["frontend"])(**settings)
        self.model = make_funasr_model(config, len(tokens))
        weights = torch.load(folder / "model.pt", map_location="cpu", weights_only=True)
        self.model.load_state_dict(weights, strict=True, assign=True)

    @torch.inference_mode()
    def stages(self, waveforms: Sequence[np.ndarray]) -> list[Stages]:
        """Run it on 16 kHz waveforms ``(N_i,)`` in one padded batch, as its ``inference`` does."""
        samples, sample_lengths = pad([torch.from_numpy(waveform) for waveform in waveforms])
        features, lengths = self.frontend(samples, sample_lengths)
        frames, lengths = self.model.encode(features, lengths)
        tokens, counts, weights, peaks = self.model.calc_predictor(frames, lengths)[:4]
        counts = counts.round().long()
        log_probabilities = torch.empty(len(waveforms), 0, self.model.vocab_size)
        if counts.max():
            log_probabilities, _ = self.model.cal_decoder_with_predictor(frames, lengths, tokens, counts)
        found = []
        for row, (length, count) in enumerate(zip(lengths.tolist(), counts.tolist(), strict=True)):
            scores = log_probabilities[row, :count]
            fired = torch.where(peaks[row, : length + 1] >= self.model.predictor.threshold)[0].tolist()
            seen = (features[row, :length], frames[row, :length], weights[row, : length + 1], tokens[row, :count])
            found.append(Stages(*seen, scores, scores.argmax(1).tolist(), fired))
        return found


def make_funasr_model(config: dict[str, Any], size: int) -> Any:
    """Build FunASR's model of a ``config.yaml`` with ``size`` outputs, in evaluation mode."""
    kind = _tables().model_classes.get(config["model"])
    parts = {key: config[key] for key in config if key.partition("_")[0] in ("encoder", "decoder", "predictor")}
    return kind(**config["model_conf"], **parts, input_size=FEATURE_SIZE, vocab_size=size).eval()


def _tables() -> Any:
    """FunASR's register, after the imports that fill it."""
    try:
        with redirect_stdout(sys.stderr):  # it prints a line about ffmpeg
            import funasr.frontends.wav_frontend
            import funasr.models.bicif_paraformer.model
            import funasr.models.paraformer.decoder
            import funasr.models.sanm.encoder  # noqa: F401
            from funasr.register import tables
    except ImportError as error:
        raise InputError(f"the comparison needs funasr ({error}): pip install funasr") from error
    return tables


def write_random_release(folder: Path, shape: Shape, seed: int = 0, tokens: Sequence[str] | None = None) -> None:
    """Write a folder laid out like a release, with random weights that fire as often as speech has tokens.

    Args:
        folder: made if need be.
        shape: sizes; the number of tokens gives way to ``tokens``.
        seed: of weights and statistics.
        tokens: its vocabulary; made up otherwise.
    """
    import yaml

    folder.mkdir(parents=True, exist_ok=True)
    tokens = list(tokens or ["<blank>", "<s>", "</s>", *(f"t{i}@@" for i in range(shape.tokens - 4)), "<unk>"])
    config = release_config(shape)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = make_funasr_model(config, len(tokens))
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if name.endswith("bias") or ".norm" in name:  # so that each of them is compared
                    weight.add_(0.02 * torch.randn_like(weight))
            rate = TOKENS_A_SECOND * STRIDE * HOP_S  # tokens a stacked frame
            model.get_parameter("predictor.cif_output.bias").fill_(float(np.log(rate / (1 - rate))))
        torch.save(model.state_dict(), folder / "model.pt")
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    (folder / "tokens.json").write_text(json.dumps(tokens, ensure_ascii=False, indent=0), encoding="utf-8")
    (folder / "am.mvn").write_text(random_cmvn(seed), encoding="utf-8")


def release_config(shape: Shape) -> dict[str, Any]:
    """Return a ``config.yaml`` with the keys and spellings of released models."""
    common = {"dropout_rate": 0.1, "positional_dropout_rate": 0.1, "kernel_size": 11, "sanm_shfit": 0}
    blocks = {"attention_heads": shape.heads, "linear_units": shape.hidden}
    predictor: dict[str, Any] = {"idim": shape.width, "threshold": 1.0, "l_order": 1, "r_order": 1}
    predictor["tail_threshold"] = 0.45
    if shape.second_predictor:
        predictor |= {"smooth_factor2": 0.25, "noise_threshold2": 0.01, "upsample_times": 3}
        predictor |= {"use_cif1_cnn": False, "upsample_type": "cnn_blstm"}
    return {
        "model": "BiCifParaformer" if shape.second_predictor else "Paraformer",
        "model_conf": {
            "ctc_weight": 0.0, "lsm_weight": 0.1, "length_normalized_loss": True, "predictor_weight": 1.0,
            "predictor_bias": 1, "sampling_ratio": 0.75,
        },
        "encoder": "SANMEncoder",
        "encoder_conf": {
            "output_size": shape.width, **blocks, "num_blocks": shape.encoder_layers, **common,
            "attention_dropout_rate": 0.1, "input_layer": "pe", "pos_enc_class": "SinusoidalPositionEncoder",
            "normalize_before": True, "selfattention_layer_type": "sanm",
        },
        "decoder": "ParaformerSANMDecoder",
        "decoder_conf": {
            **blocks, "num_blocks": shape.decoder_layers, "att_layer_num": shape.decoder_layers, **common,
            "self_attention_dropout_rate": 0.1, "src_attention_dropout_rate": 0.1,
        },
        "predictor": "CifPredictorV3" if shape.second_predictor else "CifPredictorV2",
        "predictor_conf": predictor,
        "frontend": "WavFrontend",
        "frontend_conf": {
            "fs": 16000, "window": "hamming", "n_mels": MEL_BINS, "frame_length": int(WINDOW_MS), "frame_shift": 10,
            "lfr_m": STACK, "lfr_n": STRIDE, "cmvn_file": None, "dither": 0.0,
        },
        "tokenizer": "CharTokenizer",
        "tokenizer_conf": {"unk_symbol": "<unk>", "split_with_space": True},
    }  # fmt: skip


def random_cmvn(seed: int) -> str:
    """Return an ``am.mvn`` whose numbers are about those of the released ones, no two alike."""
    draw = np.random.default_rng(seed)
    shift = -13.5 + 1.5 * draw.standard_normal(FEATURE_SIZE)
    scale = 0.15 + 0.005 * draw.standard_normal(FEATURE_SIZE)
    layers = [
        f"<{name}> {FEATURE_SIZE} {FEATURE_SIZE}\n<LearnRateCoef> 0 [ {' '.join(f'{v:.7g}' for v in values)} ]\n"
        for name, values in (("AddShift", shift), ("Rescale", scale))
    ]
    return f"<Nnet>\n<Splice> {FEATURE_SIZE} {FEATURE_SIZE}\n[ 0 ]\n{''.join(layers)}</Nnet>\n"
