"""Rows of a frozen front end on disk, by the content of the waveform."""

from pathlib import Path

import numpy as np
import pytest
import torch

from clsr.data.feature_cache import FeatureCache
from clsr.errors import InputError


def test_nothing_is_computed_twice(tmp_path: Path):
    calls = []

    def extract(waveform: np.ndarray) -> torch.Tensor:
        calls.append(len(waveform))
        return torch.from_numpy(waveform[:4].reshape(2, 2))

    waveform = np.arange(8, dtype=np.float32)
    cache = FeatureCache(tmp_path, extract, "abc")
    assert torch.equal(cache(waveform), cache(waveform.copy())) and calls == [8]
    cache(waveform + 1)
    FeatureCache(tmp_path, extract, "other")(waveform)
    assert calls == [8, 8, 8] and len(list(tmp_path.rglob("*.npy"))) == 3
    assert not list(tmp_path.rglob("*.partial"))


def test_a_folder_that_cannot_be_made(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"data.feature_dir: .* cannot be written"):
        FeatureCache(tmp_path / "file", lambda waveform: torch.zeros(1, 1), "abc")(np.zeros(3, np.float32))
