"""Whisper's English normaliser, where its package is installed."""

import pytest

from clsr.metrics import english
from clsr.metrics.english import english_normaliser, is_english


def test_contractions_numbers_and_spellings_are_alike() -> None:
    pytest.importorskip("whisper_normalizer")
    normalise = english_normaliser()
    assert normalise is not None
    assert normalise("It's the colour of twenty-one mr. men") == "it is the color of 21 mister men"
    assert normalise("uh i won't") == "i will not"


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(english.extras, "missing", lambda modules: modules)
    english_normaliser.cache_clear()
    with caplog.at_level("INFO", logger="clsr"):
        assert english_normaliser() is None
    assert "whisper-normalizer is not installed: pip install 'clsr[baselines]'" in caplog.text
    english_normaliser.cache_clear()


def test_english_has_few_letters_beyond_ascii() -> None:
    assert is_english(["a café"] + ["the cat sat"] * 100)
    assert not is_english(["c'est un café très agréable"]) and not is_english(["設定 wi-fi 密碼"])
