import csv
import json
from pathlib import Path

import pytest

from clsr.metrics.word_errors import RATE_NAMES, WordErrors, error_unit, pool, split_units, word_errors
from clsr.vocabulary import normalise


def edit_distance(reference: list[str], hypothesis: list[str]) -> int:
    """Levenshtein's table, cell by cell."""
    above = list(range(len(hypothesis) + 1))
    for row, word in enumerate(reference, 1):
        here = [row]
        for column, recognised in enumerate(hypothesis, 1):
            here.append(min(above[column] + 1, here[-1] + 1, above[column - 1] + (word != recognised)))
        above = here
    return above[-1]


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        ("the cat sat", "the cat sat", (0, 3)),
        ("the cat sat", "the bat sat", (1, 3)),  # substitution
        ("the cat sat", "the sat", (1, 3)),  # deletion
        ("the cat sat", "the cat it sat", (1, 3)),  # insertion
        ("a b c d", "b c d e", (2, 4)),  # shifted by one: two errors, not four
        ("one", "two three four", (3, 1)),  # a rate of 300 %
        ("a b", "", (2, 2)),
        ("", "a b", (2, 0)),
        ("", "", (0, 0)),
        ("  a\tb\n", "a  b", (0, 2)),  # white space of any kind and length
        ("A b", "a b", (1, 2)),  # case counts
    ],
)
def test_word_errors_counted_by_hand(reference: str, hypothesis: str, expected: tuple[int, int]) -> None:
    assert word_errors(reference, hypothesis) == expected


def test_pooled_rate_weighs_words_not_utterances() -> None:
    counts = [word_errors("a", "b"), word_errors("a b c d e f g h i", "a b c d e f g h i")]
    assert pool(counts) == WordErrors(1, 10)
    assert pool(counts).value == 0.1  # the mean of the two rates would be 0.5


def test_insertions_against_an_empty_reference_count_when_pooled() -> None:
    assert pool([word_errors("", "uh uh"), word_errors("a b c d", "a b c d")]).value == 0.5


def test_no_reference_word_has_no_rate() -> None:
    with pytest.raises(ValueError, match="2 errors against no reference word"):
        _ = word_errors("", "a b").value
    with pytest.raises(ValueError, match="0 errors"):
        _ = pool([]).value


def test_real_recogniser_output(shared_data: Path) -> None:
    with (shared_data / "asr_pairs" / "librispeech_train-clean-100.tsv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    counts = [word_errors(row["reference"], row["hypothesis"]) for row in rows]
    assert pool(counts).value == pytest.approx(0.19, abs=0.005)  # its README says about 19 %
    for row, count in list(zip(rows, counts))[::50]:
        reference, hypothesis = row["reference"].split(), row["hypothesis"].split()
        assert count == (edit_distance(reference, hypothesis), len(reference)), row["utt_id"]


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        ("自從1990年代", "自从 1990 年代", (1, 5)),  # traditional and simplified are two characters
        ("他用iphone打電話", "他用 iphon 打電話", (1, 6)),  # a foreign word is one
        ("二〇〇八年", "二零〇八年", (1, 5)),
        ("梵語 的研究", "梵語的研究", (0, 5)),  # spaces say nothing between characters
        ("山", "", (1, 1)),
        ("𠮷野家", "吉野家", (1, 3)),  # beyond the first plane
        ("1990年", "1991 年", (1, 2)),
    ],
)
def test_characters_of_chinese_are_counted_one_each(reference: str, hypothesis: str, expected: tuple[int, int]) -> None:
    assert word_errors(reference, hypothesis) == word_errors(reference, hypothesis, "character") == expected


def test_words_alone_can_be_counted_too() -> None:
    assert word_errors("梵語 的研究", "梵語 研究", "word") == (1, 2)
    assert word_errors("a b", "a c", "word") == word_errors("a b", "a c", "character") == (1, 2)


@pytest.mark.parametrize(
    ("texts", "unit"),
    [
        (["自從1990年代"], "character"),
        (["他用 iphone"], "character"),  # two characters, one word
        (["用 windows xp"], "word"),
        (["山 mountain"], "word"),  # no more than half
        (["the cat", "山川河"], "character"),  # counted over all
        (["the big cat", "山川"], "word"),
        ([""], "word"),
    ],
)
def test_what_is_counted_is_read_off_the_texts(texts: list[str], unit: str) -> None:
    assert error_unit(iter(texts)) == unit
    assert RATE_NAMES[error_unit(texts)] == {"word": "WER", "character": "CER"}[unit]


def test_real_chinese_recogniser_output(shared_data: Path) -> None:
    rows = [json.loads(line) for line in (shared_data / "text_qa" / "odsqa_zh.jsonl").open(encoding="utf-8")]
    pairs = [(normalise(row["question_ref"]), normalise(row["question"])) for row in rows]
    assert error_unit(reference for reference, _ in pairs) == "character"
    counts = [word_errors(reference, recognised) for reference, recognised in pairs]
    assert 0.05 < pool(counts).value < 0.1857  # the publisher's rate of all questions; these are recognised best
    for (reference, recognised), count in list(zip(pairs, counts))[::40]:
        assert count == (edit_distance(split_units(reference), split_units(recognised)), len(split_units(reference)))
