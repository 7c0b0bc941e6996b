"""The baselines of encoding speed, to be timed in the same run: other recognisers before the same text encoder.

All weights are random: what a network costs does not depend on what it has learnt, but for the number of tokens, which
is therefore set. Whisper writes ``TOKENS_A_SECOND``; FunASR's recogniser has the weights of ours, and fires as it does.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import cache, cached_property
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from clsr.bench.funasr import FunasrOnnxTranscriber, FunasrTranscriber
from clsr.bench.models import Size
from clsr.bench.whisper import AT_ONCE, CHUNK_S, TOKENS_A_SECOND, FasterWhisperTranscriber, WhisperTranscriber
from clsr.errors import InputError
from clsr.extras import missing
from clsr.models.paraformer import Paraformer
from clsr.models.precision import Int8Linear, replace_linear
from clsr.models.recogniser import batches
from clsr.models.text_encoder import TextEncoder


class Transcriber(Protocol):
    """Speech to the ids of output tokens, no text encoder."""

    def transcribe(self, waveforms: Sequence[np.ndarray]) -> list[list[int]]:
        """Return the token ids of each 16 kHz waveform ``(N_i,)``."""


class Baseline:
    """Speech to unit vectors, everything included: features, recogniser, decoding and text encoder.

    Token ids go to the text encoder as pieces ``id mod V``, a fixed map: with random weights no piece is righter than
    another, and all cost the same. No text is written in between, so no tokenizer's time is counted against a baseline.

    Args:
        name: short, unique.
        description: what is run, for the report.
        packages: modules that must be installed.
        transcriber: makes the recogniser; called when it is first used.
        text_encoder: makes what turns its tokens into vectors; called when it is first used.
    """

    def __init__(self, name: str, description: str, packages: Sequence[str],
                 transcriber: Callable[[], Transcriber], text_encoder: Callable[[], TextEncoder]):  # fmt: skip
        self.name = name
        self.description = description
        self.packages = tuple(packages)
        self._make_transcriber = transcriber
        self._make_text_encoder = text_encoder

    @property
    def reason(self) -> str | None:
        """Why it cannot run here; ``None`` where it can."""
        absent = missing(self.packages)
        return f"not run: pip install 'clsr[baselines]' (no {', '.join(absent)})" if absent else None

    @cached_property
    def transcriber(self) -> Transcriber:
        """The recogniser, made when it is first used.

        Raises:
            InputError: a package is missing.
        """
        if self.reason is not None:
            raise InputError(f"{self.name}: {self.reason}")
        return self._make_transcriber()

    def encode(self, waveforms: Sequence[np.ndarray]) -> Tensor:
        """Encode 16 kHz waveforms ``(N_i,)`` into unit vectors ``(B, E)``.

        Raises:
            InputError: a package is missing.
        """
        return embed(self._make_text_encoder(), self.transcriber.transcribe(waveforms))


def baselines(paraformer: Paraformer, text_encoder: TextEncoder, size: Size) -> list[Baseline]:
    """Return the baselines of a recogniser and a text encoder, none of them made yet.

    Args:
        paraformer: whose weights FunASR's modules take.
        text_encoder: follows every recogniser, as it is or with its linear maps in int8.
        size: of Whisper: "full" is Whisper-small, "mini" what the mini recipe trains.
    """

    @cache
    def whisper() -> WhisperTranscriber:
        return WhisperTranscriber(size)

    @cache
    def faster() -> FasterWhisperTranscriber:
        return FasterWhisperTranscriber(whisper().model)

    @cache
    def modules() -> FunasrTranscriber:
        return FunasrTranscriber(paraformer)

    @cache
    def export() -> FunasrOnnxTranscriber:
        return FunasrOnnxTranscriber(modules())

    @cache
    def int8() -> TextEncoder:
        return int8_text_encoder(text_encoder)

    name = {"full": "Whisper-small", "mini": "a small Whisper"}[size]
    forced = f"greedy, {TOKENS_A_SECOND} tokens a second forced, {CHUNK_S} s windows, {AT_ONCE} at once"
    theirs = ("faster_whisper", "ctranslate2")
    onnx = ("funasr", "onnx", "onnxruntime")
    text, text_int8 = "text encoder float32", "text encoder int8 (torch, dynamic)"
    return [
        Baseline("transformers", f"{name} of transformers, float32, random weights, {forced}; {text}",
              ["transformers"], whisper, lambda: text_encoder),
        Baseline("faster-whisper", f"{name} of faster-whisper, int8, random weights, {forced}; {text}",
              theirs, faster, lambda: text_encoder),
        Baseline("faster-whisper, int8 text", f"{name} of faster-whisper, int8, random weights, {forced}; {text_int8}",
              theirs, faster, int8),
        Baseline("funasr", f"FunASR's modules, float32, our recogniser's random weights; {text}",
              ["funasr"], modules, lambda: text_encoder),
        Baseline("funasr onnx", f"FunASR's ONNX export, int8, our recogniser's random weights; {text}",
              onnx, export, lambda: text_encoder),
        Baseline("funasr onnx, int8 text", f"FunASR's ONNX export, int8, our recogniser's random weights; {text_int8}",
              onnx, export, int8),
    ]  # fmt: skip


@torch.inference_mode()
def embed(text_encoder: TextEncoder, ids: Sequence[Sequence[int]]) -> Tensor:
    """Turn rows of token ids of any vocabulary into unit vectors ``(B, E)``, piece ``id mod V`` standing for each."""
    size = len(text_encoder.word_embeddings)
    vectors = torch.empty(len(ids), text_encoder.width)
    for batch in batches([len(row) + 2 for row in ids]):
        vectors[batch] = text_encoder.encode_ids([[i % size for i in ids[n]] for n in batch])
    return vectors


def int8_text_encoder(text_encoder: TextEncoder) -> TextEncoder:
    """Return a copy whose linear maps are int8, activations quantised as they come (torch's dynamic quantisation)."""
    copied = copy.deepcopy(text_encoder)
    replace_linear(copied.transformer, Int8Linear)
    return copied
