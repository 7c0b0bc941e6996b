"""A cascade recognises each second of a recording once, whatever windows overlap; threads encode batches at once."""

import math
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from loudness import LoudnessSpeechEncoder

import clsr
from clsr.audio.waveform import SAMPLE_RATE
from clsr.index.config import IndexConfig
from clsr.index.index import Index
from clsr.models.recogniser import Recognition
from clsr.systems.cascade import CascadeEncoder
from clsr.threads import start_pool

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
            Recognition(text, [], [], words, -0.1 if words else math.nan, [])
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
    rows = index.tables.windows.search().limit(100).to_list()
    assert len(rows) == 13
    for row in rows:
        inside = words[round(row["start_s"] + 1e-6) : round(row["end_s"] + 1e-6)]
        if row["start_s"] == round(row["start_s"]):
            assert row["text"] == " ".join(word for word in inside if word != "-")
        for word in row["words"]:
            assert words[int(word["start_s"] + 1e-6)] == word["text"]
    assert not index.verify().damage


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_write_what_one_thread_writes(
    model_folder: Path, speak: Speak, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int
):
    monkeypatch.setattr("clsr.index.indexer._threads_for", lambda model: threads)
    together = threading.Barrier(threads)

    class Meeting(LoudnessSpeechEncoder):
        """Encodes a batch once all threads have one."""

        def encode(self, waveforms: Sequence[np.ndarray], *others: str):  # type: ignore[no-untyped-def, override]
            together.wait(20)
            return super().encode(waveforms, *others)

    encoder = Meeting()
    paths = [speak(tmp_path / f"{name}.wav", "cat dog tea " * 4) for name in "ab"]  # six batches
    model = clsr.Model(model_folder, recogniser=encoder)  # type: ignore[arg-type]
    index = Index.create(tmp_path / "index", model, IndexConfig("4/4", batch_s=4.0))
    assert [status.indexed_s for status in index.add(paths)] == [12.0, 12.0]
    rows = index.tables.windows.search().limit(100).to_list()
    assert sorted((row["recording"], row["start_s"], row["text"]) for row in rows) == [
        (str(path), start_s, text)
        for path in paths
        for start_s, text in ((0.0, "cat dog tea cat"), (4.0, "dog tea cat dog"), (8.0, "tea cat dog tea"))
    ]
    assert not index.verify().damage and encoder.batches == [1] * 6


def test_threads_share_the_processors_of_torch():
    torch.set_num_threads(4)
    try:
        with start_pool(2) as pool:
            assert pool.submit(torch.get_num_threads).result() == 2
        assert torch.get_num_threads() == 4
        assert ThreadPoolExecutor(1).submit(torch.get_num_threads).result() == 4  # a thread of later
    finally:
        torch.set_num_threads(1)
