"""A model small enough to work out by hand, for indexing and search."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from clsr.audio import SAMPLE_RATE, write_waveform
from clsr.vocabulary import Word

WORDS = ["-", "the", "cat", "dog", "tea", "sea", "sun", "boat"]  # "-" is a second of silence
SpeakFunction = Callable[[Path, str], Path]


class WordTextEncoder:
    """Each word is an axis of its own."""

    def encode(self, texts: Sequence[str], kind: str, batch_size: int = 64) -> torch.Tensor:
        counts = [[text.split().count(word) for word in WORDS] for text in texts]
        return torch.nn.functional.normalize(torch.tensor(counts, dtype=torch.float32).view(-1, len(WORDS)), dim=1)


class SpeechEncoding(NamedTuple):
    vectors: np.ndarray
    transcripts: list[str]
    token_ids: list[list[int]]
    words: list[list[Word]]


class LoudnessSpeechEncoder:
    """Understands a language in which a word lasts a second and differs from others in loudness only."""

    def __init__(self) -> None:
        self.text_encoder = WordTextEncoder()
        self.batches: list[int] = []  # windows in each call

    def encode(self, waveforms: Sequence[np.ndarray], codes: str = "soft", side: str = "passage") -> SpeechEncoding:
        self.batches.append(len(waveforms))
        ids = [[self._word_id(second) for second in _seconds(waveform)] for waveform in waveforms]
        words = [[Word(WORDS[i], float(s), s + 1.0) for s, i in enumerate(row) if i] for row in ids]
        texts = [" ".join(word.text for word in row) for row in words]
        return SpeechEncoding(self.text_encoder.encode(texts, "passage").numpy(), texts, ids, words)

    @staticmethod
    def _word_id(second: np.ndarray) -> int:
        return round(float(second.mean()) * 2 * len(WORDS))


def _seconds(waveform: np.ndarray) -> list[np.ndarray]:
    return np.split(waveform, range(SAMPLE_RATE, len(waveform), SAMPLE_RATE))


@pytest.fixture
def speech_encoder() -> LoudnessSpeechEncoder:
    return LoudnessSpeechEncoder()


@pytest.fixture
def speak() -> SpeakFunction:
    """Write a recording that says a text."""

    def write(path: Path, text: str) -> Path:
        levels = [WORDS.index(word) / (2 * len(WORDS)) for word in text.split()]
        write_waveform(path, np.repeat(np.array(levels, dtype=np.float32), SAMPLE_RATE))
        return path.resolve()

    return write


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The model's checkpoint folder, whose fingerprint is the content of a file in it."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "weights").write_text("model-1")
    monkeypatch.setattr("clsr.checkpoint.fingerprint", lambda path: (Path(path) / "weights").read_text())
    monkeypatch.setattr("clsr.checkpoint.load_text_side", lambda path, precision=None: WordTextEncoder())
    return folder.resolve()
