"""Token embeddings and frames to token logits: the SAN-M decoder, all tokens at once."""

from __future__ import annotations

from torch import Tensor, nn

from clsr.config import DecoderConfig
from clsr.models.attention import CrossAttention, MemoryAttention, layer_norm
from clsr.models.dropout import Dropout


class DecoderFeedForward(nn.Module):
    """Feed-forward network with a normalised hidden layer and no output bias."""

    def __init__(self, width: int, hidden: int, dropout: float):
        super().__init__()
        self.w_1 = nn.Linear(width, hidden)
        self.w_2 = nn.Linear(hidden, width, bias=False)
        self.norm = layer_norm(hidden)
        self.dropout = Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map ``(B, U, D)`` to ``(B, U, D)``."""
        return self.w_2(self.norm(self.dropout(self.w_1(tokens).relu())))


class DecoderLayer(nn.Module):
    """Feed-forward, memory, then attention over the frames: the layer order of FunASR's Paraformer."""

    def __init__(self, width: int, config: DecoderConfig):
        super().__init__()
        self.feed_forward = DecoderFeedForward(width, config.hidden, config.dropout)
        self.self_attn = MemoryAttention(width, config.kernel, config.dropout)
        self.src_attn = CrossAttention(width, config.heads, config.dropout)
        self.norm1 = layer_norm(width)
        self.norm2 = layer_norm(width)
        self.norm3 = layer_norm(width)
        self.dropout = Dropout(config.dropout)

    def forward(self, tokens: Tensor, token_mask: Tensor, frames: Tensor, frame_mask: Tensor) -> Tensor:
        """Map tokens ``(B, U, D)``, with frames ``(B, T, D)`` to look at, to ``(B, U, D)``."""
        hidden = self.norm2(self.feed_forward(self.norm1(tokens)))
        tokens = tokens + self.dropout(self.self_attn(hidden, token_mask))
        return tokens + self.dropout(self.src_attn(self.norm3(tokens), frames, frame_mask))


class LastLayer(nn.Module):
    """The feed-forward layer that closes the decoder; it has no residual."""

    def __init__(self, width: int, config: DecoderConfig):
        super().__init__()
        self.feed_forward = DecoderFeedForward(width, config.hidden, config.dropout)
        self.norm1 = layer_norm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map ``(B, U, D)`` to ``(B, U, D)``."""
        return self.feed_forward(self.norm1(tokens))


class SanmDecoder(nn.Module):
    """SAN-M decoder of Paraformer (arXiv:2206.08317) with FunASR's parameter names.

    Args:
        vocabulary_size: size of the output layer, V.
        width: width of tokens and frames, D.
        config: layers, heads, memory kernel, dropout.
    """

    def __init__(self, vocabulary_size: int, width: int, config: DecoderConfig):
        super().__init__()
        self.decoders = nn.ModuleList(DecoderLayer(width, config) for _ in range(config.layers))
        self.decoders3 = nn.ModuleList([LastLayer(width, config)])
        self.after_norm = layer_norm(width)
        self.output_layer = nn.Linear(width, vocabulary_size)

    def forward(self, tokens: Tensor, token_mask: Tensor, frames: Tensor, frame_mask: Tensor) -> Tensor:
        """Return token logits ``(B, U, V)``."""
        for layer in self.decoders:
            tokens = layer(tokens, token_mask, frames, frame_mask)
        return self.output_layer(self.after_norm(self.decoders3[0](tokens)))
