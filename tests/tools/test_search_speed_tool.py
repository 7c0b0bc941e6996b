"""Tests of tools/search_speed.py, on searches written by hand."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "tools" / "search_speed.py"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("search_speed", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["search_speed"] = module  # where its classes look for their annotations
    spec.loader.exec_module(module)
    return module


def test_table_compares_hits_with_exact_search(tool: ModuleType) -> None:
    exact = [tool.Search(10.0, 15.0, 100.0, ["a", "b"]), tool.Search(20.0, 30.0, 100.0, ["c", "d"])]
    found = [tool.Search(1.0, 2.0, 90.0, ["b", "a"]), tool.Search(3.0, 4.0, 90.0, ["c", "e"])]
    searches = {tool.Kind("after", "dense", True): exact, tool.Kind("after", "dense", False): found}
    assert tool.table(searches, "after").splitlines()[2:] == [
        "| dense | exact, in memory | after | 15.0 | 19.5 | 10.0 | 22.5 | 1.000 |",
        "| dense | approximate | after | 2.0 | 2.9 | 1.0 | 3.0 | 0.750 |",
    ]


@pytest.mark.slow
def test_tool_times_both_kinds_of_search(
    tool: ModuleType, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tool, "WIDTH", 64)
    given = [
        "--windows",
        "300",
        "--questions",
        "5",
        "--mode",
        "dense",
        "--approximate",
        "--folder",
        str(tmp_path / "i"),
    ]
    tool.main(given)
    lines = capsys.readouterr().out.splitlines()
    assert "recall@10 for windows 1.0" in lines[0] and lines[2] == "300 windows, 5 queries"
    assert [line.split("|")[2].strip() for line in lines[-2:]] == ["exact, in memory", "approximate"]
    assert all(line.endswith("| 1.000 |") for line in lines[-2:])
