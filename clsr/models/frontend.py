"""Front ends: waveforms to rows of 60 ms, and those to what the recogniser's encoder takes."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from clsr.audio.features import FEATURE_SIZE, FRAME_S, Cmvn, FbankFrontend, stacked_features
from clsr.audio.log_mel import log_mel
from clsr.audio.waveform import SAMPLE_RATE
from clsr.config import ModelConfig, SanmConfig, WhisperConfig
from clsr.models.encoder import SanmEncoder, SenseVoiceEncoder
from clsr.models.whisper import WhisperEncoder

ROW_SAMPLES = round(FRAME_S * SAMPLE_RATE)
STACK = 3  # frames of Whisper in a row: 20 ms each
SENSE_VOICE_QUERIES = 4  # rows before those of speech: they ask for language, event, emotion and spelling
LONGEST_S = 30.0  # that Whisper's encoder has positions for; longer speech is encoded in parts of equal length


class Frontend(Protocol):
    """A part of the recogniser that starts with waveforms.

    Attributes:
        size: size of what ``forward`` returns for each row.
    """

    size: int

    def extract(self, waveforms: Sequence[np.ndarray]) -> list[Tensor]:
        """Return rows ``(T_i, F)``, one for each 60 ms: all that training does not change."""

    def __call__(self, rows: Tensor, lengths: Tensor) -> Tensor:
        """Map padded rows ``(B, T, F)`` of lengths ``(B,)`` to ``(B, T, size)``: what training may change."""


class ReleasedFrontend(nn.Module, ABC):
    """An encoder of a release, whose frozen layers are computed once for each utterance.

    Attributes:
        size: size of a row.
    """

    size: int

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """16 hexadecimal digits that stand for what ``extract`` computes."""

    @abstractmethod
    def extract(self, waveforms: Sequence[np.ndarray]) -> list[Tensor]:
        """Return what the frozen layers make of waveforms: ``(T_i, size)``."""


class WhisperFrontend(ReleasedFrontend):
    """The encoder of a Whisper release, run on the utterance alone; three frames of 20 ms make a row.

    Its lower layers are frozen and belong to ``extract``; the upper ``thawed_layers`` are trained.
    """

    def __init__(self, config: WhisperConfig):
        super().__init__()
        self.size = STACK * config.width
        self.bins = config.mel_bins
        self.encoder = WhisperEncoder(config)
        self.frozen_layers = config.layers - config.thawed_layers
        self.encoder.requires_grad_(False)
        for layer in self.encoder.layers[self.frozen_layers :]:
            layer.requires_grad_(True)
        self.encoder.after_norm.requires_grad_(config.thawed_layers > 0)

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that stand for what ``extract`` computes."""
        return _digest(str(self.frozen_layers), self.encoder.state_dict())

    @torch.no_grad()
    def extract(self, waveforms: Sequence[np.ndarray]) -> list[Tensor]:
        """Return what the frozen layers make of waveforms: ``(T_i, 3 * width)``."""
        return [torch.cat([self._rows(part) for part in _parts(waveform)]) for waveform in waveforms]

    def _rows(self, waveform: np.ndarray) -> Tensor:
        """Encode a waveform, filled with silence to a whole number of rows: ``(T, 3 * width)``."""
        weight = self.encoder.after_norm.weight
        rows = max(1, -(-len(waveform) // ROW_SAMPLES))
        samples = torch.from_numpy(np.pad(waveform, (0, rows * ROW_SAMPLES - len(waveform)))).to(weight.device)
        spectrum = log_mel(samples.float()[None], self.bins).to(weight.dtype)
        lengths = torch.tensor([rows * STACK], device=weight.device)
        frames = self.encoder.run(self.encoder.embed(spectrum), lengths, 0, self.frozen_layers)
        if self.frozen_layers == len(self.encoder.layers):
            frames = self.encoder.after_norm(frames)
        return frames[0].reshape(rows, self.size)

    def forward(self, rows: Tensor, lengths: Tensor) -> Tensor:
        """Run the thawed layers: rows ``(B, T, 3 * width)`` to the same."""
        if self.frozen_layers == len(self.encoder.layers):
            return rows
        frames = unstack(rows.to(self.encoder.after_norm.weight.dtype))
        frames = self.encoder.run(frames, lengths * STACK, self.frozen_layers, len(self.encoder.layers))
        return self.encoder.after_norm(frames).reshape(rows.shape)


class SanmFrontend(ReleasedFrontend):
    """The SAN-M encoder of a FunASR release, frozen; each of its frames is a row.

    Args:
        config: sizes.
        queries: number of rows in front of speech that ask SenseVoice for a language and more; 0 for a Paraformer.
    """

    queries: Tensor

    def __init__(self, config: SanmConfig, queries: int = 0):
        super().__init__()
        self.size = config.encoder.width
        self.cmvn = Cmvn()
        self.encoder: SanmEncoder
        if queries:
            self.encoder = SenseVoiceEncoder(FEATURE_SIZE, config.encoder, config.further_layers)
        else:
            self.encoder = SanmEncoder(FEATURE_SIZE, config.encoder)
        self.register_buffer("queries", torch.zeros(queries, FEATURE_SIZE))
        self.requires_grad_(False)

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that stand for what ``extract`` computes."""
        return _digest("", self.state_dict())

    @torch.no_grad()
    def extract(self, waveforms: Sequence[np.ndarray]) -> list[Tensor]:
        """Return the frames of waveforms: ``(T_i, width)``."""
        return [self._rows(rows) for rows in stacked_features(waveforms, self.queries.device)]

    def _rows(self, features: Tensor) -> Tensor:
        """Encode the features ``(T, 560)`` of an utterance: ``(T, width)``."""
        rows = torch.cat([self.queries, self.cmvn(features)])
        lengths = torch.tensor([len(rows)], device=rows.device)
        return self.encoder(rows[None], lengths)[0][0, len(self.queries) :]

    def forward(self, rows: Tensor, lengths: Tensor) -> Tensor:
        """Return the rows as they are."""
        return rows


def make_frontend(config: ModelConfig) -> FbankFrontend | ReleasedFrontend:
    """Return the front end that the settings name, with weights still to be loaded."""
    if config.frontend == "whisper":
        return WhisperFrontend(config.whisper)
    if config.frontend == "fbank":
        return FbankFrontend()
    return SanmFrontend(config.sanm, SENSE_VOICE_QUERIES if config.frontend == "sensevoice" else 0)


def _digest(about: str, weights: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(about.encode())
    for name, value in weights.items():
        digest.update(name.encode() + value.cpu().float().numpy().tobytes())
    return digest.hexdigest()[:16]


def unstack(rows: Tensor) -> Tensor:
    """Turn rows of three frames ``(B, T, 3 * D)`` into frames ``(B, 3 * T, D)``."""
    return rows.unflatten(2, (STACK, -1)).flatten(1, 2)


def _parts(waveform: np.ndarray) -> list[np.ndarray]:
    """Cut a waveform ``(N,)`` into parts of whole rows that Whisper's encoder has positions for."""
    count = -(-len(waveform) // round(LONGEST_S * SAMPLE_RATE)) or 1
    rows = -(-len(waveform) // ROW_SAMPLES)
    step = -(-rows // count) * ROW_SAMPLES
    return [waveform[start : start + step] for start in range(0, max(1, len(waveform)), step or 1)]
