import math

import numpy as np
import pytest

from clsr.errors import InputError
from clsr.metrics import recall
from clsr.metrics.recall import METRICS, SUCCESSES, bootstrap, invert, paired_difference, per_query, rank


def ids(letter: str, count: int) -> list[str]:
    return [f"{letter}{number:03d}" for number in range(count)]


def ranking(*candidates: str) -> list[tuple[str, float]]:
    """The candidates in this order, all with the same score."""
    return [(candidate, 0.5) for candidate in candidates]


def test_rank_by_hand() -> None:
    queries = np.array([[1, 0], [0.6, 0.8]], np.float32)
    candidates = np.array([[0, 1], [1, 0], [0.8, 0.6]], np.float32)
    rankings = rank(queries, candidates, ["x", "y"], ["a", "b", "c"], depth=2)
    assert [candidate for candidate, _ in rankings["x"]] == ["b", "c"]  # 0, 1, 0.8
    assert [candidate for candidate, _ in rankings["y"]] == ["c", "a"]  # 0.8, 0.6, 0.96
    assert [score for _, score in rankings["y"]] == pytest.approx([0.96, 0.8])


@pytest.mark.parametrize("count", [1, 2, 100])  # the matrix product sums in another order for each
def test_ties_go_to_the_smaller_id(count: int) -> None:
    generator = np.random.default_rng(0)
    queries, vectors = generator.normal(size=(count, 384)), generator.normal(size=(2, 384))
    names = [f"p{number}" for number in generator.permutation(301)]
    kinds = generator.integers(2, size=301)  # which of the two vectors each candidate has
    rankings = rank(queries.astype(np.float32), vectors.astype(np.float32)[kinds], ids("q", count), names, depth=301)
    for query, query_id in zip(queries, rankings):
        better = int(query @ vectors[1] > query @ vectors[0])
        expected = [sorted(name for name, kind in zip(names, kinds) if kind == which) for which in (better, 1 - better)]
        assert [candidate for candidate, _ in rankings[query_id]] == expected[0] + expected[1]
        assert len({score for _, score in rankings[query_id]}) == 2


def test_rank_agrees_with_sorting_every_score(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recall, "_BLOCK_SCORES", 100)  # 3 queries a block of 30 candidates: 4 blocks, the last short
    generator = np.random.default_rng(1)
    queries, candidates = generator.normal(size=(10, 4)), generator.normal(size=(30, 4))
    query_ids, candidate_ids = ids("q", 10), ids("p", 30)[::-1]
    rankings = rank(queries, candidates, query_ids, candidate_ids, depth=7)
    assert list(rankings) == query_ids
    for query, query_id in zip(queries, query_ids):
        scored = [(-sum(query * row), name) for row, name in zip(candidates, candidate_ids)]
        assert [name for name, _ in rankings[query_id]] == [name for _, name in sorted(scored)[:7]]


def test_rank_keeps_all_candidates_below_the_depth() -> None:
    assert len(rank(np.eye(2), np.eye(2), ["x", "y"], ["a", "b"])["x"]) == 2


@pytest.mark.parametrize(
    ("queries", "query_ids"),
    [
        (np.eye(2), ["x"]),
        (np.eye(2), ["x", "x"]),
        (np.ones(2), ["x", "y"]),
        (np.array([[1, np.nan], [0, 1]]), ["x", "y"]),
    ],
)
def test_rank_refuses_repeated_ids_and_missing_values(queries: np.ndarray, query_ids: list[str]) -> None:
    with pytest.raises(ValueError, match="query embeddings"):
        rank(queries, np.eye(2), query_ids, ["a", "b"])


def test_metrics_by_hand() -> None:
    others = [f"p{number}" for number in range(20)]
    rankings = {
        "third": ranking("p0", "p1", "gold", *others[2:]),
        "first": ranking("gold", *others),
        "eleventh": ranking(*others[:10], "gold", *others[10:]),
        "tenth": ranking(*others[:9], "gold", *others[9:]),
        "never": ranking(*others),
    }
    values = per_query(rankings, {query: {"gold": 1} for query in rankings})
    # in the order of the ids: eleventh, first, never, tenth, third
    assert values["recall@1"].tolist() == [0, 1, 0, 0, 0]
    assert values["recall@5"].tolist() == [0, 1, 0, 0, 1]
    assert values["recall@10"].tolist() == [0, 1, 0, 1, 1]
    assert values["mrr@10"].tolist() == pytest.approx([0, 1, 0, 1 / 10, 1 / 3])
    assert values["ndcg@5"].tolist() == pytest.approx([0, 1, 0, 0, 1 / 2])  # 1 / log2(1 + 3)


def test_several_relevant_candidates_share_the_recall() -> None:
    rankings = {"q": ranking("a", "x", "b", "y", "z", "c")}
    values = per_query(rankings, {"q": {"a": 1, "b": 2, "c": 1, "d": 1, "x": 0}})
    gains = [1 + 2 / math.log2(4), 2 + 1 / math.log2(3) + 1 / 2 + 1 / math.log2(5)]  # found, and the best order
    expected = [1 / 4, 2 / 4, 3 / 4, 1, gains[0] / gains[1]]
    assert [values[metric].item() for metric in METRICS] == pytest.approx(expected)
    assert [values[metric].item() for metric in SUCCESSES] == [1, 1, 1]


def test_success_is_a_hit_of_any() -> None:
    rankings = {"late": ranking("x", "y", "b", "a"), "never": ranking("x", "y")}
    values = per_query(rankings, {"late": {"a": 1, "b": 1}, "never": {"a": 1}})
    assert values["success@1"].tolist() == [0, 0]
    assert values["success@5"].tolist() == values["success@10"].tolist() == [1, 0]


def test_tied_scores_keep_the_order_of_the_ranking() -> None:
    values = per_query({"q": ranking("b", "a"), "r": ranking("a", "b")}, {"q": {"a": 1}, "r": {"b": 1}})
    assert values["recall@1"].tolist() == [0, 0]
    assert values["mrr@10"].tolist() == [0.5, 0.5]


def test_metrics_agree_with_counting() -> None:
    generator = np.random.default_rng(2)
    query_ids, candidate_ids = ids("q", 50), ids("p", 40)
    relevance = {query: {name: int(generator.random() < 0.1) for name in candidate_ids} for query in query_ids}
    for query in query_ids:
        relevance[query][candidate_ids[generator.integers(40)]] = 1
    rankings = rank(generator.normal(size=(50, 8)), generator.normal(size=(40, 8)), query_ids, candidate_ids, depth=12)
    values = per_query(rankings, relevance)
    for row, query in enumerate(query_ids):
        hits = [relevance[query][name] for name, _ in rankings[query]]
        for k in (1, 5, 10):
            assert values[f"success@{k}"][row] == (max(hits[:k]) > 0)
            assert values[f"recall@{k}"][row] == pytest.approx(sum(hits[:k]) / sum(relevance[query].values()))
        assert values["mrr@10"][row] == pytest.approx(next((1 / at for at, hit in enumerate(hits[:10], 1) if hit), 0))


def test_a_query_without_relevant_candidate_is_refused() -> None:
    rankings = {"q1": ranking("a"), "q2": ranking("a")}
    for relevance in ({"q1": {"a": 1}}, {"q1": {"a": 1}, "q2": {}}, {"q1": {"a": 1}, "q2": {"a": 0}}):
        with pytest.raises(InputError, match="nothing is relevant to 'q2'"):
            per_query(rankings, relevance)


def test_judged_queries_without_ranking_are_refused() -> None:
    with pytest.raises(InputError, match="'q2' is not in the set"):
        per_query({"q1": ranking("a")}, {"q1": {"a": 1}, "q2": {"a": 1}})


def test_inverting_twice_gives_relevance_back() -> None:
    relevance = {"q1": {"p1": 1, "p2": 3}, "q2": {"p1": 1}}
    assert invert(relevance) == {"p1": {"q1": 1, "q2": 1}, "p2": {"q1": 3}}
    assert invert(invert(relevance)) == relevance


def test_bootstrap_of_equal_values_has_no_width() -> None:
    assert bootstrap(np.full(9, 0.5)) == (0.5, 0.5, 0.5)


def test_bootstrap_has_the_width_of_the_normal_approximation() -> None:
    values = np.repeat([1.0, 0.0], [120, 280])
    interval = bootstrap(values)
    half = 1.96 * (0.3 * 0.7 / 400) ** 0.5  # 0.045
    assert interval.value == pytest.approx(0.3)
    assert interval.low == pytest.approx(0.3 - half, abs=0.006)
    assert interval.high == pytest.approx(0.3 + half, abs=0.006)
    assert bootstrap(values) == interval != bootstrap(values, seed=1)


def test_bootstrap_intervals_cover_the_truth_95_percent() -> None:
    generator = np.random.default_rng(3)
    covered = 0
    for trial in range(300):
        interval = bootstrap((generator.random(200) < 0.6).astype(float), resamples=200, seed=trial)
        covered += interval.low <= 0.6 <= interval.high
    assert 0.90 <= covered / 300 <= 0.98  # standard error 0.013


def test_pairing_shows_differences_that_single_intervals_hide() -> None:
    a = np.repeat([1.0, 0.0], [210, 190])
    b = np.repeat([1.0, 0.0], [200, 200])  # right on the same questions but ten
    assert bootstrap(a).low < bootstrap(b).high
    difference = paired_difference(a, b)
    assert difference.value == pytest.approx(0.025)
    assert difference.low > 0
    assert paired_difference(b, a) == pytest.approx((-difference.value, -difference.high, -difference.low))
    assert paired_difference(a, a) == (0, 0, 0)


def test_nothing_to_resample_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one query"):
        bootstrap(np.array([]))
    with pytest.raises(ValueError, match="not of the same queries"):
        paired_difference(np.ones(2), np.ones(3))
