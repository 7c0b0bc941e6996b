"""The SAN-M encoder: what padding, order and residuals do."""

import torch
from torch import nn

from clsr.config import EncoderConfig
from clsr.models.encoder import EncoderLayer, SanmEncoder
from clsr.padding import pad

TINY = EncoderConfig(width=16, hidden=24, layers=3, heads=2, kernel=5)


def encoder() -> SanmEncoder:
    torch.manual_seed(0)
    return SanmEncoder(10, TINY).eval()


def test_padding_and_batch_order_change_nothing():
    model = encoder()
    rows = [torch.randn(length, 10) for length in (7, 1, 12)]
    features, lengths = pad(rows)
    features[1, 1:] = 1e4  # padding may hold anything
    frames, mask = model(features, lengths)
    assert mask.sum(1).tolist() == [7, 1, 12]
    turned, _ = model(features.flip(0), lengths.flip(0))
    for i, row in enumerate(rows):
        alone, _ = model(row[None], lengths[i : i + 1])
        assert torch.allclose(frames[i, : len(row)], alone[0], atol=1e-5)
        assert torch.allclose(frames[i], turned[2 - i], atol=1e-5)
        assert not frames[i, len(row) :].any()


def test_only_layers_of_equal_width_have_a_residual():
    mask = torch.ones(1, 4, dtype=torch.bool)
    for input_width, kept in ((16, 1.0), (10, 0.0)):
        layer = EncoderLayer(input_width, TINY)
        for weight in layer.parameters():  # nothing gets through attention and feed-forward
            nn.init.zeros_(weight)
        frames = torch.randn(1, 4, input_width)
        expected = kept * frames if kept else torch.zeros(1, 4, 16)
        assert torch.equal(layer(frames, mask), expected)


def test_order_in_time_matters():
    model = encoder()
    features, lengths = torch.randn(1, 6, 10), torch.tensor([6])
    frames, _ = model(features, lengths)
    turned, _ = model(features.flip(1), lengths)
    assert not torch.allclose(frames, turned.flip(1), atol=1e-2)


def test_every_parameter_but_the_key_bias_learns():
    model = encoder()
    frames, _ = model(torch.randn(2, 6, 10), torch.tensor([6, 4]))
    (frames * torch.randn_like(frames)).sum().backward()
    for name, weight in model.named_parameters():
        assert weight.grad is not None and weight.grad.abs().sum() > 0, name
