#!/usr/bin/env python3
"""What is to be measured on an accelerator, in a quarter of an hour: tests, kernels, training steps, file to index.

Each part is a process with a time limit. Each figure is written at once into OUTPUT/PART.json, and after each part all
of them into OUTPUT/results.json and OUTPUT/results.md, so that a run that is cut off leaves what it has measured. No
network is used. docs/results/speed.md says what the machine needs.

Usage: tools/accelerator.py OUTPUT [--only PART ...] [--tiny]
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from clsr.audio.waveform import write_waveform
from clsr.bench.models import make_encoder
from clsr.bench.stages import index_file, measure_stages, noise
from clsr.bench.timing import count_flops, matmul_peak
from clsr.config import CifConfig, DecoderConfig, EncoderConfig, LossConfig, ModelConfig
from clsr.evaluation.measure import hardware
from clsr.models import attention
from clsr.models.attention import MemoryBlock, attend
from clsr.models.cif import Cif
from clsr.models.paraformer import Paraformer
from clsr.models.precision import lower
from clsr.models.speech_encoder import SpeechEncoder

if TYPE_CHECKING:
    from clsr.data.datamodule import SpeechBatch

ROOT = Path(__file__).resolve().parents[1]
LIMITS_S = {
    "tests": 180, "kernels": 60, "steps": 60, "steps_cudnn": 90, "stages": 60,
    "path": 90, "path_bucketed": 60, "path_graphs": 90, "path_compiled": 150,
}  # fmt: skip
BUCKET = 64  # frames or tokens that the time axis is padded to a multiple of
OUTCOME = re.compile(r"::(\S+?) (PASSED|FAILED|ERROR|SKIPPED)")

Row = dict[str, Any]
Network = Callable[..., Any]


class Scale(NamedTuple):
    """How much is measured."""

    device: str
    size: str  # of the model that encodes
    widths: ModelConfig  # of the recogniser that is trained
    vocabulary: int
    shapes: list[tuple[int, int]]  # (B, T) of kernels and training steps, none of them twice
    windows: list[tuple[float, int]]  # seconds of a window and their number, of which stages are timed
    recording_s: float
    cuts: tuple[str, ...]
    batch_s: float


def full_scale() -> Scale:
    """Of an accelerator."""
    lengths = [61 + 13 * i for i in range(30)]
    widths = ModelConfig(
        encoder=EncoderConfig(width=256, hidden=1024, layers=10), decoder=DecoderConfig(hidden=1024, layers=3)
    )
    shapes = [(13_000 // length, length) for length in lengths]
    return Scale("cuda", "full", widths, 8_000, shapes, [(5.0, 192), (40.0, 24)], 3600.0, ("5/5", "40/30"), 3840.0)


def tiny_scale() -> Scale:
    """Of a trial on a processor, in seconds."""
    widths = ModelConfig(encoder=EncoderConfig(64, 128, 1, 4, 11), decoder=DecoderConfig(64, 1, 4, 11))
    return Scale("cpu", "mini", widths, 50, [(2, 20), (2, 31)], [(1.0, 2)], 6.0, ("2/2",), 4.0)


def main() -> None:
    """Run the parts, each in a process of its own; print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--only", nargs="+", choices=LIMITS_S, default=list(LIMITS_S), metavar="PART")
    parser.add_argument("--tiny", action="store_true", help="a trial on the processor, of little work")
    parser.add_argument("--here", action="store_true", help="run the parts in this process, without limits")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    for part in options.only:
        start_s = time.monotonic()
        if options.here:
            run_part(part, options.output, tiny_scale() if options.tiny else full_scale())
        else:
            tiny = ["--tiny"] if options.tiny else []
            command = [sys.executable, __file__, str(options.output), "--only", part, "--here", *tiny]
            state = run_within(command, LIMITS_S[part], options.output / f"{part}.log")
            note(options.output, part, state, time.monotonic() - start_s)
        print(write_tables(options.output), flush=True)


def run_within(command: Sequence[str], limit_s: float, log: Path) -> str:
    """Run a command, its output into a file, and stop it with all its children at the limit; say how it ended."""
    with log.open("w") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT, start_new_session=True, cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        try:
            return "done" if process.wait(limit_s) == 0 else f"failed with exit status {process.returncode}"
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return f"cut off after {limit_s:g} s"


def run_part(part: str, output: Path, scale: Scale) -> None:
    """Measure a part; each row is written as soon as it is there."""
    rows: list[Row] = []

    def record(**row: object) -> None:
        rows.append(row)
        _write(output / f"{part}.json", {"part": part, "rows": rows})

    PARTS[part](scale, record)


def note(output: Path, part: str, state: str, seconds: float) -> None:
    """Add to a part's figures how it ended, and how long it took."""
    path = output / f"{part}.json"
    found = json.loads(path.read_text()) if path.exists() else {"part": part, "rows": []}
    if part == "tests":
        found["rows"] = outcomes((output / "tests.log").read_text())
    _write(path, found | {"state": state, "seconds": round(seconds, 1)})


def outcomes(log: str) -> list[Row]:
    """What pytest's log says of each test, also of a run that was cut off."""
    return [{"test": name, "outcome": outcome.lower()} for name, outcome in OUTCOME.findall(log)]


def write_tables(output: Path) -> str:
    """Write all parts' figures into one file of JSON and one of Markdown; return the latter."""
    files = [output / f"{part}.json" for part in LIMITS_S]
    parts = [json.loads(file.read_text()) for file in files if file.exists()]
    machine = {"hardware": hardware(), "torch": torch.__version__}
    _write(output / "results.json", {**machine, "parts": parts})
    blocks = [f"{machine['hardware']}, torch {machine['torch']}"]
    for found in parts:
        blocks.append(f"**{found['part']}**: {found.get('state', 'running')}, {found.get('seconds', '–')} s")
        blocks += [_markdown(found["rows"])] if found["rows"] else []
    text = "\n\n".join(blocks) + "\n"
    (output / "results.md").write_text(text, encoding="utf-8")
    return text


def tests(scale: Scale, record: Callable[..., None]) -> None:
    """Run the tests that need an accelerator."""
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", "tests/test_accelerator.py"]
    raise SystemExit(subprocess.run(command, cwd=ROOT).returncode)


def kernels(scale: Scale, record: Callable[..., None]) -> None:
    """Forward and backward of what is computed as products, and of attention, beside cuDNN's: new shapes and known."""
    dtype = torch.bfloat16 if scale.device == "cuda" else torch.float32
    memory = MemoryBlock(512, 11).to(scale.device, dtype).train()
    cif = Cif(512, CifConfig()).to(scale.device).train()

    def cudnn(values: Tensor) -> Tensor:
        heads = values.unflatten(2, (4, -1)).transpose(1, 2)
        with sdpa_kernel([SDPBackend.CUDNN_ATTENTION]):
            return F.scaled_dot_product_attention(heads, heads, heads)

    def attention_of_torch(values: Tensor) -> Tensor:
        return attend(values, values, values, values.new_ones(values.shape[:2], dtype=torch.bool), 4)

    kinds: dict[str, tuple[Network, torch.dtype]] = {
        "memory block, products": (memory._by_products, dtype),
        "memory block, cuDNN": (memory._by_convolution, dtype),
        "firing weights, products": (cif._by_products, torch.float32),
        "firing weights, cuDNN": (cif._by_convolution, torch.float32),
        "attention, torch's": (attention_of_torch, dtype),
        **({"attention, cuDNN": (cudnn, dtype)} if scale.device == "cuda" else {}),
    }
    for name, (network, kind) in kinds.items():
        values = [torch.randn(*shape, 512, device=scale.device, dtype=kind) for shape in scale.shapes]
        runs = [partial(_forward_and_backward, network, one.requires_grad_()) for one in values]
        record(kernel=name, **_first_and_again(runs, scale.device))


def steps(scale: Scale, record: Callable[..., None], cudnn: bool = False) -> None:
    """Training steps of batches whose shapes were never met, then of the same again."""
    from clsr.training.asr import asr_losses, total_loss  # with Lightning, which takes seconds to import

    if cudnn:
        MemoryBlock._by_products = MemoryBlock._by_convolution  # type: ignore[method-assign]
        Cif._by_products = Cif._by_convolution  # type: ignore[method-assign]
        attention.KERNELS = [SDPBackend.CUDNN_ATTENTION, *attention.KERNELS]
    torch.manual_seed(0)
    network, weights = Paraformer(scale.widths, scale.vocabulary).to(scale.device).train(), LossConfig()
    optimizer = torch.optim.Adam(network.parameters(), 1e-4)

    def step(batch: SpeechBatch) -> None:
        with torch.autocast(scale.device, torch.bfloat16):
            output = network(batch.features, batch.frame_lengths, batch.targets, batch.target_lengths)
            loss = total_loss(asr_losses(output, batch, weights), weights)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    runs = [partial(step, _random_batch(*shape, scale)) for shape in scale.shapes]
    record(step="cuDNN" if cudnn else "products", **_first_and_again(runs, scale.device))


def stages(scale: Scale, record: Callable[..., None]) -> None:
    """Seconds of each stage of encoding, and its share of the peak."""
    encoder, peak = _encoder(scale), _peak(scale)
    record(stage="product of two square matrices", seconds=None, gflops=round(peak / 1e9), share=1.0)
    for window_s, count in scale.windows:
        for row in measure_stages(encoder, window_s, count, 5):
            flops, seconds = row["flops"], row["seconds"]
            rate = flops / seconds if flops else None
            record(
                stage=row["stage"], windows=f"{count} x {window_s:g} s", seconds=round(seconds, 5),
                gflops=rate and round(rate / 1e9), share=rate and round(rate / peak, 3),
            )  # fmt: skip


def path(scale: Scale, record: Callable[..., None], variant: str = "eager") -> None:
    """A recording from its file to a durable index, and its windows from memory to vectors."""
    encoder, peak = prepare(_encoder(scale), variant), _peak(scale)
    waveform = noise(scale.recording_s, 1)[0]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_waveform(folder / "long.wav", waveform)
        for cut in scale.cuts:
            window_s, hop_s = (float(part) for part in cut.split("/"))
            count = max(1, int(min(scale.batch_s, scale.recording_s) / window_s))
            windows = noise(window_s, count)
            flops = count_flops(partial(encoder.encode, windows)) if variant == "eager" else None
            times = [_timed(partial(encoder.encode, windows), scale.device) for _ in range(4)]
            seconds = statistics.median(times[1:])
            record(
                way="memory to vectors", variant=variant, windows=cut, first_s=round(times[0], 3),
                seconds=round(seconds, 4), times_real_time=round(count * hop_s / seconds),
                share=flops and round(flops / seconds / peak, 3),
            )  # fmt: skip
            index = partial(index_file, encoder, folder / "long.wav", windows=cut, batch_s=scale.batch_s)
            times = [_timed(partial(index, folder / f"{window_s}-{turn}"), scale.device) for turn in range(3)]
            record(
                way="file to durable index", variant=variant, windows=cut, first_s=round(times[0], 3),
                seconds=round(min(times), 4), times_real_time=round(scale.recording_s / min(times)), share=None,
            )  # fmt: skip


def prepare(encoder: SpeechEncoder, variant: str) -> SpeechEncoder:
    """Replace encoder, decoder and text encoder by themselves at few shapes, as graphs or compiled, in place."""
    if variant == "eager":
        return encoder
    make = {"bucketed": lambda network: network, "graphs": graphed, "compiled": compiled}[variant]
    network = encoder.paraformer
    for owner, method in (
        (network.encoder, "forward"), (network.decoder, "states"), (encoder.text_encoder.transformer, "forward"),
    ):  # fmt: skip
        setattr(owner, method, bucketed(make(getattr(owner, method))))
    return encoder


def bucketed(network: Network) -> Network:
    """A network with the time axis of its inputs ``(B, T, ...)`` padded to few lengths, and its outputs cut again."""

    def run(*inputs: Tensor) -> Any:
        size = inputs[0].shape[1]
        found = network(*map(_padded, inputs))
        return tuple(one[:, :size] for one in found) if isinstance(found, tuple) else found[:, :size]

    return run


def graphed(network: Network) -> Network:
    """A network that is captured at each shape once and replayed from then on; on a processor, the network."""
    graphs: dict[object, tuple[tuple[Tensor, ...], torch.cuda.CUDAGraph, Any]] = {}
    pool = torch.cuda.graph_pool_handle() if torch.cuda.is_available() else None

    def run(*inputs: Tensor) -> Any:
        if inputs[0].device.type != "cuda":
            return network(*inputs)
        key = tuple((one.shape, one.dtype) for one in inputs)
        if key not in graphs:
            own, side = tuple(one.clone() for one in inputs), torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):  # libraries set themselves up outside of the capture
                network(*own)
            torch.cuda.current_stream().wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=pool):
                found = network(*own)
            graphs[key] = own, graph, found
        own, graph, found = graphs[key]
        for mine, given in zip(own, inputs, strict=True):
            mine.copy_(given)
        graph.replay()
        return tuple(one.clone() for one in found) if isinstance(found, tuple) else found.clone()

    return run


def compiled(network: Network) -> Network:
    """A network compiled by torch, for each shape anew; it needs a C compiler and triton."""
    backend = "inductor" if torch.cuda.is_available() else "eager"
    torch._dynamo.config.cache_size_limit = 64
    return torch.compile(network, dynamic=False, backend=backend)


def _padded(values: Tensor) -> Tensor:
    if values.dim() < 2:
        return values
    padding = [0, 0] * (values.dim() - 2) + [0, -values.shape[1] % BUCKET]
    return F.pad(values, padding)


def _encoder(scale: Scale) -> SpeechEncoder:
    encoder = make_encoder("full" if scale.size == "full" else "mini").to(scale.device)
    return lower(encoder, "bf16") if scale.device == "cuda" else encoder


def _peak(scale: Scale) -> float:
    return matmul_peak(torch.bfloat16, "cuda") if scale.device == "cuda" else matmul_peak(repeats=1)


def _forward_and_backward(network: Network, values: Tensor) -> None:
    values.grad = None
    network(values).float().square().mean().backward()


def _random_batch(rows: int, frames: int, scale: Scale) -> SpeechBatch:
    from clsr.data.datamodule import SpeechBatch

    draw, tokens = torch.Generator().manual_seed(frames), max(1, frames // 5)
    batch = SpeechBatch(
        [str(row) for row in range(rows)], torch.randn(rows, frames, 560, generator=draw), torch.full((rows,), frames),
        torch.randint(3, scale.vocabulary, (rows, tokens), generator=draw), torch.full((rows,), tokens),
        torch.zeros(rows, 0, dtype=torch.long), torch.zeros(rows, dtype=torch.long), torch.full((rows,), -1),
    )  # fmt: skip
    return SpeechBatch(*(one.to(scale.device) if isinstance(one, Tensor) else one for one in batch))


def _first_and_again(runs: Sequence[Callable[[], object]], device: str) -> Row:
    """Milliseconds of runs of shapes never met, and of the same again; the first of all sets up the libraries."""
    runs[0]()
    first, again = ([_timed(run, device) * 1000 for run in runs[1:]] for _ in range(2))
    return {
        "first_ms": round(statistics.median(first), 3), "first_most_ms": round(max(first), 3),
        "again_ms": round(statistics.median(again), 3), "again_most_ms": round(max(again), 3), "shapes": len(first),
    }  # fmt: skip


def _timed(run: Callable[[], object], device: str) -> float:
    start_s = time.perf_counter()
    run()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start_s


def _markdown(rows: Sequence[Row]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [names, ["---"] * len(names), *([str(row.get(name, "") or "–") for name in names] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _write(file: Path, content: object) -> None:
    partial_file = file.with_suffix(".partial")
    partial_file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    partial_file.replace(file)


PARTS: dict[str, Callable[[Scale, Callable[..., None]], None]] = {
    "tests": tests,
    "kernels": kernels,
    "steps": steps,
    "steps_cudnn": partial(steps, cudnn=True),
    "stages": stages,
    "path": path,
    "path_bucketed": partial(path, variant="bucketed"),
    "path_graphs": partial(path, variant="graphs"),
    "path_compiled": partial(path, variant="compiled"),
}

if __name__ == "__main__":
    main()
