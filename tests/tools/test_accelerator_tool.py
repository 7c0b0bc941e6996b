"""The script for an accelerator: a trial on the processor, parts that are cut off, networks at few shapes."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch

spec = importlib.util.spec_from_file_location("accelerator", Path(__file__).parents[2] / "tools" / "accelerator.py")
assert spec is not None and spec.loader is not None
accelerator = importlib.util.module_from_spec(spec)
sys.modules["accelerator"] = accelerator
spec.loader.exec_module(accelerator)


@pytest.mark.slow
def test_all_parts_run_on_a_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [part for part in accelerator.LIMITS_S if part not in ("tests", "steps_cudnn")]
    monkeypatch.setattr(sys, "argv", ["accelerator.py", str(tmp_path), "--tiny", "--here", "--only", *parts])
    accelerator.main()
    found = json.loads((tmp_path / "results.json").read_text())["parts"]
    assert [part["part"] for part in found] == parts and all(part["rows"] for part in found)
    ways = {(row["variant"], row["way"]) for part in found for row in part["rows"] if "way" in row}
    assert len(ways) == 8  # four variants, to vectors and to an index
    assert "| memory block, products |" in (tmp_path / "results.md").read_text()


def test_a_part_cut_off_leaves_figures(tmp_path: Path) -> None:
    accelerator._write(tmp_path / "path.json", {"part": "path", "rows": [{"way": "memory to vectors", "seconds": 1.5}]})
    state = accelerator.run_within([sys.executable, "-c", "import time; time.sleep(60)"], 0.2, tmp_path / "path.log")
    accelerator.note(tmp_path, "path", state, 0.2)
    text = accelerator.write_tables(tmp_path)
    assert "**path**: cut off after 0.2 s, 0.2 s" in text and "| memory to vectors | 1.5 |" in text
    log = "tests/a.py::test_one PASSED [ 10%]\ntests/a.py::test_two[bf16-0.9] FAILED\ntests/a.py::test_three "
    assert accelerator.outcomes(log) == [
        {"test": "test_one", "outcome": "passed"}, {"test": "test_two[bf16-0.9]", "outcome": "failed"},
    ]  # fmt: skip


def test_bucketed_networks_see_few_shapes() -> None:
    seen = []

    def network(values: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        seen.append(tuple(values.shape))
        return values + 1, values[:, :, 0]

    for size in (3, 60, 65):
        values = torch.randn(2, size, 5)
        found, first = accelerator.bucketed(network)(values, torch.tensor([size, 2]))
        assert torch.equal(found, values + 1) and torch.equal(first, values[:, :, 0])
    assert seen == [(2, 64, 5), (2, 64, 5), (2, 128, 5)]
