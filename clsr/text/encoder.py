"""Texts to unit vectors in NumPy: BERT (arXiv:1810.04805) for the few words of a query, without PyTorch.

PyTorch takes a second and more to import, a query a hundredth to encode. The vectors are those of
`clsr.models.text_encoder.TextEncoder` in float32, to the rounding of sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from clsr.config import PAYS_FROM, Precision
from clsr.text.folder import Side, TextEncoderFolder, require_absolute_positions
from clsr.text.weights import MappedWeights

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

BATCH_TOKENS = 2048  # at once: some tens of MB of hidden activations


class TextTokens(NamedTuple):
    """The tokens of a text that its encoder reads, without opening, prompt and closing."""

    ids: list[int]
    spans: list[tuple[int, int]]  # of each, its first character in the text and the one after its last
    vectors: np.ndarray  # (U, D) float32, unit rows: each token in its context, as pooling takes it


class SentenceEncoder(Protocol):
    """What encodes queries, and the words to be marked in what they find."""

    fingerprint: str
    max_tokens: int
    dimensions: int | None

    @property
    def width(self) -> int:
        """Size of a vector, E."""
        ...

    def encode(self, texts: Sequence[str], kind: Side) -> ArrayLike:
        """Encode texts into unit vectors ``(B, E)``, an array or a tensor on the CPU."""
        ...

    def encode_tokens(self, texts: Sequence[str], kind: Side) -> list[TextTokens]:
        """Encode the tokens of each text."""
        ...

    def surplus(self, text: str, kind: Side) -> int:
        """Return how many tokens at the end of a text do not count, since the encoder takes no longer input."""
        ...


class NumpyTextEncoder:
    """A frozen BERT with exact GELU, its pooling and its linear maps, for inference on the CPU in float32.

    Texts are not padded: tokens of all texts are rows of one matrix, and attention takes texts of one length together.

    Args:
        folder: of the text encoder.

    Raises:
        InputError: the folder is damaged.
    """

    def __init__(self, folder: TextEncoderFolder) -> None:
        self.folder = folder
        self.fingerprint = folder.fingerprint
        self.tokenizer = folder.tokenizer
        try:
            self._bert = _Bert(folder)
            self._maps = [_Linear.read(MappedWeights(folder.map_weights(one)), "linear") for one in folder.maps]
        except (ValueError, KeyError, TypeError, OSError, StopIteration) as error:
            raise folder.unreadable(error) from error
        ids = self.tokenizer.encode("").ids
        self.opening, self.closing = ids[:1], ids[1:]
        self.max_tokens = self._bert.max_positions - len(ids)
        self.dimensions: int | None = None  # first numbers of a vector that are kept; None keeps all

    @property
    def width(self) -> int:
        """Size of a vector, E."""
        whole = self.folder.maps[-1].out_features if self.folder.maps else self._bert.width
        return whole if self.dimensions is None else self.dimensions

    def token_ids(self, text: str) -> list[int]:
        """Return the ids of a text, without opening and closing tokens."""
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def surplus(self, text: str, kind: Side) -> int:
        """Return how many tokens at the end of a text do not count, since the encoder takes no longer input."""
        return max(0, len(self.token_ids(self.folder.prompts.get(kind, "") + text)) - self.max_tokens)

    def encode(self, texts: Sequence[str], kind: Side = "passage") -> np.ndarray:
        """Encode texts of any length into unit vectors ``(B, E)``, float32, in the order given."""
        prompt = self.folder.prompts.get(kind, "")
        rows = [[*self.opening, *self.token_ids(prompt + text)[: self.max_tokens], *self.closing] for text in texts]
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        vectors = np.empty((len(rows), self.width), np.float32)
        start = 0
        while start < len(order):
            end, tokens = start, 0
            while end < len(order) and (end == start or tokens + len(rows[order[end]]) <= BATCH_TOKENS):
                tokens, end = tokens + len(rows[order[end]]), end + 1
            vectors[order[start:end]] = self._encode_sorted([rows[i] for i in order[start:end]])
            start = end
        return vectors

    def encode_tokens(self, texts: Sequence[str], kind: Side = "passage") -> list[TextTokens]:
        """Encode the tokens of each text; those past the longest input are left out."""
        opening = [*self.opening, *self.token_ids(self.folder.prompts.get(kind, ""))]
        return [self._encode_tokens(text, opening) for text in texts]

    def _encode_tokens(self, text: str, opening: Sequence[int]) -> TextTokens:
        encoding = self.tokenizer.encode(text, add_special_tokens=False)
        count = min(len(encoding.ids), self.max_tokens + len(self.opening) - len(opening))
        row = np.asarray([*opening, *encoding.ids[:count], *self.closing])
        vectors = self._bert(row, [(len(row), 1)])[len(opening) : len(opening) + count]
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12)
        return TextTokens(encoding.ids[:count], encoding.offsets[:count], unit)

    def _encode_sorted(self, rows: Sequence[Sequence[int]]) -> np.ndarray:
        """Unit vectors of rows of ids, the shortest first."""
        lengths = [(length, len(list(alike))) for length, alike in groupby(map(len, rows))]
        tokens = self._bert(np.concatenate([np.asarray(row) for row in rows]), lengths)
        pooled = np.concatenate([self._pool(group) for group in _grouped(tokens, lengths)])
        for linear in self._maps:
            pooled = linear(pooled)
        pooled = pooled[:, : self.dimensions]
        return pooled / np.linalg.norm(pooled, axis=1, keepdims=True).clip(1e-12)

    def _pool(self, tokens: np.ndarray) -> np.ndarray:
        """One vector of each text, ``(B, D)``, of its token vectors ``(B, U, D)``."""
        if self.folder.pooling == "cls":
            return tokens[:, 0]
        return tokens.max(1) if self.folder.pooling == "max" else tokens.mean(1)


def load_query_encoder(folder: TextEncoderFolder, precision: Precision) -> NumpyTextEncoder | None:
    """Load a text encoder to encode queries without PyTorch; ``None`` where PyTorch is needed.

    It is needed for transformers other than BERT with exact GELU, for precisions other than float32, and for large
    ones in "auto", which goes by the hardware.

    Args:
        folder: of the text encoder.
        precision: numbers to compute in.

    Raises:
        InputError: the folder is damaged.
    """
    try:
        config = folder.config
        require_absolute_positions(config, folder.path)
        if (config["model_type"], config.get("hidden_act")) != ("bert", "gelu"):
            return None
        width, hidden = config["hidden_size"], config["intermediate_size"]
        small = 2 * width * (2 * width + hidden) * config["num_hidden_layers"] < PAYS_FROM
    except (KeyError, TypeError, AttributeError) as error:
        raise folder.unreadable(error) from error
    return NumpyTextEncoder(folder) if precision == "float32" or (precision == "auto" and small) else None


class _Linear(NamedTuple):
    weight: np.ndarray  # (out, in)
    bias: np.ndarray | None

    @classmethod
    def read(cls, weights: MappedWeights, name: str) -> _Linear:
        return cls(weights[f"{name}.weight"], weights.get(f"{name}.bias"))

    def __call__(self, values: np.ndarray) -> np.ndarray:
        mapped = values @ self.weight.T
        if self.bias is not None:
            mapped += self.bias
        return mapped


class _LayerNorm(NamedTuple):
    weight: np.ndarray
    bias: np.ndarray
    epsilon: float

    @classmethod
    def read(cls, weights: MappedWeights, name: str, epsilon: float) -> _LayerNorm:
        return cls(weights[f"{name}.weight"], weights[f"{name}.bias"], epsilon)

    def __call__(self, values: np.ndarray) -> np.ndarray:
        centred = values - values.mean(1, keepdims=True)
        centred /= np.sqrt(np.square(centred).mean(1, keepdims=True) + self.epsilon)
        centred *= self.weight
        centred += self.bias
        return centred


class _TextLayer:
    """A layer: attention between the tokens of each text, and a feed-forward network."""

    def __init__(self, weights: MappedWeights, name: str, heads: int, epsilon: float) -> None:
        attention = f"{name}.attention"
        self.heads = heads
        self.query, self.key, self.value = (
            _Linear.read(weights, f"{attention}.self.{part}") for part in ("query", "key", "value")
        )
        self.output = _Linear.read(weights, f"{attention}.output.dense")
        self.output_norm = _LayerNorm.read(weights, f"{attention}.output.LayerNorm", epsilon)
        self.inner = _Linear.read(weights, f"{name}.intermediate.dense")
        self.outer = _Linear.read(weights, f"{name}.output.dense")
        self.outer_norm = _LayerNorm.read(weights, f"{name}.output.LayerNorm", epsilon)

    def __call__(self, tokens: np.ndarray, lengths: Sequence[tuple[int, int]]) -> np.ndarray:
        """Map token vectors ``(T, D)`` of texts of these lengths to ``(T, D)``."""
        projected = [_grouped(part(tokens), lengths) for part in (self.query, self.key, self.value)]
        read = np.concatenate([self._attend(*group) for group in zip(*projected, strict=True)])
        tokens = self.output_norm(self.output(read) + tokens)
        return self.outer_norm(self.outer(gelu(self.inner(tokens))) + tokens)

    def _attend(self, queries: np.ndarray, keys: np.ndarray, values: np.ndarray) -> np.ndarray:
        """What the tokens of texts of one length, ``(B, U, D)``, read of each other: ``(B * U, D)``."""
        batch, length, width = queries.shape
        split = (batch, length, self.heads, width // self.heads)
        q, k, v = (part.reshape(split).transpose(0, 2, 1, 3) for part in (queries, keys, values))
        scores = q @ k.transpose(0, 1, 3, 2) / np.float32(np.sqrt(split[3]))
        np.exp(scores - scores.max(3, keepdims=True), out=scores)
        scores /= scores.sum(3, keepdims=True)
        return (scores @ v).transpose(0, 2, 1, 3).reshape(batch * length, width)


class _Bert:
    def __init__(self, folder: TextEncoderFolder) -> None:
        config, self.weights = folder.config, MappedWeights(folder.weights)
        # Some folders name the encoder within a larger model.
        self._words = next(name for name in self.weights if name.endswith("embeddings.word_embeddings.weight"))
        prefix = self._words.removesuffix("embeddings.word_embeddings.weight")
        self.max_positions: int = config["max_position_embeddings"]
        self.width: int = config["hidden_size"]
        epsilon = config["layer_norm_eps"]
        embeddings = f"{prefix}embeddings"
        self._places = self.weights[f"{embeddings}.position_embeddings.weight"]
        self._kind = self.weights[f"{embeddings}.token_type_embeddings.weight"][0]
        self._norm = _LayerNorm.read(self.weights, f"{embeddings}.LayerNorm", epsilon)
        self._layers = [
            _TextLayer(self.weights, f"{prefix}encoder.layer.{number}", config["num_attention_heads"], epsilon)
            for number in range(config["num_hidden_layers"])
        ]

    def __call__(self, ids: np.ndarray, lengths: Sequence[tuple[int, int]]) -> np.ndarray:
        """Map ids ``(T,)`` of texts, one after the other, to token vectors ``(T, D)``.

        Args:
            ids: opening and closing tokens included.
            lengths: of the texts in order: a length, and how many texts have it.
        """
        places = np.concatenate([np.tile(np.arange(length), count) for length, count in lengths])
        tokens = self._norm(self.weights.rows(self._words, ids) + self._kind + self._places[places])
        for layer in self._layers:
            tokens = layer(tokens, lengths)
        return tokens


def _grouped(rows: np.ndarray, lengths: Sequence[tuple[int, int]]) -> list[np.ndarray]:
    """Rows ``(T, D)`` as texts ``(B, U, D)``, one array for each length."""
    ends = np.cumsum([length * count for length, count in lengths])
    parts = np.split(rows, ends[:-1])
    return [part.reshape(count, length, -1) for part, (length, count) in zip(parts, lengths, strict=True)]


_ERF_P = (-2.72614225801306e-10, 2.77068142495902e-08, -2.10102402082508e-06, -5.69250639462346e-05,
          -7.34990630326855e-04, -2.95459980854025e-03, -1.60960333262415e-02)  # fmt: skip
_ERF_Q = (-1.45660718464996e-05, -2.13374055278905e-04, -1.68282697438203e-03, -7.37332916720468e-03,
          -1.42647390514189e-02)  # fmt: skip


def gelu(values: np.ndarray) -> np.ndarray:
    """Gaussian error linear units (arXiv:1606.08415), exact to float32: ``x * (1 + erf(x / sqrt(2))) / 2``.

    NumPy has no error function; this is its rational approximation in the float32 of Eigen and XLA, to 1e-6.

    Args:
        values: float32, of any shape.
    """
    x = np.clip(values * np.float32(np.sqrt(0.5)), -4, 4)
    square = x * x
    above, below = np.full_like(x, _ERF_P[0]), np.full_like(x, _ERF_Q[0])
    for total, coefficients in ((above, _ERF_P[1:]), (below, _ERF_Q[1:])):
        for coefficient in coefficients:
            total *= square
            total += np.float32(coefficient)
    above *= x
    above /= below
    above += 1
    above *= values
    above *= np.float32(0.5)
    return above
