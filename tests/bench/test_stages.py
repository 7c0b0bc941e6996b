"""Stages: what is timed is what indexing does, and operations are those that can be counted by hand."""

from pathlib import Path

import numpy as np
import pytest

from clsr.audio.waveform import write_waveform
from clsr.bench.models import MINI_PIECES, TOKENS_A_SECOND, make_encoder
from clsr.bench.stages import COUNTED, PARTS, WHOLE, index_file, measure_path, measure_shapes, measure_stages, noise
from clsr.index.location import IndexLocation
from clsr.index.tables import IndexTables
from clsr.index.windows import windows
from clsr.models.precision import lower
from clsr.models.speech_encoder import SpeechEncoder


@pytest.fixture(scope="module")
def encoder() -> SpeechEncoder:
    return make_encoder("mini")


def test_random_weights_fire_as_speech_does(encoder: SpeechEncoder) -> None:
    for hypotheses in encoder.recognise(noise(20.0, 2)):
        assert len(hypotheses) == 1 and len(hypotheses[0].best) == pytest.approx(20.0 * TOKENS_A_SECOND, abs=1)
    assert len(encoder.vocabulary) == MINI_PIECES
    wider = make_encoder("mini", length_margin=1)
    assert len(wider.recognise(noise(5.0, 1))[0]) == 3


def test_operations_of_the_encoder_by_hand(encoder: SpeechEncoder) -> None:
    rows = {row["stage"]: row for row in measure_stages(encoder, 6.0, 2, 1)}
    config, frames, count = encoder.paraformer.config.encoder, 100, 2  # 598 of 10 ms, every sixth
    width, hidden = config.width, config.hidden
    layer = 2 * frames * (3 * width + width + 2 * hidden) * width + 2 * (2 * frames**2 * width)
    first = layer + 2 * frames * (560 - width) * 3 * width  # its inputs are wider
    memory = config.layers * 2 * frames * width * config.kernel
    assert rows["encoder"]["flops"] == pytest.approx(count * (first + (config.layers - 1) * layer + memory), rel=0.01)
    assert {stage for stage, row in rows.items() if row["flops"]} == set(COUNTED)
    parts = sum(rows[stage]["flops"] for stage in PARTS)
    assert rows[WHOLE]["flops"] == pytest.approx(parts, rel=0.02)  # the whole is its parts
    assert all(row["seconds"] > 0 for row in rows.values())


def test_a_file_is_indexed_as_by_the_command(encoder: SpeechEncoder, tmp_path: Path) -> None:
    waveform = noise(33.0, 1)[0]
    write_waveform(tmp_path / "a.wav", waveform)
    assert index_file(encoder, tmp_path / "a.wav", tmp_path / "index", "5/5", batch_s=12.0) == 7
    table = IndexTables(IndexLocation.of(tmp_path / "index")).windows
    assert table is not None
    rows = table.to_arrow().sort_by("start_s")
    spans = list(zip(rows["start_s"].to_pylist(), rows["end_s"].to_pylist(), strict=True))
    assert spans == windows(33.0, 5.0, 5.0)
    pieces = [waveform[round(start * 16000) : round(end * 16000)] for start, end in spans]
    expected = encoder.encode([np.round(piece * 32768) / 32768 for piece in pieces]).vectors
    found = np.stack([np.asarray(vector, np.float32) for vector in rows["vector"].to_pylist()])
    assert (found * expected).sum(1).min() > 0.999


def test_paths_and_shapes_have_time_and_memory(encoder: SpeechEncoder) -> None:
    path = measure_path(encoder, 12.0, "4", 1)
    assert path["real_time_factor"] == pytest.approx(path["seconds"] / 12.0)
    shapes = measure_shapes({"float32": encoder, "int8": lower(make_encoder("mini"), "int8")}, [(1.0, 2), (2.0, 1)], 1)
    assert [(row["precision"], row["window_s"], row["count"]) for row in shapes] == [
        ("float32", 1.0, 2), ("int8", 1.0, 2), ("float32", 2.0, 1), ("int8", 2.0, 1),
    ]  # fmt: skip
    assert shapes[0]["flops"] == shapes[1]["flops"] > 0
    assert all(row["real_time_factor"] == pytest.approx(row["seconds"] / 2.0) for row in shapes)
