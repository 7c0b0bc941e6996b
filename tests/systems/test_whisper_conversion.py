"""Hugging Face's layout of Whisper, converted once."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import clsr
from clsr.config import TrainingConfig
from clsr.errors import InputError
from clsr.systems.whisper import load_whisper, new_whisper
from clsr.systems.whisper_folder import in_ctranslate2, repeats_itself
from clsr.systems.whisper_recogniser import WhisperRecogniser
from clsr.wheels import cache_folder

pytest.importorskip("ctranslate2", reason="CTranslate2 is an extra: clsr[people]")


@pytest.fixture
def released(tiny_settings: TrainingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small Whisper with random weights that takes 2 s, in Hugging Face's layout; the cache is empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    torch.manual_seed(0)
    whisper = new_whisper(tiny_settings.model, ["red dog", "the old boat"], 2.0)
    for part in (whisper.model, whisper.extractor, whisper.tokenizer):
        part.save_pretrained(tmp_path / "released")
    return tmp_path / "released"


def noise(seconds: float) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(int(seconds * 16_000)).astype(np.float32)


def test_layouts_are_told_by_content_and_converted_once(released: Path, monkeypatch: pytest.MonkeyPatch):
    converted = in_ctranslate2(released)
    assert converted.parent == cache_folder() / "whisper" and (converted / "model.bin").is_file()
    assert in_ctranslate2(converted) == converted
    monkeypatch.setattr("clsr.systems.whisper_folder._convert", None)
    assert in_ctranslate2(released) == converted


def test_a_converted_model_writes_what_the_original_does(released: Path):
    original = load_whisper(released).write([noise(1.0)])
    model = clsr.load(f"whisper:{released}", precision="float32")
    (found,) = model.recogniser.transcribe([noise(1.0)])
    assert found.text == original[0] or repeats_itself(original[0])  # repetitions are guarded against here
    assert all(0 <= start <= end <= 1.0 for start, end in found.times)
    (longer,) = model.recogniser.transcribe([noise(3.0)])  # in two pieces
    assert len(longer.token_ids) == len(longer.times)
    assert clsr.load(f"faster-whisper:{released}").fingerprint == model.fingerprint


def test_incomplete_and_damaged_folders_are_refused(released: Path, tmp_path: Path):
    for name in ("tokenizer.json", "config.json"):
        copy = shutil.copytree(released, tmp_path / f"without-{name}")
        (copy / name).unlink()
        with pytest.raises(InputError, match=rf"without-{name}: no {name}: name a Whisper folder"):
            in_ctranslate2(copy)
    (released / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(InputError, match="not a readable Whisper model"):
        in_ctranslate2(released)
    assert not list((cache_folder() / "whisper").iterdir())


def test_other_models_leave_nothing_in_the_cache(released: Path):
    tokenizer = json.loads((released / "tokenizer.json").read_text())
    tokenizer["added_tokens"] = [t for t in tokenizer["added_tokens"] if t["content"] != "<|notimestamps|>"]
    tokenizer["model"]["vocab"].pop("<|notimestamps|>", None)
    (released / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(InputError, match=r"released/tokenizer.json: lacks .*: copy tokenizer.json of the released"):
        in_ctranslate2(released)
    assert not (cache_folder() / "whisper").exists()


def test_repeating_transcripts_are_decoded_again(released: Path):
    recogniser = WhisperRecogniser(in_ctranslate2(released), precision="float32")
    assert not any(repeats_itself(text) for text in recogniser.write([noise(1.0), noise(0.5)]))
