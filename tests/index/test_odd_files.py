"""Real files that trip readers, indexed beside good ones."""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from clsr.audio.waveform import READABLE_RATES, write_waveform
from clsr.index.config import IndexConfig
from clsr.index.index import Index
from clsr.index.location import IndexLocation
from clsr.index.tables import IndexTables
from clsr.model import load


@pytest.mark.slow
def test_odd_files_are_indexed_or_refused_with_reason(
    tone_model: Path, say_in_tones: Callable[[str], np.ndarray], shared_data: Path, tmp_path: Path
) -> None:
    with open(shared_data / "odd_audio" / "manifest.tsv", encoding="utf-8", newline="") as file:
        manifest = {row["file"]: row for row in csv.DictReader(file, delimiter="\t")}
    odd = {shared_data / "odd_audio" / name: row for name, row in manifest.items()}
    good = [tmp_path / f"{i}.wav" for i in range(5)]
    for path in good:
        write_waveform(path, say_in_tones("red dog blue cat"))
    taken = sorted(odd)
    for i, path in enumerate(good):  # spread among them
        taken.insert(i * len(odd) // 5, path)
    found = Index.create(tmp_path / "index", load(tone_model), IndexConfig("4/3")).add(taken)
    assert [status.path for status in found] == [str(path.resolve()) for path in taken]
    by_path = {Path(status.path): status for status in found}
    assert all(by_path[path].status == "indexed" and by_path[path].indexed_s == pytest.approx(1.2) for path in good)
    for path, row in odd.items():
        status = by_path[path.resolve()]
        read_by_libsndfile = row["libsndfile_status"] == "ok" and row["all_finite"] == "True"
        if read_by_libsndfile and int(row["decoded_frames"]) and int(row["rate"]) in READABLE_RATES:
            expected_s = int(row["decoded_frames"]) / int(row["rate"])
            if path.name == "05_-_wrong_total_number_of_samples.flac":  # libsndfile stops where the header says
                expected_s = 109_487 / 24_000
            assert status.status in ("indexed", "silent"), status
            assert status.duration_s == pytest.approx(expected_s, abs=1e-3), path
        if status.status == "failed":
            assert status.reason and "\n" not in status.reason
            assert path.name in status.reason
        assert status.indexed_s + status.silent_s <= status.duration_s + 1e-6
    assert {status.path: status for status in Index.open(tmp_path / "index").status()} == {s.path: s for s in found}
    damage, stale = Index.open(tmp_path / "index").verify()
    cut_off = {"lame_cbr.mp3", "lame_vbr.mp3", "mpeg2.mp3"}  # the first second or seconds of what their tables count
    assert damage == [] and {Path(line.partition(": ")[0]).name for line in stale} == cut_off
    table = IndexTables(IndexLocation.of(tmp_path / "index")).windows
    assert table is not None and table.count_rows() == sum(status.windows for status in found)
