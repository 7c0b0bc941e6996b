"""Shorter sequences and vectors from one checkpoint: what they are, and that an index remembers them."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from clsr.audio.waveform import write_waveform
from clsr.checkpoint import load_speech_encoder
from clsr.cli.main import main
from clsr.config import Compression
from clsr.errors import InputError
from clsr.index.index import Index
from clsr.index.location import IndexLocation
from clsr.index.tables import IndexTables
from clsr.model import Model, load
from clsr.models.adaptor import PassageProjection
from clsr.models.text_encoder import load_text_encoder
from clsr.search.retriever import Retriever
from clsr.systems.cascade import CascadeEncoder

Say = Callable[[str], np.ndarray]


def shortened(vectors: np.ndarray, size: int) -> np.ndarray:
    return vectors[:, :size] / np.linalg.norm(vectors[:, :size], axis=1, keepdims=True)


def test_dimensions_are_the_first_numbers(tone_model: Path, say_in_tones: Say) -> None:
    whole, short = load(tone_model), load(tone_model, dimensions=8)
    inputs = ["old boat", say_in_tones("red dog"), ["where is", say_in_tones("sun")]]
    wanted = shortened(whole.encode(inputs, codes="hard"), 8)
    assert short.encode(inputs, codes="hard") == pytest.approx(wanted, abs=1e-6)
    typed = load(tone_model, dimensions=8).query_encoder  # without PyTorch
    assert np.asarray(typed.encode(["old boat"], "question")) == pytest.approx(wanted[:1], abs=1e-5)
    assert short.text_encoder.width == typed.width == 8


def test_pooled_codes_are_means(tone_model: Path, say_in_tones: Say) -> None:
    model = load(tone_model, code_pooling=2)
    text_encoder = load(tone_model).text_encoder
    rows = text_encoder.embed_text("red dog old")  # a piece each
    pooled = torch.stack([rows[:2].mean(0), rows[2]])
    wanted = text_encoder(pooled[None], torch.tensor([2]), "passage")
    speech = say_in_tones("red dog old")
    assert model.encode(speech, codes="hard") == pytest.approx(wanted[0].numpy(), abs=1e-5)
    assert model.encode([speech, say_in_tones("sun")], codes="hard")[0] == pytest.approx(wanted[0].numpy(), abs=1e-5)
    assert len(model.token_vectors([speech])[0]) == 2 and len(model.token_vectors(["red dog old"])[0]) == 3


@pytest.mark.parametrize(
    ("compression", "fault"),
    [
        (Compression(33), "dimensions is 33: the vectors of .* have 32 numbers; give no more"),
        (Compression(code_pooling=2), "code_pooling is 2: .* has no codes, only text; leave it out"),
    ],
)
def test_what_cannot_be_compressed_is_refused(compression: Compression, fault: str, tiny_bert: Path) -> None:
    class Released:
        """A released recogniser."""

        reference = "whisper:tiny"

        def load_recogniser(self, device: str, precision: str) -> None: ...

        def load_speech_encoder(self, device: str, precision: str) -> CascadeEncoder:
            return CascadeEncoder(None, load_text_encoder(str(tiny_bert)))  # type: ignore[arg-type]

    with pytest.raises(InputError, match=fault):
        Model(Released(), compression=compression).speech_encoder  # type: ignore[arg-type]  # noqa: B018
    with pytest.raises(InputError, match="dimensions is 0: give 1 or more"):
        Compression(0)


def test_a_projection_takes_whole_vectors(tone_model: Path) -> None:
    encoder = load_speech_encoder(tone_model)
    encoder.passage_projection = PassageProjection(32)
    source = type("Source", (), {
        "reference": "m", "load_recogniser": None, "load_speech_encoder": lambda *_: encoder,
    })()  # fmt: skip
    with pytest.raises(InputError, match="dimensions: m has a passage projection"):
        Model(source, compression=Compression(8)).speech_encoder  # noqa: B018


def test_index_remembers_its_compression(tone_model: Path, say_in_tones: Say, tmp_path: Path, capsys) -> None:
    write_waveform(tmp_path / "talk.wav", say_in_tones("red dog blue cat old boat green sun"))
    write_waveform(tmp_path / "more.wav", say_in_tones("sun boat"))
    index = ["index", "--index", str(tmp_path / "index")]
    small = ["--dimensions", "8", "--code-pooling", "2"]
    assert main([*index, "--model", str(tone_model), "--windows", "0.6/0.6", *small, str(tmp_path / "talk.wav")]) == 0
    assert main([*index, str(tmp_path / "more.wav")]) == 0  # as the index is
    about = json.loads((tmp_path / "index" / "index.json").read_text())
    assert (about["dimensions"], about["code_pooling"]) == (8, 2)
    table = IndexTables(IndexLocation.of(tmp_path / "index")).windows
    assert table is not None
    rows = table.to_arrow().to_pylist()
    made = load(tone_model, dimensions=8, code_pooling=2).encode(say_in_tones("sun boat"))
    (vector,) = (row["vector"] for row in rows if row["text"] == "sun boat")
    assert len(vector) == 8 and np.dot(vector, made) > 0.99  # of the sound without its quiet ends
    retriever = Retriever.open(tmp_path / "index")
    assert retriever.search("old boat", top_k=1, mode="dense")[0].text
    assert retriever.model.compression == Compression(8, 2)
    assert Retriever.open(tmp_path / "index", code_pooling=1).model.compression == Compression(8, 1)
    capsys.readouterr()
    assert main([*index, "--dimensions", "16", str(tmp_path / "more.wav")]) == 2
    assert "keeps 8 dimensions, not 16; index into another folder" in capsys.readouterr().err
    assert main([*index, "--code-pooling", "4", str(tmp_path / "more.wav")]) == 2
    assert "made with a code pooling of 2, not 4; index into another folder" in capsys.readouterr().err
    with pytest.raises(InputError, match="keeps 8 dimensions, not 32"):
        Index.open(tmp_path / "index", load(tone_model))
