"""Speech to unit vectors: recogniser, adaptor and text encoder in a row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from clsr.models.adaptor import PassageMap, best_codes
from clsr.models.paraformer import Paraformer
from clsr.models.recogniser import Reading, Recogniser, Recognition, batches
from clsr.models.text_encoder import TextEncoder
from clsr.padding import pad
from clsr.vocabulary import Vocabulary, Word

Codes = Literal["soft", "hard"]


class SpeechEncoding(NamedTuple):
    """Speech as vectors, and what was heard in it."""

    vectors: np.ndarray  # (B, E) float32, unit rows
    transcripts: list[str]
    token_ids: list[list[int]]  # of the text encoder
    words: list[list[Word]]


class SpeechEncoder(Recogniser):
    """CLSR: speech in, vectors in the space of a text encoder out, transcripts with times on the way.

    Args:
        paraformer: the recogniser.
        text_encoder: the frozen text encoder.
        vocabulary: the recogniser's output layer in the text encoder's pieces.
        passage_map: what joint training learnt to do with the vectors of passages, if anything.
    """

    text_ids: Tensor  # (V,), the text encoder's id of each output

    def __init__(self, paraformer: Paraformer, text_encoder: TextEncoder, vocabulary: Vocabulary,
                 passage_map: PassageMap | None = None):  # fmt: skip
        super().__init__(paraformer, vocabulary)
        self.text_encoder = text_encoder
        self.vocabulary: Vocabulary = vocabulary
        self.passage_map = passage_map
        self.register_buffer("text_ids", torch.tensor(vocabulary.text_ids), persistent=False)

    def encode(
        self, waveforms: Sequence[np.ndarray], codes: Codes = "soft", side: Literal["passage", "question"] = "passage"
    ) -> SpeechEncoding:
        """Encode speech, 16 kHz waveforms ``(N_i,)``, into unit vectors; batch size and order change nothing.

        Args:
            waveforms: mono, float32.
            codes: "soft" mixes the rows of the best three tokens, and the vectors of the readings; "hard" takes
                the best of both (the paper's codes: the vector is then that of the transcript).
            side: passages go through the passage map, questions do not.
        """
        recognitions = self.recognise(waveforms)
        vectors = self.embed(recognitions, codes)
        return SpeechEncoding(
            (self.as_passages(vectors) if side == "passage" else vectors).numpy(),
            self.transcripts(recognitions),
            [[self.vocabulary.text_ids[i] for i in readings[0].best] for readings in recognitions],
            self.words(recognitions),
        )

    @torch.inference_mode()
    def embed(self, recognitions: Sequence[Recognition], codes: Codes = "soft") -> Tensor:
        """Turn recognitions into unit vectors ``(B, E)`` on the CPU, through hard or soft codes."""
        if codes == "hard":
            return self._embed([readings[0] for readings in recognitions], 1)
        vectors = self._embed([r for readings in recognitions for r in readings], self.paraformer.config.adaptor.top_k)
        return weighted_means(vectors, [[r.probability for r in readings] for readings in recognitions])

    @torch.inference_mode()
    def as_passages(self, vectors: Tensor) -> Tensor:
        """Put unit vectors ``(B, E)``, of speech or of text, where passages belong: through the passage map, if any."""
        if self.passage_map is None:
            return vectors
        return self.passage_map(vectors.to(self.passage_map.weight.device)).cpu()

    @torch.inference_mode()
    def token_vectors(self, reading: Reading, codes: Codes = "soft") -> Tensor:
        """Return the text encoder's vector of each token of a reading, where passages belong: unit rows ``(U, E)``."""
        rows, lengths = self._code_rows([reading], self.paraformer.config.adaptor.top_k if codes == "soft" else 1)
        return self.as_passages(self.text_encoder.token_vectors(rows, lengths)[0].float().cpu())

    def _embed(self, readings: Sequence[Reading], k: int) -> Tensor:
        """Turn readings into unit vectors ``(R, E)``."""
        vectors = torch.empty(len(readings), self.text_encoder.width)
        for batch in batches([len(r.tokens) + 1 for r in readings]):
            rows, lengths = self._code_rows([readings[i] for i in batch], k)
            vectors[batch] = self.text_encoder(rows, lengths).float().cpu()
        return vectors

    def _code_rows(self, readings: Sequence[Reading], k: int) -> tuple[Tensor, Tensor]:
        """Return codes ``(R, U, E)`` and lengths ``(R,)``: each token a mixture of the rows of its ``k`` best."""
        device = self.text_ids.device
        tokens, lengths = pad([torch.from_numpy(r.tokens[:, :k]) for r in readings])
        scores, _ = pad([torch.from_numpy(r.scores[:, :k]) for r in readings])
        ids = self.text_ids[tokens.to(device)]  # the text encoder's own: its matrix is not copied
        adaptor = self.paraformer.config.adaptor
        return best_codes(ids, scores.to(device), self.text_encoder.table, adaptor, k), lengths.to(device)


def weighted_means(vectors: Tensor, weights: Sequence[Sequence[float]]) -> Tensor:
    """Return the weighted mean of each group of successive vectors ``(R, E)``, as unit rows ``(B, E)``."""
    owner = torch.tensor([i for i, group in enumerate(weights) for _ in group], dtype=torch.long)
    weight = torch.tensor([w for group in weights for w in group])
    means = vectors.new_zeros(len(weights), vectors.shape[1]).index_add_(0, owner, vectors * weight[:, None])
    return nn.functional.normalize(means, dim=1)
