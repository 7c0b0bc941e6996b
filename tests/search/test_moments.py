"""The best segment of a window, on words that are axes: a text's vector counts its words."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clsr.index.config import IndexConfig
from clsr.index.index import Index
from clsr.index.ranking import RecognisedWindow
from clsr.index.segments import encode_segments
from clsr.model import Model
from clsr.search.moments import best_matches, find_moments
from clsr.search.retriever import Retriever
from clsr.vocabulary import Word

Speak = Callable[[Path, str], Path]


def spoken(*parts: tuple[float, str]) -> list[Word]:
    """Words of half a second each, one after the other from the start of each part on."""
    return [Word(w, at + n / 2, at + (n + 1) / 2) for at, text in parts for n, w in enumerate(text.split())]


def window(speech_encoder: Any, words: list[Word], start_s: float = 0.0, end_s: float = 12.0) -> RecognisedWindow:
    (segments,) = encode_segments(speech_encoder.text_encoder, [words])
    return RecognisedWindow(start_s, end_s, " ".join(word.text for word in words), words, segments)


def vector(speech_encoder: Any, question: str) -> np.ndarray:
    return speech_encoder.text_encoder.encode([question], "question")[0].numpy()


def test_the_best_segment_is_the_moment(speech_encoder: Any) -> None:
    """Cosines with "sea sun": the cat the dog 0, the sea the sun 2 / sqrt(6 * 2), sea sea boat boat 2 / sqrt(8 * 2)."""
    words = spoken((1.0, "the cat the dog"), (4.0, "the sea the sun"), (6.3, "sea sea boat boat"))
    (moment,) = find_moments(
        speech_encoder.text_encoder, vector(speech_encoder, "sea sun"), [window(speech_encoder, words)]
    )
    assert moment.text == "the sea the sun"
    assert (moment.start_s, moment.end_s) == pytest.approx((3.75, 6.15))  # 0.25 s before; half of 0.3 s after
    assert moment.matches == (Word("sea", 4.5, 5.0), Word("sun", 5.5, 6.0))


def test_moment_stays_inside_and_first_tie_wins(speech_encoder: Any) -> None:
    words = spoken((10.1, "sea sun sea sun"), (13.0, "sun sea sun sea"))
    recognised = window(speech_encoder, words, 10.0, 15.1)
    (moment,) = find_moments(speech_encoder.text_encoder, vector(speech_encoder, "sea"), [recognised])
    assert (moment.start_s, moment.end_s) == pytest.approx((10.0, 12.35))
    (moment,) = find_moments(speech_encoder.text_encoder, vector(speech_encoder, "sun tea"), [recognised])
    assert moment.start_s == 10.0


def test_words_are_marked_in_the_moment_only(speech_encoder: Any) -> None:
    words = spoken((0.0, "tea cat the the"), (4.0, "sea sun tea boat"))
    (moment,) = find_moments(
        speech_encoder.text_encoder, vector(speech_encoder, "sea tea"), [window(speech_encoder, words)]
    )
    assert moment.matches == (Word("sea", 4.0, 4.5), Word("tea", 5.0, 5.5))


def test_window_without_known_words_is_whole_moment(speech_encoder: Any) -> None:
    recognised = RecognisedWindow(3.0, 9.0, "sea", [], b"")
    assert find_moments(speech_encoder.text_encoder, vector(speech_encoder, "sea"), [recognised]) == [
        (3.0, 9.0, "sea", ())
    ]
    assert find_moments(speech_encoder.text_encoder, vector(speech_encoder, "sea"), []) == []


def test_best_words_score_nearer_best_than_mean() -> None:
    words = [Word("a", 0, 1), Word("b", 1, 2), Word("c", 2, 3), Word("a", 3, 4)]
    assert best_matches(words, {"a": 0.9, "b": 0.6, "c": 0.0}) == (words[0], words[3])  # mean 0.5, halfway 0.7
    assert best_matches(words, {"a": 0.9, "b": 0.8, "c": 0.0}) == (words[0], words[1], words[3])  # halfway 0.73
    assert best_matches([], {}) == ()


def test_hit_is_tightened_to_speech_between_silences(
    speech_encoder: Any, model: Model, speak: Speak, tmp_path: Path
) -> None:
    path = speak(tmp_path / "a.wav", "cat dog the - sea the sun - - the boat tea")
    Index.create(tmp_path / "index", model, IndexConfig("12/12")).add([path])
    (hit,) = Retriever.open(tmp_path / "index").search("boat", mode="dense")
    assert (hit.window_start_s, hit.window_end_s) == (0.0, 12.0)
    assert (hit.start_s, hit.end_s, hit.text) == (8.75, 12.0, "the boat tea")
    assert hit.window_text == "cat dog the sea the sun the boat tea"
    assert hit.score == pytest.approx(1 / np.sqrt(15))  # of the window: the 3 times, six words once
