"""A cache of text vectors: the words of transcripts recur from one search to the next. Internal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from clsr.text.encoder import SentenceEncoder
    from clsr.text.folder import Side

TEXTS = 20_000  # cached at most: 30 MB of vectors of 384 numbers


class PassageCache:
    """A text encoder that caches the vectors of passages; the oldest are dropped first.

    Encoding the words to mark takes nine tenths of a search, and most words recur in the next.

    Args:
        text_encoder: encodes what is not cached.
        texts: cached at most.
    """

    def __init__(self, text_encoder: SentenceEncoder, texts: int = TEXTS) -> None:
        self.text_encoder = text_encoder
        self.texts = texts
        self._vectors: dict[str, np.ndarray] = {}  # the oldest first

    def encode(self, texts: Sequence[str], kind: Side) -> np.ndarray:
        """Unit vectors ``(B, E)`` of texts; those of questions are not cached."""
        if kind != "passage" or not texts:
            return np.asarray(self.text_encoder.encode(list(texts), kind))
        known = {text: self._vectors.get(text) for text in texts}
        new = [text for text, vector in known.items() if vector is None]
        if new:
            vectors = dict(zip(new, np.asarray(self.text_encoder.encode(new, kind)), strict=True))
            known.update(vectors)
            self._vectors.update(
                {text: vector.copy() for text, vector in vectors.items()}
            )  # a view would keep the whole batch
            for text in list(self._vectors)[: max(0, len(self._vectors) - self.texts)]:
                self._vectors.pop(text, None)
        return np.stack([vector for vector in map(known.__getitem__, texts) if vector is not None])
