"""Lists of words: which words there are, and how often each is spoken."""

from collections import Counter
from pathlib import Path

from tokenizers import Tokenizer

from clsr.corpora.word_lists import whole_words, word_lists


def test_word_lists_fill_up_rare_words():
    made = list(word_lists({"a", "b", "c"}, Counter(a=5, b=1), 3, seed=0))
    assert Counter(" ".join(made).split()) == {"b": 2, "c": 3}
    assert list(word_lists({"a"}, Counter(a=3), 3, seed=0)) == []
    many = list(word_lists({"a", "b"}, Counter(), 10, seed=1))
    assert [len(text.split()) for text in many] == [12, 8]
    assert (
        many
        == list(word_lists({"a", "b"}, Counter(), 10, seed=1))
        != list(word_lists({"a", "b"}, Counter(), 10, seed=2))
    )


def test_a_whole_word_is_one_piece(tiny_bert: Path):
    words = whole_words(Tokenizer.from_file(str(tiny_bert / "tokenizer.json")))
    assert {"where", "is", "the", "red", "boat", "a"} <= set(words)
    assert not any(piece.startswith(("##", "[")) or piece == "'" for piece in words) and words == sorted(words)
