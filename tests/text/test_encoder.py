"""Queries without PyTorch: the vectors are those of the text encoder itself."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from clsr.config import OFFLINE_TEXT_ENCODER
from clsr.errors import InputError
from clsr.models.text_encoder import build_text_encoder, load_text_encoder
from clsr.text import encoder as text_encoder
from clsr.text.encoder import NumpyTextEncoder, gelu, load_query_encoder
from clsr.text.folder import Side, open_text_encoder
from clsr.text.weights import MappedWeights

if TYPE_CHECKING:
    from clsr.models.text_encoder import TextEncoder

SIDES: tuple[Side, ...] = ("question", "passage")
TEXTS = [
    "", " ", "?", "who sold the old horse?", "WHO SOLD THE OLD HORSE", "naïve café, Straße; 3,000 km/h", "it's o'clock",
    "你好世界，今天天气怎么样", "नमस्ते दुनिया", "สวัสดีชาวโลก", "مرحبا بالعالم", "こんにちは世界", "Привет, мир", "🙂🙃",
    "a\u0301\u200db", "[CLS] [SEP] [MASK]", "antidisestablishmentarianism " * 9, "\t\n", "the horse " * 60,
]  # fmt: skip
LONGER = ["horse " * 509, "horse " * 510, "horse " * 511, "who sold the old horse? " * 150]  # MiniLM reads 510 tokens


def require_equal(folder: Path | str, texts: list[str]) -> None:
    """See that vectors, and what is said of long texts, are those of PyTorch."""
    described = open_text_encoder(str(folder))
    ours, theirs = NumpyTextEncoder(described), build_text_encoder(described)
    assert (ours.fingerprint, ours.max_tokens, ours.width) == (theirs.fingerprint, theirs.max_tokens, theirs.width)
    for side in SIDES:
        vectors = ours.encode(texts, side)
        assert vectors.dtype == np.float32
        assert np.abs(vectors - theirs.encode(texts, side).numpy()).max() < 1e-5
        assert [ours.surplus(text, side) for text in texts] == [theirs.surplus(text, side) for text in texts]


@pytest.fixture
def changed(tiny_bert: Path, tmp_path: Path) -> Callable[..., Path]:
    """A copy of the tiny text encoder with other files, and weights that were changed."""

    def change(
        files: dict[str, object], weights: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]] = dict
    ) -> Path:
        folder = shutil.copytree(tiny_bert, tmp_path / "changed", dirs_exist_ok=True)
        for name, content in files.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(json.dumps(content))
        save_file(weights(load_file(tiny_bert / "model.safetensors")), folder / "model.safetensors")
        return folder

    return change


def test_vectors_equal_those_of_pytorch(minilm: "TextEncoder") -> None:
    ours = NumpyTextEncoder(open_text_encoder(OFFLINE_TEXT_ENCODER))
    for side in SIDES:
        assert np.abs(ours.encode(TEXTS, side) - minilm.encode(TEXTS, side).numpy()).max() < 1e-5


def test_long_texts_are_cut_alike(minilm: "TextEncoder") -> None:
    ours = NumpyTextEncoder(open_text_encoder(OFFLINE_TEXT_ENCODER))
    assert ours.max_tokens == minilm.max_tokens == 510
    assert [ours.surplus(text, "question") for text in LONGER] == [0, 0, 1, 390]
    assert [minilm.surplus(text, "question") for text in LONGER] == [0, 0, 1, 390]
    vectors = ours.encode(LONGER, "question")
    assert np.abs(vectors - minilm.encode(LONGER, "question").numpy()).max() < 1e-5
    assert np.allclose(vectors[1], vectors[2], atol=1e-6)


@pytest.mark.parametrize("pooling", ["cls", "mean", "max"])
def test_every_pooling_is_that_of_pytorch(changed: Callable[..., Path], pooling: str) -> None:
    require_equal(changed({"1_Pooling/config.json": {"pooling_mode": pooling}}), [*TEXTS, "red dog " * 40])


def test_prompts_count_as_in_pytorch(changed: Callable[..., Path]) -> None:
    prompts = {"prompts": {"query": "where is the ", "document": "red "}}
    folder = changed({"config_sentence_transformers.json": prompts})
    require_equal(folder, [*TEXTS, "dog " * 34, "dog " * 36, "dog " * 50])
    ours = NumpyTextEncoder(open_text_encoder(str(folder)))
    assert ours.surplus("dog " * 36, "question") == 1 and ours.surplus("dog " * 36, "passage") == 0
    assert not np.allclose(ours.encode(["dog"], "question"), ours.encode(["dog"], "passage"), atol=1e-2)


@pytest.mark.parametrize("bias", [True, False])
def test_linear_maps_follow_pooling(changed: Callable[..., Path], bias: bool) -> None:
    modules = [{"type": "sentence_transformers.models.Dense", "path": name} for name in ("2_Dense", "3_Dense")]
    sizes = {"2_Dense": (32, 24), "3_Dense": (24, 12)}
    configs = {f"{n}/config.json": {"in_features": i, "out_features": o, "bias": bias} for n, (i, o) in sizes.items()}
    folder = changed({"modules.json": modules, **configs})
    for name, (into, out) in sizes.items():
        linear = torch.nn.Linear(into, out, bias)
        save_file({f"linear.{key}": value for key, value in linear.state_dict().items()},
                  folder / name / "model.safetensors")  # fmt: skip
    require_equal(folder, TEXTS)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_other_kinds_and_names(changed: Callable[..., Path], kind: torch.dtype) -> None:
    folder = changed({}, lambda weights: {f"bert.{name}": weight.to(kind) for name, weight in weights.items()})
    require_equal(folder, TEXTS)


def test_many_texts_keep_their_order(tiny_bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [" ".join(["dog", "old boat", "red"][: n % 4] * (n % 5 + 1)) for n in range(60)]
    ours = NumpyTextEncoder(open_text_encoder(str(tiny_bert)))
    together = ours.encode(texts)
    monkeypatch.setattr(text_encoder, "BATCH_TOKENS", 25)
    assert np.allclose(ours.encode(texts), together, atol=1e-6)
    assert np.allclose(np.concatenate([ours.encode([text]) for text in texts]), together, atol=1e-6)
    assert ours.encode([]).shape == (0, 32)


def test_other_networks_are_left_to_pytorch(changed: Callable[..., Path], tiny_bert: Path) -> None:
    config = json.loads((tiny_bert / "config.json").read_text())
    for other in ({"model_type": "roberta"}, {"hidden_act": "gelu_new"}, {"hidden_act": "relu"}):
        assert load_query_encoder(open_text_encoder(str(changed({"config.json": config | other}))), "float32") is None


def test_large_ones_in_auto_go_by_hardware(tiny_bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = open_text_encoder(str(tiny_bert))
    assert load_query_encoder(folder, "auto") is not None
    assert load_query_encoder(folder, "bf16") is load_query_encoder(folder, "int8") is None
    weights = sum(m.weight.numel() for m in build_text_encoder(folder).modules() if isinstance(m, torch.nn.Linear))
    for pays_from, taken in ((weights + 1, True), (weights, False)):
        monkeypatch.setattr(text_encoder, "PAYS_FROM", pays_from)
        assert (load_query_encoder(folder, "auto") is not None) == taken
        assert load_query_encoder(folder, "float32") is not None


def test_activation_is_exact_to_float32() -> None:
    values = np.linspace(-9, 9, 20_001, dtype=np.float32)
    exact = [x * (1 + math.erf(x / math.sqrt(2))) / 2 for x in values.tolist()]
    assert np.abs(gelu(values) - exact).max() < 2e-6


@pytest.mark.parametrize("size", [0, 7, 600, -100])
def test_damaged_weights_are_said(changed: Callable[..., Path], size: int) -> None:
    folder = changed({})
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:size])
    with pytest.raises(InputError, match="not a readable text encoder"):
        load_query_encoder(open_text_encoder(str(folder)), "auto")
    with pytest.raises(InputError, match="not a readable text encoder"):
        load_text_encoder(str(folder))


def test_damaged_settings_are_said(changed: Callable[..., Path]) -> None:
    for config in ({"model_type": "bert", "hidden_act": "gelu"}, [], 5):
        with pytest.raises(InputError, match="not a readable text encoder"):
            load_query_encoder(open_text_encoder(str(changed({"config.json": config}))), "auto")


def test_weights_are_mapped_by_name(tmp_path: Path) -> None:
    tensors = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([1.5, -2.0], dtype=torch.bfloat16)}
    save_file({**tensors, "ids": torch.arange(3)}, tmp_path / "w.safetensors", metadata={"format": "pt"})
    weights = MappedWeights(tmp_path / "w.safetensors")
    assert sorted(weights) == ["a", "b"] and len(weights) == 2  # ids are no weights
    assert weights["a"].tolist() == [[0, 1, 2], [3, 4, 5]] and weights["b"].tolist() == [1.5, -2.0]
    assert weights.rows("a", np.array([1, 1])).tolist() == [[3, 4, 5], [3, 4, 5]]


@pytest.mark.parametrize("side", SIDES)
def test_tokens_are_those_of_pytorch(tiny_bert: Path, changed: Callable[..., Path], side: Side) -> None:
    """With a prompt, which has no tokens of the text, and with texts that are too long."""
    folder = changed({"config_sentence_transformers.json": {"prompts": {"query": "where: ", "document": "the dog "}}})
    described = open_text_encoder(str(folder))
    ours, theirs = NumpyTextEncoder(described), build_text_encoder(described)
    texts = ["red dog", "", "Where is the CAT? " * 9, "sun"]
    for one, other in zip(ours.encode_tokens(texts, side), theirs.encode_tokens(texts, side), strict=True):
        assert one.spans == other.spans
        assert len(one.spans) == len(one.vectors)
        assert np.abs(one.vectors - other.vectors).max(initial=0) < 1e-5
    assert [texts[0][start:end] for start, end in ours.encode_tokens(texts, side)[0].spans] == ["red", "dog"]


def test_token_vectors_pool_into_the_text_vector(tiny_bert: Path) -> None:
    """The mean of all tokens' vectors is the text's; those of opening and closing are what is left of it."""
    encoder = build_text_encoder(open_text_encoder(str(tiny_bert)))
    ids = torch.tensor([encoder.token_ids("red dog boat")])
    rows, lengths = encoder.word_embeddings[ids], torch.tensor([3])
    tokens = encoder.encode_tokens(["red dog boat"])[0].vectors
    assert np.abs(tokens - encoder.token_vectors(rows, lengths)[0].numpy()).max() < 1e-6
