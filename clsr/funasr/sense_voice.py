"""SenseVoice-small (An et al. 2024, arXiv:2407.04051): features to the best output of each frame."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from clsr.audio.features import FEATURE_SIZE, Cmvn
from clsr.config import EncoderConfig
from clsr.models.encoder import SenseVoiceEncoder
from clsr.models.frontend import SENSE_VOICE_QUERIES
from clsr.models.paraformer import CtcHead

EMBEDDINGS = 16  # of what can be asked for; the rows that are used:
LANGUAGES = {"auto": 0, "zh": 3, "en": 4, "yue": 7, "ja": 11, "ko": 12}
EVENT, EMOTION = 1, 2
AS_SPOKEN = 15  # no punctuation, numbers as words, which is FunASR's default; row 14 asks for the written form


class SenseVoiceConfig(NamedTuple):
    """Sizes of a network."""

    encoder: EncoderConfig
    further_layers: int  # of the encoder, after its first normalisation
    tokens: int  # outputs, V


class FrameOutputs(NamedTuple):
    """The best output of each frame of speech."""

    tokens: Tensor  # (T,)
    log_probabilities: Tensor  # (T,), float32


class SenseVoice(nn.Module):
    """Recogniser of a SAN-M encoder and CTC, parameters named as in FunASR.

    Args:
        config: sizes.
    """

    def __init__(self, config: SenseVoiceConfig):
        super().__init__()
        self.config = config
        self.cmvn = Cmvn()
        # Not random: to draw numbers on the meta device, torch imports its compiler, which takes seconds.
        self.embed = nn.Embedding.from_pretrained(torch.zeros(EMBEDDINGS, FEATURE_SIZE), freeze=False)
        self.encoder = SenseVoiceEncoder(FEATURE_SIZE, config.encoder, config.further_layers)
        self.ctc = CtcHead(config.encoder.width, config.tokens, 1)

    def forward(self, features: Tensor, lengths: Tensor, language: str = "auto") -> Tensor:
        """Encode what is asked for and speech; padding changes nothing.

        Args:
            features: stacked features, ``(B, T, 560)``.
            lengths: ``(B,)``.
            language: spoken, one of ``LANGUAGES``.

        Returns:
            Frames ``(B, 4 + T, D)``, those of the queries first.
        """
        queries = self.queries(language).expand(len(features), -1, -1)
        frames, _ = self.encoder(torch.cat([queries, self.cmvn(features)], 1), lengths + SENSE_VOICE_QUERIES)
        return frames

    def queries(self, language: str = "auto") -> Tensor:
        """Return the rows ``(4, 560)`` that ask for a language, and for words as they are spoken."""
        return self.embed(
            torch.tensor([LANGUAGES[language], EVENT, EMOTION, AS_SPOKEN], device=self.embed.weight.device)
        )

    def outputs(self, features: Tensor, lengths: Tensor, language: str = "auto") -> list[FrameOutputs]:
        """Return the best outputs of each utterance; the arguments are those of ``forward``."""
        frames = self(features, lengths, language)
        found = []
        for row, length in enumerate(lengths.tolist()):  # one by one: logits of a whole batch are gigabytes
            logits = self.ctc(frames[row : row + 1, SENSE_VOICE_QUERIES : SENSE_VOICE_QUERIES + length])[0].float()
            best, tokens = logits.max(1)
            found.append(FrameOutputs(tokens, best - logits.logsumexp(1)))
        return found
