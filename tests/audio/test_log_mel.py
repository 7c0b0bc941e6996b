"""Whisper's features are those of transformers."""

import numpy as np
import pytest
import torch

from clsr.audio.log_mel import log_mel


@pytest.mark.parametrize("bins", [80, 128])
def test_features_equal_those_of_transformers(bins: int):
    from transformers import WhisperFeatureExtractor

    rng = np.random.default_rng(0)
    waveform = (0.1 * rng.standard_normal(3 * 16_000)).astype(np.float32)
    extractor = WhisperFeatureExtractor(feature_size=bins)
    expected = extractor(waveform, sampling_rate=16_000, return_tensors="pt")["input_features"]
    padded = torch.zeros(1, 30 * 16_000)
    padded[0, : len(waveform)] = torch.from_numpy(waveform)
    found = log_mel(padded, bins)
    assert found.shape == (1, bins, 3000)
    assert torch.allclose(found, expected, atol=2e-4)


def test_silence_is_eight_powers_below_the_loudest():
    waveforms = torch.zeros(1, 16_000)
    waveforms[0, :8000] = torch.sin(torch.arange(8000) * 0.3)
    features = log_mel(waveforms)[0]
    assert features.max() - features[:, -10:].max() == pytest.approx(8 / 4)
