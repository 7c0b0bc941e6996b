"""Exact ranking by inner product, recall and reciprocal rank of each query, and their bootstrap intervals."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import ir_measures
import numpy as np

from clsr.errors import InputError

METRICS = ("recall@1", "recall@5", "recall@10", "mrr@10", "ndcg@5")
SUCCESSES = ("success@1", "success@5", "success@10")
"""What is measured beside them where a query has several relevant candidates; with one, it is the recall."""

Rankings = dict[str, list[tuple[str, float]]]
"""The candidates of each query with their scores, best first."""

Relevance = Mapping[str, Mapping[str, int]]
"""The grade of each judged candidate of each query (TREC qrels): relevant when above 0."""

_MEASURES = {
    **{f"recall@{k}": ir_measures.R @ k for k in (1, 5, 10)},
    "mrr@10": ir_measures.RR @ 10,
    "ndcg@5": ir_measures.nDCG @ 5,
    **{f"success@{k}": ir_measures.Success @ k for k in (1, 5, 10)},
}
_BLOCK_SCORES = 4_000_000  # scores in memory at once: 32 MB in double precision


class Interval(NamedTuple):
    """A mean over queries with the bounds of its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


def rank(
    queries: np.ndarray,
    candidates: np.ndarray,
    query_ids: Sequence[str],
    candidate_ids: Sequence[str],
    depth: int = 100,
) -> Rankings:
    """Rank all candidates for each query by inner product, without approximation.

    Scores are summed in double precision and rounded to float32, so that equal vectors tie wherever they stand.
    Ties go to the smaller candidate id.

    Args:
        queries: embeddings ``(Q, E)``.
        candidates: embeddings ``(P, E)``.
        query_ids: Q distinct ids.
        candidate_ids: P distinct ids.
        depth: candidates kept for each query, at least 1.

    Returns:
        For each query id the best ``min(depth, P)`` candidates as ``(id, score)``, best first.

    Raises:
        ValueError: rows and ids differ in number, an id occurs twice, or an embedding is not finite.
    """
    for name, embeddings, ids in (("query", queries, query_ids), ("candidate", candidates, candidate_ids)):
        if embeddings.ndim != 2 or len(embeddings) != len(ids) or len(set(ids)) != len(ids):
            raise ValueError(f"{name} embeddings {embeddings.shape} need one id a row, each once: {len(set(ids))} ids")
        if not np.isfinite(embeddings).all():
            raise ValueError(f"{name} embeddings hold values that are not finite")
    by_id = sorted(range(len(candidate_ids)), key=lambda column: candidate_ids[column])
    ordered_ids = [candidate_ids[column] for column in by_id]
    ordered = candidates[by_id].astype(np.float64)
    rankings: Rankings = {}
    block = max(1, _BLOCK_SCORES // max(1, len(ordered)))
    for start in range(0, len(query_ids), block):
        scores = (queries[start : start + block].astype(np.float64) @ ordered.T).astype(np.float32)
        best = np.argsort(-scores, axis=1, kind="stable")[:, :depth]  # stable: ties stay in the order of ids
        for query_id, columns, row in zip(query_ids[start : start + block], best, scores):
            rankings[query_id] = [(ordered_ids[column], float(row[column])) for column in columns]
    return rankings


def per_query(rankings: Rankings, relevance: Relevance) -> dict[str, np.ndarray]:
    """Measure each query's ranking, through ir-measures.

    ``recall@k`` is the share of a query's relevant candidates among its first ``k``: 0 or 1 where one is relevant,
    and below 1 at small ``k`` where there are many. ``success@k`` (hit) is 1 where any of them is. ``mrr@10`` is one
    over the rank of the first relevant candidate, 0 past rank 10. ``ndcg@5`` sums grade over ``log2(1 + rank)`` of the
    first five, divided by the largest such sum (Järvelin and Kekäläinen). The order is that of the ranking itself, ties
    included; scores are not looked at again.

    Args:
        rankings: at least 10 candidates deep where there are as many.
        relevance: grades; exactly the ranked queries have a grade above 0.

    Returns:
        For each metric its values ``(Q,)``, between 0 and 1, in the order of the sorted query ids.

    Raises:
        InputError: a ranked query has nothing relevant, or a query with something relevant was not ranked. Passages
            that answer no question are to be left out of the queries of the C-Q direction.
    """
    relevant = {query for query, grades in relevance.items() if any(grade > 0 for grade in grades.values())}
    if unjudged := sorted(rankings.keys() - relevant):
        raise InputError(f"qrels: nothing is relevant to {unjudged[0]!r}: add a line for it, or leave it out")
    if unranked := sorted(relevant - rankings.keys()):
        raise InputError(f"qrels: {unranked[0]!r} is not in the set: remove its lines, or add it to the set")
    query_ids = sorted(rankings)
    row_of = {query_id: row for row, query_id in enumerate(query_ids)}
    # The evaluators sort by score and break ties in another way: scores made of the ranks keep our order.
    run = {query: {candidate: -float(at) for at, (candidate, _) in enumerate(rankings[query])} for query in query_ids}
    grades = {query: dict(relevance[query]) for query in query_ids}
    values = {metric: np.zeros(len(query_ids)) for metric in _MEASURES}
    metric_of = {measure: metric for metric, measure in _MEASURES.items()}
    for result in ir_measures.iter_calc(list(_MEASURES.values()), grades, run):
        values[metric_of[result.measure]][row_of[result.query_id]] = result.value
    return values


def bootstrap(values: np.ndarray, resamples: int = 2000, seed: int = 0) -> Interval:
    """Estimate the mean of values over queries and how far another sample of queries could move it.

    The interval runs from the 2.5th to the 97.5th percentile of the means of resamples with replacement (Efron's
    percentile bootstrap). The draws depend on seed and Q alone, so systems measured on the same queries share them.
    Values that are all equal give an interval of width 0, which is too sure for few queries.

    Args:
        values: one value a query, ``(Q,)``.
        resamples: number of resamples, at least 1.
        seed: of the draws.

    Raises:
        ValueError: there are no values.
    """
    if values.ndim != 1 or len(values) == 0:
        raise ValueError(f"values of shape {values.shape}: need (Q,) with at least one query")
    generator = np.random.default_rng(seed)
    means = [values[generator.integers(len(values), size=len(values))].mean() for _ in range(resamples)]
    low, high = np.quantile(means, (0.025, 0.975))
    return Interval(float(values.mean()), float(low), float(high))


def paired_difference(a: np.ndarray, b: np.ndarray, resamples: int = 2000, seed: int = 0) -> Interval:
    """Estimate the mean of ``a - b`` where both were measured on the same queries, in the same order.

    Resampling the differences, not the two sides apart, takes out how hard the queries are.

    Args:
        a: one value a query, ``(Q,)``.
        b: the other system's values, ``(Q,)``.
        resamples: number of resamples, at least 1.
        seed: of the draws.

    Raises:
        ValueError: the shapes differ, or there are no values.
    """
    if a.shape != b.shape:
        raise ValueError(f"values of {a.shape} and {b.shape} are not of the same queries")
    return bootstrap(a - b, resamples, seed)


def invert(relevance: Relevance) -> dict[str, dict[str, int]]:
    """Turn question-to-passage relevance into passage-to-question relevance; grades of 0 are dropped.

    >>> invert({"q1": {"p1": 1}, "q2": {"p1": 2, "p2": 0}})
    {'p1': {'q1': 1, 'q2': 2}}
    """
    inverted: dict[str, dict[str, int]] = {}
    for query, grades in relevance.items():
        for candidate, grade in grades.items():
            if grade > 0:
                inverted.setdefault(candidate, {})[query] = grade
    return inverted
