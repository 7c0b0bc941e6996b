"""Releases without safetensors: their weights are converted once, and nothing in them is run."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from clsr.errors import InputError
from clsr.hub import find_folder
from clsr.models.text_encoder import load_text_encoder
from clsr.pickled_weights import in_safetensors


@pytest.fixture
def pickled(tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny BERT as older releases are: weights in a pickle, with numbers that are no weights."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "bert"
    shutil.copytree(tiny_bert, folder)
    weights = load_file(folder / "model.safetensors") | {"embeddings.position_ids": torch.arange(4)}
    torch.save(weights, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    return folder


def test_a_text_encoder_is_the_same_from_either(pickled: Path, tiny_bert: Path, tmp_path: Path):
    expected = load_text_encoder(str(tiny_bert)).encode(["red dog"])
    assert torch.equal(load_text_encoder(str(pickled)).encode(["red dog"]), expected)
    converted = find_folder(str(pickled))
    assert converted.is_relative_to(tmp_path / "cache") and (converted / "1_Pooling" / "config.json").is_file()
    before = (converted / "model.safetensors").stat().st_mtime_ns
    assert in_safetensors(pickled) == converted  # as long as no file changes
    assert (converted / "model.safetensors").stat().st_mtime_ns == before
    (pickled / "config.json").write_text((pickled / "config.json").read_text() + "\n")
    assert in_safetensors(pickled) != converted


def test_other_folders_stay_as_they_are(pickled: Path, tiny_bert: Path, tmp_path: Path):
    assert in_safetensors(tiny_bert) == tiny_bert
    (pickled / "model.bin").touch()  # CTranslate2's
    assert in_safetensors(pickled) == pickled
    assert not (tmp_path / "cache").exists()


class Harmful:
    """An object whose unpickling would write a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def test_a_pickle_runs_no_code(pickled: Path, tmp_path: Path):
    torch.save({"weight": Harmful(tmp_path / "harm")}, pickled / "pytorch_model.bin")
    with pytest.raises(InputError, match="pytorch_model.bin: holds more than weights, or is damaged") as error:
        find_folder(str(pickled))
    assert "\n" not in str(error.value) and not (tmp_path / "harm").exists()
    assert not list((tmp_path / "cache").rglob("model.safetensors"))
    (pickled / "pytorch_model.bin").write_bytes(b"PK\x03\x04")
    with pytest.raises(InputError, match="pytorch_model.bin: holds more than weights, or is damaged"):
        find_folder(str(pickled))
