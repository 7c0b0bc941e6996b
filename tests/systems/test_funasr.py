"""A released Paraformer as the recogniser of a pipeline."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from clsr.config import TrainingConfig
from clsr.errors import InputError
from clsr.systems.clsr import load_own
from clsr.systems.load import load_rival
from clsr.vocabulary import normalise


def test_a_released_folder_writes_what_its_import_writes(
    tiny_release: Path, release_model: Path, tiny_settings: TrainingConfig, say_in_tones: Callable[[str], np.ndarray]
):
    rival = load_rival(f"funasr:{tiny_release}", tiny_settings.text_encoder)
    assert rival.rows == ("funasr-bge",)
    waveforms = [say_in_tones(text) for text in ("red blue green old", "dog", "cat sun boat red dog blue cat")]
    heard = rival.hear(waveforms)
    own = load_own(release_model, tiny_settings.text_encoder)
    assert heard == [normalise(text) for text in own.transcribe(own.hear(waveforms))] and any(heard)
    assert heard == [rival.hear([waveform])[0] for waveform in waveforms]
    vectors = rival.encode(heard, "funasr-bge", "passage")
    assert vectors.norm(dim=1).tolist() == pytest.approx([1.0] * 3, abs=1e-5)


def test_a_folder_without_a_model_is_named():
    with pytest.raises(InputError, match="nowhere"):
        load_rival("funasr:nowhere")
