"""Checkpoint folders: what is saved is loaded, and what is damaged is said."""

import errno
import json
import re
import shutil
from pathlib import Path

import pytest
import torch

from clsr import checkpoint
from clsr.checkpoint import (
    PASSAGE_PROJECTION,
    average,
    load_passage_projection,
    load_recogniser,
    load_recogniser_weights,
    load_speech_encoder,
    load_text_side,
    load_weights,
    save_checkpoint,
)
from clsr.checkpoint_folder import Meta, fingerprint, load_config, read_meta
from clsr.config import TrainingConfig
from clsr.errors import InputError
from clsr.models.paraformer import Paraformer
from clsr.models.text_encoder import load_text_encoder
from clsr.settings import read_yaml, write_yaml
from clsr.vocabulary import Vocabulary


@pytest.fixture
def copy(tone_model: Path, tmp_path: Path) -> Path:
    """A copy of the trained checkpoint, without its logs and states."""
    return shutil.copytree(tone_model, tmp_path / "copy", ignore=shutil.ignore_patterns("logs", "state"))


def test_what_is_saved_is_loaded(tiny_settings: TrainingConfig, tmp_path: Path):
    torch.manual_seed(0)
    text_encoder = load_text_encoder(tiny_settings.text_encoder)
    vocabulary = Vocabulary.of_texts(["red dog", "blue cat"], text_encoder.tokenizer)
    paraformer = Paraformer(tiny_settings.model, len(vocabulary))
    paraformer.cmvn.shift.fill_(0.5)  # statistics are among the weights
    meta = Meta("asr", tiny_settings.text_encoder, text_encoder.fingerprint, [], "digest", "commit", {"dev/wer": 0.25})
    save_checkpoint(tmp_path / "new" / "model", paraformer.state_dict(), tiny_settings, vocabulary, meta)
    loaded = load_speech_encoder(tmp_path / "new" / "model")
    assert read_meta(tmp_path / "new" / "model") == meta
    assert loaded.vocabulary.pieces == vocabulary.pieces
    assert loaded.text_encoder.fingerprint == text_encoder.fingerprint
    assert not loaded.training
    for name, weight in paraformer.state_dict().items():
        assert torch.equal(loaded.paraformer.state_dict()[name], weight), name
    files = sorted(path.name for path in (tmp_path / "new" / "model").iterdir())
    assert files == ["config.yaml", "meta.json", "model.safetensors", "vocabulary.txt"]


def test_the_mean_of_states():
    states = [
        {"a": torch.tensor([1.0, 5.0]), "steps": torch.tensor(2)},
        {"a": torch.tensor([2.0, 7.0]), "steps": torch.tensor(4)},
    ]
    mean = average(states)
    assert mean["a"].tolist() == [1.5, 6.0]
    assert mean["steps"].item() == 3 and mean["steps"].dtype == torch.long
    assert torch.equal(average(states[:1])["a"], states[0]["a"])


def test_a_fingerprint_covers_weights_vocabulary_and_encoder(copy: Path):
    before = fingerprint(copy)
    assert re.fullmatch("[0-9a-f]{16}", before)
    meta = json.loads((copy / "meta.json").read_text())
    (copy / "meta.json").write_text(json.dumps(meta | {"metrics": {}, "commit": "other"}))
    assert fingerprint(copy) == before
    (copy / "meta.json").write_text(json.dumps(meta | {"text_encoder_fingerprint": "0" * 16}))
    assert fingerprint(copy) != before
    (copy / "meta.json").write_text(json.dumps(meta))
    weights = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    assert fingerprint(copy) != before
    (copy / "vocabulary.txt").unlink()
    with pytest.raises(InputError, match="vocabulary.txt: missing"):
        fingerprint(copy)


def test_the_text_side_needs_no_speech_side(copy: Path):
    (copy / "model.safetensors").unlink()
    assert load_text_side(copy).encode(["red"]).shape == (1, 32)


def test_a_bundled_text_encoder_comes_first(copy: Path, tiny_bert: Path):
    other = load_text_encoder(str(tiny_bert))
    with torch.no_grad():
        other.transformer.word_embeddings.weight.mul_(2)
    other.save(copy / "text_encoder")
    with pytest.raises(InputError, match=r"copy: trained with text encoder .*, but the one found is [0-9a-f]{16}"):
        load_text_side(copy)
    meta = json.loads((copy / "meta.json").read_text())
    inside = load_text_encoder(str(copy / "text_encoder"))
    (copy / "meta.json").write_text(json.dumps(meta | {"text_encoder_fingerprint": inside.fingerprint}))
    assert load_text_side(copy).folder == copy / "text_encoder"


def cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: cut(folder / "model.safetensors"), "model.safetensors: missing or truncated"),
        (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors: missing or truncated"),
        (lambda folder: cut(folder / "meta.json"), "meta.json: damaged"),
        (lambda folder: (folder / "meta.json").unlink(), r"no checkpoint \(no meta.json\)"),
        (lambda folder: (folder / "meta.json").write_text('{"kind": "asr"}'), "meta.json: damaged"),
        (lambda folder: (folder / "vocabulary.txt").unlink(), "vocabulary.txt: missing"),
        (lambda folder: (folder / "config.yaml").unlink(), "config.yaml: cannot be read"),
        (lambda folder: (folder / "config.yaml").write_text("sead: 1"), "config.yaml: .*--sead=1"),
    ],
)
def test_damage_names_the_file(copy: Path, damage, message: str):
    damage(copy)
    with pytest.raises(InputError, match=message) as caught:
        load_speech_encoder(copy)
    assert "\n" not in str(caught.value)


def test_a_vocabulary_that_lost_its_end(copy: Path):
    lines = (copy / "vocabulary.txt").read_text().splitlines(keepends=True)
    (copy / "vocabulary.txt").write_text("".join(lines[:-1]))
    size = len(lines)
    with pytest.raises(
        InputError, match=rf"decoder.output_layer.weight is \({size}, 32\) there, \({size - 1}, 32\) in"
    ):
        load_speech_encoder(copy)


def test_settings_of_another_size(copy: Path):
    values = read_yaml(copy / "config.yaml")
    values["model"]["encoder"]["layers"] = 3
    (copy / "config.yaml").write_text(json.dumps(values))
    with pytest.raises(InputError, match="weight encoder.encoders.1.* is absent there"):
        load_speech_encoder(copy)


@pytest.mark.parametrize("full_at", ["write", "rename"])
def test_a_full_disk_leaves_the_old_checkpoint(copy: Path, tiny_settings: TrainingConfig, monkeypatch, full_at: str):
    weights = {name: weight + 1 for name, weight in checkpoint.load_weights(copy).items()}
    before = {path: path.read_bytes() for path in copy.iterdir()}
    write = Path.write_bytes

    def fail(path: Path, content: bytes | Path) -> int:
        if isinstance(content, bytes):
            write(path, content[:100])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr({"write": "pathlib.Path.write_bytes", "rename": "os.replace"}[full_at], fail)
    with pytest.raises(InputError, match=r"copy: cannot be written \(No space left on device\)"):
        save_checkpoint(copy, weights, tiny_settings, None, read_meta(copy))
    assert {path: path.read_bytes() for path in copy.iterdir()} == before


def test_an_unfinished_checkpoint_is_none(tmp_path: Path, tiny_settings: TrainingConfig):
    write_yaml(tmp_path / "config.yaml", tiny_settings)
    with pytest.raises(InputError, match="no checkpoint"):
        load_speech_encoder(tmp_path)


@pytest.mark.parametrize("device", ["nonsense", "cuda:99"])
def test_a_device_that_is_not_there(tone_model: Path, release_model: Path, device: str):
    for model in (tone_model, release_model):
        with pytest.raises(InputError, match=f"device '{device}' cannot be used here: take cpu"):
            load_recogniser(model, device)


def test_a_checkpoint_of_version_0_1_is_read():
    """Its weights are named as they were then, and its fingerprint, which an index keeps, stays."""
    folder = Path(__file__).parent / "fixtures" / "version_0_1"
    projection = load_passage_projection(folder / "joint", 32)
    assert projection is not None and not torch.equal(projection.weight, torch.eye(32))
    assert PASSAGE_PROJECTION in load_weights(folder / "joint")
    assert PASSAGE_PROJECTION not in load_recogniser_weights(folder / "joint")
    adaptor = load_config(folder / "joint").model.adaptor
    assert adaptor.passage_projection and adaptor.input == "logits"  # passage_map, log_probabilities
    assert fingerprint(folder / "joint") == json.loads((folder / "index" / "index.json").read_text())["fingerprint"]


def test_passage_projection_is_left_out_elsewhere(
    copy: Path, tiny_bert: Path, wide_bert: Path, caplog: pytest.LogCaptureFixture
):
    weights = load_weights(copy) | {PASSAGE_PROJECTION: 2 * torch.eye(32)}
    vocabulary = Vocabulary.load(copy / "vocabulary.txt", load_text_encoder(str(tiny_bert)).tokenizer)
    save_checkpoint(copy, weights, load_config(copy), vocabulary, read_meta(copy))
    assert load_speech_encoder(copy, text_encoder=str(tiny_bert)).passage_projection is not None
    assert not caplog.records
    assert load_speech_encoder(copy, text_encoder=str(wide_bert)).passage_projection is None
    (record,) = caplog.records
    assert record.getMessage() == f"{copy}: its passage projection is for text encoder {tiny_bert}, so it is left out"


def test_first_differing_piece_refuses_text_encoder(copy: Path, wide_bert: Path, tmp_path: Path):
    other = shutil.copytree(wide_bert, tmp_path / "other")
    text = (other / "tokenizer.json").read_text()
    (other / "tokenizer.json").write_text(text.replace('"dog":', '"##dog":', 1))
    with pytest.raises(
        InputError, match=r"vocabulary.txt:\d+: piece 'dog' has id \d+ here and None in the text encoder"
    ):
        load_speech_encoder(copy, text_encoder=str(other))
    with pytest.raises(InputError, match="name the text encoder .* or another one of the same pieces"):
        load_text_side(copy, text_encoder=str(other))
