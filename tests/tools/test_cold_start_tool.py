"""Tests of tools/cold_start.py, on reports written by hand."""

import importlib.util
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "tools" / "cold_start.py"
REPORT = """import time: self [us] | cumulative | imported package
import time:      2000 |       2000 |   numpy.linalg
import time:      1500 |       3500 | numpy
hello
import time:       700 |        700 |   json.decoder
import time:       300 |       4500 | clsr.cli.main
"""


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("cold_start", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_own_times_are_summed_by_package(tool: ModuleType) -> None:
    assert tool.import_shares(REPORT) == {"numpy": 3.5, "Python": 0.7, "clsr": 0.3}


def test_small_packages_are_one_row(tool: ModuleType) -> None:
    table = tool.imports_table({"before": Counter(torch=990.0, numpy=80.0, re=4.0), "after": Counter(numpy=85.0)})
    assert table.splitlines() == [
        "| imports, ms | before | after |",
        "| --- | ---: | ---: |",
        "| torch | 990 | 0 |",
        "| numpy | 80 | 85 |",
        "| all others | 4 | 0 |",
        "| together | 1074 | 85 |",
    ]


def test_times_are_medians(tool: ModuleType) -> None:
    runs = [tool.Run(1.0, 0.5), tool.Run(3.0, 0.7), tool.Run(1.2, 0.6)]
    assert tool.times_table({"after": runs}).splitlines()[-1] == "| after | 1.20 | 1.00 to 3.00 | 0.60 |"
