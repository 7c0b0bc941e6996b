"""Tests of recipes/template/local/prepare_data.py."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from clsr.audio.waveform import duration_s, read_waveform
from clsr.corpora.table import read_passages
from clsr.data.kaldi import refuse

SCRIPT = Path(__file__).resolve().parents[2] / "recipes" / "template" / "local" / "prepare_data.py"


def run(*arguments: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, SCRIPT, *map(str, arguments)], check=False, capture_output=True, text=True)


def write_rows(path: Path, *rows: tuple[str, str, str]) -> Path:
    path.write_text(
        "".join(json.dumps(dict(zip(("id", "title", "context"), r)) | {"question": "?"}) + "\n" for r in rows)
    )
    return path


def test_each_title_is_one_recording_with_times(tmp_path: Path):
    jsonl = write_rows(
        tmp_path / "rows.jsonl", ("a", "Tea", "Hot, green tea."), ("b", "Sea", "Salt."), ("c", "Tea", "Milk?")
    )
    assert run(jsonl, tmp_path / "out").returncode == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["Sea.wav", "Tea.wav", "table.csv"]
    with open(tmp_path / "out" / "table.csv", encoding="utf-8", newline="") as file:
        first, second, third = csv.DictReader(file)
    assert (first["id"], second["id"], third["id"]) == ("a", "c", "b")
    assert first["transcript"] == "Hot, green tea." and first["question"] == "?"
    assert first["speaker"] == second["speaker"] != third["speaker"]
    assert float(second["start_s"]) - float(first["end_s"]) == pytest.approx(0.5, abs=2e-3)  # silence between two
    passages = read_passages(tmp_path / "out" / "table.csv", refuse)
    assert abs(passages[1].utterance.end_s - duration_s(tmp_path / "out" / "Tea.wav")) < 0.001
    for passage in passages:
        utterance = passage.utterance
        assert read_waveform(utterance.recording, utterance.start_s, utterance.end_s).std() > 0.01  # somebody speaks
    assert not read_waveform(
        passages[0].utterance.recording, float(first["end_s"]) + 0.01, float(second["start_s"]) - 0.01
    ).any()


def test_a_line_that_is_no_row_is_named(tmp_path: Path):
    jsonl = write_rows(tmp_path / "rows.jsonl", ("a", "Tea", "Hot tea."))
    jsonl.write_text(jsonl.read_text() + '{"id": "b"}\n')
    result = run(jsonl, tmp_path / "out")
    assert result.returncode == 2 and f"{jsonl}:2: is no object" in result.stderr
    assert not (tmp_path / "out").exists()
    assert run(jsonl, tmp_path / "out", "--limit", 1).returncode == 0
    assert "no such file" in run(tmp_path / "none", tmp_path / "other").stderr
