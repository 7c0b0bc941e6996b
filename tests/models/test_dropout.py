"""Dropout: how much is dropped, what is kept, and what goes back."""

import pytest
import torch
from torch import nn

from clsr.models.dropout import Dropout, drop


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_dropout_drops_its_share_and_scales_the_rest(share: float):
    torch.manual_seed(0)
    kept = drop(torch.ones(100_000, 8), share)
    levels = round(share * 65536)
    assert kept.unique().tolist() == [0.0, pytest.approx(65536 / (65536 - levels))]
    dropped = (kept == 0).float().mean(0)  # of each place among those that share bits
    assert torch.allclose(dropped, torch.full((8,), share), atol=5 * (share * (1 - share) / 100_000) ** 0.5)


def test_neighbours_are_dropped_independently():
    torch.manual_seed(0)
    dropped = (drop(torch.ones(200_000, 4), 0.3) == 0).float()
    assert torch.allclose(torch.corrcoef(dropped.T), torch.eye(4), atol=5 / 200_000**0.5)


def test_uneven_and_unordered_rows():
    torch.manual_seed(0)
    values = torch.randn(3, 5, 7).transpose(0, 2)
    kept = drop(values, 0.5)
    assert kept.shape == values.shape
    assert ((kept == 0) | torch.isclose(kept, 2 * values)).all() and (kept == 0).any() and (kept != 0).any()


def test_the_gradient_goes_where_the_value_went():
    torch.manual_seed(0)
    values = (torch.rand(50) + 1).requires_grad_()
    kept = drop(values, 0.4)
    kept.sum().backward()
    assert values.grad is not None and torch.allclose(values.grad, kept.detach() / values.detach())


def test_dropout_is_seeded_and_off_at_inference():
    layer, values = Dropout(0.3), torch.randn(4, 9)
    torch.manual_seed(5)
    first = layer(values)
    assert not torch.equal(layer(values), first)
    torch.manual_seed(5)
    assert torch.equal(layer(values), first)
    assert torch.equal(layer.eval()(values), values)
    assert isinstance(layer, nn.Dropout)


def test_nothing_and_everything():
    values = torch.randn(4, 9)
    assert torch.equal(Dropout(0.0)(values), values)
    assert not Dropout(1.0)(values).any()
    assert torch.equal(drop(values, 0.0), values)
