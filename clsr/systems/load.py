"""A system to measure by its reference: the folder of a checkpoint, or the scheme and folder of a released model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from clsr.checkpoint_folder import read_meta
from clsr.config import OFFLINE_TEXT_ENCODER, Precision
from clsr.errors import InputError
from clsr.hub import find_folder
from clsr.models.text_encoder import load_text_encoder
from clsr.systems.clap import KIND as CLAP
from clsr.systems.clap import ClapSystem, load_clap
from clsr.systems.clsr import load_clsr
from clsr.systems.funasr import load_funasr
from clsr.systems.parabge import KIND as PARABGE
from clsr.systems.parabge import ParaBgeSystem, load_parabge
from clsr.systems.pipeline import NBestPipeline, Pipeline
from clsr.systems.protocol import System
from clsr.systems.sentence_transformers import load_sentence_transformer
from clsr.systems.sources import BEAM, NOISY, ST, WHISPERS, ModelReference, parse_reference
from clsr.systems.speechdpr import KIND as SPEECHDPR
from clsr.systems.speechdpr import load_speechdpr
from clsr.systems.whisper import KIND as WHISPER
from clsr.systems.whisper import load_whisper
from clsr.systems.whisper_folder import in_ctranslate2
from clsr.systems.whisper_recogniser import WhisperDecoding, WhisperRecogniser
from clsr.training_record import read_training

N_BEST = 5  # hypotheses of a beam


def load_system(
    reference: str, text_encoder: str | None = None, device: str = "cpu", precision: Precision = "float32"
) -> System[Any]:
    """Load a system to measure.

    Args:
        reference: a checkpoint folder, or a scheme and the place of released weights: ``whisper:PLACE`` and
            ``faster-whisper:PLACE`` (either in Hugging Face's or CTranslate2's layout), ``funasr:PLACE``,
            ``clap:PLACE``, ``st:PLACE`` (of sentence-transformers). A place is a folder, or what else
            `clsr.hub.find_folder` takes. With ``whisper-noisy:PLACE`` the text encoder is said to be fine-tuned on
            transcripts of this very Whisper, and has to be named. ``whisper-beam:PLACE`` decodes with a beam of five,
            and has a row of the five best transcripts too.
        text_encoder: reference of the text encoder that transcripts go to, where a system brings none.
        device: that CLSR, Whisper and sentence-transformers compute on; other baselines have the processor.
        precision: numbers that CLSR and Whisper compute in; other baselines have float32.

    Raises:
        InputError: nothing loadable is there.
    """
    model = parse_reference(reference)
    if model.scheme in WHISPERS:
        return _load_whisper(model, find_folder(model.place), text_encoder, device, precision)
    if model.scheme == ST:
        return load_sentence_transformer(find_folder(model.place), device)
    if model.scheme:
        return _load_released(model, find_folder(model.place), text_encoder)
    folder = Path(reference)
    kind = read_meta(folder).kind
    if kind == PARABGE:
        return ParaBgeSystem(*load_parabge(folder))
    if kind == SPEECHDPR:
        return load_speechdpr(folder)
    if kind == WHISPER:
        return _load_whisper(ModelReference(kind, reference), folder, text_encoder, device, precision)
    if kind == CLAP:
        return _load_released(ModelReference(kind, reference), folder, text_encoder)
    return load_clsr(folder, text_encoder, device, precision)


def _load_released(model: ModelReference, folder: Path, text_encoder: str | None) -> System[Any]:
    if model.scheme == CLAP:
        return ClapSystem(load_clap(folder))
    recogniser = load_funasr(folder, language=model.language)
    return Pipeline(
        lambda waveforms: [recognition.text for recognition in recogniser.transcribe(waveforms)],
        load_text_encoder(text_encoder or OFFLINE_TEXT_ENCODER),
        "funasr-bge",
    )


def _load_whisper(
    model: ModelReference, folder: Path, text_encoder: str | None, device: str, precision: Precision
) -> System[Any]:
    scheme = model.scheme
    if scheme.endswith(NOISY) and text_encoder is None:
        raise InputError(
            f"{scheme}:{folder}: needs the text encoder that was fine-tuned on its transcripts (clsr data transcribed, "
            "clsr train-text): name it with --text-encoder"
        )
    training = read_training(folder)
    row = "whisper-bge-scratch" if training and training.start == "nothing" else "whisper-bge"
    row += NOISY if scheme.endswith(NOISY) else ""
    write: Callable[[Sequence[np.ndarray]], list[str]]
    if scheme.endswith(BEAM):
        recogniser = WhisperRecogniser(
            in_ctranslate2(folder), device, precision, WhisperDecoding(N_BEST, model.language)
        )
        return NBestPipeline(recogniser, load_text_encoder(text_encoder or OFFLINE_TEXT_ENCODER), N_BEST)
    if (folder / "model.bin").is_file():
        write = WhisperRecogniser(folder, device, precision, WhisperDecoding(language=model.language)).write
    else:
        write = load_whisper(folder).write
    return Pipeline(write, load_text_encoder(text_encoder or OFFLINE_TEXT_ENCODER), row)
