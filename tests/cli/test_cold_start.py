"""A search from a shell: what it imports, and that it leaves the index as it is."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import clsr
from clsr.index.config import Mode

ROOT = Path(__file__).resolve().parents[2]
QUERY = "where is the blue cat"
# Each takes a tenth of a second or more to import, most of them far more; lancedb's core is another module.
HEAVY = set(
    """
    torch torchaudio transformers sentence_transformers pytorch_lightning lightning pandas scipy lance lancedb
    lance_namespace lance_namespace_urllib3_client pydantic ctranslate2 onnxruntime funasr jsonargparse yaml
    huggingface_hub modelscope av pyarrow.compute
""".split()
)


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """An index that a CLSR checkpoint has built; the checkpoint is beside it."""
    return shutil.copytree(ROOT / "tests" / "fixtures" / "version_0_1", tmp_path / "old") / "index"


def search(index: Path, *options: str) -> tuple[str, set[str]]:
    """What a search prints, and the modules that it imports."""
    command = [sys.executable, "-X", "importtime", "-m", "clsr.cli.main", "search", "--index", str(index), *options]
    command += ["--model", str(index.parent / "joint")] if (index.parent / "joint").is_dir() else []
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 0, run.stderr
    return run.stdout, set(re.findall(r"^import time:[^|]*\|[^|]*\| +(\S+)$", run.stderr, re.MULTILINE))


@pytest.mark.parametrize("mode", ["dense", "hybrid"])
def test_search_imports_nothing_heavy(index: Path, mode: Mode) -> None:
    """The hits are those of PyTorch, to the last digit that is printed."""
    out, imported = search(index, "--json", "--mode", mode, "--top-k", "3", QUERY)
    assert not imported & HEAVY and {"numpy", "pyarrow", "tokenizers", "clsr.search.retriever"} <= imported
    model = clsr.load(index.parent / "joint")
    model.text_encoder  # noqa: B018  # loaded, so that it encodes
    hits = clsr.Retriever(clsr.Index.open(index), model).search(QUERY, 3, mode)
    assert [json.loads(line) for line in out.splitlines()] == [hit.values() for hit in hits]


def test_filters_and_subtitles_import_nothing_heavy(index: Path) -> None:
    options = ["--since", "2001-01-01", "--folder", "/recordings", "--srt", "-", "--mode", "hybrid"]
    out, imported = search(index, *options, QUERY)
    assert "<b>blue</b> <b>cat</b>" in out and not imported & HEAVY


def test_search_leaves_the_index_as_it_is(index: Path) -> None:
    def state() -> dict[str, tuple[int, int]]:
        return {str(at): (at.stat().st_size, at.stat().st_mtime_ns) for at in sorted(index.rglob("*"))}

    before = state()
    search(index, "--mode", "hybrid", QUERY)
    assert state() == before


@pytest.mark.slow
def test_default_model_searches_without_pytorch(tmp_path: Path) -> None:
    pytest.importorskip("ctranslate2")
    clsr.Index.create(tmp_path / "index", clsr.load()).add([ROOT / "examples" / "recording" / "buccaneers.opus"])
    for mode in ("dense", "hybrid"):
        out, imported = search(tmp_path / "index", "--mode", mode, "Who made a compact with an old buccaneer?")
        assert "*buccaneer" in out and not imported & HEAVY


def test_front_door_imports_nothing() -> None:
    command = [sys.executable, "-X", "importtime", "-c", "import clsr"]
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    imported = set(re.findall(r"\| +(\S+)$", run.stderr, re.MULTILINE))
    assert "clsr" in imported and not imported & {*HEAVY, "numpy", "pyarrow", "tokenizers"}
