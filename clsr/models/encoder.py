"""Features to frames: the SAN-M encoder, Paraformer's and SenseVoice's."""

from __future__ import annotations

from torch import Tensor, nn

from clsr.config import EncoderConfig
from clsr.models.attention import LAYER_NORM_EPSILON, SelfAttention, layer_norm, sinusoidal_positions
from clsr.models.dropout import Dropout
from clsr.padding import length_mask

SENSE_VOICE_EPSILON = 1e-5  # of layer normalisation


class FeedForward(nn.Module):
    """Two linear maps with a rectifier between."""

    def __init__(self, width: int, hidden: int, dropout: float):
        super().__init__()
        self.w_1 = nn.Linear(width, hidden)
        self.w_2 = nn.Linear(hidden, width)
        self.rectifier: nn.Module = nn.ReLU(inplace=True)
        self.dropout = Dropout(dropout)

    def forward(self, frames: Tensor) -> Tensor:
        """Map ``(B, T, D)`` to ``(B, T, D)``."""
        return self.w_2(self.dropout(self.rectifier(self.w_1(frames))))


class EncoderLayer(nn.Module):
    """Pre-norm SAN-M layer; the first one changes the width and so has no residual around its attention."""

    def __init__(self, input_width: int, config: EncoderConfig, epsilon: float = LAYER_NORM_EPSILON):
        super().__init__()
        self.self_attn = SelfAttention(input_width, config.width, config.heads, config.kernel, config.dropout)
        self.feed_forward = FeedForward(config.width, config.hidden, config.dropout)
        self.norm1 = layer_norm(input_width, epsilon)
        self.norm2 = layer_norm(config.width, epsilon)
        self.dropout = Dropout(config.dropout)
        self.residual = input_width == config.width

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """Map frames ``(B, T, D_in)`` to ``(B, T, D)``."""
        attended = self.dropout(self.self_attn(self.norm1(frames), mask))
        frames = frames + attended if self.residual else attended
        return frames + self.dropout(self.feed_forward(self.norm2(frames)))


class SanmEncoder(nn.Module):
    """SAN-M encoder (arXiv:2006.01713) with FunASR's parameter names.

    Args:
        input_size: size of a stacked feature.
        config: width, heads, layers, memory kernel, dropout.
        epsilon: of layer normalisation.
    """

    def __init__(self, input_size: int, config: EncoderConfig, epsilon: float = LAYER_NORM_EPSILON):
        super().__init__()
        self.scale = config.width**0.5
        self.encoders0 = nn.ModuleList([EncoderLayer(input_size, config, epsilon)])
        self.encoders = nn.ModuleList(EncoderLayer(config.width, config, epsilon) for _ in range(config.layers - 1))
        self.after_norm = layer_norm(config.width, epsilon)

    def forward(self, features: Tensor, frame_lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Encode features ``(B, T, F)``; padding changes nothing.

        Returns:
            Frames ``(B, T, D)``, zero on padding, and their mask ``(B, T)``.
        """
        mask = length_mask(frame_lengths, features.shape[1])
        positions = sinusoidal_positions(features.shape[1], features.shape[2], features.device)
        frames = (features * self.scale + positions).to(self.after_norm.weight.dtype)
        for layer in (*self.encoders0, *self.encoders):
            frames = layer(frames, mask)
        # Zeroed so that the convolution of the firing weights sees silence, not padding.
        return self.after_norm(frames) * mask[:, :, None], mask


class SenseVoiceEncoder(SanmEncoder):
    """SenseVoice's SAN-M encoder: more layers of the same kind follow the last normalisation, and another one ends it.

    Args:
        input_size: size of a stacked feature.
        config: width, heads, layers, memory kernel, dropout.
        further_layers: number of layers after the first normalisation.
    """

    def __init__(self, input_size: int, config: EncoderConfig, further_layers: int):
        super().__init__(input_size, config, SENSE_VOICE_EPSILON)
        self.tp_encoders = nn.ModuleList(
            EncoderLayer(config.width, config, SENSE_VOICE_EPSILON) for _ in range(further_layers)
        )
        self.tp_norm = layer_norm(config.width, SENSE_VOICE_EPSILON)

    def forward(self, features: Tensor, frame_lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Encode features ``(B, T, F)``; padding changes nothing.

        Returns:
            Frames ``(B, T, D)``, zero on padding, and their mask ``(B, T)``.
        """
        frames, mask = super().forward(features, frame_lengths)
        for layer in self.tp_encoders:
            frames = layer(frames, mask)
        return self.tp_norm(frames) * mask[:, :, None], mask
