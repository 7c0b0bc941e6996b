"""Token vectors -> fewer, shorter and coarser ones: a projection, clusters of two tokens, signed bytes. Internal."""

from __future__ import annotations

import base64
import hashlib
from typing import Any, NamedTuple

import numpy as np

WIDTH = 128  # of a stored vector at most: at full width an hour of speech takes more than a megabyte
POOLING = 2  # tokens of a cluster, on average
LARGEST = 127  # of a signed byte


class Projection(NamedTuple):
    """A linear map of unit vectors to unit vectors of at most ``WIDTH`` numbers."""

    matrix: np.ndarray  # (E, R) float32
    windows: int  # that it was learned from

    @classmethod
    def learn(cls, vectors: np.ndarray, windows: int) -> Projection:
        """The projection to the principal axes of token vectors, which keep the most of their inner products.

        The axes are the eigenvectors of ``V^T V`` with the greatest eigenvalues, where the rows of ``V`` are the
        vectors; the mean is not subtracted. Vectors that are short enough already are left as they are.

        Args:
            vectors: unit rows ``(N, E)``.
            windows: they are of.
        """
        width = vectors.shape[1]
        if width <= WIDTH:
            return cls(np.eye(width, dtype=np.float32), windows)
        _, axes = np.linalg.eigh(vectors.T @ vectors)  # by rising eigenvalue
        return cls(np.ascontiguousarray(axes[:, : -WIDTH - 1 : -1].astype(np.float16).astype(np.float32)), windows)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Projection:
        """Read what ``to_json`` has made.

        Raises:
            ValueError, KeyError, TypeError: it is damaged.
        """
        matrix = np.frombuffer(base64.b64decode(values["matrix"], validate=True), "<f2")
        projection = cls(matrix.astype(np.float32).reshape(-1, int(values["width"])), int(values["windows"]))
        if projection.id != values["id"]:
            raise ValueError("the projection does not match its id")
        return projection

    def to_json(self) -> dict[str, Any]:
        """The projection as an object of JSON."""
        matrix = base64.b64encode(self.matrix.astype("<f2").tobytes()).decode()
        return {"id": self.id, "windows": self.windows, "width": self.matrix.shape[1], "matrix": matrix}

    @property
    def id(self) -> str:
        """16 hexadecimal digits that stand for the matrix."""
        return hashlib.blake2b(self.matrix.astype("<f2").tobytes(), digest_size=8).hexdigest()

    def apply(self, vectors: np.ndarray) -> np.ndarray:
        """Map unit rows ``(U, E)`` to unit rows ``(U, R)``."""
        return unit_rows(vectors @ self.matrix)


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """Vectors ``(N, E)`` divided by their norms."""
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12)


def clusters_of(vectors: np.ndarray, pooling: int = POOLING) -> np.ndarray:
    """The cluster of each token, numbered from 0: hierarchical pooling (Clavie et al., arXiv:2409.14683).

    The two nearest clusters are joined, by Ward's rule, until one is left for every ``pooling`` tokens, rounded up. A
    cluster may hold tokens that lie apart, such as a word and its repetition.

    Args:
        vectors: of the tokens, ``(U, R)``.
        pooling: tokens of a cluster on average; 1 keeps every token by itself.

    Returns:
        ``(U,)``.
    """
    wanted = -(-len(vectors) // pooling)
    if wanted == len(vectors):
        return np.arange(len(vectors))
    from scipy.cluster.hierarchy import linkage

    owners = np.arange(len(vectors))  # scipy's own cut by number leaves fewer clusters where distances are equal
    for step, pair in enumerate(linkage(vectors, "ward")[: len(vectors) - wanted, :2]):
        owners[np.isin(owners, pair)] = len(vectors) + step
    return np.unique(owners, return_inverse=True)[1]


def pool(vectors: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """The mean vector of each cluster, as unit rows ``(C, R)``."""
    sums = np.zeros((int(clusters.max(initial=-1)) + 1, vectors.shape[1]), np.float32)
    np.add.at(sums, clusters, vectors)
    return unit_rows(sums)


def to_bytes(vectors: np.ndarray) -> bytes:
    """Unit rows ``(C, R)`` as signed bytes, row by row; the greatest number of a row becomes 127.

    The scale of a row is not stored: it is what gives the row a norm of 1 (``scales_of``).
    """
    greatest = np.abs(vectors).max(1, keepdims=True, initial=0).clip(1e-12)
    return np.rint(vectors * (LARGEST / greatest)).astype(np.int8).tobytes()


def scales_of(rows: np.ndarray) -> np.ndarray:
    """The factor of each row of signed bytes ``(C, R)`` that makes its norm 1: ``(C,)`` float32."""
    wide = rows.astype(np.float32)
    return (1 / np.sqrt(np.einsum("cr,cr->c", wide, wide)).clip(1e-12)).astype(np.float32)
