"""Tests of clsr/metrics/answers.py: values worked out by hand."""

import pytest

from clsr.metrics.answers import answer_words, exact_match, f1


def test_articles_punctuation_and_case_do_not_count() -> None:
    assert answer_words("The  U.S. can't; an apple, a theme (the 2nd)") == ["us", "cant", "apple", "theme", "2nd"]


@pytest.mark.parametrize(
    ("answer", "reference", "exact", "share"),
    [
        ("the old baker", "Old baker.", 1, 1),
        ("old", "the old baker", 0, 2 / 3),  # precision 1, recall 1/2
        ("it was the old baker", "the old baker", 0, 2 * 2 / (4 + 2)),
        ("baker old", "old baker", 0, 1),  # the order counts for the exact match alone
        ("tea tea tea", "tea", 0, 2 * 1 / (3 + 1)),  # a word said thrice is right once
        ("a horse", "some tea", 0, 0),
        ("", "tea", 0, 0),
        ("the", "a", 1, 1),  # nothing is left of either
    ],
)
def test_exact_match_and_f1(answer: str, reference: str, exact: int, share: float) -> None:
    assert exact_match(answer, reference) == exact
    assert f1(answer, reference) == pytest.approx(share)
