"""Tests of tools/join_chapter.py on tones, and of what it made: the recording of examples/."""

import csv
import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from clsr.audio.waveform import SAMPLE_RATE, duration_s, read_waveform, write_waveform
from clsr.corpora.long_recordings import read_long_form
from clsr.corpora.table import read_passages
from clsr.data.kaldi import Utterance, write_data_dir
from clsr.errors import InputError

ROOT = Path(__file__).parents[2]
RECORDING = ROOT / "examples" / "recording"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("join_chapter", ROOT / "tools" / "join_chapter.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Four utterances of a second, of which three belong to chapter 1-2."""
    utterances = []
    for id_, hertz in (("1-2-0000", 300), ("1-2-0001", 600), ("1-2-0002", 900), ("1-20-0000", 1200)):
        file = tmp_path / "audio" / f"{id_}.wav"
        file.parent.mkdir(exist_ok=True)
        write_waveform(file, np.sin(2 * np.pi * hertz * np.arange(SAMPLE_RATE) / SAMPLE_RATE).astype(np.float32) / 2)
        utterances.append(Utterance(id_, file, 0.0, 1.0, f"AT {hertz}", "1"))
    write_data_dir(tmp_path / "corpus", utterances)
    return tmp_path / "corpus"


def loudest_hertz(waveform: np.ndarray) -> float:
    return float(np.abs(np.fft.rfft(waveform)).argmax() * SAMPLE_RATE / len(waveform))


def test_utterances_lie_where_the_table_says(tool: ModuleType, corpus: Path, tmp_path: Path) -> None:
    tool.main([str(corpus), "1-2", str(tmp_path / "joined"), "--without", "1-2-0001"])
    rows = list(csv.DictReader((tmp_path / "joined.csv").open(encoding="utf-8")))
    assert [(row["id"], row["transcript"]) for row in rows] == [("1-2-0000", "at 300"), ("1-2-0002", "at 900")]
    waveform = read_waveform(tmp_path / "joined.opus")
    starts = [float(row["start_s"]) for row in rows]
    assert starts[0] == 0 and 1.2 <= starts[1] <= 1.8
    for start_s, hertz in zip(starts, (300, 900), strict=True):
        begin = round(start_s * SAMPLE_RATE)
        assert loudest_hertz(waveform[begin : begin + SAMPLE_RATE]) == pytest.approx(hertz, abs=3)


def test_absent_chapter_is_refused(tool: ModuleType, corpus: Path) -> None:
    with pytest.raises(InputError, match="has no utterance of 1-3"):
        tool.read_chapter(corpus, "1-3")


def test_recording_is_as_long_as_its_table() -> None:
    faults: list[str] = []
    passages = read_passages(RECORDING / "buccaneers.csv", faults.append)
    assert not faults and len(passages) == 87
    length_s = duration_s(RECORDING / "buccaneers.opus")
    assert 600 <= length_s <= 1500
    assert max(passage.utterance.end_s for passage in passages) == pytest.approx(length_s, abs=0.1)
    assert (RECORDING / "buccaneers.opus").stat().st_size <= 3_000_000


def test_questions_span_whole_utterances() -> None:
    rows = {row["id"]: row for row in csv.DictReader((RECORDING / "buccaneers.csv").open(encoding="utf-8"))}
    starts = {float(row["start_s"]) for row in rows.values()}
    questions = read_long_form(RECORDING)
    assert len(questions) == 5
    for question in questions:
        start_s, end_s = question.passage_span
        passage = rows[question.passage]
        assert start_s in starts and start_s <= float(passage["start_s"]) and end_s == float(passage["end_s"])
        assert question.recording == RECORDING / "buccaneers.opus"
