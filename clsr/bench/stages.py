"""Where the time of encoding goes: each stage of a recording's way into an index, and the whole way."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clsr.audio.features import fbank, stack_frames
from clsr.audio.waveform import SAMPLE_RATE, stream_waveform, write_waveform
from clsr.bench.models import FINGERPRINT, RandomWeights
from clsr.bench.timing import Run, count_flops, peak_memory_mb, time_in_turn
from clsr.config import Precision
from clsr.index.config import IndexConfig
from clsr.index.index import Index
from clsr.index.location import IndexLocation
from clsr.index.recordings import RecordingEntry
from clsr.index.rows import WindowRow, to_arrow, to_rows
from clsr.index.tables import IndexTables
from clsr.index.windows import AudioWindow
from clsr.index.writer import IndexWriter
from clsr.model import Model
from clsr.models.cif import integrate_and_fire, scale_to
from clsr.models.paraformer import BEST
from clsr.models.speech_encoder import SpeechEncoder
from clsr.padding import length_mask, pad

PHRASE_S, PAUSE_S, SYLLABLE_S = 2.5, 0.3, 0.1  # of the noise that stands for speech
HIGH_RATE = 44_100  # of a recording that has to be resampled
PARTS = ("filter banks", "encoder", "firing (CIF)", "decoder", "output layer, best tokens", "codes and text encoder")
WHOLE = "audio to vectors, words and times"
SEGMENTS = "pauses and segment vectors"
COUNTED = (*PARTS, WHOLE, SEGMENTS)  # stages whose operations are products of matrices


def noise(seconds: float, count: int, seed: int = 0) -> list[np.ndarray]:
    """So many waveforms ``(N,)`` of noise at 16 kHz, with a pause of 0.3 s after each 2.5 s, as between phrases.

    Every other tenth of a second is as faint as between syllables: steady noise would be left out before recognition.
    With random weights, what is in them changes no time but that of the inter-pausal units.
    """
    draw = np.random.default_rng(seed)
    time_s = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    levels = np.where(time_s % (2 * SYLLABLE_S) < SYLLABLE_S, 0.1, 0.02) * (time_s % (PHRASE_S + PAUSE_S) < PHRASE_S)
    return [draw.standard_normal(len(levels), dtype=np.float32) * levels.astype(np.float32) for _ in range(count)]


def index_file(encoder: SpeechEncoder, recording: Path, index_dir: Path, windows: str, batch_s: float = 160.0) -> int:
    """Index a recording, as ``clsr index`` does after loading the model; return the number of windows."""
    model = Model(RandomWeights(), recogniser=encoder)
    (status,) = Index.create(index_dir, model, IndexConfig(windows, batch_s)).add([recording])
    return status.windows


def measure_stages(
    encoder: SpeechEncoder, window_s: float, count: int, repeats: int, flops: dict[str, int] | None = None
) -> list[dict[str, Any]]:
    """Time each stage for ``count`` windows at once, and the whole of encoding.

    Args:
        encoder: the model, at the precision wanted.
        window_s: seconds of a window.
        count: windows in a batch.
        repeats: runs of each stage.
        flops: operations of each stage, where they were counted before (those of int8 are not counted by torch).

    Returns:
        A row a stage: name, seconds, operations.
    """
    waveforms = noise(window_s, count)
    network = encoder.paraformer
    device = network.cmvn.shift.device
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        runs: dict[str, Run] = {}
        plain, high = Path(folder, "plain.wav"), Path(folder, "high.wav")
        write_waveform(plain, np.concatenate(waveforms))
        _write_high(high, window_s * count)
        runs["decode (wav, 16 kHz)"] = lambda: [None for _ in stream_waveform(plain)]
        runs["decode and resample (wav, 44.1 kHz, stereo)"] = lambda: [None for _ in stream_waveform(high)]
        rows, lengths = pad([stack_frames(fbank(waveform)) for waveform in waveforms])
        runs["filter banks"] = lambda: [stack_frames(fbank(waveform)) for waveform in waveforms]
        rows, lengths = rows.to(device), lengths.to(device)
        features = network.cmvn(rows)
        frames, mask = network.encoder(features, lengths)
        runs["encoder"] = lambda: network.encoder(network.cmvn(rows), lengths)
        weights = network.predictor(frames, mask)
        numbers = weights.sum(1).round()
        tokens, token_lengths = integrate_and_fire(frames, scale_to(weights, numbers))

        def fire() -> object:
            return integrate_and_fire(frames, scale_to(network.predictor(frames, mask), numbers))

        runs["firing (CIF)"] = fire
        token_mask = length_mask(token_lengths, tokens.shape[1])
        states = network.decoder.states(tokens, token_mask, frames, mask)[token_mask]
        runs["decoder"] = lambda: network.decoder.states(tokens, token_mask, frames, mask)
        runs["output layer, best tokens"] = lambda: network.decoder.best(states, BEST, network.never)
        recognitions = encoder.recognise(waveforms)
        runs["codes and text encoder"] = lambda: encoder.embed(recognitions)
        runs[WHOLE] = lambda: encoder.encode(waveforms)
        encoding = encoder.encode(waveforms)
        entry = RecordingEntry(str(plain), "", 0, 0, "5")
        windows = [AudioWindow(i * window_s, (i + 1) * window_s, waveform) for i, waveform in enumerate(waveforms)]
        writer = IndexWriter(IndexTables(IndexLocation.of(Path(folder, "index"))))

        def make_rows() -> list[WindowRow]:
            return to_rows([entry] * count, windows, encoding, FINGERPRINT, encoder.text_encoder)

        runs[SEGMENTS] = make_rows
        written = make_rows()
        runs["index write and read-back"] = lambda: writer.commit([], to_arrow(written))
        times = time_in_turn(runs, repeats)
        counted = flops if flops is not None else {name: count_flops(runs[name]) for name in runs if name in COUNTED}
    return [{"stage": name, "seconds": times[name].median, "flops": counted.get(name)} for name in runs]


def measure_path(
    encoder: SpeechEncoder, duration_s: float, windows: str, repeats: int, batch_s: float = 160.0
) -> dict[str, Any]:
    """Time a recording's whole way from a file to a durable index, the start of the decoding process included."""
    with tempfile.TemporaryDirectory() as folder:
        recording = Path(folder, "recording.wav")
        write_waveform(recording, noise(duration_s, 1)[0])
        names = iter(range(1_000_000))

        def run() -> None:
            index_file(encoder, recording, Path(folder, f"index-{next(names)}"), windows, batch_s)

        seconds = time_in_turn({"": run}, repeats)[""]
        memory = peak_memory_mb(run)
    return {
        "audio_s": duration_s,
        "windows": windows,
        "seconds": seconds.median,
        "low": seconds.low,
        "high": seconds.high,
        "real_time_factor": seconds.median / duration_s,
        "peak_memory_mb": memory,
    }


def measure_shapes(
    encoders: dict[Precision, SpeechEncoder], shapes: Sequence[tuple[float, int]], repeats: int
) -> list[dict[str, Any]]:
    """Time audio to vectors at windows of several lengths, one and many at once, at each precision in turn.

    Args:
        encoders: a model at each precision, float32 among them, which operations are counted on.
        shapes: seconds of a window, and windows given at once.
        repeats: runs of each.
    """
    found = []
    for window_s, count in shapes:
        waveforms = noise(window_s, count)
        flops = count_flops(lambda waveforms=waveforms: encoders["float32"].encode(waveforms))  # type: ignore[misc]
        runs: dict[str, Run] = {
            precision: lambda encoder=encoder, waveforms=waveforms: encoder.encode(waveforms)  # type: ignore[misc]
            for precision, encoder in encoders.items()
        }
        for precision, seconds in time_in_turn(runs, repeats).items():
            memory = peak_memory_mb(runs[precision])
            found.append(
                {
                    "precision": precision,
                    "window_s": window_s,
                    "count": count,
                    "seconds": seconds.median,
                    "real_time_factor": seconds.median / (window_s * count),
                    "flops": flops,
                    "peak_memory_mb": memory,
                }
            )
    return found


def _write_high(path: Path, duration_s: float) -> None:
    import soundfile

    count = round(duration_s * HIGH_RATE)
    soundfile.write(path, np.random.default_rng(0).uniform(-0.1, 0.1, (count, 2)), HIGH_RATE)
