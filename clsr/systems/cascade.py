"""Cascades of the model's own transcripts: text first, then a text encoder as for any other text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor

from clsr.audio.pieces import Piece
from clsr.byte_pairs import TextVocabulary
from clsr.models.interleaved import PartsEncoding, code_parts, encode_parts, interleaved_token_vectors
from clsr.models.recogniser import LengthHypotheses, LengthHypothesis, Recogniser, Recognition
from clsr.models.sounding import transcribe_sounding
from clsr.models.speech_encoder import Codes, SpeechEncoder, SpeechEncoding
from clsr.models.text_encoder import TextEncoder, weighted_means
from clsr.systems.protocol import SpeechRecogniser
from clsr.text.folder import Side
from clsr.vocabulary import ReleaseVocabulary, Word


class Cascade(NamedTuple):
    """What makes text of a recogniser's tokens, and what encodes that text, where no ``SpeechEncoder`` has both."""

    vocabulary: TextVocabulary | ReleaseVocabulary
    text_encoder: TextEncoder


class CascadeEncoder:
    """A recogniser and a text encoder behind `SpeechSystem`: the vector of speech is that of its transcript.

    Args:
        recogniser: writes down speech.
        text_encoder: encodes transcripts and typed queries.
    """

    def __init__(self, recogniser: SpeechRecogniser, text_encoder: TextEncoder) -> None:
        self.recogniser = recogniser
        self.text_encoder = text_encoder

    def transcribe(self, waveforms: Sequence[np.ndarray]) -> list[Recognition]:
        """Transcribe 16 kHz waveforms ``(N_i,)`` with the times of tokens and words."""
        return self.recogniser.transcribe(waveforms)

    def join(self, texts: Iterable[str]) -> str:
        """Join transcripts of successive pieces of a recording."""
        return self.recogniser.join(texts)

    def encode(self, waveforms: Sequence[np.ndarray], codes: Codes = "soft", side: Side = "passage") -> SpeechEncoding:
        """Encode 16 kHz waveforms ``(N_i,)``; there are no codes."""
        return self.encode_recognised(self.transcribe(waveforms), side)

    def encode_parts(
        self, inputs: Sequence[Sequence[str | np.ndarray]], codes: Codes = "soft", side: Side = "passage"
    ) -> PartsEncoding:
        """Encode texts and speech in turn, speech by its transcript; there are no codes.

        Args:
            inputs: the parts of each: texts, and 16 kHz waveforms ``(N,)``.
            codes: of no effect.
            side: what the inputs stand for.
        """
        return encode_parts(self.text_encoder, self._write, inputs, side)

    def encode_part_tokens(
        self, inputs: Sequence[Sequence[str | np.ndarray]], codes: Codes = "soft", side: Side = "passage"
    ) -> list[Tensor]:
        """Encode the tokens of texts and speech in turn, of each input unit rows ``(U, D)``; there are no codes.

        Args:
            inputs: the parts of each, as for ``encode_parts``.
            codes: of no effect.
            side: what the inputs stand for.
        """
        return interleaved_token_vectors(self.text_encoder, code_parts(self._write, inputs), side)

    def _write(self, waveforms: Sequence[np.ndarray]) -> list[str]:
        return [one.text for one in self.transcribe(waveforms)]

    def encode_recognised(self, recognised: Sequence[Recognition], side: Side = "passage") -> SpeechEncoding:
        """Encode what was recognised."""
        texts = [one.text for one in recognised]
        return SpeechEncoding(
            self.text_encoder.encode(texts, side).numpy(),
            texts,
            [one.token_ids for one in recognised],
            [one.words for one in recognised],
            [one.confidence for one in recognised],
        )

    def recognise_pieces(self, pieces: Sequence[Piece]) -> None:
        """Recognise pieces of recordings, those that were not recognised yet."""
        new = [piece for piece in pieces if piece.words is None]
        for piece, found in zip(
            new, transcribe_sounding(self.transcribe, [piece.waveform for piece in new]), strict=True
        ):
            piece.words = [Word(w.text, piece.start_s + w.start_s, piece.start_s + w.end_s) for w in found.words]
            piece.confidence = found.confidence

    def cut_out(self, pieces: Sequence[Piece], start_s: float, end_s: float) -> Recognition:
        """What was recognised in a span of a recording: the words of its pieces whose middle lies there.

        Args:
            pieces: that overlap the span, recognised.
            start_s: of the span, from which times count.
            end_s: of the span.
        """
        words: list[Word] = []
        confidences: list[float] = []
        for piece in pieces:
            inside = [word for word in piece.words or () if start_s <= (word.start_s + word.end_s) / 2 < end_s]
            words += [Word(w.text, max(0.0, w.start_s - start_s), min(w.end_s, end_s) - start_s) for w in inside]
            confidences += [piece.confidence] * len(inside)
        mean = sum(confidences) / len(confidences) if confidences else math.nan
        return Recognition(self.join(word.text for word in words), [], [], words, mean, [])

    def as_passages(self, vectors: Tensor) -> Tensor:
        """Return the vectors: there is no passage projection."""
        return vectors


class Hypothesis(NamedTuple):
    """One transcript of an n-best list."""

    tokens: tuple[int, ...]  # output indices
    probability: float  # among those of its list


def transcripts(encoder: Recogniser | Cascade, utterances: Sequence[LengthHypotheses]) -> list[str]:
    """Return the best transcript of each utterance."""
    return [encoder.vocabulary.decode(hypotheses[0].best) for hypotheses in utterances]


def encode_transcripts(encoder: SpeechEncoder | Cascade, utterances: Sequence[LengthHypotheses]) -> Tensor:
    """Return the vector of each best transcript, split into pieces anew: unit rows ``(B, E)``."""
    return encoder.text_encoder.encode(transcripts(encoder, utterances))


def encode_n_best(encoder: SpeechEncoder | Cascade, utterances: Sequence[LengthHypotheses], n: int = 8) -> Tensor:
    """Return the mean vector of the ``n`` best transcripts of each utterance, weighted by probability: ``(B, E)``."""
    lists = [n_best(hypotheses, n) for hypotheses in utterances]
    texts = [encoder.vocabulary.decode(hypothesis.tokens) for hypotheses in lists for hypothesis in hypotheses]
    vectors = encoder.text_encoder.encode(texts)
    return weighted_means(vectors, [[hypothesis.probability for hypothesis in hypotheses] for hypotheses in lists])


def n_best(hypotheses: LengthHypotheses, n: int) -> list[Hypothesis]:
    """Return the ``n`` most probable transcripts over all length hypotheses, best first; positions are independent.

    Probabilities are renormalised over the list. Exact as long as ``n`` is at most the number of tokens kept of
    each position.
    """
    found = [(total, row) for hypothesis in hypotheses for total, row in _best_of(hypothesis, n)]
    found = sorted(found, reverse=True)[:n]
    totals = np.array([total for total, _ in found])
    weights = np.exp(totals - totals.max())
    return [Hypothesis(row, float(w)) for (_, row), w in zip(found, weights / weights.sum(), strict=True)]


def _best_of(hypothesis: LengthHypothesis, n: int) -> list[tuple[float, tuple[int, ...]]]:
    """Return the ``n`` most probable transcripts of one length hypothesis with their log probabilities.

    The best of them has the probability of the length hypothesis: so the lists of several can be merged.
    """
    beam: list[tuple[float, tuple[int, ...]]] = [(float(np.log(hypothesis.probability)), ())]
    for tokens, scores in zip(hypothesis.tokens.tolist(), hypothesis.scores.tolist(), strict=True):
        longer = [
            (total + s - scores[0], (*row, t)) for total, row in beam for t, s in zip(tokens, scores, strict=True)
        ]
        beam = sorted(longer, reverse=True)[:n]
    return beam
