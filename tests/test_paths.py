"""The files that a query crosses on its way to hits, and a waveform on its way to a stored vector, by their calls."""

import shutil
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import clsr
from clsr.audio.waveform import read_waveform
from clsr.models.sounding import encode_sounding

ROOT = Path(clsr.__file__).parent
SMALL = Path(__file__).parent / "fixtures" / "version_0_1"
# After the command, in this order and one way: at most nine files with clsr/cli/searching.py.
QUERY_PATH = [
    "search/retriever.py",
    "search/query.py",
    "model.py",
    "text/encoder.py",
    "index/index.py",
    "index/ranking.py",
    "index/vector_cache.py",
    "search/moments.py",
]
# Behind decoding.py a process of its own reads the file (decoding_worker.py, waveform.py).
WAVEFORM_PATH = [
    "index/index.py",
    "index/indexer.py",
    "audio/decoding.py",
    "index/windows.py",
    "models/sounding.py",  # a file of its own, since recognisers of all kinds get no silence and no steady noise
    "models/speech_encoder.py",
    "models/recogniser.py",
    "audio/features.py",
    "models/paraformer.py",
    "models/adaptor.py",
    "models/text_encoder.py",
    "index/rows.py",
    "index/writer.py",
]
# Layers inside the networks, and what is called for one answer: none of them passes anything on.
LAYERS = {f"models/{name}.py" for name in ("attention", "bert", "cif", "decoder", "dropout", "encoder", "precision")}
CALLED_BY_SEARCH = {
    "index/config.py",
    "search/weak.py",
    "audio/files.py",
    "lance.py",
    "text/weights.py",
    "index/tables.py",
    "index/location.py",
    "index/recordings.py",
    "index/segments.py",
    "index/windows.py",
    "search/passage_cache.py",
    "vocabulary.py",
    "padding.py",
}
CALLED_BY_ADD = {
    "audio/files.py", "audio/pauses.py", "audio/pieces.py", "audio/sounding.py", "audio/spelling.py",
    "audio/waveform.py", "index/approximate.py", "index/config.py", "index/location.py", "index/progress.py",
    "index/recordings.py", "index/segments.py", "index/tables.py", "index/tokens/description.py",
    "index/tokens/maxsim.py", "config.py", "lance.py",
    "model.py", "padding.py", "threads.py", "vocabulary.py",
}  # fmt: skip


@pytest.fixture
def index(tmp_path: Path) -> clsr.Index:
    shutil.copytree(SMALL / "index", tmp_path / "index")
    return clsr.Index.open(tmp_path / "index", clsr.load(SMALL / "joint"))


def calls(run: Callable[[], object]) -> dict[tuple[str, str], None]:
    """Pairs of files, caller and called, in the order of their first call."""
    found: dict[tuple[str, str], None] = {}

    def note(frame: FrameType, event: str, _: Any) -> None:
        called, caller = name(frame), name(frame.f_back)
        if event == "call" and called and called != caller:
            found.setdefault((caller, called))

    sys.setprofile(note)
    try:
        run()
    finally:
        sys.setprofile(None)
    return found


def name(frame: FrameType | None) -> str:
    """The file of a function of clsr, empty for others."""
    file = Path(frame.f_code.co_filename) if frame else ROOT
    return file.relative_to(ROOT).as_posix() if file.suffix == ".py" and file.is_relative_to(ROOT) else ""


def test_query_crosses_nine_files_one_way(index: clsr.Index) -> None:
    retriever = clsr.Retriever(index, index.model)
    for mode in ("dense", "hybrid"):
        found = calls(lambda mode=mode: retriever.search("where is the old boat", mode=mode))  # type: ignore[misc]
        entered = list(dict.fromkeys(called for _, called in found))
        assert [file for file in entered if file not in LAYERS | CALLED_BY_SEARCH] == QUERY_PATH
        steps = [pair for pair in found if set(pair) <= set(QUERY_PATH)]
        assert all(QUERY_PATH.index(caller) < QUERY_PATH.index(called) for caller, called in steps)
    assert len(QUERY_PATH) + 1 <= 9


def test_tokens_add_two_files_to_a_query(index: clsr.Index) -> None:
    index.add_token_vectors()
    retriever = clsr.Retriever(index, clsr.load(SMALL / "joint"))  # which has not loaded its speech encoder
    entered = list(
        dict.fromkeys(called for _, called in calls(lambda: retriever.search("where is the old boat", mode="maxsim")))
    )
    more = {"index/tokens/maxsim.py", "search/token_matches.py"}
    of_tokens = {"index/tokens/description.py", "index/tokens/compression.py"}
    passed = [file for file in entered if file not in LAYERS | CALLED_BY_SEARCH | of_tokens]
    assert set(passed) - {"index/filters.py", "index/rows.py"} == {*QUERY_PATH, *more}


def test_waveform_crosses_thirteen_files(index: clsr.Index) -> None:
    assert index.model.speech_encoder  # loaded before, as is what is imported on the way
    for module in ("lancedb", "clsr.audio.decoding", "clsr.index.indexer", "clsr.index.progress", "clsr.index.writer"):
        import_module(module)
    path = SMALL / "recordings" / "b.wav"
    encoder, waveform = index.model.speech_encoder, read_waveform(path)
    found = calls(lambda: index.add([path]))  # whose threads are not traced: what they do is done here once more
    found |= calls(lambda: encode_sounding(encoder.encode, encoder.text_encoder, [waveform]))
    assert {called for _, called in found} - LAYERS - CALLED_BY_ADD == set(WAVEFORM_PATH)
    assert len(WAVEFORM_PATH) <= 13
