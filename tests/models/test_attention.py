"""Memory blocks and attention, against loops."""

import math

import pytest
import torch
from torch import Tensor

from clsr.models.attention import CrossAttention, MemoryBlock, SelfAttention, sinusoidal_positions
from clsr.padding import length_mask


def slow_memory(block: MemoryBlock, values: Tensor, length: int) -> Tensor:
    """Weigh the neighbours of each frame; those outside the utterance are zero. The later half is the longer one."""
    kernel = block.kernel_size[0]
    left = (kernel - 1) // 2
    rows = torch.zeros_like(values)
    for t in range(length):
        rows[t] = values[t]
        for k in range(kernel):
            if 0 <= t + k - left < length:
                rows[t] += block.weight[:, 0, k] * values[t + k - left]
    return rows


def slow_attention(queries: Tensor, keys: Tensor, values: Tensor, heads: int) -> Tensor:
    size = queries.shape[1] // heads
    rows = []
    for query in queries:
        parts = []
        for h in range(heads):
            part = slice(h * size, (h + 1) * size)
            weights = torch.softmax(torch.stack([query[part] @ key[part] / math.sqrt(size) for key in keys]), 0)
            parts.append(sum(weight * value[part] for weight, value in zip(weights, values)))
        rows.append(torch.cat(parts))
    return torch.stack(rows)


@pytest.mark.parametrize("kernel", [1, 3, 4, 11])
def test_memory_is_a_weighted_neighbourhood_plus_the_input(kernel: int):
    torch.manual_seed(0)
    block = MemoryBlock(5, kernel)
    values, lengths = torch.randn(3, 7, 5), torch.tensor([7, 1, 4])
    memory = block(values, length_mask(lengths))
    for row, length in enumerate(lengths.tolist()):
        assert torch.allclose(
            memory[row], slow_memory(block, values[row], length) * (torch.arange(7) < length)[:, None]
        )


@pytest.mark.parametrize("kernel", [1, 3, 4, 11])
def test_products_equal_convolution_for_the_memory(kernel: int):
    torch.manual_seed(0)
    block, values = MemoryBlock(6, kernel), torch.randn(3, 9, 6, requires_grad=True)
    wanted = torch.randn(3, 9, 6)
    results = []
    for compute in (block._by_convolution, block._by_products):
        memory = compute(values)
        gradients = torch.autograd.grad((memory * wanted).sum(), (values, block.weight))
        results.append((memory, *gradients))
    for expected, found in zip(*results, strict=True):
        assert torch.allclose(found, expected, atol=1e-5)
    assert block._by_products(values.bfloat16()).dtype == torch.bfloat16


def test_self_attention_is_attention_plus_memory():
    torch.manual_seed(0)
    layer = SelfAttention(6, 8, heads=2, kernel=3, dropout=0.0)
    frames, lengths = torch.randn(2, 5, 6), torch.tensor([5, 3])
    attended = layer(frames, length_mask(lengths))
    for row, length in enumerate(lengths.tolist()):
        queries, keys, values = layer.linear_q_k_v(frames[row, :length]).split(8, dim=1)
        context = layer.linear_out(slow_attention(queries, keys, values, 2))
        expected = context + slow_memory(layer.fsmn_block, values, length)
        assert torch.allclose(attended[row, :length], expected, atol=1e-6)


def test_cross_attention_reads_frames_and_no_padding():
    torch.manual_seed(0)
    layer = CrossAttention(8, heads=4, dropout=0.0)
    tokens, frames, lengths = torch.randn(2, 3, 8), torch.randn(2, 6, 8), torch.tensor([6, 2])
    attended = layer(tokens, frames, length_mask(lengths))
    for row, length in enumerate(lengths.tolist()):
        keys, values = layer.linear_k_v(frames[row, :length]).split(8, dim=1)
        expected = layer.linear_out(slow_attention(layer.linear_q(tokens[row]), keys, values, 4))
        assert torch.allclose(attended[row], expected, atol=1e-6)


def test_dropout_is_for_training_only():
    torch.manual_seed(0)
    frames, mask = torch.randn(1, 4, 8), torch.ones(1, 4, dtype=torch.bool)
    layer = SelfAttention(8, 8, heads=2, kernel=3, dropout=0.5)
    assert not torch.equal(layer(frames, mask), layer(frames, mask))
    layer.eval()
    assert torch.equal(layer(frames, mask), layer(frames, mask))


def test_positions_count_from_one_sines_first():
    positions = sinusoidal_positions(3, 6, torch.device("cpu"))
    for t in (1, 2, 3):
        angles = [t * 1.0, t * 0.01, t * 1e-4]  # from 1 to 10,000 in three equal steps
        expected = [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
        assert positions[t - 1].tolist() == pytest.approx(expected, abs=1e-6)


def test_attention_with_dropout_is_the_same_attention(monkeypatch: pytest.MonkeyPatch):
    """Written out for dropout on a CPU: values and gradients are those without, where nothing is dropped."""
    torch.manual_seed(0)
    plain, dropping = (SelfAttention(8, 8, heads=2, kernel=3, dropout=share) for share in (0.0, 0.5))
    dropping.load_state_dict(plain.state_dict())
    monkeypatch.setattr("clsr.models.attention.drop", lambda values, share: values)
    monkeypatch.setattr("clsr.models.dropout.drop", lambda values, share: values)
    frames, mask, weights = torch.randn(2, 5, 8), length_mask(torch.tensor([5, 3])), torch.randn(2, 5, 8)
    inputs = [frames.clone().requires_grad_() for _ in range(2)]
    outputs = [layer(x, mask) for layer, x in zip((plain, dropping), inputs)]
    assert torch.allclose(outputs[1], outputs[0], atol=1e-6)
    for output in outputs:
        (output * weights * mask[:, :, None]).sum().backward()
    assert inputs[0].grad is not None and inputs[1].grad is not None
    assert torch.allclose(inputs[1].grad, inputs[0].grad, atol=1e-5)
    for ours, theirs in zip(plain.parameters(), dropping.parameters()):
        assert ours.grad is not None and theirs.grad is not None
        assert torch.allclose(theirs.grad, ours.grad, atol=1e-5)


def test_attention_drops_weights_and_not_values():
    """What is dropped changes from draw to draw, and its mean is what attention without dropout gives."""
    torch.manual_seed(0)
    layer = CrossAttention(8, heads=2, dropout=0.4)
    tokens, frames, mask = torch.randn(1, 3, 8), torch.randn(1, 6, 8), length_mask(torch.tensor([5]), 6)
    mean = layer(tokens.expand(20_000, -1, -1), frames.expand(20_000, -1, -1), mask.expand(20_000, -1)).mean(0)
    assert torch.allclose(mean, layer.eval()(tokens, frames, mask)[0], atol=0.01)
