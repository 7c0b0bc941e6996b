"""A model of sentence-transformers that takes audio, from a folder, as a system to measure beside others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import soxr
import torch
from torch import Tensor

from clsr.audio.waveform import SAMPLE_RATE
from clsr.errors import InputError
from clsr.text.folder import Side

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

BATCH_SIZE = 8  # inputs encoded at once, since models of audio are large


class SentenceTransformerSystem:
    """A model of sentence-transformers behind `System`; it writes no transcripts.

    Text and speech in turn go to it as one chat message, which keeps their order; it then has to take messages.

    Args:
        model: which takes text and audio.
    """

    rows: tuple[str, ...] = ("st",)

    def __init__(self, model: SentenceTransformer):
        self.model = model
        extractor = getattr(getattr(model[0], "processor", None), "feature_extractor", None)
        self.sample_rate = int(getattr(extractor, "sampling_rate", SAMPLE_RATE))

    def recognise(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Resample 16 kHz waveforms ``(N_i,)`` to the rate of the model."""
        return [soxr.resample(waveform, SAMPLE_RATE, self.sample_rate) for waveform in waveforms]

    def transcribe(self, recognised: Sequence[np.ndarray]) -> None:
        """Write no transcript."""

    def encode(self, recognised: Sequence[np.ndarray], row: str, side: Side) -> Tensor:
        """Return the unit vectors ``(B, E)`` of speech."""
        return self._encode([self._audio(waveform) for waveform in recognised], side)

    def encode_text(self, texts: Sequence[str], side: Side) -> Tensor:
        """Return the unit vectors ``(B, E)`` of texts."""
        return self._encode(list(texts), side)

    def encode_parts(
        self, inputs: Sequence[Sequence[str | np.ndarray]], row: str, side: Side, seed: int | None = None
    ) -> Tensor:
        """Return the unit vectors ``(B, E)`` of texts and speech in turn.

        Raises:
            InputError: the model takes no messages, or the positions of tokens are to be shuffled.
        """
        if seed is not None:
            raise InputError("row st: the positions of its tokens cannot be shuffled: give --shuffle parts")
        return self._encode([self._input(parts) for parts in inputs], side)

    def _input(self, parts: Sequence[str | np.ndarray]) -> Any:
        if len(parts) <= 1:
            return next((part if isinstance(part, str) else self._audio(part) for part in parts), "")
        if not self.model.supports("message"):
            raise InputError(
                "row st: the model takes no messages, in which text and audio have an order: measure it on sets "
                "without questions/parts.jsonl"
            )
        content = [
            {"type": "text", "text": part} if isinstance(part, str) else {"type": "audio", "audio": part}
            for part in parts
        ]
        return [{"role": "user", "content": content}]

    def _audio(self, waveform: np.ndarray) -> dict[str, Any]:
        return {"array": waveform, "sampling_rate": self.sample_rate}

    def _encode(self, inputs: list[Any], side: Side) -> Tensor:
        encode = self.model.encode_query if side == "question" else self.model.encode_document
        vectors = encode(inputs, batch_size=BATCH_SIZE, convert_to_tensor=True, show_progress_bar=False)
        return torch.nn.functional.normalize(vectors.float().cpu(), dim=1)


def load_sentence_transformer(folder: Path, device: str = "cpu") -> SentenceTransformerSystem:
    """Load a model of sentence-transformers; code that a folder brings along is not run.

    Args:
        folder: as sentence-transformers writes it.
        device: to compute on.

    Raises:
        InputError: it is no such folder, wants code of its own, or does not take both text and audio.
    """
    from sentence_transformers import SentenceTransformer

    if not (folder / "modules.json").is_file():
        raise InputError(f"{folder}: no modules.json: name a folder that sentence-transformers wrote")
    try:
        model = SentenceTransformer(str(folder), device=device, local_files_only=True)
    except Exception as error:  # files that are missing, no JSON, code of its own: each its own kind
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"{folder}: no model that sentence-transformers loads without code from the folder ({reason})"
        ) from error
    for kind in ("text", "audio"):
        if not model.supports(kind):
            raise InputError(f"{folder}: a model that takes no {kind}: name one that takes text and audio")
    return SentenceTransformerSystem(model)
