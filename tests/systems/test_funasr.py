"""A released Paraformer as the recogniser of a pipeline."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from clsr.config import TrainingConfig
from clsr.errors import InputError
from clsr.systems.clsr import load_clsr
from clsr.systems.load import load_system
from clsr.vocabulary import normalise


def test_a_released_folder_writes_what_its_import_writes(
    tiny_release: Path, release_model: Path, tiny_settings: TrainingConfig, say_in_tones: Callable[[str], np.ndarray]
):
    system = load_system(f"funasr:{tiny_release}", tiny_settings.text_encoder)
    assert system.rows == ("funasr-bge",)
    waveforms = [say_in_tones(text) for text in ("red blue green old", "dog", "cat sun boat red dog blue cat")]
    recognised = system.recognise(waveforms)
    own = load_clsr(release_model, tiny_settings.text_encoder)
    assert recognised == [normalise(text) for text in own.transcribe(own.recognise(waveforms))] and any(recognised)
    assert recognised == [system.recognise([waveform])[0] for waveform in waveforms]
    vectors = system.encode(recognised, "funasr-bge", "passage")
    assert vectors.norm(dim=1).tolist() == pytest.approx([1.0] * 3, abs=1e-5)


def test_a_folder_without_a_model_is_named():
    with pytest.raises(InputError, match="nowhere"):
        load_system("funasr:nowhere")
