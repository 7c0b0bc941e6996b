"""The search against the sum over every alignment, and against cases worked by hand."""

import itertools
import math
from collections import defaultdict

import numpy as np
import pytest

from clsr.config import SearchConfig
from clsr.prefix_search import SMOOTHING, PrefixSearch

PIECES = ["[PAD]", "[UNK]", "Ġa", "Ġb", "c"]
BLANK, A, B, C = 0, 2, 3, 4
COUNTS = {"a": 3, "bc": 1, "b": 0}


def logs(*rows: dict[int, float]) -> tuple[np.ndarray, np.ndarray]:
    """Firings from the probabilities of their outputs, best first."""
    ordered = [sorted(row.items(), key=lambda item: -item[1]) for row in rows]
    return np.array([[i for i, _ in row] for row in ordered]), np.log([[p for _, p in row] for row in ordered])


def word_score(text: str, config: SearchConfig) -> float:
    """The score of all words of a text, from its definition."""
    total = sum(COUNTS.values()) + SMOOTHING * len(COUNTS)
    return sum(
        config.word_weight * math.log((COUNTS[word] + SMOOTHING) / total) if word in COUNTS else -config.unknown_penalty
        for word in text.split()
    )


@pytest.mark.parametrize("seed", range(8))
def test_it_sums_over_every_alignment(seed: int):
    config = SearchConfig(beam=1000, word_weight=0.7, unknown_penalty=2.5, blank_bonus=0.4)
    tokens, scores = logs(
        *(
            dict(zip((BLANK, A, B, C), p, strict=True))
            for p in np.random.default_rng(seed).dirichlet(np.full(4, 2.0), 4)
        )
    )
    sums: dict[tuple[int, ...], list[float]] = defaultdict(list)
    for outputs in itertools.product(range(4), repeat=4):
        chosen = [int(tokens[n, k]) for n, k in enumerate(outputs)]
        bonus = config.blank_bonus * chosen.count(BLANK)
        prefix = tuple(piece for piece, _ in itertools.groupby(chosen) if piece != BLANK)
        sums[prefix].append(sum(scores[n, k] for n, k in enumerate(outputs)) + bonus)
    expected = {}
    for prefix, values in sums.items():
        text = "".join(PIECES[piece].replace("Ġ", " ") for piece in prefix)
        expected[prefix] = np.logaddexp.reduce(values) + word_score(text, config)
    found = PrefixSearch(PIECES, COUNTS, config, "Ġ")(tokens, scores)
    best = sorted(expected, key=lambda prefix: -expected[prefix])[:3]
    assert [tuple(path.tokens[:, 0]) for path in found] == best
    np.testing.assert_allclose([path.score for path in found], [expected[prefix] for prefix in best], atol=1e-9)


def test_a_known_word_beats_a_likelier_unknown_one():
    tokens, scores = logs({B: 0.9, A: 0.05, C: 0.05}, {BLANK: 0.5, A: 0.3, C: 0.2})
    without = SearchConfig(word_weight=0, unknown_penalty=0, blank_bonus=0)
    assert PrefixSearch(PIECES, {}, without, "Ġ")(tokens, scores)[0].tokens[:, 0].tolist() == [B]
    guided = SearchConfig(word_weight=0, unknown_penalty=3, blank_bonus=0)
    (path, *_) = PrefixSearch(PIECES, {"bc": 1}, guided, "Ġ")(tokens, scores)
    assert path.tokens[:, 0].tolist() == [B, C]
    assert path.tokens[1].tolist() == [C, BLANK, A]  # the other outputs of the firing follow
    # A blank, and an output that is likelier by itself, are no alternatives to a piece that its word speaks for.
    assert path.scores[1].tolist() == [pytest.approx(math.log(0.2)), -math.inf, -math.inf]


def test_repeats_merge_unless_a_blank_lies_between():
    config = SearchConfig(word_weight=0, unknown_penalty=0, blank_bonus=0)
    search = PrefixSearch(PIECES, {}, config, "Ġ")
    sure = [{A: 0.9, BLANK: 0.1}, {A: 0.95, BLANK: 0.05}, {BLANK: 0.99, A: 0.01}, {A: 0.9, BLANK: 0.1}]
    path = search(*logs(*sure))[0]
    assert (path.tokens[:, 0].tolist(), path.spans) == ([A, A], [(0, 1), (3, 3)])
    assert path.scores[0, 0] == pytest.approx(math.log(0.95))  # of the likeliest firing
    assert search(*logs(*sure[:2]))[0].tokens[:, 0].tolist() == [A]


def test_silence_has_one_empty_path():
    search = PrefixSearch(PIECES, COUNTS, SearchConfig(), "Ġ")
    (path,) = search(np.empty((0, 3), int), np.empty((0, 3), np.float32))
    assert (path.tokens.shape, path.spans) == ((0, 3), [])
    best = search(*logs({BLANK: 0.98, A: 0.01, B: 0.01}))[0]
    assert len(best.tokens) == 0
