"""The layers of Whisper (Radford et al., arXiv:2212.04356): its encoder, and its decoder made non-autoregressive."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clsr.config import WhisperConfig
from clsr.models.attention import CrossAttention, Products, attend
from clsr.models.decoder import best_outputs
from clsr.models.dropout import Dropout
from clsr.padding import length_mask

MAX_FRAMES = 1500  # positions of the encoder: 30 s


class WhisperFeedForward(nn.Module):
    """Two linear maps with a Gaussian error linear unit between."""

    def __init__(self, width: int):
        super().__init__()
        self.w_1 = nn.Linear(width, 4 * width)
        self.w_2 = nn.Linear(4 * width, width)

    def forward(self, values: Tensor) -> Tensor:
        """Map ``(B, T, D)`` to ``(B, T, D)``."""
        return self.w_2(F.gelu(self.w_1(values)))


class WhisperAttention(nn.Module):
    """Multi-head self-attention, in both directions."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.products: Products = "fused"
        self.linear_q_k_v = nn.Linear(width, 3 * width)
        self.linear_out = nn.Linear(width, width)

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        """Map ``(B, T, D)`` with mask ``(B, T)`` to ``(B, T, D)``."""
        queries, keys, values = self.linear_q_k_v(values).chunk(3, dim=-1)
        return self.linear_out(attend(queries, keys, values, mask, self.heads, products=self.products))


class WhisperEncoderLayer(nn.Module):
    """Pre-norm transformer layer."""

    def __init__(self, config: WhisperConfig):
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width)
        self.self_attn = WhisperAttention(config.width, config.heads)
        self.norm2 = nn.LayerNorm(config.width)
        self.feed_forward = WhisperFeedForward(config.width)

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """Map frames ``(B, T, D)`` with mask ``(B, T)`` to the same."""
        frames = frames + self.self_attn(self.norm1(frames), mask)
        return frames + self.feed_forward(self.norm2(frames))


class WhisperEncoder(nn.Module):
    """Two convolutions and transformer layers, on speech of any length up to 30 s."""

    def __init__(self, config: WhisperConfig):
        super().__init__()
        self.conv1 = nn.Conv1d(config.mel_bins, config.width, 3, padding=1)
        self.conv2 = nn.Conv1d(config.width, config.width, 3, stride=2, padding=1)
        self.positions = nn.Parameter(torch.zeros(MAX_FRAMES, config.width), requires_grad=False)
        self.layers = nn.ModuleList(WhisperEncoderLayer(config) for _ in range(config.layers))
        self.after_norm = nn.LayerNorm(config.width)

    def embed(self, spectrum: Tensor) -> Tensor:
        """Turn a log-mel spectrum ``(B, bins, 2 * T)``, 10 ms a frame, into frames ``(B, T, D)`` of 20 ms."""
        frames = F.gelu(_convolve(self.conv1, spectrum.transpose(1, 2)))
        frames = F.gelu(_convolve(self.conv2, frames))
        return frames + self.positions[: frames.shape[1]]

    def run(self, frames: Tensor, lengths: Tensor, first: int, stop: int) -> Tensor:
        """Run layers ``first`` to ``stop - 1`` on frames ``(B, T, D)`` of lengths ``(B,)``."""
        mask = length_mask(lengths, frames.shape[1])
        for layer in self.layers[first:stop]:
            frames = layer(frames, mask)
        return frames


def _convolve(convolution: nn.Conv1d, frames: Tensor) -> Tensor:
    """Convolve frames ``(B, T, C)`` with a kernel of three, as one product: quicker on processors."""
    padded, step = F.pad(frames, (0, 0, 1, 1)), convolution.stride[0]
    covered = torch.cat([padded[:, first : first + frames.shape[1] : step] for first in range(3)], 2)
    return F.linear(covered, convolution.weight.transpose(1, 2).flatten(1), convolution.bias)


class WhisperDecoderLayer(nn.Module):
    """Self-attention, attention to the frames, feed-forward: Whisper's order."""

    def __init__(self, config: WhisperConfig):
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width)
        self.self_attn = WhisperAttention(config.width, config.heads)
        self.norm2 = nn.LayerNorm(config.width)
        self.src_attn = CrossAttention(config.width, config.heads, 0.0)
        self.norm3 = nn.LayerNorm(config.width)
        self.feed_forward = WhisperFeedForward(config.width)

    def forward(self, tokens: Tensor, token_mask: Tensor, frames: Tensor, frame_mask: Tensor) -> Tensor:
        """Map tokens ``(H * B, U, D)``, with frames ``(B, T, D)`` to look at, to ``(H * B, U, D)``."""
        tokens = tokens + self.self_attn(self.norm1(tokens), token_mask)
        tokens = tokens + self.src_attn(self.norm2(tokens), frames, frame_mask)
        return tokens + self.feed_forward(self.norm3(tokens))


class WhisperDecoder(nn.Module):
    """The decoder of a Whisper release, all tokens at once.

    The release reads its start marks and the tokens before a position, and predicts the one there. Here a map of the
    acoustic embedding ``c`` of CIF stands in for the embedding of each token, so that no token waits for the one before
    it, and attention goes both ways. A second map, zero before training, adds to each position the acoustic embedding
    of the token to be predicted there::

        input[u + 1] = token_map(c[u - 1]) + own_map(c[u]) + position[u + 1]

    The right token embeddings in place of ``token_map(c)``, and attention to the left alone, would be the release
    itself. Its output embeddings, its positions, and its keys and values of the frames stay as they are.

    Args:
        vocabulary_size: size of the output layer, V.
        width: width of the acoustic embeddings.
        config: sizes of the release.
    """

    def __init__(self, vocabulary_size: int, width: int, config: WhisperConfig):
        super().__init__()
        self.marks = config.start_marks
        self.token_map = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, config.width), nn.GELU(), nn.Linear(config.width, config.width)
        )
        self.own_map = nn.Linear(width, config.width)
        nn.init.zeros_(self.own_map.weight)
        nn.init.zeros_(self.own_map.bias)
        self.start = nn.Parameter(torch.zeros(config.start_marks, config.width), requires_grad=False)
        self.positions = nn.Parameter(torch.zeros(config.max_tokens, config.width), requires_grad=False)
        self.layers = nn.ModuleList(WhisperDecoderLayer(config) for _ in range(config.decoder_layers))
        self.after_norm = nn.LayerNorm(config.width)
        self.output_layer = nn.Linear(config.width, vocabulary_size, bias=False)
        self.dropout = Dropout(config.dropout)
        self.output_layer.requires_grad_(False)
        for name, parameter in self.layers.named_parameters():
            if ".src_attn.linear_k_v." in name:
                parameter.requires_grad_(False)

    def forward(self, tokens: Tensor, token_mask: Tensor, frames: Tensor, frame_mask: Tensor) -> Tensor:
        """Return token logits ``(H * B, U, V)``."""
        return self.output_layer(self.states(tokens, token_mask, frames, frame_mask))

    def states(
        self, tokens: Tensor, token_mask: Tensor, frames: Tensor, frame_mask: Tensor, read: Tensor | None = None
    ) -> Tensor:
        """Return what the output layer makes logits of.

        Args:
            tokens: acoustic embeddings ``(H * B, U, D)``, H successive hypotheses of each utterance.
            token_mask: ``(H * B, U)``.
            frames: of the release's encoder, ``(B, T, width)``.
            frame_mask: ``(B, T)``.
            read: what stands in for the embedding of each token, in place of ``token_map(tokens)``.

        Returns:
            ``(H * B, U, width)``.
        """
        read = self.token_map(tokens) if read is None else read
        inputs = torch.cat([self.start.expand(len(read), -1, -1), read.to(self.start.dtype)], 1)
        own = F.pad(self.own_map(tokens), (0, 0, self.marks - 1, 1))
        states = self.dropout(inputs + own + self.positions[: inputs.shape[1]])
        mask = F.pad(token_mask, (self.marks, 0), value=True)
        for layer in self.layers:
            states = layer(states, mask, frames, frame_mask)
        return self.after_norm(states)[:, self.marks - 1 : -1]

    def best(self, states: Tensor, count: int, never: Sequence[int] = ()) -> tuple[Tensor, Tensor]:
        """Return the ``count`` best outputs of states ``(M, D)`` and their log probabilities, ``(M, K)`` each."""
        return best_outputs(self.output_layer, states, count, never)
