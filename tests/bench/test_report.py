"""The benchmark as a command: the parts wanted are measured, written whole, and put into a page."""

import json
from pathlib import Path

import pytest
import torch

from clsr.bench import report
from clsr.bench.models import make_encoder
from clsr.bench.report import measure, page
from clsr.cli.main import main
from clsr.evaluation.typeset import BEGIN, END
from clsr.models.precision import lower

RESULT = {
    "hardware": "a processor", "threads": 2, "torch": "2.11.0", "commit": "abc", "full": False,
    "peaks": {"float32": 200e9, "int8": 1000e9},
    "encoding": [
        {
            "model": "full", "parameters": 330_000_000,
            "stages": {
                "float32": [{"stage": "encoder", "seconds": 2.0, "flops": 320e9}],
                "int8": [{"stage": "encoder", "seconds": 0.4, "flops": 320e9}],
            },
            "path": [
                {"precision": "int8", "audio_s": 60.0, "windows": "40/30", "seconds": 0.6, "real_time_factor": 0.01,
                 "peak_memory_mb": None}
            ],
            "baselines": [
                {
                    "window_s": 30.0, "count": 2,
                    "seconds": {
                        "clsr, float32": {"median": 2.0, "low": 1.9, "high": 2.2},
                        "clsr, int8": {"median": 0.5, "low": 0.4, "high": 0.6},
                        "whisper": {"median": 10.0, "low": 9.0, "high": 12.0},
                    },
                    "memory_mb": {"clsr, float32": 1.0, "clsr, int8": 2.0, "whisper": 3.0},
                    "not_run": {"export": "not run: pip install 'clsr[baselines]'"},
                    "descriptions": {"whisper": "random weights"},
                }
            ],
        }
    ],
}  # fmt: skip


def test_a_page_by_hand() -> None:
    lines = page(RESULT).splitlines()
    assert "GFLOP/s: float32 200, int8 1000." in lines[0] and "commit abc" in lines[0]
    assert "| encoder | 320.0 | 2.0000 | 80 % | 0.4000 | 80 % |" in lines  # 320 / 2.0 / 200 and 320 / 0.4 / 1000
    assert "| int8 | 60 | 40/30 | 0.60 | 0.01000 | – |" in lines
    assert "| whisper | 10.00 [9.00, 12.00] | 0.1667 | 5.00 | 20.00 | 3 |" in lines
    assert "| export | not run: pip install 'clsr[baselines]' | – | – | – | – |" in lines
    assert "- whisper: random weights" in lines


@pytest.mark.slow
def test_the_command_writes_a_checkpoint_into_a_page(
    tone_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "STAGE_SHAPE", (1.0, 2))
    monkeypatch.setattr(report, "PATH_S", {False: 12.0})
    into, output = tmp_path / "speed.md", tmp_path / "speed.json"
    into.write_text("before\n<!-- results: begin -->\n<!-- results: end -->\nafter\n")
    given = [
        "bench",
        "--model",
        str(tone_model),
        "--only",
        "stages",
        "path",
        "--into",
        str(into),
        "--output",
        str(output),
    ]
    assert main(given) == 0
    printed = capsys.readouterr().out.strip()
    assert into.read_text().startswith("before\n") and printed in into.read_text()
    result = json.loads(output.read_text())
    assert page(result) == printed
    (found,) = result["encoding"]
    assert found["model"] == str(tone_model) and {"stages", "path"} < set(found) and "baselines" not in found
    assert [path["windows"] for path in found["path"][:1]] == ["5/5"]
    assert set(found["stages"]) == set(result["peaks"]) >= {"float32", "int8"}


def test_only_requested_parts_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "measure_training", lambda repeats, size: {"repeats": repeats, "size": size})
    found = measure(parts=["training"])
    assert found["training"] == [{"repeats": 3, "size": "mini"}] and found["encoding"] == [] and "search" not in found


@pytest.mark.parametrize(
    ("device", "message"),
    [("meta", "--device meta: only path and shapes are timed there: give --only"), ("nonsense", "nonsense")],
)
def test_unusable_devices_are_refused(device: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--device", device, "--only", "shapes", "search"]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_what_was_measured_in_parts_is_one_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other, into = tmp_path / "one.json", tmp_path / "other.json", tmp_path / "speed.md"
    one.write_text(json.dumps(RESULT))
    other.write_text(json.dumps(RESULT | {"commit": "def", "encoding": []}))
    into.write_text(f"before\n{BEGIN}\n{END}\n")
    assert main(["bench", "--tables", str(one), str(other), "--into", str(into)]) == 0
    text = into.read_text()
    assert text.index("commit abc") < text.index("| encoder | 320.0") < text.index("commit def")
    assert capsys.readouterr().out.strip() in text
    other.write_text('{"peaks": {}}')
    assert main(["bench", "--tables", str(one), str(other)]) == 2
    assert f"{other}: is no measurement (KeyError('full'))" in capsys.readouterr().err


def test_weights_are_counted_however_they_are_laid_out(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = sum(weight.numel() for weight in make_encoder("mini").parameters())
    for held_back in (False, torch.backends.mkldnn.is_available()):
        monkeypatch.setattr("clsr.models.precision.mkl_holds_back", lambda held_back=held_back: held_back)
        assert report._parameters(lower(make_encoder("mini"), "float32")) == plain
