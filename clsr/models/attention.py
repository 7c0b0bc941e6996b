"""Attention with a memory: SAN-M for frames, its memory alone for tokens, and tokens that look at frames."""

from __future__ import annotations

from contextlib import nullcontext
from functools import cache
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from clsr.models.dropout import Dropout, drop

Products = Literal["fused", "bfloat16", "onednn"]  # how attention multiplies, see attend
# Not cuDNN's: it plans each shape that it has not met, of attention and of convolutions; batches of speech seldom
# repeat one, and the first pass over them was slow on an H200 (docs/results/speed.md).
KERNELS = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
LONG = 256  # frames to look at, from which on oneDNN's products are faster than the fused kernel
LAYER_NORM_EPSILON = 1e-12  # as in the released Paraformer models


class MemoryBlock(nn.Conv1d):
    """Depthwise convolution over time, centred, without bias: the memory of DFSMN and SAN-M (arXiv:2006.01713)."""

    def __init__(self, width: int, kernel: int):
        super().__init__(width, width, kernel, groups=width, bias=False)

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
        """Return memory plus input, ``(B, T, D)``, zero on padding; padding is never read."""
        values = values * mask[:, :, None]
        by_products = values.device.type == "cuda" and self.training  # at inference shapes do repeat: windows are alike
        memory = self._by_products(values) if by_products else self._by_convolution(values)
        return (memory + values) * mask[:, :, None]

    def _by_products(self, values: Tensor) -> Tensor:
        """Weight what the kernel covers and add it up: the same without cuDNN, see KERNELS."""
        kernel = self.kernel_size[0]
        left = (kernel - 1) // 2
        covered = F.pad(values, (0, 0, left, kernel - 1 - left)).unfold(1, kernel, 1)  # (B, T, D, K)
        return (covered * self.weight.squeeze(1)).sum(3).to(values.dtype)

    def _by_convolution(self, values: Tensor) -> Tensor:
        kernel = self.kernel_size[0]
        left = (kernel - 1) // 2
        # A (B, T, D) tensor seen as an image of height 1 is already channels-last: the fast depthwise path on CPU.
        image = values.transpose(1, 2).unsqueeze(2)
        if kernel % 2:
            memory = F.conv2d(image, self.weight.unsqueeze(2), padding=(0, left), groups=self.groups)
        else:
            padded = F.pad(image, (left, kernel - 1 - left))
            memory = F.conv2d(padded, self.weight.unsqueeze(2), groups=self.groups)
        return memory.squeeze(2).transpose(1, 2)


def _split_heads(values: Tensor, heads: int) -> Tensor:
    return values.unflatten(-1, (heads, -1)).transpose(1, 2)  # (B, H, T, D / H)


def attend(
    queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor, heads: int, dropout: float = 0.0,
    products: Products = "fused",
) -> Tensor:  # fmt: skip
    """Scaled dot-product attention (arXiv:1706.03762).

    Args:
        queries: ``(B, U, D)``.
        keys: ``(B, T, D)``.
        values: ``(B, T, D)``.
        mask: True on what may be looked at, ``(B, T)``.
        heads: that the width is split into.
        dropout: share of weights dropped.
        products: "fused" is torch's own kernel, "bfloat16" the same on rounded inputs; "onednn", for float32 on a
            processor without dropout, multiplies by oneDNN where there is much to look at.

    Returns:
        The heads joined again: ``(B, U, D)``, of the type of the queries.
    """
    dtype = torch.bfloat16 if products == "bfloat16" else queries.dtype
    q, k, v = (_split_heads(x.to(dtype), heads) for x in (queries, keys, values))
    if products == "onednn" and k.shape[2] >= LONG:
        context = _by_onednn(q, k, v, mask)
    elif q.device.type == "cpu" and (dropout or (dtype == torch.bfloat16 and not multiplies_tiles())):
        context = _written_out(q, k, v, mask, dropout)
    else:
        with sdpa_kernel(KERNELS) if q.device.type == "cuda" else nullcontext():
            context = F.scaled_dot_product_attention(q, k, v, mask[:, None, None, :], dropout)
    return context.transpose(1, 2).flatten(2).to(queries.dtype)


def _written_out(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor, dropout: float) -> Tensor:
    """The same for heads ``(B, H, T, D / H)`` on a CPU, where torch's own is slow.

    It has no fast attention with dropout there, and its fused one multiplies bfloat16 no faster than float32 without
    AMX; plain products do three times as much. Where all is masked the result is any number, but a number.
    """
    scores = (queries * queries.shape[-1] ** -0.5) @ keys.transpose(2, 3) + _bias(mask, queries.dtype)[:, None, None]
    weights = scores.softmax(3)
    return (drop(weights, dropout) if dropout else weights) @ values


@cache
def multiplies_tiles() -> bool:
    """Whether the processor multiplies tiles of bfloat16 (AMX): four times as many as by its vectors."""
    return torch.cpu._is_amx_tile_supported()


def _by_onednn(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """The same for heads ``(B, H, T, D / H)`` of float32 on a CPU, one head after the other.

    OneDNN's products are fast enough to make up for the scores that torch's fused kernel never writes down, if they are
    large. Where all is masked the result is any number, but a number.
    """
    multiply = torch.ops.mkldnn._linear_pointwise
    rows, columns = (queries * queries.shape[-1] ** -0.5).contiguous(), keys.contiguous()
    values, bias = values.transpose(2, 3).contiguous(), _bias(mask, queries.dtype)
    context = torch.empty_like(rows)
    for i in range(len(rows)):
        for h in range(rows.shape[1]):
            scores = multiply(rows[i, h], columns[i, h], None, "none", [], "").add_(bias[i])
            context[i, h] = multiply(scores.softmax(1), values[i, h], None, "none", [], "")
    return context


def _bias(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """What is added to scores, ``(B, T)``: 0, or the least number where nothing may be looked at."""
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(~mask, torch.finfo(dtype).min)


class SelfAttention(nn.Module):
    """Memory-equipped self-attention, SAN-M (Gao et al., arXiv:2006.01713)::

    y = attention(q, k, v) W_out + memory(v) + v
    """

    def __init__(self, input_width: int, width: int, heads: int, kernel: int, dropout: float):
        super().__init__()
        self.heads = heads
        self.products: Products = "fused"
        self.linear_q_k_v = nn.Linear(input_width, 3 * width)
        self.linear_out = nn.Linear(width, width)
        self.fsmn_block = MemoryBlock(width, kernel)
        self.dropout = Dropout(dropout)

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """Turn frames ``(B, T, D_in)`` with mask ``(B, T)`` into ``(B, T, D)``."""
        queries, keys, values = self.linear_q_k_v(frames).chunk(3, dim=-1)
        memory = self.dropout(self.fsmn_block(values, mask))
        dropout = self.dropout.p if self.training else 0.0
        context = attend(queries, keys, values, mask, self.heads, dropout, self.products)
        return self.linear_out(context) + memory


class MemoryAttention(nn.Module):
    """The decoder's self-attention of SAN-M: its memory block alone."""

    def __init__(self, width: int, kernel: int, dropout: float):
        super().__init__()
        self.fsmn_block = MemoryBlock(width, kernel)
        self.dropout = Dropout(dropout)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Turn tokens ``(B, U, D)`` with mask ``(B, U)`` into ``(B, U, D)``."""
        return self.dropout(self.fsmn_block(tokens, mask))


class CrossAttention(nn.Module):
    """Tokens look at frames; those of several hypotheses of an utterance look at the same."""

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.heads = heads
        self.products: Products = "fused"
        self.linear_q = nn.Linear(width, width)
        self.linear_k_v = nn.Linear(width, 2 * width)
        self.linear_out = nn.Linear(width, width)
        self.dropout = dropout

    def forward(self, tokens: Tensor, frames: Tensor, frame_mask: Tensor) -> Tensor:
        """Return for tokens ``(R * B, U, D)`` what they read from frames ``(B, T, D)``: ``(R * B, U, D)``."""
        keys, values = self.linear_k_v(frames).chunk(2, dim=-1)
        queries = self.linear_q(tokens).reshape(len(frames), -1, tokens.shape[2])  # (B, R * U, D)
        dropout = self.dropout if self.training else 0.0
        context = attend(queries, keys, values, frame_mask, self.heads, dropout, self.products)
        return self.linear_out(context.reshape(tokens.shape))


def layer_norm(width: int, epsilon: float = LAYER_NORM_EPSILON) -> nn.LayerNorm:
    """Layer normalisation, by default with the epsilon of the released Paraformers."""
    return nn.LayerNorm(width, eps=epsilon)


def sinusoidal_positions(count: int, width: int, device: torch.device) -> Tensor:
    """Return position vectors ``(count, width)`` for positions 1 to ``count``: sines, then cosines.

    Time scales run geometrically from 1 to 10,000 over ``width / 2`` channels (arXiv:1706.03762, in the
    tensor2tensor arrangement that Paraformer uses).
    """
    half = width // 2
    rates = torch.exp(torch.arange(half, device=device) * (-torch.log(torch.tensor(1e4)) / (half - 1)))
    angles = torch.arange(1, count + 1, device=device)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)
