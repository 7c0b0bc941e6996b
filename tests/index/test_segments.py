"""Inter-pausal segments and their vectors; each word is an axis, so a text's vector counts its words."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from clsr.index.segments import encode_segments, segment_cosines, split
from clsr.vocabulary import Word


def spoken(*parts: tuple[float, str]) -> list[Word]:
    """Words of half a second each, one after the other from the start of each part on."""
    return [Word(w, at + n / 2, at + (n + 1) / 2) for at, text in parts for n, w in enumerate(text.split())]


def texts(segments: Sequence[Sequence[Word]]) -> list[str]:
    return [" ".join(word.text for word in segment) for segment in segments]


def test_words_are_cut_at_pauses_of_200_ms() -> None:
    words = spoken((0.0, "the cat the dog"), (2.2, "the sea the sun"), (4.39, "the boat the tea"))
    assert texts(split(words)) == ["the cat the dog", "the sea the sun the boat the tea"]


def test_short_segment_joins_across_the_shorter_pause() -> None:
    left = spoken((0.0, "the cat the dog"), (2.3, "sea"), (3.3, "the boat the tea"))
    assert texts(split(left)) == ["the cat the dog sea", "the boat the tea"]
    right = spoken((0.0, "the cat the dog"), (2.5, "sea"), (3.2, "the boat the tea"))
    assert texts(split(right)) == ["the cat the dog", "sea the boat the tea"]


def test_short_segments_are_joined_until_all_are_long() -> None:
    words = spoken((0.0, "cat"), (0.8, "dog"), (1.6, "sea"), (5.0, "sun sun sun sun"), (8.0, "tea"))
    # the first three are joined to 2.1 s; the last is joined back, for there is nothing after it
    assert texts(split(words)) == ["cat dog sea", "sun sun sun sun tea"]
    assert texts(split(spoken((0.0, "cat"), (0.8, "dog")))) == ["cat dog"]
    assert split([]) == [[]]


def test_splitting_keeps_every_word_in_its_place() -> None:
    generator = np.random.default_rng(0)
    for _ in range(300):
        times = np.cumsum(generator.choice([0.0, 0.1, 0.3, 0.6, 2.5], 2 * generator.integers(1, 20))).tolist()
        words = [Word(str(i), *span) for i, span in enumerate(zip(times[::2], times[1::2], strict=True))]
        segments = split(words)
        assert [word for segment in segments for word in segment] == words
        assert len(segments) == 1 or all(s[-1].end_s - s[0].start_s >= 1.999 for s in segments)


def test_each_segment_of_a_window_has_a_vector(speech_encoder: Any) -> None:
    """Cosines with "sea sun": the cat the dog 0, the sea the sun 2 / sqrt(6 * 2), sea sea boat boat 2 / sqrt(8 * 2)."""
    words = spoken((1.0, "the cat the dog"), (4.0, "the sea the sun"), (6.3, "sea sea boat boat"))
    one, none, again = encode_segments(speech_encoder.text_encoder, [words, spoken((0.0, "sea sun")), words])
    assert one == again and none == b""
    question = speech_encoder.text_encoder.encode(["sea sun"], "question")[0].numpy()
    assert segment_cosines(one, question).tolist() == pytest.approx(
        [0, 2 / 12**0.5, 0.5], abs=0.004
    )  # 1/2 is 63.5 of 127


def test_windows_without_a_choice_need_no_encoder() -> None:
    assert encode_segments(None, [spoken((0.0, "sea sun")), []]) == [b"", b""]  # type: ignore[arg-type]
    assert encode_segments(None, []) == []  # type: ignore[arg-type]


class Given:
    """Gives vectors in the order of the texts asked for."""

    def __init__(self, vectors: np.ndarray) -> None:
        self.vectors = vectors

    def encode(self, texts: Sequence[str], kind: str) -> Any:
        import torch

        return torch.from_numpy(self.vectors[: len(texts)])


@pytest.mark.parametrize(("outlier", "tolerance"), [(1, 0.002), (20, 0.01)])
def test_byte_rounding_moves_a_cosine_by_little(outlier: int, tolerance: float) -> None:
    """A number much greater than the others leaves few steps for these."""
    generator = np.random.default_rng(0)
    vectors = generator.standard_normal((200, 384)).astype(np.float32)
    vectors[:, 0] *= outlier
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    words = spoken(*((10.0 * n, f"word{n} and three more") for n in range(200)))
    (packed,) = encode_segments(Given(vectors), [words])  # type: ignore[arg-type]
    assert len(packed) == 200 * 384
    for question in vectors[::10] + 0.02 * generator.standard_normal((20, 384)).astype(np.float32):
        question /= np.linalg.norm(question)
        assert segment_cosines(packed, question) == pytest.approx(vectors @ question, abs=tolerance)


def test_equal_segments_have_equal_cosines() -> None:
    generator = np.random.default_rng(1)
    rows = np.repeat(generator.integers(-127, 128, (1, 384), np.int8), 37, axis=0)
    question = generator.standard_normal(384).astype(np.float32)
    assert len(set(segment_cosines(rows.tobytes(), question).tolist())) == 1
