"""The retrievers for LangChain and LlamaIndex, with the real packages, over an index of tones."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from clsr.audio.waveform import write_waveform
from clsr.index.config import IndexConfig
from clsr.index.filters import Filter
from clsr.index.index import Index
from clsr.model import load
from clsr.search.retriever import Retriever

Say = Callable[[str], np.ndarray]
KEYS = {"rank", "recording", "start_s", "end_s", "score", "text", "matches", "window_start_s", "window_end_s",
        "window_text"}  # fmt: skip


@pytest.fixture(scope="module")
def retriever(tone_model: Path, say_in_tones: Say, tmp_path_factory: pytest.TempPathFactory) -> Retriever:
    folder = tmp_path_factory.mktemp("adapters")
    write_waveform(folder / "talk.wav", say_in_tones("red dog blue cat old boat green sun"))
    model = load(tone_model)
    index = Index.create(folder / "index", model, IndexConfig("0.6/0.6"))
    index.add([folder])
    return Retriever(index, model)


def test_langchain(retriever: Retriever) -> None:
    adapter = pytest.importorskip("clsr.adapters.langchain")
    found = adapter.ClsrRetriever(retriever=retriever, top_k=2).invoke("old boat")
    hits = retriever.search("old boat", 2)
    assert [document.page_content for document in found] == [hit.window_text for hit in hits]
    assert found[0].page_content == "old boat" and set(found[0].metadata) == KEYS | {"tokens"}
    assert [document.metadata["score"] for document in found] == [hit.values()["score"] for hit in hits]
    assert found[0].metadata["recording"] == hits[0].recording and found[0].id != found[1].id
    (only,) = adapter.ClsrRetriever(retriever=retriever, mode="bm25").batch(["boat"])
    assert [document.page_content for document in only] == ["old boat"]
    nowhere = adapter.ClsrRetriever(retriever=retriever, only=Filter(until="2001-01-01"))
    assert nowhere.invoke("old boat") == []


def test_llama_index(retriever: Retriever) -> None:
    pytest.importorskip("llama_index.core")
    from clsr.adapters.llama_index import ClsrRetriever

    found = ClsrRetriever(retriever, top_k=2).retrieve("old boat")
    hits = retriever.search("old boat", 2)
    assert [node.text for node in found] == [hit.window_text for hit in hits]
    assert [node.score for node in found] == [hit.score for hit in hits]
    assert set(found[0].metadata) == KEYS | {"tokens"} and found[0].metadata["start_s"] == round(hits[0].start_s, 3)
    assert "recording: " in found[0].get_content("llm") and "score" not in found[0].get_content("llm")
    assert "tokens: " not in found[0].get_content("llm")
    assert ClsrRetriever(retriever, only=Filter(until="2001-01-01")).retrieve("old boat") == []
