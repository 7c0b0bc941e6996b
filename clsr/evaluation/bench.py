"""Encoding speed, beside FunASR's own modules at the same shapes and with the same weights, in one run."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from clsr.audio import SAMPLE_RATE
from clsr.checkpoint import load_speech_encoder
from clsr.config import OFFLINE_TEXT_ENCODER, ModelConfig
from clsr.errors import InputError
from clsr.evaluation.measure import hardware
from clsr.features import FEATURE_SIZE, MEL_BINS, STACK, STRIDE, fbank, stack_frames
from clsr.models.paraformer import Paraformer
from clsr.models.speech_encoder import SpeechEncoder
from clsr.models.text_encoder import load_text_encoder
from clsr.padding import pad
from clsr.vocabulary import Vocabulary

UTTERANCES = 48
UTTERANCE_S = 5.0
BATCH = 16  # utterances; both sides get the same batches
REPEATS = 5
TOKENS_A_SECOND = 3.3  # of speech, which random weights are set to fire


def measure(model: Path | None = None) -> dict:
    """Time a checkpoint, or the mini model with random weights, on made-up audio.

    Returns:
        Median seconds of ``REPEATS`` alternating runs, per stage and side, and the real-time factors.

    Raises:
        InputError: funasr is not installed, or the checkpoint is at fault.
    """
    encoder = load_speech_encoder(model) if model else random_encoder()
    generator = np.random.default_rng(0)
    length = int(UTTERANCE_S * SAMPLE_RATE)
    waveforms = [generator.standard_normal(length, dtype=np.float32) * 0.1 for _ in range(UTTERANCES)]
    single = copy.deepcopy(encoder.paraformer)
    single.config.cif.margin = 0  # the work that FunASR does
    other = FunasrRecogniser(encoder.paraformer)
    features = [stack_frames(fbank(waveform)) for waveform in waveforms]
    recognitions = encoder.recognise(waveforms)
    runs: dict[str, Callable[[], object]] = {
        "clsr: audio to vector": lambda: encoder.encode(waveforms),
        "clsr: features": lambda: [stack_frames(fbank(waveform)) for waveform in waveforms],
        "clsr: recogniser": lambda: _in_batches(encoder.paraformer.recognise, features),
        "clsr: recogniser, one number of tokens": lambda: _in_batches(single.recognise, features),
        "clsr: text encoder": lambda: encoder.embed(recognitions),
        "funasr: features": lambda: other.features(waveforms),
        "funasr: recogniser": lambda: _in_batches(other.recognise, features),
    }
    times: dict[str, list[float]] = {name: [] for name in runs}
    with torch.inference_mode():
        for repeat in range(REPEATS + 1):  # the first run warms up
            for name, run in runs.items():
                start = time.perf_counter()
                run()
                if repeat:
                    times[name].append(time.perf_counter() - start)
    return _summary({name: statistics.median(values) for name, values in times.items()}, model)


def _summary(seconds: dict[str, float], model: Path | None) -> dict:
    audio_s = UTTERANCES * UTTERANCE_S
    ours = seconds["clsr: features"] + seconds["clsr: recogniser, one number of tokens"]
    theirs = seconds["funasr: features"] + seconds["funasr: recogniser"]
    return {
        "hardware": hardware(),
        "torch": torch.__version__,
        "model": str(model) if model else "mini, random weights",
        "audio_seconds": audio_s,
        "seconds": seconds,
        "real_time_factor": seconds["clsr: audio to vector"] / audio_s,
        "funasr_over_clsr": theirs / ours,
    }


def table(result: dict) -> str:
    """Return a measurement as a Markdown table."""
    lines = [
        f"{result['model']}, {result['audio_seconds']:.0f} s of audio, {result['hardware']}, torch {result['torch']}",
        "",
        "| stage | seconds | real-time factor |",
        "| --- | ---: | ---: |",
    ]
    for name, value in result["seconds"].items():
        lines.append(f"| {name} | {value:.3f} | {value / result['audio_seconds']:.5f} |")
    ratio = result["funasr_over_clsr"]
    lines += ["", f"FunASR's features and recogniser take {ratio:.2f} times as long as ours for one number of tokens."]
    return "\n".join(lines)


def random_encoder() -> SpeechEncoder:
    """Return the mini model with random weights that fire as many tokens as speech has."""
    torch.manual_seed(0)
    text_encoder = load_text_encoder(OFFLINE_TEXT_ENCODER)
    vocabulary = Vocabulary.whole(text_encoder.tokenizer)
    vocabulary = Vocabulary(vocabulary.pieces[:400], text_encoder.tokenizer)
    paraformer = Paraformer(ModelConfig(), len(vocabulary))
    rate = TOKENS_A_SECOND * STRIDE / 100  # tokens a stacked frame
    nn.init.zeros_(paraformer.predictor.cif_output.weight)
    nn.init.constant_(paraformer.predictor.cif_output.bias, float(np.log(rate / (1 - rate))))
    return SpeechEncoder(paraformer, text_encoder, vocabulary).eval()


def _in_batches(recognise: Callable[[Tensor, Tensor], object], features: Sequence[Tensor]) -> None:
    for start in range(0, len(features), BATCH):
        recognise(*pad(features[start : start + BATCH]))


class FunasrRecogniser:
    """FunASR's front end, encoder, predictor and decoder, with the weights of one of our recognisers."""

    def __init__(self, paraformer: Paraformer):
        try:
            from funasr.frontends.wav_frontend import WavFrontend
            from funasr.models.paraformer.cif_predictor import CifPredictorV2
            from funasr.models.paraformer.decoder import ParaformerSANMDecoder
            from funasr.models.sanm.encoder import SANMEncoder
        except ImportError as error:
            raise InputError(f"the benchmark needs funasr ({error}): pip install funasr") from error
        config = paraformer.config
        width, encoder, decoder, cif = config.encoder.width, config.encoder, config.decoder, config.cif
        self.cmvn = paraformer.cmvn
        self.frontend = WavFrontend(fs=SAMPLE_RATE, n_mels=MEL_BINS, lfr_m=STACK, lfr_n=STRIDE, dither=0.0)
        self.encoder = SANMEncoder(
            FEATURE_SIZE, width, encoder.heads, encoder.hidden, encoder.layers, input_layer="pe",
            kernel_size=encoder.kernel, selfattention_layer_type="sanm",
        )  # fmt: skip
        self.predictor = CifPredictorV2(
            width, cif.left_context, cif.right_context, cif.threshold, tail_threshold=cif.tail
        )
        size = paraformer.decoder.output_layer.out_features
        self.decoder = ParaformerSANMDecoder(
            size, width, decoder.heads, decoder.hidden, decoder.layers, att_layer_num=decoder.layers,
            kernel_size=decoder.kernel, wo_input_layer=True,
        )  # fmt: skip
        for name in ("encoder", "predictor", "decoder"):
            module = getattr(self, name).eval()
            module.load_state_dict(getattr(paraformer, name).state_dict())

    def features(self, waveforms: Sequence[np.ndarray]) -> list[Tensor]:
        """Return stacked features ``(T, 560)`` of each waveform ``(N,)``."""
        rows = []
        for waveform in waveforms:
            features, _ = self.frontend(torch.from_numpy(waveform)[None], torch.tensor([len(waveform)]))
            rows.append(features[0])
        return rows

    def recognise(self, features: Tensor, frame_lengths: Tensor) -> Tensor:
        """Return token logits ``(B, U, V)`` of stacked features ``(B, T, 560)``, as FunASR's inference does."""
        frames, _, _ = self.encoder(self.cmvn(features), frame_lengths)
        mask = torch.arange(frames.shape[1])[None] < frame_lengths[:, None]
        tokens, counts, _, _ = self.predictor(frames, None, mask[:, None])
        counts = counts.round().long()
        return self.decoder(frames, frame_lengths, tokens, counts)[0]
