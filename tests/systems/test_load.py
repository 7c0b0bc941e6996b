"""Baselines by their references: trained, measured and reported by commands."""

import json
from pathlib import Path

import pytest

from clsr.cli.main import main
from clsr.config import TrainingConfig
from clsr.settings import write_yaml


@pytest.fixture
def settings(tiny_settings: TrainingConfig, tmp_path: Path) -> Path:
    write_yaml(tmp_path / "tiny.yaml", tiny_settings)
    return tmp_path / "tiny.yaml"


@pytest.mark.slow
def test_train_evaluate_report(
    settings: Path, tone_corpus: Path, tone_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    for system in ("clap", "speechdpr", "whisper"):
        command = [f"train-{system}", str(settings), "--data", str(tone_corpus), "--output", str(tmp_path / system)]
        assert main([*command, "--optimizer.max_steps", "2", "--trainer.validate_every", "2"]) == 0
    models = [str(tone_model), str(tmp_path / "clap"), str(tmp_path / "speechdpr"), f"whisper:{tmp_path / 'whisper'}"]
    evaluate = ["evaluate", "--set", str(tone_corpus / "dev"), "--output", str(tmp_path / "report")]
    assert main([*evaluate, "--model", *models]) == 0
    rows = {row["name"]: row for row in json.loads((tmp_path / "report" / "report.json").read_text())["rows"]}
    own = ["text", "cascade", "cascade-8best", "clsr", "clsr-soft"]
    assert list(rows) == [*own, "clap", "speechdpr", "whisper-bge-scratch"]
    assert (
        rows["whisper-bge-scratch"]["wer"]["words"] == 19 and not rows["clap"]["wer"] and not rows["speechdpr"]["wer"]
    )
    alone = ["--model", f"whisper-noisy:{tmp_path / 'whisper'}", "--text-encoder", str(settings.parent / "none")]
    capsys.readouterr()
    assert main([*evaluate, *alone]) == 2
    assert "no such folder" in capsys.readouterr().err
    assert main(["report", str(tmp_path / "report")]) == 0
    assert "whisper-bge" in capsys.readouterr().out
    assert main([*evaluate, "--model", models[1]]) == 0  # a system by itself, which has no vocabulary
    assert json.loads((tmp_path / "report" / "report.json").read_text())["model"]["parameters"] > 0
    assert (
        main(["data", "transcribed", "--model", models[1], *evaluate[1:3], "--output", str(tmp_path / "transcribed")])
        == 2
    )
    assert "writes no transcripts: name a recogniser" in capsys.readouterr().err


@pytest.mark.parametrize("scheme", ["whisper", "whisper-noisy", "faster-whisper", "funasr", "clap", "other"])
def test_missing_systems_give_one_line(
    scheme: str, tone_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    command = ["evaluate", "--set", str(tone_corpus / "dev"), "--output", str(tmp_path / "report")]
    assert main([*command, "--model", f"{scheme}:nowhere"]) == 2
    line = capsys.readouterr().err
    assert "nowhere" in line and line.count("\n") == 1
    assert not (tmp_path / "report").exists()
