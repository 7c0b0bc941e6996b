"""Text and token ids."""

from pathlib import Path

import pytest
from tokenizers import Tokenizer
from tokenizers.implementations import BertWordPieceTokenizer

from clsr.errors import InputError
from clsr.models.text_encoder import TextEncoder
from clsr.vocabulary import BLANK, UNKNOWN, Vocabulary, Word, normalise

PIECES = ["[UNK]", "[PAD]", "[CLS]", "[SEP]", "'", "play", "##ing", "##ed", "the", "cat", "s", "[", "]", "[unused0]"]


@pytest.fixture
def tokenizer() -> Tokenizer:
    return Tokenizer.from_str(BertWordPieceTokenizer({piece: i for i, piece in enumerate(PIECES)}).to_str())


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("Hello, World!", "hello world"),
        ("  two\tspaces \n", "two spaces"),
        ("It’s Rachel's café", "it's rachel's cafe"),
        ("'quoted' words'", "quoted words"),
        ("1,100 and 2,50", "1100 and 2 50"),  # only thousands have three digits
        ("1,234,567", "1234567"),
        ("well-known e.g. ½", "well known e g 1 2"),
        ("Zürich ŁÓDŹ ﬁne", "zurich łodz fine"),  # the bar of ł is no accent
        ("İstanbul", "istanbul"),
        ("語音，檢索。", "語音 檢索"),
        ("¿?…—", ""),
        ("", ""),
    ],
)
def test_normalise(text: str, normal: str):
    assert normalise(text) == normal
    assert normalise(normal) == normal


def test_of_texts_keeps_the_pieces_in_use_most_frequent_first(tokenizer: Tokenizer):
    vocabulary = Vocabulary.of_texts(["The cat, playing!", "the cat", "THE dog"], tokenizer)
    assert vocabulary.pieces == ["[PAD]", "[UNK]", "the", "cat", "##ing", "play"]
    assert vocabulary.text_ids == [1, 0, 8, 9, 6, 5]
    assert (vocabulary.pieces[BLANK], vocabulary.pieces[UNKNOWN]) == ("[PAD]", "[UNK]")


def test_texts_without_a_known_piece_are_refused(tokenizer: Tokenizer):
    with pytest.raises(InputError, match="no piece that the text encoder knows"):
        Vocabulary.of_texts(["dog", "?", ""], tokenizer)


def test_the_whole_vocabulary_leaves_out_what_text_cannot_hold(tokenizer: Tokenizer):
    expected = ["[PAD]", "[UNK]", "'", "play", "##ing", "##ed", "the", "cat", "s", "[", "]"]
    assert Vocabulary.whole(tokenizer).pieces == expected


def test_encode_normalises_and_marks_what_is_unknown(tokenizer: Tokenizer):
    vocabulary = Vocabulary.of_texts(["the cat playing"], tokenizer)
    index = vocabulary.pieces.index
    assert vocabulary.encode("The CAT-dog played.") == [
        index("the"), index("cat"), UNKNOWN, index("play"), UNKNOWN,
    ]  # fmt: skip
    assert vocabulary.encode("?!") == []


def test_words_join_pieces_and_apostrophes(tokenizer: Tokenizer):
    vocabulary = Vocabulary.whole(tokenizer)
    pieces = ["the", "play", "##ing", "cat", "'", "s"]
    indices = [vocabulary.pieces.index(piece) for piece in pieces]
    times = [(0.0, 0.3), (0.3, 0.5), (0.5, 0.9), (1.0, 1.25), (1.25, 1.5), (1.5, 2.0)]
    assert vocabulary.words(indices, times) == [
        Word("the", 0.0, 0.3),
        Word("playing", 0.3, 0.9),
        Word("cat's", 1.0, 2.0),
    ]
    assert vocabulary.decode(indices) == "the playing cat's"


def test_a_lost_beginning_makes_a_word_of_its_own(tokenizer: Tokenizer):
    vocabulary = Vocabulary.whole(tokenizer)
    continuation, apostrophe, cat = (vocabulary.pieces.index(piece) for piece in ("##ing", "'", "cat"))
    assert vocabulary.decode([continuation, cat]) == "ing cat"
    assert vocabulary.decode([apostrophe, cat]) == "' cat"
    assert vocabulary.decode([]) == ""


def test_text_survives_encoding_and_decoding(minilm: TextEncoder):
    text = "In 1,987 O'Brien's unbelievably café-like jukebox wasn't (quite) antidisestablishmentarian!"
    vocabulary = Vocabulary.whole(minilm.tokenizer)
    assert vocabulary.decode(vocabulary.encode(text)) == normalise(text)
    assert [vocabulary.text_ids[i] for i in vocabulary.encode(text)] == minilm.token_ids(normalise(text))


def test_a_real_vocabulary_is_read_back_whole(minilm: TextEncoder, tmp_path: Path):
    vocabulary = Vocabulary.whole(minilm.tokenizer)
    path = tmp_path / "vocabulary.txt"
    path.write_text(str(vocabulary), encoding="utf-8")
    again = Vocabulary.load(path, minilm.tokenizer)
    assert (again.pieces, again.text_ids) == (vocabulary.pieces, vocabulary.text_ids)
    assert len(again) == 30_522 - 994 - 3  # without [unused...], [CLS], [SEP], [MASK]


def test_another_text_encoder_is_noticed(tokenizer: Tokenizer, minilm: TextEncoder, tmp_path: Path):
    path = tmp_path / "vocabulary.txt"
    path.write_text(str(Vocabulary.of_texts(["the cat"], tokenizer)))
    with pytest.raises(InputError, match=r"vocabulary.txt:1: piece '\[PAD\]' has id 1 here and 0 in the text encoder"):
        Vocabulary.load(path, minilm.tokenizer)


def test_faults_of_vocabulary_files(tokenizer: Tokenizer, tmp_path: Path):
    path = tmp_path / "vocabulary.txt"
    with pytest.raises(InputError, match="vocabulary.txt: missing"):
        Vocabulary.load(path, tokenizer)
    path.write_text("[PAD]\t1\n[UNK]\t0\nthe\t8\nca")
    with pytest.raises(InputError, match="vocabulary.txt:4: expected a piece, a tab and its id, found 'ca'"):
        Vocabulary.load(path, tokenizer)
    path.write_text("the\t8\ncat\t9\n")
    with pytest.raises(InputError, match="starts with"):
        Vocabulary.load(path, tokenizer)
    with pytest.raises(InputError, match="does not know piece 'dog'"):
        Vocabulary(["[PAD]", "[UNK]", "dog"], tokenizer)
