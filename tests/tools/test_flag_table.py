"""Flags of an index as a table by hand, and the recordings that they are measured on."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from clsr.audio.waveform import SAMPLE_RATE, read_waveform, write_waveform
from clsr.data.kaldi import Utterance, write_data_dir
from clsr.index.config import IndexConfig
from clsr.index.index import Index
from clsr.model import Model

TOOLS = Path(__file__).parents[2] / "tools"


def load_tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_table_counts_flags_by_folder(
    speech_encoder: Any, model: Model, speak: Callable[[Path, str], Path], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Confidences 0.9, 0.9 and 0.4 of English, 0.1 of French and none of silence, which counts as flagged."""
    speech_encoder.log_probabilities = {"cat": np.log(0.9), "dog": np.log(0.4), "tea": np.log(0.1)}
    said = {"en/a": "cat", "en/b": "cat cat", "en/c": "dog", "fr/a": "tea", "fr/b": "-"}
    for name, text in said.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        speak(tmp_path / f"{name}.wav", text)
    Index.create(tmp_path / "index", model, IndexConfig("4/3")).add([tmp_path / "en", tmp_path / "fr"])
    command = ["flag_table", "--index", str(tmp_path / "index"), "--understood", "en", "--threshold", "0.5"]
    monkeypatch.setattr(sys, "argv", command)
    load_tool("flag_table").main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == "| en | 3 | 0.40 | 0.90 | 0.90 | 1 |"
    assert lines[3] == "| fr | 2 | 0.00 | 0.05 | 0.10 | 2 |"
    assert "understood: 33.3 % flagged [6.1, 79.2] of 3" in lines
    assert "others: 100.0 % flagged [34.2, 100.0] of 2" in lines
    assert lines[-1] == "threshold 0.5: precision 66.7 %"


def test_recordings_last_about_a_minute(tmp_path: Path) -> None:
    """Seven utterances of 25 s are recordings of 75 s, 75 s and 25 s; another data directory of 19 s is none."""
    utterances = []
    for number in range(7):
        path = tmp_path / f"{number}.wav"
        write_waveform(path, np.full(25 * SAMPLE_RATE, number / 10, np.float32))
        utterances.append(Utterance(f"u{number}", path, 0.0, 25.0, "a", "s"))
    write_data_dir(tmp_path / "data", utterances)
    tool = load_tool("flag_recordings")
    found = [
        len(one) / SAMPLE_RATE for of_one in tool.waveforms_of(str(tmp_path / "data")) for one in tool.minutes(of_one)
    ]
    assert found == [75.0, 75.0, 25.0]
    assert list(tool.minutes([np.zeros(19 * SAMPLE_RATE)])) == []


def test_made_recordings_are_as_loud_as_each_other(tmp_path: Path) -> None:
    tool = load_tool("flag_recordings")
    music, again = (tool.music(np.random.default_rng(0)) for _ in range(2))
    assert np.array_equal(music, again) and len(music) == 60 * SAMPLE_RATE
    quiet, loud = np.sin(np.arange(16000) / 9), 5 * np.sin(np.arange(20000) / 7)
    both = tool.babble([quiet, loud])
    assert len(both) == 16000
    for waveform in (music, both):
        assert np.sqrt(np.mean(np.square(waveform))) == pytest.approx(0.1, abs=0.01) and abs(waveform).max() <= 1
    tool.write(tmp_path / "set", [both])
    assert len(read_waveform(tmp_path / "set" / "0000.wav")) == 16000
