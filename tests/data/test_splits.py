"""Splits: utterances, questions and the passages that answer them."""

from dataclasses import replace
from pathlib import Path

import pytest

from clsr.data.kaldi import write_table
from clsr.data.retrieval_set import write_relevance
from clsr.data.splits import Pair, Split, data_digest, read_split, require_pairs
from clsr.errors import InputError


def test_pairs_of_a_retrieval_set(tone_set: Path):
    split = read_split(tone_set)
    assert [utterance.id for utterance in split.utterances] == ["p-a", "p-b", "p-c"]
    assert split.pairs[1] == Pair("Where is the middle tone?", "the middle tone", 1)
    assert split.pairs_of == {"p-a": [0], "p-b": [1], "p-c": [2]}


def test_questions_and_passages_may_be_many_to_many(tone_set: Path):
    write_table(tone_set / "questions" / "text", [("q1", "Low?"), ("q2", "Low again?"), ("q3", "Other?")])
    write_relevance(tone_set / "qrels", {"q1": {"p-a": 1}, "q2": {"p-a": 1}, "q3": {"p-a": 0, "p-b": 1, "p-c": 2}})
    split = read_split(tone_set)
    assert split.pairs == [
        Pair("Low?", "the low tone", 0), Pair("Low again?", "the low tone", 0), Pair("Other?", "the middle tone", 2),
    ]  # fmt: skip
    assert split.pairs_of == {"p-a": [0, 1], "p-b": [2], "p-c": [2]}


def test_a_question_joins_the_groups_of_its_answers(tone_set: Path):
    write_table(
        tone_set / "questions" / "text", [("q1", "Low?"), ("q2", "Middle?"), ("q3", "Either?"), ("q4", "High?")]
    )
    relevance = {"q1": {"p-a": 1}, "q2": {"p-b": 1}, "q3": {"p-a": 1, "p-b": 1}, "q4": {"p-c": 1}}
    write_relevance(tone_set / "qrels", relevance)
    groups = [pair.group for pair in read_split(tone_set).pairs]
    assert groups[0] == groups[1] == groups[2] != groups[3]  # so p-b is no negative of q3, whose row is that of p-a


def test_a_plain_data_directory_has_no_pairs(tone_set: Path):
    split = read_split(tone_set / "passages")
    assert len(split.utterances) == 3 and not split.pairs and not split.pairs_of
    (tone_set / "passages" / "text").unlink()
    with pytest.raises(InputError, match="passages/text: missing"):
        read_split(tone_set / "passages")


def test_a_digest_is_of_texts_not_of_paths(tone_set: Path, tmp_path: Path):
    split = read_split(tone_set)
    moved = tone_set.rename(tmp_path / "elsewhere")
    assert data_digest(read_split(moved)) == data_digest(split)
    assert data_digest(replace(split, pairs=split.pairs[:2])) != data_digest(split)
    other = [replace(split.utterances[0], text="another"), *split.utterances[1:]]
    assert data_digest(replace(split, utterances=other)) != data_digest(split)
    assert data_digest(replace(split, pairs_of={**split.pairs_of, "p-a": [1], "p-b": [0]})) != data_digest(split)


def test_a_split_without_questions_is_named():
    paired, plain = Split([], [Pair("a", "b", 0)], {"p": [0]}), Split([], [], {})
    require_pairs((paired, paired), Path("data"))
    with pytest.raises(InputError, match="data/dev: no questions: this stage needs a retrieval set"):
        require_pairs((paired, plain), Path("data"))
