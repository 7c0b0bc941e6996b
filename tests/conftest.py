"""Fixtures for all tests: the shared data where a machine has it, and a retrieval set of tones."""

from pathlib import Path

import numpy as np
import pytest

from clsr.audio import SAMPLE_RATE, write_waveform
from clsr.data.kaldi import Utterance, write_data_dir, write_table
from clsr.data.retrieval_set import write_relevance


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real recordings, texts and odd files, beside the repository; a test that needs them is skipped without."""
    path = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not path.is_dir():
        pytest.skip(f"no shared data at {path}")
    return path


@pytest.fixture
def tone_set(tmp_path: Path) -> Path:
    """Retrieval set of three passages that are tones of 220, 440 and 660 Hz, 0.5 s each, with a text question each."""
    folder = tmp_path / "tone_set"
    (folder / "passages").mkdir(parents=True)
    (folder / "questions").mkdir()
    words = {"a": "the low tone", "b": "the middle tone", "c": "the high tone"}
    passages = []
    for number, (id_, text) in enumerate(words.items(), start=1):
        path = folder / "passages" / f"{id_}.wav"
        write_waveform(path, 0.5 * np.sin(2 * np.pi * 220 * number * np.arange(SAMPLE_RATE // 2) / SAMPLE_RATE))
        passages.append(Utterance(f"p-{id_}", path, 0.0, 0.5, text, "tuning-fork"))
    write_data_dir(folder / "passages", passages)
    write_table(folder / "questions" / "text", ((f"q-{id_}", f"Where is {text}?") for id_, text in words.items()))
    write_relevance(folder / "qrels", {f"q-{id_}": {f"p-{id_}": 1} for id_ in words})
    return folder
