"""The names of ``clsr``: all there, none imported before it is used, and the example of the README."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import clsr
from clsr.audio.waveform import write_waveform
from clsr.errors import InputError

Say = Callable[[str], np.ndarray]
ROOT = Path(__file__).resolve().parents[1]
IMPORT = """
import sys, time
start = time.perf_counter()
import clsr
print(time.perf_counter() - start)
print(*sorted(name for name in sys.modules if name.partition(".")[0] in ("torch", "numpy", "lancedb", "pyarrow")))
print(*sorted(name for name in sys.modules if name.startswith("clsr.")))
"""


def test_import_is_quick_and_loads_nothing() -> None:
    runs = [subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, cwd=ROOT) for _ in range(3)]
    seconds, foreign, own = zip(*(run.stdout.split("\n")[:3] for run in runs), strict=True)
    assert set(foreign) == set(own) == {""}
    assert min(map(float, seconds)) < 0.1


def test_every_public_name_resolves() -> None:
    assert sorted(clsr.__all__) == dir(clsr) == [
        "Clip", "Filter", "Hit", "Index", "IndexConfig", "Model", "Retriever", "__version__", "load",
    ]  # fmt: skip
    assert all(getattr(clsr, name).__doc__ for name in clsr.__all__)


def test_another_name_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="'clsr' has no attribute 'Indexer'"):
        clsr.Indexer  # noqa: B018


def test_readme_example_finds_moments(tone_model: Path, say_in_tones: Say, tmp_path: Path) -> None:
    write_waveform(tmp_path / "long.wav", say_in_tones("red dog blue cat old boat green sun"))
    model = clsr.load(tone_model)
    index = clsr.Index.create(tmp_path / "my-index", model, clsr.IndexConfig(windows="0.6/0.6"))
    index.add([tmp_path / "long.wav"])
    (hit,) = clsr.Retriever(index, model).search("old boat", top_k=1)
    assert hit.text == "old boat" and str(hit).startswith(f"{tmp_path / 'long.wav'}  00:01-00:02  ")


def test_index_is_searched_by_vector_words_or_both(tone_model: Path, say_in_tones: Say, tmp_path: Path) -> None:
    write_waveform(tmp_path / "long.wav", say_in_tones("red dog blue cat old boat green sun"))
    model = clsr.load(tone_model)
    clsr.Index.create(tmp_path / "index", model, clsr.IndexConfig(windows="0.6/0.6")).add(tmp_path)
    index, vector = clsr.Index.open(tmp_path / "index"), model.encode("old boat", side="question")
    by_vector, by_words = index.search(vector=vector, top_k=2), index.search(words="boat")
    assert [window.start_s for window in by_words] == pytest.approx([1.2])
    assert by_vector[0].id == by_words[0].id and len(by_vector) == 2
    both = index.search(vector=vector, words="boat", top_k=1)
    assert both[0].id == by_words[0].id and both[0].score == pytest.approx(2 / 61)
    nowhere = clsr.Filter(until="2001-01-01")
    assert index.search(vector, only=nowhere) == index.search(words="boat", only=nowhere) == []
    with pytest.raises(InputError, match="give a vector, words, or both"):
        index.search()
