"""Everything that is timed, in one run on one machine, and what it looks like as a page."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from clsr.bench.baselines import baselines
from clsr.bench.config import PARTS, Part
from clsr.bench.models import Size, make_encoder
from clsr.bench.search import measure as measure_search
from clsr.bench.search import table as search_table
from clsr.bench.stages import measure_path, measure_shapes, measure_stages, noise
from clsr.bench.timing import Run, matmul_peak, peak_memory_mb, time_in_turn
from clsr.bench.training import measure as measure_training
from clsr.bench.training import table as training_table
from clsr.checkpoint import current_commit, load_speech_encoder, require_device
from clsr.config import Precision
from clsr.errors import InputError
from clsr.evaluation.measure import hardware
from clsr.models.precision import Int8Linear, OnednnLinear, lower
from clsr.models.speech_encoder import SpeechEncoder

ENCODING: set[Part] = {"stages", "shapes", "path", "baselines"}
ANYWHERE: set[Part] = {"shapes", "path"}  # on an accelerator too
ACCELERATED: list[Precision] = ["float32", "bf16"]
SIZES: tuple[Size, ...] = ("mini", "full")
STAGE_SHAPE = (5.0, 12)  # seconds of a window, windows at once: a minute of audio
MOST_S = 480.0  # of audio at once
SHAPES = {
    False: ((5.0, 12), (40.0, 4)),
    True: tuple((s, n) for s in (5.0, 15.0, 30.0, 60.0) for n in (1, 8, 32) if s * n <= MOST_S),
}
LARGE_SHAPES = ((5.0, 1), (5.0, 192), (40.0, 24), (5.0, 960))  # for an accelerator
BASELINE_SHAPES = {False: ((5.0, 12), (30.0, 2)), True: ((5.0, 12), (30.0, 2), (60.0, 1))}
PATH_S = {False: 300.0, True: 900.0}  # of the recording whose whole way is timed
PATH_WINDOWS = ("5/5", "40/30")  # of five seconds side by side, and as clsr index cuts by itself
LEAD_S = 4.0  # below it a system runs twice in its turn, and the second time counts
LENGTH_MARGIN = 1  # length hypotheses below and above the announced length, by default
SEARCHES = {False: (20_000,), True: (90_000, 1_000_000)}
TRAININGS = {False: ("mini",), True: ("mini", "middle")}  # sizes of recognisers


def measure(
    full: bool = False, parts: Iterable[Part] = PARTS, model: Path | None = None, device: str = "cpu"
) -> dict[str, Any]:
    """Time the parts wanted.

    Args:
        full: all shapes and sizes, in an hour or so, where minutes are enough for the others.
        parts: what to time; empty for all.
        model: a checkpoint to encode with, in place of those with random weights; baselines are left out then.
        device: that clsr encodes on.

    Raises:
        InputError: the checkpoint is at fault, there is no such device, or a part is wanted that is timed on
            processors alone.
    """
    require_device(device)
    wanted, on_cpu = set(parts), torch.device(device).type == "cpu"
    if not on_cpu and not wanted <= ANYWHERE:
        raise InputError(f"--device {device}: only {' and '.join(sorted(ANYWHERE))} are timed there: give --only")
    repeats = 5 if full else 3
    precisions = _precisions() if on_cpu else ACCELERATED
    result: dict[str, Any] = {
        "hardware": hardware(device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "commit": current_commit(),
        "full": full,
        "peaks": {precision: _peak(precision, device) for precision in precisions},
    }
    encoding = []
    for size in [str(model)] if model else SIZES if wanted & ENCODING else []:
        encoders = {precision: _encoder(size, precision, model, device) for precision in precisions}
        found: dict[str, Any] = {"model": size, "parameters": _parameters(encoders["float32"])}
        if "stages" in wanted:
            found["stages"] = _stages(encoders, repeats)
        if "shapes" in wanted:
            found["shapes"] = measure_shapes(encoders, SHAPES[full] if on_cpu else LARGE_SHAPES, 3)
        if "path" in wanted:
            found["path"] = [
                {"precision": precision} | measure_path(encoder, PATH_S[full], cut, 1 if full else 2)
                for cut in PATH_WINDOWS
                for precision, encoder in encoders.items()
            ]
        if "baselines" in wanted and size == "full" and not model:
            found["baselines"] = [_compare_with_baselines(encoders, *shape, repeats) for shape in BASELINE_SHAPES[full]]
        encoding.append(found)
    result["encoding"] = encoding
    if "search" in wanted:
        result["search"] = [measure_search(windows) for windows in SEARCHES[full]]
    if "training" in wanted:
        result["training"] = [measure_training(repeats, size=size) for size in TRAININGS[full]]
    return result


def read_measurement(file: Path) -> dict[str, Any]:
    """A measurement that was written into a file of JSON.

    Raises:
        InputError: it is none.
    """
    try:
        result = json.loads(file.read_text(encoding="utf-8"))
        page(result)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{file}: is no measurement ({error!r}); give what clsr bench --output wrote") from error
    return result


def page(result: dict[str, Any]) -> str:
    """Return a measurement as Markdown."""
    peaks = ", ".join(f"{p} {peak / 1e9:.0f}" for p, peak in result["peaks"].items())
    blocks = [
        f"Measured by `clsr bench{' --full' if result['full'] else ''}` at commit {result['commit']}: "
        f"{result['hardware']}, torch {result['torch']}. Product of two large square matrices, GFLOP/s: {peaks}."
    ]
    for found in result["encoding"]:
        random = ", random" if found["model"] in SIZES else ""
        about = f"{found['model']}: {found['parameters'] / 1e6:.1f} million weights{random}"
        if "stages" in found:
            blocks += [f"**Stages**, {about}; {_windows(*STAGE_SHAPE)}", _stage_table(found["stages"], result["peaks"])]
        if "shapes" in found:
            blocks += [
                f"**Audio to vectors and words**, {about}",
                _shape_table(found["shapes"], result["peaks"]),
            ]
        if "path" in found:
            blocks += [f"**File to durable index**, {about}", _path_table(found["path"])]
        for shape in found.get("baselines", []):
            blocks += [
                f"**Compared with baselines**, {_windows(shape['window_s'], shape['count'])}",
                _baseline_table(shape),
            ]
    blocks += [f"**Search**\n\n{search_table(found)}" for found in result.get("search", [])]
    blocks += [f"**Training**\n\n{training_table(found)}" for found in result.get("training", [])]
    return "\n\n".join(blocks)


def _encoder(size: str, precision: Precision, model: Path | None, device: str) -> SpeechEncoder:
    if model is not None:
        return load_speech_encoder(model, device, precision)
    return lower(make_encoder("full" if size == "full" else "mini").to(device), precision)


def _precisions() -> list[Precision]:
    bf16: list[Precision] = ["bf16"] if torch.cpu._is_avx512_bf16_supported() else []  # elsewhere it is no gain
    return ["float32", "int8", *bf16]


def _peak(precision: Precision, device: str) -> float:
    if precision != "int8":
        return matmul_peak(torch.bfloat16 if precision == "bf16" else torch.float32, device)
    size = 2048
    linear, values = Int8Linear(torch.nn.Linear(size, size)), torch.randn(size, size)
    return 2 * size**3 / time_in_turn({"": lambda: linear(values)}, 5)[""].low


def _parameters(encoder: SpeechEncoder) -> int:
    """Weights, those of maps that are laid out for oneDNN included."""
    laid_out = [module.weight for module in encoder.modules() if isinstance(module, OnednnLinear)]
    return sum(weight.numel() for weight in [*encoder.parameters(), *laid_out])


def _stages(encoders: dict[Precision, SpeechEncoder], repeats: int) -> dict[str, list[dict[str, Any]]]:
    flops: dict[str, int] | None = None
    found: dict[str, list[dict[str, Any]]] = {}
    for precision, encoder in encoders.items():
        found[precision] = measure_stages(encoder, *STAGE_SHAPE, repeats, flops)
        flops = {row["stage"]: row["flops"] for row in found["float32"] if row["flops"]}
    return found


def _compare_with_baselines(
    encoders: dict[Precision, SpeechEncoder], window_s: float, count: int, repeats: int
) -> dict[str, Any]:
    """Time clsr and its baselines on the same windows, in turn."""
    waveforms, network = noise(window_s, count), encoders["float32"]
    runs: dict[str, Run] = {f"clsr, {name}": partial(encoder.encode, waveforms) for name, encoder in encoders.items()}
    for precision in (p for p in encoders if p != "bf16"):
        whole = lower(make_encoder("full", LENGTH_MARGIN), precision)
        runs[f"clsr, {precision}, three length hypotheses"] = partial(whole.encode, waveforms)
    others = baselines(network.paraformer, network.text_encoder, "full")
    reasons = {baseline.name: baseline.reason for baseline in others if baseline.reason}
    runs |= {baseline.name: partial(baseline.encode, waveforms) for baseline in others if not baseline.reason}
    times = time_in_turn(runs, max(2, repeats - 2), lead_s=LEAD_S)
    return {
        "window_s": window_s,
        "count": count,
        "seconds": {name: timing._asdict() for name, timing in times.items()},
        "memory_mb": {name: peak_memory_mb(run) for name, run in runs.items()},
        "not_run": reasons,
        "descriptions": {baseline.name: baseline.description for baseline in others},
    }


def _windows(window_s: float, count: int) -> str:
    return f"{count} windows of {window_s:g} s at once" if count > 1 else f"a window of {window_s:g} s"


def _markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(header)} |", f"| --- |{' ---: |' * (len(header) - 1)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def _share(flops: int | None, seconds: float, peak: float) -> str:
    return f"{100 * flops / seconds / peak:.0f} %" if flops else "–"


def _stage_table(stages: dict[str, list[dict[str, Any]]], peaks: dict[str, float]) -> str:
    header = ["stage", "GFLOP", *(part for precision in stages for part in (f"{precision}, s", "of its peak"))]
    rows = []
    for of_stage in zip(*stages.values(), strict=True):
        flops = of_stage[0]["flops"]
        row = [of_stage[0]["stage"], f"{flops / 1e9:.1f}" if flops else "–"]
        for precision, found in zip(stages, of_stage, strict=True):
            row += [f"{found['seconds']:.4f}", _share(flops, found["seconds"], peaks[precision])]
        rows.append(row)
    return _markdown(header, rows)


def _shape_table(shapes: list[dict[str, Any]], peaks: dict[str, float]) -> str:
    header = ["windows", "precision", "seconds", "real-time factor", "GFLOP", "of its peak", "peak memory, MB"]
    return _markdown(
        header,
        (
            [
                f"{found['count']} x {found['window_s']:g} s", found["precision"], f"{found['seconds']:.3f}",
                f"{found['real_time_factor']:.5f}", f"{found['flops'] / 1e9:.0f}",
                _share(found["flops"], found["seconds"], peaks[found["precision"]]), _memory(found["peak_memory_mb"]),
            ]
            for found in shapes
        ),
    )  # fmt: skip


def _path_table(paths: list[dict[str, Any]]) -> str:
    header = ["precision", "audio, s", "windows/step, s", "seconds", "real-time factor", "peak memory, MB"]
    rows = (
        [
            path["precision"], f"{path['audio_s']:.0f}", path["windows"], f"{path['seconds']:.2f}",
            f"{path['real_time_factor']:.5f}", _memory(path["peak_memory_mb"]),
        ]
        for path in paths
    )  # fmt: skip
    return _markdown(header, rows)


def _baseline_table(shape: dict[str, Any]) -> str:
    seconds, audio_s = shape["seconds"], shape["window_s"] * shape["count"]
    ours = [name for name in ("clsr, float32", "clsr, int8") if name in seconds]
    header = [
        "system",
        "seconds [lowest, highest]",
        "real-time factor",
        *(f"times {name}" for name in ours),
        "peak memory, MB",
    ]
    rows = []
    for name, timing in seconds.items():
        row = [name, f"{timing['median']:.2f} [{timing['low']:.2f}, {timing['high']:.2f}]"]
        row += [
            f"{timing['median'] / audio_s:.4f}",
            *(f"{timing['median'] / seconds[own]['median']:.2f}" for own in ours),
        ]
        rows.append([*row, _memory(shape["memory_mb"][name])])
    rows += [[name, reason, *["–"] * (len(header) - 2)] for name, reason in shape["not_run"].items()]
    notes = "\n".join(f"- {name}: {about}" for name, about in shape["descriptions"].items())
    return f"{_markdown(header, rows)}\n\n{notes}"


def _memory(megabytes: float | None) -> str:
    return "–" if megabytes is None else f"{megabytes:.0f}"
