"""A cascade recognises each second of a recording once, whatever windows overlap."""

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest
from loudness import LoudnessSpeechEncoder

import clsr
from clsr.audio.waveform import SAMPLE_RATE
from clsr.index.config import IndexConfig
from clsr.index.index import Index
from clsr.models.recogniser import Recognition
from clsr.systems.cascade import CascadeEncoder

Speak = Callable[[Path, str], Path]


class LoudnessRecogniser:
    """Recognises the language of loudness; counts the seconds that it is given."""

    def __init__(self) -> None:
        self.heard = LoudnessSpeechEncoder()
        self.seconds = 0.0

    def transcribe(self, waveforms: Sequence[np.ndarray]) -> list[Recognition]:
        self.seconds += sum(map(len, waveforms)) / SAMPLE_RATE
        encoding = self.heard.encode(waveforms)
        return [
            Recognition(text, [], [], words, -0.1 if words else math.nan)
            for text, words in zip(encoding.transcripts, encoding.words, strict=True)
        ]

    def join(self, texts: Iterable[str]) -> str:
        return " ".join(texts)


@pytest.fixture
def recogniser(monkeypatch: pytest.MonkeyPatch) -> LoudnessRecogniser:
    monkeypatch.setattr("clsr.index.indexer.PIECE_S", 7.0)
    monkeypatch.setattr("clsr.audio.pieces.pieces", lambda w, longest_s: [
        (start, w[start : start + 4 * SAMPLE_RATE]) for start in range(0, len(w), 4 * SAMPLE_RATE)
    ])  # fmt: skip  # whole words
    return LoudnessRecogniser()


def test_overlapping_windows_share_a_recognition(
    recogniser: LoudnessRecogniser, model_folder: Path, speak: Speak, tmp_path: Path
):
    words = "the cat - dog tea sea sun - boat the dog cat sea tea".split()
    cascade = CascadeEncoder(recogniser, recogniser.heard.text_encoder)  # type: ignore[arg-type]
    model = clsr.Model(model_folder, recogniser=cascade)
    index = Index.create(tmp_path / "index", model, IndexConfig("2,6/3", batch_s=7.0))
    path = speak(tmp_path / "a.wav", " ".join(words))
    assert index.add([path])[0].status == "indexed"
    assert recogniser.seconds == len(words)
    rows = index.require_windows().search().limit(100).to_list()
    assert len(rows) == 13
    for row in rows:
        inside = words[round(row["start_s"] + 1e-6) : round(row["end_s"] + 1e-6)]
        if row["start_s"] == round(row["start_s"]):
            assert row["text"] == " ".join(word for word in inside if word != "-")
        for word in row["words"]:
            assert words[int(word["start_s"] + 1e-6)] == word["text"]
    assert not index.verify().damage
