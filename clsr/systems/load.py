"""A system to measure by its reference: the folder of a checkpoint, or the scheme and folder of a released model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from clsr.checkpoint import read_meta
from clsr.config import OFFLINE_TEXT_ENCODER, Precision
from clsr.errors import InputError
from clsr.models.text_encoder import load_text_encoder
from clsr.systems.clap import KIND as CLAP
from clsr.systems.clap import ClapSystem, load_clap
from clsr.systems.clsr import load_clsr
from clsr.systems.funasr import SCHEME as FUNASR
from clsr.systems.funasr import load_funasr
from clsr.systems.parabge import KIND as PARABGE
from clsr.systems.parabge import ParaBgeSystem, load_parabge
from clsr.systems.pipeline import Pipeline
from clsr.systems.protocol import System
from clsr.systems.speechdpr import KIND as SPEECHDPR
from clsr.systems.speechdpr import load_speechdpr
from clsr.systems.whisper import KIND as WHISPER
from clsr.systems.whisper import load_faster_whisper, load_whisper

NOISY = "-noisy"  # ends the scheme of a pipeline whose text encoder was fine-tuned on its own transcripts
SCHEMES = (CLAP, FUNASR, *(f"{name}{end}" for name in (WHISPER, "faster-whisper") for end in ("", NOISY)))


def load_system(
    reference: str, text_encoder: str | None = None, device: str = "cpu", precision: Precision = "float32"
) -> System[Any]:
    """Load a system to measure.

    Args:
        reference: a checkpoint folder, or a scheme and the folder of released weights: ``whisper:FOLDER``,
            ``faster-whisper:FOLDER``, ``funasr:FOLDER``, ``clap:FOLDER``. With ``whisper-noisy:FOLDER`` the text
            encoder is said to be fine-tuned on transcripts of this very Whisper, and has to be named.
        text_encoder: reference of the text encoder that transcripts go to, where a system brings none.
        device: that a CLSR model computes on; baselines have the processor.
        precision: numbers that it computes in; baselines have float32.

    Raises:
        InputError: nothing loadable is there.
    """
    scheme, colon, place = reference.partition(":")
    if colon and scheme in SCHEMES:
        return _load_released(scheme, Path(place), text_encoder)
    folder = Path(reference)
    kind = read_meta(folder).kind
    if kind == PARABGE:
        return ParaBgeSystem(*load_parabge(folder))
    if kind == SPEECHDPR:
        return load_speechdpr(folder)
    if kind in SCHEMES:
        return _load_released(kind, folder, text_encoder)
    return load_clsr(folder, text_encoder, device, precision)


def _load_released(scheme: str, folder: Path, text_encoder: str | None) -> System[Any]:
    if scheme == CLAP:
        return ClapSystem(load_clap(folder))
    if scheme.endswith(NOISY) and text_encoder is None:
        raise InputError(
            f"{scheme}:{folder}: needs the text encoder that was fine-tuned on its transcripts (clsr data transcribed, "
            "clsr train-text): name it with --text-encoder"
        )
    row = "whisper-bge-noisy" if scheme.endswith(NOISY) else "whisper-bge"
    if scheme == FUNASR:
        row, write = "funasr-bge", load_funasr(folder)
    elif scheme.startswith(WHISPER):
        write = load_whisper(folder).write
    else:
        write = load_faster_whisper(folder)
    return Pipeline(write, load_text_encoder(text_encoder or OFFLINE_TEXT_ENCODER), row)
