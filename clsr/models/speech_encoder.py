"""Speech to unit vectors: recogniser, adaptor and text encoder in a row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from clsr.byte_pairs import TextVocabulary
from clsr.models.adaptor import PassageProjection, adaptor_input, expand_codes, pool_codes, soft_codes
from clsr.models.interleaved import (
    CodedSpeech,
    PartsEncoding,
    code_parts,
    encode_parts,
    interleaved_token_vectors,
)
from clsr.models.paraformer import Paraformer
from clsr.models.recogniser import LengthHypotheses, LengthHypothesis, Recogniser, batches
from clsr.models.text_encoder import TextEncoder, weighted_means
from clsr.padding import pad
from clsr.text.folder import Side
from clsr.vocabulary import Vocabulary, Word

Codes = Literal["soft", "hard", "unquantised"]


class SpeechEncoding(NamedTuple):
    """Speech as vectors, and its transcript."""

    vectors: np.ndarray  # (B, E) float32, unit rows
    transcripts: list[str]
    token_ids: list[list[int]]  # of the text encoder
    words: list[list[Word]]
    confidences: list[float]  # mean log probability of the tokens of each; NaN where there are none


class SpeechEncoder(Recogniser):
    """CLSR: speech in, vectors in the space of a text encoder out, transcripts with times on the way.

    Args:
        paraformer: the recogniser.
        text_encoder: the frozen text encoder.
        vocabulary: the recogniser's output layer in the text encoder's pieces.
        passage_projection: of passage vectors, where joint training has learnt one.

    Attributes:
        code_pooling: number of codes whose mean takes their place before the text encoder; 1 pools none.
    """

    def __init__(self, paraformer: Paraformer, text_encoder: TextEncoder, vocabulary: TextVocabulary,
                 passage_projection: PassageProjection | None = None):  # fmt: skip
        super().__init__(paraformer, vocabulary)
        self.text_encoder = text_encoder
        self.vocabulary: TextVocabulary = vocabulary
        self.passage_projection = passage_projection
        self.code_pooling = 1
        self.keeps_states = paraformer.config.adaptor.codes == "soft" and isinstance(vocabulary, Vocabulary)

    def encode(self, waveforms: Sequence[np.ndarray], codes: Codes = "soft", side: Side = "passage") -> SpeechEncoding:
        """Encode speech, 16 kHz waveforms ``(N_i,)``, into unit vectors; batch size and order change nothing.

        Args:
            waveforms: mono, float32.
            codes: "soft" mixes the rows of the best three tokens, and the vectors of the length hypotheses; "hard"
                takes the best of both (the paper's codes: the vector is then that of the transcript); "unquantised"
                mixes the rows of all tokens, where joint training did too (``model.adaptor.codes: soft``).
            side: passages go through the passage projection, questions do not.
        """
        utterances = self.recognise(waveforms)
        vectors = self.embed(utterances, codes, side)
        return SpeechEncoding(
            (self.as_passages(vectors) if side == "passage" else vectors).numpy(),
            self.transcripts(utterances),
            [self.vocabulary.text_token_ids(hypotheses[0].best) for hypotheses in utterances],
            self.words(utterances),
            [hypotheses[0].confidence for hypotheses in utterances],
        )

    def encode_parts(
        self, inputs: Sequence[Sequence[str | np.ndarray]], codes: Codes = "soft", side: Side = "passage"
    ) -> PartsEncoding:
        """Encode texts and speech in turn into unit vectors.

        Args:
            inputs: the parts of each: texts, and 16 kHz waveforms ``(N,)``.
            codes: of speech, as for ``encode``.
            side: what the inputs stand for.
        """
        found = encode_parts(
            self.text_encoder, lambda waveforms: self.code(self.recognise(waveforms), codes), inputs, side
        )
        if side == "question":
            return found
        return found._replace(vectors=self.as_passages(torch.from_numpy(found.vectors)).numpy())

    def encode_part_tokens(
        self, inputs: Sequence[Sequence[str | np.ndarray]], codes: Codes = "soft", side: Side = "passage"
    ) -> list[Tensor]:
        """Encode the tokens of texts and speech in turn: unit rows ``(U, D)`` of each input.

        Args:
            inputs: the parts of each, as for ``encode_parts``.
            codes: of speech, as for ``encode``.
            side: what the inputs stand for.
        """
        coded = code_parts(lambda waveforms: self.code(self.recognise(waveforms), codes), inputs)
        vectors = interleaved_token_vectors(self.text_encoder, coded, side)
        return vectors if side == "question" else [self.as_passages(of_input) for of_input in vectors]

    @torch.inference_mode()
    def code(self, utterances: Sequence[LengthHypotheses], codes: Codes = "soft") -> list[CodedSpeech]:
        """Return the codes of recognised utterances, at least one: of each length hypothesis, or if "hard" the best."""
        kept = [hypotheses[:1] if codes == "hard" else hypotheses for hypotheses in utterances]
        padded, lengths = self._code_rows([hypothesis for hypotheses in kept for hypothesis in hypotheses], codes)
        rows = (row[:length] for row, length in zip(padded, lengths.tolist(), strict=True))
        texts = self.transcripts(utterances)
        return [
            CodedSpeech(text, [(h.probability, next(rows)) for h in hypotheses])
            for text, hypotheses in zip(texts, kept, strict=True)
        ]

    @torch.inference_mode()
    def embed(self, utterances: Sequence[LengthHypotheses], codes: Codes = "soft", kind: Side = "passage") -> Tensor:
        """Turn recognised utterances into unit vectors ``(B, E)`` on the CPU, through their codes.

        The text encoder's prompt for questions or passages, if it has one, is put before the codes.

        Raises:
            ValueError: "unquantised" codes are wanted of a model that was not trained with them.
        """
        if codes == "hard":
            return self._embed([hypotheses[0] for hypotheses in utterances], codes, kind)
        every = [hypothesis for hypotheses in utterances for hypothesis in hypotheses]
        vectors = self._embed(every, codes, kind)
        return weighted_means(vectors, [[h.probability for h in hypotheses] for hypotheses in utterances])

    @torch.inference_mode()
    def as_passages(self, vectors: Tensor) -> Tensor:
        """Project unit vectors of passages ``(B, E)``, speech or text; without a projection they stay as they are."""
        if self.passage_projection is None:
            return vectors
        return self.passage_projection(vectors.to(self.passage_projection.weight.device)).cpu()

    @torch.inference_mode()
    def token_vectors(self, hypothesis: LengthHypothesis, codes: Codes = "soft") -> Tensor:
        """Return the text encoder's vector of each token of a hypothesis, as of a passage: unit rows ``(U, E)``."""
        rows, lengths = self._code_rows([hypothesis], codes)
        return self.as_passages(self.text_encoder.token_vectors(rows, lengths, "passage")[0].float().cpu())

    def _embed(self, hypotheses: Sequence[LengthHypothesis], codes: Codes, kind: Side) -> Tensor:
        """Turn length hypotheses into unit vectors ``(H, E)``."""
        vectors = torch.empty(len(hypotheses), self.text_encoder.width)
        for batch in batches([len(h.tokens) + 1 for h in hypotheses]):
            rows, lengths = self._code_rows([hypotheses[i] for i in batch], codes)
            vectors[batch] = self.text_encoder(rows, lengths, kind).float().cpu()
        return vectors

    def _code_rows(self, hypotheses: Sequence[LengthHypothesis], codes: Codes) -> tuple[Tensor, Tensor]:
        """Return the pooled codes of hypotheses, ``(H, R, E)``, and their lengths ``(H,)``."""
        return pool_codes(*self._unpooled_rows(hypotheses, codes), self.code_pooling)

    def _unpooled_rows(self, hypotheses: Sequence[LengthHypothesis], codes: Codes) -> tuple[Tensor, Tensor]:
        if codes == "unquantised":
            return self._unquantised_rows(hypotheses)
        tokens, scores = [h.tokens for h in hypotheses], [torch.from_numpy(h.scores) for h in hypotheses]
        adaptor, k = self.paraformer.config.adaptor, 1
        if codes == "soft":
            k = adaptor.top_k
        return expand_codes(tokens, scores, self.vocabulary, self.text_encoder.word_embeddings, adaptor, k)

    def _unquantised_rows(self, hypotheses: Sequence[LengthHypothesis]) -> tuple[Tensor, Tensor]:
        """Return mixtures of the whole codebook, ``(H, U, E)``, and their lengths ``(H,)``: as in training."""
        kept = [h.states for h in hypotheses if h.states is not None]
        if len(kept) < len(hypotheses) or not isinstance(self.vocabulary, Vocabulary):
            raise ValueError("the model was not trained with mixtures of the whole codebook")
        states, lengths = pad(kept)
        embeddings, adaptor = self.text_encoder.word_embeddings, self.paraformer.config.adaptor
        scores = adaptor_input(self.paraformer.logits(states.to(embeddings.device)).float(), adaptor.input)
        codebook = embeddings[self.vocabulary.text_ids]
        return soft_codes(scores, codebook.float(), adaptor.gamma).to(codebook.dtype), lengths.to(embeddings.device)
