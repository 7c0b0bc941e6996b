"""Byte pairs of a release, and the text encoder's rows that they stand for, worked out by hand."""

from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models

from clsr.byte_pairs import BytePairVocabulary, read_tokenizer
from clsr.errors import InputError

PIECES = ["<|endoftext|>", "Ġred", "Ġred!", "Ġdog", "s", "Ġboat", "Ġreddog", "ER", "d", "o", "g", "Ġ"]
RED, DOG, S, BOAT, REDDOG, D = 2, 3, 4, 5, 6, 7  # output indices, in the release's order


@pytest.fixture
def vocabulary(tiny_bert: Path) -> BytePairVocabulary:
    release = Tokenizer(models.BPE({piece: i for i, piece in enumerate(PIECES)}, [], unk_token=None))
    return BytePairVocabulary(release, Tokenizer.from_file(str(tiny_bert / "tokenizer.json")))


def test_only_pieces_of_normalised_text_are_kept(vocabulary: BytePairVocabulary):
    assert vocabulary.pieces == ["[PAD]", "[UNK]", "Ġred", "Ġdog", "s", "Ġboat", "Ġreddog", "d", "o", "g"]
    assert vocabulary.release_ids == [0, 0, 1, 3, 4, 5, 6, 8, 9, 10]
    assert vocabulary.decode([RED, DOG, S]) == "red dogs"
    words = vocabulary.words([RED, DOG, S], [(0.0, 1.0), (1.0, 2.0), (2.0, 2.5)])
    assert [tuple(word) for word in words] == [("red", 0.0, 1.0), ("dogs", 1.0, 2.5)]


def test_words_become_rows(vocabulary: BytePairVocabulary):
    def ids(*pieces: str) -> list[int]:
        return [vocabulary.tokenizer.token_to_id(piece) for piece in pieces]

    assert vocabulary.text_token_ids([RED, DOG, S]) == ids("red", "dog", "##s")
    rows = vocabulary.code_rows(np.array([[RED, BOAT, REDDOG], [DOG, RED, S], [S, D, RED]]))
    # "red" may be "boat", of one row, but not "reddog", of four; "dogs", of two pieces, may be nothing else.
    assert rows.positions.tolist() == [0, 1, 1]
    assert rows.text_ids.tolist() == [[*ids("red", "boat"), -1], [*ids("dog"), -1, -1], [*ids("##s"), -1, -1]]
    long = vocabulary.code_rows(np.array([[REDDOG, RED]]))
    assert long.text_ids.tolist() == [[i, -1] for i in ids("red", "##d", "##o", "##g")]
    assert vocabulary.code_rows(np.empty((0, 3), int)).text_ids.shape == (0, 3)


def test_words_are_counted_and_kept(vocabulary: BytePairVocabulary, tmp_path: Path):
    vocabulary.count_words(["red dogs", "red élan"])
    counts = vocabulary.word_counts
    assert (counts["red"], counts["dogs"], counts["elan"]) == (2, 1, 1)
    assert counts["boat"] == 0 and "boat" in counts and "##s" not in counts  # one piece of the text encoder
    (tmp_path / "tokenizer.json").write_text(vocabulary.release.to_str())
    (tmp_path / "vocabulary.txt").write_text(str(vocabulary))
    assert not BytePairVocabulary.load(tmp_path, vocabulary.tokenizer).word_counts
    (tmp_path / "words.txt").write_text("".join(f"{word}\t{count}\n" for word, count in counts.items()))
    assert BytePairVocabulary.load(tmp_path, vocabulary.tokenizer).word_counts == counts
    (tmp_path / "words.txt").write_text("red\t2\ndog\n")
    with pytest.raises(InputError, match=r"words.txt:2: is no word with a tab and its count"):
        BytePairVocabulary.load(tmp_path, vocabulary.tokenizer)


def test_the_lines_say_the_release_ids(vocabulary: BytePairVocabulary, tiny_bert: Path, tmp_path: Path):
    (tmp_path / "tokenizer.json").write_text(vocabulary.release.to_str())
    (tmp_path / "vocabulary.txt").write_text(str(vocabulary))
    again = BytePairVocabulary.load(tmp_path, vocabulary.tokenizer)
    assert again.pieces == vocabulary.pieces and again.token_ids == vocabulary.release_ids
    (tmp_path / "vocabulary.txt").write_text("red\t1\n")
    with pytest.raises(InputError, match="not of tokenizer.json beside it"):
        BytePairVocabulary.load(tmp_path, vocabulary.tokenizer)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(InputError, match="damaged"):
        read_tokenizer(tmp_path / "tokenizer.json")
    with pytest.raises(InputError, match="no byte pairs that start a word"):
        BytePairVocabulary(vocabulary.tokenizer, vocabulary.tokenizer)
