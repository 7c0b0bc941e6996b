"""Times, operations and memory of pieces of work, and the machine's own limit measured in the same run."""

from __future__ import annotations

import logging
import math
import os
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import torch

PEAK_SIZE = 2048  # of the square matrices whose product is the machine's limit
STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")

Run = Callable[[], object]


class Timing(NamedTuple):
    """Seconds of one piece of work, over several runs."""

    median: float
    low: float
    high: float


def time_in_turn(runs: Mapping[str, Run], repeats: int, warmups: int = 1, lead_s: float = 0.0) -> dict[str, Timing]:
    """Time pieces of work in turn, A B C A B C ..., so that a machine that slows down slows all of them down.

    Args:
        runs: pieces of work by name.
        repeats: runs of each that count, 1 or more.
        warmups: runs of each before, which do not count.
        lead_s: a piece that takes less is run once more, not to count, before each run that does: it would pay for
            what others leave behind, memory given back to the system and threads that spin on.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(-warmups, repeats):
        for name, run in runs.items():
            if repeat >= 0 and times[name] and times[name][-1] < lead_s:
                run()
            start_s = time.perf_counter()
            run()
            if torch.cuda.is_initialized():  # what was started on an accelerator is part of it
                torch.cuda.synchronize()
            times[name].append(time.perf_counter() - start_s)
    counted = {name: values[warmups:] for name, values in times.items()}
    return {name: Timing(statistics.median(values), min(values), max(values)) for name, values in counted.items()}


def matmul_peak(dtype: torch.dtype = torch.float32, device: str = "cpu", repeats: int = 5) -> float:
    """Operations a second of the best of some products of two square matrices: what no network can exceed by much."""
    size = PEAK_SIZE if device == "cpu" else 4 * PEAK_SIZE
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))

    def product() -> None:
        left @ right
        if device != "cpu":
            torch.cuda.synchronize()

    runs: dict[str, Run] = {"torch": product}
    if device == "cpu" and dtype == torch.float32 and torch.backends.mkldnn.is_available():
        runs["oneDNN"] = lambda: torch.ops.mkldnn._linear_pointwise(left, right, None, "none", [], "")
    with torch.no_grad():
        return 2 * size**3 / min(timing.low for timing in time_in_turn(runs, repeats).values())


def count_flops(run: Run) -> int:
    """Floating-point operations of the matrix products, convolutions and attentions in a piece of work."""
    from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

    def of_attention(query: torch.Size, key: torch.Size, value: torch.Size, *_: object, **__: object) -> int:
        return sdpa_flop_count(query, key, value)

    def of_map(values: torch.Size, weight: torch.Size, *_: object, **__: object) -> int:
        return 2 * math.prod(values) * weight[0]

    fused = {  # which the counter lacks
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: of_attention,
        torch.ops.mkldnn._linear_pointwise: of_map,
    }
    with FlopCounterMode(display=False, custom_mapping=fused) as counter:
        run()
    return counter.get_total_flops()


def peak_memory_mb(run: Run) -> float | None:
    """Peak memory of the process during a piece of work, in MB; ``None`` where the system does not report it."""
    with suppress(OSError):
        CLEAR.write_text("5")  # resets the peak to what is in use now
        run()
        line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e6
    return None


def threads() -> int:
    """Threads that matrix products run on here."""
    return min(torch.get_num_threads(), os.cpu_count() or 1)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep conversions from warning, of deprecations and of what tracing takes for constant, and from their logs."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
