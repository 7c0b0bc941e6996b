"""A model of clsr in sentence-transformers: the same vectors, from every kind of input."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import MultiVectorEncoder, SentenceTransformer

from clsr.adapters.sentence_transformers import export, load
from clsr.audio.clip import Clip
from clsr.audio.waveform import write_waveform
from clsr.cli.main import main
from clsr.errors import InputError
from clsr.model import LONGEST_S, Model
from clsr.model import load as load_model

Say = Callable[[str], np.ndarray]
GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "sentence-transformers.md"


@pytest.fixture(scope="module")
def folder(tone_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "st"
    assert main(["export", "st", str(tone_model), str(path)]) == 0
    return path


@pytest.fixture(scope="module")
def exported(folder: Path) -> SentenceTransformer:
    return SentenceTransformer(str(folder), trust_remote_code=True, device="cpu")


@pytest.fixture(scope="module")
def model(tone_model: Path) -> Model:
    return load_model(tone_model)


def equal(found: object, wanted: object) -> bool:
    return bool(np.abs(np.asarray(found) - np.asarray(wanted)).max() <= 1e-6)


def message(*parts: tuple[str, object]) -> list[dict]:
    return [{"role": "user", "content": [{"type": kind, kind: value} for kind, value in parts]}]


def test_folder_says_which_kinds_of_input(exported: SentenceTransformer, folder: Path) -> None:
    assert exported.modalities == ["text", "audio", ("audio", "text"), "message"]
    config = json.loads((folder / "sentence_bert_config.json").read_text())
    assert list(config["modality_config"]) == ["text", "audio", "audio+text", "message"]
    config["modality_config"].pop("message"), config["modality_config"].pop("audio+text")
    narrow = type(exported[0]).load(str(folder))
    assert narrow.modalities == exported.modalities
    (folder / "sentence_bert_config.json").write_text(json.dumps(config))
    assert SentenceTransformer(str(folder), trust_remote_code=True, device="cpu").modalities == ["text", "audio"]


def test_vectors_are_those_of_clsr(exported: SentenceTransformer, model: Model, say_in_tones: Say, tmp_path) -> None:
    speech = say_in_tones("red dog")
    write_waveform(tmp_path / "clip.wav", speech)
    clip = tmp_path / "clip.wav"
    inputs = ["old boat", str(clip), message(("text", "where is the"), ("audio", str(clip)), ("text", "sun"))]
    wanted = ["old boat", clip, ["where is the", clip, "sun"]]
    assert equal(exported.encode_query(inputs), model.encode(wanted, side="question"))
    assert equal(exported.encode_document(inputs), model.encode(wanted))
    assert equal(exported.encode(inputs[1]), model.encode(clip))
    both = model.encode([[speech, "old boat"]])
    assert equal(exported.encode([{"audio": speech, "text": "old boat"}]), both)
    assert equal(
        exported.encode([message(("text", "old boat"), ("audio", speech))]), model.encode([["old boat", speech]])
    )


def test_audio_comes_in_every_form(exported: SentenceTransformer, model: Model, say_in_tones: Say) -> None:
    speech = say_in_tones("red dog old cat")
    wanted = model.encode(speech)
    stereo = np.stack([speech * 0.5, speech * 1.5])
    for form in (
        speech,
        torch.from_numpy(speech),
        stereo,
        {"array": speech, "sampling_rate": 16000},
        {"audio": speech},
    ):
        assert equal(exported.encode([form])[0], wanted)
    halved = speech[::2]
    assert equal(exported.encode([{"array": halved, "sampling_rate": 8000}])[0], model.encode(Clip(halved, rate=8000)))


def test_order_of_parts_is_kept(exported: SentenceTransformer) -> None:
    one, other = exported.encode([message(("text", "dog"), ("text", "cat")), message(("text", "cat"), ("text", "dog"))])
    assert abs(one @ other) < 1 - 1e-4
    turns = [{"role": "user", "content": "dog"}, {"role": "assistant", "content": "cat"}]
    assert equal(exported.encode([turns])[0], one)


def test_long_audio_is_read_in_pieces(exported: SentenceTransformer, model: Model, say_in_tones: Say) -> None:
    word = say_in_tones("dog")
    silent = np.zeros(int(LONGEST_S * 16000) - len(word), np.float32)
    long = np.concatenate([word, silent, word])
    with pytest.raises(InputError, match="lasts longer than 60 s"):
        model.encode(long)
    assert np.isfinite(exported.encode([long])).all()


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        (("dog", np.zeros(9, np.float32)), "input 1: Unsupported input type: tuple"),
        ([message(("image", "x.png"))], r"input 1: a message has {'type': 'image'.*; give text or audio"),
        ([message()], "input 1: has no parts; give text or audio"),
        ([{"audio": "nowhere.wav"}], "input 1, part 1: nowhere.wav: no such audio file"),
        ([{"audio": object()}], "input 1, part 1: is of type object; give a path"),
    ],
)
def test_faulty_inputs_are_named(exported: SentenceTransformer, given: object, fault: str) -> None:
    with pytest.raises(InputError, match=fault):
        exported.encode([given] if isinstance(given, tuple) else given)


def test_a_prompt_comes_before_the_input(exported: SentenceTransformer, model: Model, say_in_tones: Say) -> None:
    speech = say_in_tones("old boat")
    found = exported.encode(["dog", speech], prompt="where is the ")
    assert equal(found, model.encode(["where is the dog", ["where is the ", speech]]))
    exported[0].loaded.text_encoder.prompts["question"] = "the "
    try:
        with pytest.raises(InputError, match="prompt 'where ': the text encoder has its own, 'the '; leave it out"):
            exported.encode_query(["dog"], prompt="where ")
    finally:
        exported[0].loaded.text_encoder.prompts.pop("question")


def test_load_needs_no_remote_code(folder: Path, tone_model: Path, model: Model) -> None:
    for reference in (folder, tone_model):
        assert equal(load(reference).encode(["old boat"]), model.encode(["old boat"]))
    with pytest.raises(ValueError, match="trust_remote_code=True"):
        SentenceTransformer(str(folder))


def test_unmet_requirements_are_one_line(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "st").symlink_to(folder)
    path = folder / "config_sentence_transformers.json"
    config = json.loads(path.read_text())
    assert config["requirements"]["clsr"].startswith(">=")
    path.write_text(json.dumps(config | {"requirements": {"clsr": ">=99"}}))
    try:
        with pytest.raises(
            InputError, match=r"^The model '.*' requires: - clsr>=99, but clsr==.* is installed. [^\n]*$"
        ):
            load(folder)
    finally:
        path.write_text(json.dumps(config))


def test_exported_folder_stands_alone(folder: Path, tone_model: Path, capsys: pytest.CaptureFixture) -> None:
    names = {file.name for file in (folder / "model").iterdir()}
    assert {"model.safetensors", "config.yaml", "vocabulary.txt", "meta.json", "text_encoder"} <= names
    assert str(tone_model) not in (folder / "sentence_bert_config.json").read_text()
    assert main(["export", "st", str(tone_model), str(folder)]) == 2
    assert "is there already" in capsys.readouterr().err


def test_folder_is_saved_again(exported: SentenceTransformer, tmp_path: Path) -> None:
    exported.save_pretrained(str(tmp_path / "again"), create_model_card=False)
    again = SentenceTransformer(str(tmp_path / "again"), trust_remote_code=True, device="cpu")
    assert equal(again.encode(["dog"]), exported.encode(["dog"]))


def test_multi_vectors_are_those_of_tokens(tone_model: Path, model: Model, say_in_tones: Say, tmp_path: Path) -> None:
    export(tone_model, tmp_path / "tokens", multi_vector=True)
    found = MultiVectorEncoder(str(tmp_path / "tokens"), trust_remote_code=True, device="cpu")
    speech = say_in_tones("red dog")
    questions, passages = found.encode_query(["old boat", "sun"]), found.encode_document([speech, "cat", ""])
    texts = model.text_encoder.encode_tokens(["old boat", "sun"], "question")
    assert all(equal(one, text.vectors) for one, text in zip(questions, texts, strict=True))
    of_speech, of_text = model.token_vectors([speech, "cat"])
    assert equal(passages[0], of_speech) and equal(passages[1], of_text)
    assert found.get_embedding_dimension() == 32 and passages[2].abs().sum() == 0
    scores = found.similarity(questions, passages)
    assert scores[0, 0].item() == pytest.approx((texts[0].vectors @ of_speech.T).max(1).sum(), abs=1e-5)
    assert scores[0, 2].item() == 0


def test_guide_does_what_it_says(tone_model: Path, say_in_tones: Say, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    for name, words in (("talk.wav", "red dog"), ("other.opus", "old boat green sun"), ("clip.wav", "blue cat")):
        write_waveform(tmp_path / name.replace(".opus", ".wav"), say_in_tones(words))
    (tmp_path / "other.wav").rename(tmp_path / "other.opus")  # the content says what it is
    export(tone_model, Path("joint-st"))
    export(tone_model, Path("joint-tokens"), multi_vector=True)
    blocks = re.findall(r"^```python\n(.*?)^```", GUIDE.read_text(), re.DOTALL | re.MULTILINE)
    for block in blocks:
        exec(compile(block, str(GUIDE), "exec"), {})
    assert len(blocks) == 3 and capsys.readouterr().out.count("tensor(") == 2


def test_prompts_known_by_name_go_along(tone_model: Path, tiny_bert: Path, tmp_path: Path) -> None:
    encoder = tmp_path / "e5-small"
    shutil.copytree(tiny_bert, encoder)
    export(tone_model, tmp_path / "st", str(encoder))
    found = SentenceTransformer(str(tmp_path / "st"), trust_remote_code=True, device="cpu")
    assert found.prompts == {"query": "query: ", "document": "passage: "}
    model = load_model(tone_model, text_encoder=str(encoder))
    wanted = model.encode(["old boat"], side="question")
    shutil.rmtree(encoder)
    assert equal(found.encode_query(["old boat"]), wanted)
