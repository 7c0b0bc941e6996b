"""Pauses of a waveform, and word times without them."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from clsr.audio.pauses import find_pauses, without_pauses
from clsr.audio.waveform import SAMPLE_RATE, read_waveform
from clsr.vocabulary import Word


def noise(seconds: float, level_db: float, seed: int = 0) -> np.ndarray:
    samples = np.random.default_rng(seed).standard_normal(round(seconds * SAMPLE_RATE))
    return (10 ** (level_db / 20) * samples).astype(np.float32)


def test_digital_silence_is_a_pause_to_the_frame() -> None:
    waveform = np.concatenate([noise(1.0, -20), np.zeros(8000), noise(2.0, -20), np.zeros(3200), noise(1.0, -20)])
    assert find_pauses(waveform.astype(np.float32)) == [pytest.approx((1.0, 1.5)), pytest.approx((3.5, 3.7))]


def test_a_short_closure_is_no_pause() -> None:
    assert find_pauses(np.concatenate([noise(1.0, -20), np.zeros(1600), noise(1.0, -20)])) == []


def test_a_noisy_room_has_pauses_too() -> None:
    """Speech at -20 dB in a room of -44 dB: nothing is 35 dB below speech; a quarter from -44 to -20 is at -38 dB."""
    waveform = noise(5.0, -44)
    waveform[SAMPLE_RATE : 4 * SAMPLE_RATE] += noise(3.0, -20, seed=1)
    assert find_pauses(waveform) == [pytest.approx((0.0, 1.0)), pytest.approx((4.0, 5.0))]


@pytest.mark.parametrize("waveform", [np.zeros(0), np.zeros(100), np.ones(16_000), np.zeros(16_000)])
def test_without_any_difference_there_is_no_pause(waveform: np.ndarray) -> None:
    assert find_pauses(waveform.astype(np.float32)) == []


def test_words_lose_what_is_silent_of_them() -> None:
    words = [Word("a", 0.0, 1.4), Word("b", 1.4, 1.6), Word("c", 1.6, 2.1), Word("d", 2.1, 5.0), Word("e", 5.0, 6.0)]
    assert without_pauses(words, [(1.0, 2.0), (3.0, 3.5)]) == [
        Word("a", 0.0, 1.0),
        Word("b", 1.0, 1.0),  # in the pause as a whole; its middle is as near to either end, and the first is taken
        Word("c", 2.0, 2.1),
        Word("d", 3.5, 5.0),  # 1.5 s after the pause, 0.9 s before it
        Word("e", 5.0, 6.0),
    ]


def test_order_and_words_stay() -> None:
    generator = np.random.default_rng(0)
    for _ in range(200):
        times = np.sort(generator.uniform(0, 20, 31)).tolist()
        words = [Word(str(i), *span) for i, span in enumerate(pairwise(times))]
        edges = np.sort(generator.uniform(0, 20, 8)).tolist()
        pauses = list(zip(edges[::2], edges[1::2], strict=True))
        shortened = without_pauses(words, pauses)
        assert [word.text for word in shortened] == [word.text for word in words]
        assert all(old.start_s - 8 <= new.start_s <= new.end_s for old, new in zip(words, shortened, strict=True))
        assert all(one.end_s <= other.start_s for one, other in pairwise(shortened))
        for word in shortened:
            assert not any(
                start < word.end_s and word.start_s < end for start, end in pauses if word.start_s < word.end_s
            )


def test_pauses_agree_with_an_aligner(shared_data: Path) -> None:
    """Every pause of five sentences of real speech lies, to 0.06 s, in silence that PocketSphinx marks, and the other
    way round for silences of 0.25 s and more but one, which has a breath in it."""
    folder, missed = shared_data / "speech" / "austen_en", 0
    for file in sorted((folder / "audio").glob("*.wav")):
        line = (folder / "align" / f"{file.stem}.json").read_text().splitlines()[0]
        silences = [(w["b"], w["b"] + w["d"]) for w in json.loads(line)["w"] if w["t"] == "<sil>"]
        pauses = find_pauses(read_waveform(file))
        for start_s, end_s in pauses:
            assert any(s - 0.06 <= start_s and end_s <= e + 0.06 for s, e in silences), (file.name, start_s, end_s)
        missed += sum(
            e - s >= 0.25 and not any(start_s < e and s < end_s for start_s, end_s in pauses) for s, e in silences
        )
    assert missed <= 1
