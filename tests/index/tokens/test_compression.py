"""Token vectors are projected, pooled and rounded, and little is lost."""

import json

import numpy as np
import pytest

from clsr.index.tokens.compression import WIDTH, Projection, clusters_of, pool, scales_of, to_bytes, unit_rows


def random_rows(count: int, width: int, seed: int = 0) -> np.ndarray:
    return unit_rows(np.random.default_rng(seed).standard_normal((count, width)).astype(np.float32))


def test_projection_keeps_what_lies_in_few_axes() -> None:
    """Vectors of a space of 100 dimensions in one of 300 keep all their inner products."""
    axes = np.linalg.qr(np.random.default_rng(1).standard_normal((300, 100)))[0].astype(np.float32)
    vectors = unit_rows(random_rows(400, 100) @ axes.T)
    projection = Projection.learn(vectors[:300], windows=3)
    assert projection.matrix.shape == (300, WIDTH)
    projected = projection.apply(vectors[300:])
    assert np.abs(projected @ projected.T - vectors[300:] @ vectors[300:].T).max() < 2e-3  # half precision


def test_short_vectors_are_not_projected() -> None:
    vectors = random_rows(5, 8)
    assert np.allclose(Projection.learn(vectors, 1).apply(vectors), vectors, atol=1e-6)


def test_projection_is_read_as_written_or_refused() -> None:
    projection = Projection.learn(random_rows(200, 160), windows=7)
    written = json.loads(json.dumps(projection.to_json()))
    read = Projection.from_json(written)
    assert (read.id, read.windows) == (projection.id, 7)
    assert np.array_equal(read.matrix, projection.matrix)
    with pytest.raises(ValueError, match="does not match"):
        Projection.from_json(written | {"id": "0" * 16})


def test_alike_tokens_share_a_cluster_wherever_they_are() -> None:
    a, b = np.eye(3, dtype=np.float32)[:2]
    clusters = clusters_of(np.stack([a, b, a, b]))
    assert clusters.tolist() in ([0, 1, 0, 1], [1, 0, 1, 0])
    pooled = pool(np.stack([a, b, a, b]), clusters)
    assert np.allclose(pooled[clusters], [a, b, a, b])


@pytest.mark.parametrize(("tokens", "left"), [(0, 0), (1, 1), (2, 1), (5, 3), (9, 5)])
def test_half_of_the_vectors_are_left(tokens: int, left: int) -> None:
    vectors = random_rows(tokens, 16)
    clusters = clusters_of(vectors)
    assert len(pool(vectors, clusters)) == left
    assert set(clusters.tolist()) == set(range(left))


def test_bytes_give_the_vectors_back() -> None:
    vectors = random_rows(50, 128)
    rows = np.frombuffer(to_bytes(vectors), np.int8).reshape(50, 128)
    back = rows * scales_of(rows)[:, None]
    assert np.allclose(np.linalg.norm(back, axis=1), 1, atol=1e-5)
    assert (back * vectors).sum(1).min() > 0.9995
