"""Timing: pieces of work in turn, operations counted by hand, memory that is used for a moment only."""

import subprocess
import sys

import pytest
import torch
from torch.nn import functional as F

from clsr.bench import timing
from clsr.bench.timing import count_flops, matmul_peak, time_in_turn
from clsr.models.precision import OnednnLinear


def test_pieces_of_work_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    clock = iter([0.0, 7.0, 7.0, 7.0, 0.0, 1.0, 1.0, 3.0, 3.0, 6.0, 6.0, 16.0])  # the first run of each does not count
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(clock))
    found = time_in_turn({"a": lambda: done.append("a"), "b": lambda: done.append("b")}, repeats=2)
    assert done == ["a", "b"] * 3
    assert found["a"] == (2.0, 1.0, 3.0)  # median, lowest, highest
    assert found["b"] == (6.0, 2.0, 10.0)


def test_operations_by_hand() -> None:
    left, right = torch.zeros(3, 5), torch.zeros(5, 7)
    assert count_flops(lambda: left @ right) == 2 * 3 * 5 * 7
    by_onednn = OnednnLinear(torch.nn.Linear(5, 7))
    with torch.no_grad():
        assert count_flops(lambda: by_onednn(torch.zeros(2, 3, 5))) == 2 * 2 * 3 * 5 * 7
    heads = torch.zeros(2, 4, 9, 8)  # batch, heads, places, width: two products of each head
    assert count_flops(lambda: F.scaled_dot_product_attention(heads, heads, heads)) == 2 * 4 * 2 * (2 * 9 * 9 * 8)


def test_a_short_piece_has_a_lead(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    clock = iter([0.0, 1.0, 0.0, 5.0] * 3)  # "a" takes one second, "b" five
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(clock))
    found = time_in_turn({"a": lambda: done.append("a"), "b": lambda: done.append("b")}, repeats=2, lead_s=4.0)
    assert "".join(done) == "ab" + "aab" + "aab"
    assert (found["a"].median, found["b"].median) == (1.0, 5.0)


# In a process of its own, whose heap has no free memory yet that a new tensor could lie in.
MEMORY = """
import torch
from clsr.bench.timing import peak_memory_mb
print(peak_memory_mb(lambda: None))
print(peak_memory_mb(lambda: torch.ones(25_000_000).sum()))  # 100 MB
print(peak_memory_mb(lambda: None))
"""


def test_memory_that_is_given_back_counts() -> None:
    run = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    idle, used, again = run.stdout.split()
    if idle == "None":
        pytest.skip("this system does not tell")
    assert 80 < float(used) - float(idle) < 150
    assert float(again) - float(idle) < 50


def test_the_peak_is_that_of_the_fastest_product(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "PEAK_SIZE", 64)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    clock = iter([0.0, 9.0, 0.0, 2.0, 0.0, 4.0])  # a run that does not count, and two that do
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(clock))
    assert matmul_peak(repeats=2) == 2 * 64**3 / 2.0
