"""Whisper's tokens to words; signs of made-up text."""

from pathlib import Path

import pytest
from tokenizers import ByteLevelBPETokenizer, Tokenizer

from clsr.errors import InputError
from clsr.systems.whisper_folder import load_tokenizer, repeats_itself, token_words
from clsr.vocabulary import Word


@pytest.fixture(scope="module")
def bytes_alone() -> Tokenizer:
    """Each byte is a token."""
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator([], 256 + 0, show_progress=False)
    return Tokenizer.from_str(tokenizer._tokenizer.to_str())


def words(tokenizer: Tokenizer, text: str) -> list[Word]:
    ids = tokenizer.encode(text).ids
    return token_words(tokenizer, ids, [(float(i), float(i + 1)) for i in range(len(ids))])


def test_words_last_from_first_to_last_token(bytes_alone: Tokenizer):
    assert words(bytes_alone, " So, far") == [Word("So,", 0.0, 4.0), Word("far", 4.0, 8.0)]


def test_han_characters_are_words(bytes_alone: Tokenizer):
    found = words(bytes_alone, " on 北京 é")  # three bytes a Han character, two of the accented letter
    assert found == [Word("on", 0.0, 3.0), Word("北", 3.0, 7.0), Word("京", 7.0, 10.0), Word("é", 10.0, 13.0)]


@pytest.mark.parametrize(
    ("text", "made_up"),
    [
        ("", False),
        ("so it goes and so it goes", False),
        ("no no no", False),
        ("no no no no", True),
        ("Thank you for it. Thank you for it. Thank you for it. thank you for it. Well.", True),
        ("the horse that the man sold to the boy was old, and the boy that bought it was young", False),
    ],
)
def test_repeated_phrases_are_made_up(text: str, made_up: bool):
    assert repeats_itself(text) == made_up


def test_tokenizers_of_other_models_are_refused(bytes_alone: Tokenizer, tmp_path: Path):
    with pytest.raises(InputError, match=r"tokenizer.json: missing: copy tokenizer.json of the released model"):
        load_tokenizer(tmp_path)
    bytes_alone.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(InputError, match=r"lacks <\|startoftranscript\|> or"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(InputError, match="not a readable tokenizer: copy the file again"):
        load_tokenizer(tmp_path)
