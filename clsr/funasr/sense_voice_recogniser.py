"""SenseVoice behind `clsr.systems.protocol.SpeechRecogniser`: waveforms to transcripts and words with times."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from clsr.audio.features import FRAME_S, stacked_features
from clsr.audio.waveform import SAMPLE_RATE
from clsr.config import Precision
from clsr.funasr.sense_voice import FrameOutputs, SenseVoice
from clsr.funasr.sense_voice_release import read_sense_voice
from clsr.funasr.sentence_pieces import SentencePieces
from clsr.models.precision import lower_speech_parts
from clsr.models.recogniser import GPU_FRAMES, MAX_BATCH_FRAMES, Recognition, batches, word_confidences
from clsr.padding import pad
from clsr.vocabulary import join_words

BLANK = 0
LONGEST_FRAMES = 16  # that a token lasts where no other follows: about a second


class CtcToken(NamedTuple):
    """A token of CTC: one output over frames in a row."""

    output: int  # its index
    log_probability: float  # the highest of its frames
    first: int  # of its frames
    end: int  # the frame after its last


class SenseVoiceRecogniser:
    """A SenseVoice-small: greedy CTC without tags of language, emotion and events, spelt as spoken.

    What one waveform gives does not depend on the others.

    Args:
        network: where it computes.
        pieces: what its outputs stand for.
        language: spoken, one of ``LANGUAGES``.
    """

    def __init__(self, network: SenseVoice, pieces: SentencePieces, language: str = "auto"):
        self.network = network
        self.pieces = pieces
        self.language = language

    @torch.inference_mode()
    def transcribe(self, waveforms: Sequence[np.ndarray]) -> list[Recognition]:
        """Transcribe 16 kHz waveforms ``(N_i,)`` with the times of tokens and words."""
        device = self.network.cmvn.shift.device
        features = stacked_features(waveforms, device)
        most = MAX_BATCH_FRAMES if device.type == "cpu" else GPU_FRAMES
        found: dict[int, Recognition] = {}
        for batch in batches([len(rows) for rows in features], most):
            rows, lengths = pad([features[i] for i in batch])
            outputs = self.network.outputs(rows.to(device), lengths.to(device), self.language)
            found |= {i: self._recognition(one, len(waveforms[i])) for i, one in zip(batch, outputs, strict=True)}
        return [found[i] for i in range(len(waveforms))]

    def _recognition(self, outputs: FrameOutputs, samples: int) -> Recognition:
        tokens = [token for token in collapse(outputs) if token.output not in self.pieces.marks]
        indices, times = [token.output for token in tokens], token_times(tokens, samples / SAMPLE_RATE)
        return Recognition(
            self.pieces.decode(indices),
            indices,
            times,
            self.pieces.words(indices, times),
            sum(token.log_probability for token in tokens) / len(tokens) if tokens else math.nan,
            word_confidences(partial(self.pieces.words, indices), [token.log_probability for token in tokens]),
        )

    def join(self, texts: Iterable[str]) -> str:
        """Join transcripts of successive pieces of a recording."""
        return join_words(texts)


def collapse(outputs: FrameOutputs) -> list[CtcToken]:
    """Return the tokens of the best outputs: equal ones in a row are one, and blanks are none."""
    scores = outputs.log_probabilities.tolist()
    tokens = []
    for index, run in groupby(enumerate(outputs.tokens.tolist()), key=lambda frame: frame[1]):
        frames = [frame for frame, _ in run]
        if index != BLANK:
            tokens.append(CtcToken(index, max(scores[frame] for frame in frames), frames[0], frames[-1] + 1))
    return tokens


def token_times(tokens: Sequence[CtcToken], duration_s: float) -> list[tuple[float, float]]:
    """Return start and end of tokens in seconds: each lasts until the next begins, but for a second at most.

    CTC writes most tokens in a single frame, wherever they end.
    """
    begins = [token.first for token in tokens]
    ends = [max(token.end, min(token.first + LONGEST_FRAMES, following))
            for token, following in zip(tokens, [*begins[1:], math.inf], strict=False)]  # fmt: skip
    return [(begin * FRAME_S, min(end * FRAME_S, duration_s)) for begin, end in zip(begins, ends, strict=True)]


def load_sense_voice(
    folder: Path, device: str = "cpu", precision: Precision = "float32", language: str = "auto"
) -> SenseVoiceRecogniser:
    """Load a released SenseVoice-small, ready for inference at a precision.

    Args:
        folder: of the release.
        device: to compute on.
        precision: numbers to compute in.
        language: spoken, one of ``LANGUAGES``; "auto" lets the model find out.

    Raises:
        InputError: a file is missing or damaged, or does not fit the others.
    """
    network, pieces = read_sense_voice(folder)
    network.to(device)
    lower_speech_parts(network, (network.encoder, network.ctc), precision, network.cmvn.shift.device)
    return SenseVoiceRecogniser(network, pieces, language)
