"""CLSR itself as one of the systems that are measured: its codes, and cascades of its own transcripts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from clsr.checkpoint import load_recogniser
from clsr.config import OFFLINE_TEXT_ENCODER, Precision
from clsr.models.interleaved import CodedSpeech, encode_interleaved
from clsr.models.recogniser import LengthHypotheses, Recogniser
from clsr.models.speech_encoder import Codes, SpeechEncoder
from clsr.models.text_encoder import load_text_encoder
from clsr.systems.cascade import Cascade, encode_n_best, encode_transcripts, n_best, transcripts
from clsr.text.folder import Side

CASCADES = ("cascade", "cascade-8best")
UNQUANTISED = "clsr-unquantised"  # of a model whose joint training had no quantiser
CODES: dict[str, Codes] = {"clsr": "hard", UNQUANTISED: "unquantised", "clsr-soft": "soft"}
N_BEST = 8


class ClsrSystem:
    """A CLSR model, or an imported recogniser with a text encoder beside it, behind `System`.

    All rows start from one recognition, and the passages of all, text too, go through the model's passage projection.

    Args:
        recogniser: a `SpeechEncoder`, which has codes, or a recogniser with tokens of its own, which has none.
        encoder: what encodes its transcripts: the model itself, or the recogniser's vocabulary and a text encoder.
    """

    def __init__(self, recogniser: Recogniser, encoder: SpeechEncoder | Cascade):
        self.recogniser = recogniser
        self.encoder = encoder
        unquantised = (UNQUANTISED,) if recogniser.keeps_states else ()
        codes = ("clsr", *unquantised, "clsr-soft") if isinstance(encoder, SpeechEncoder) else ()
        self.rows = ("text", *CASCADES, *codes)

    def recognise(self, waveforms: Sequence[np.ndarray]) -> list[LengthHypotheses]:
        """Recognise 16 kHz waveforms ``(N_i,)``."""
        return self.recogniser.recognise(waveforms)

    def transcribe(self, recognised: Sequence[LengthHypotheses]) -> list[str]:
        """Return the best transcript of each."""
        return transcripts(self.recogniser, recognised)

    def encode(self, recognised: Sequence[LengthHypotheses], row: str, side: Side) -> Tensor:
        """Return the unit vectors ``(B, E)`` that a row makes of recognitions."""
        if row == "cascade":
            vectors = encode_transcripts(self.encoder, recognised)
        elif row == "cascade-8best":
            vectors = encode_n_best(self.encoder, recognised, N_BEST)
        elif isinstance(self.encoder, SpeechEncoder):
            vectors = self.encoder.embed(recognised, CODES[row], side)
        else:
            raise ValueError(f"no codes, so no row {row}")
        return self._on_side(vectors, side)

    def encode_text(self, texts: Sequence[str], side: Side) -> Tensor:
        """Return the unit vectors ``(B, E)`` of texts."""
        return self._on_side(self.encoder.text_encoder.encode(texts, side), side)

    def encode_parts(
        self, inputs: Sequence[Sequence[str | LengthHypotheses]], row: str, side: Side, seed: int | None = None
    ) -> Tensor:
        """Return the unit vectors ``(B, E)`` of texts and recognitions in turn."""
        coded = [[part if isinstance(part, str) else self._coded(part, row) for part in parts] for parts in inputs]
        return self._on_side(encode_interleaved(self.encoder.text_encoder, coded, side, seed), side)

    def _coded(self, hypotheses: LengthHypotheses, row: str) -> str | CodedSpeech:
        """What a row makes of a recognition: its transcript, an n-best list, or codes."""
        text = transcripts(self.encoder, [hypotheses])[0]
        if row == "cascade":
            return text
        if row == "cascade-8best":
            embed, decode = self.encoder.text_encoder.embed_text, self.encoder.vocabulary.decode
            best = n_best(hypotheses, N_BEST)
            return CodedSpeech(text, [(one.probability, embed(decode(one.tokens))) for one in best])
        if not isinstance(self.encoder, SpeechEncoder):
            raise ValueError(f"no codes, so no row {row}")
        return self.encoder.code([hypotheses], CODES[row])[0]

    def _on_side(self, vectors: Tensor, side: Side) -> Tensor:
        if side == "passage" and isinstance(self.encoder, SpeechEncoder):
            return self.encoder.as_passages(vectors)
        return vectors


def load_clsr(
    folder: Path, text_encoder: str | None = None, device: str = "cpu", precision: Precision = "float32"
) -> ClsrSystem:
    """Load a checkpoint of a recogniser, a CLSR model, or an imported release.

    Args:
        folder: the checkpoint.
        text_encoder: reference of the text encoder that a release's transcripts go to (the offline one), or of one with
            the same pieces in place of a model's own.
        device: to compute on.
        precision: numbers to compute in.

    Raises:
        InputError: the checkpoint is at fault, or the text encoder named for a model has other pieces.
    """
    recogniser = load_recogniser(folder, device, precision, text_encoder)
    if isinstance(recogniser, SpeechEncoder):
        return ClsrSystem(recogniser, recogniser)
    return ClsrSystem(
        recogniser, Cascade(recogniser.vocabulary, load_text_encoder(text_encoder or OFFLINE_TEXT_ENCODER))
    )
