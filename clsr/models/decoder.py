"""Token embeddings and frames to token logits: the SAN-M decoder, all tokens at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from clsr.config import DecoderConfig
from clsr.models.attention import CrossAttention, MemoryAttention, layer_norm
from clsr.models.dropout import Dropout

LOGIT_ROWS = 128  # tokens whose logits are in memory at once: 16 MB for 30,000 outputs
GPU_LOGIT_ROWS = 4096  # on an accelerator, which small products leave idle
CACHED_ROWS = 8  # of these, reduced together on a processor: 1 MB stays in its cache from one pass to the next
GROUP = 32  # outputs whose best stands for all of them in the search for the best of the vocabulary


class DecoderFeedForward(nn.Module):
    """Feed-forward network with a normalised hidden layer and no output bias."""

    def __init__(self, width: int, hidden: int, dropout: float):
        super().__init__()
        self.w_1 = nn.Linear(width, hidden)
        self.w_2 = nn.Linear(hidden, width, bias=False)
        self.norm = layer_norm(hidden)
        self.rectifier: nn.Module = nn.ReLU(inplace=True)
        self.dropout = Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map ``(B, U, D)`` to ``(B, U, D)``."""
        return self.w_2(self.norm(self.dropout(self.rectifier(self.w_1(tokens)))))


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
        """Map tokens ``(H * B, U, D)``, with frames ``(B, T, D)`` to look at, to ``(H * B, U, D)``."""
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
        """Return token logits ``(R * B, U, V)``."""
        return self.output_layer(self.states(tokens, token_mask, frames, frame_mask))

    def states(self, tokens: Tensor, token_mask: Tensor, frames: Tensor, frame_mask: Tensor) -> Tensor:
        """Return what the output layer makes logits of.

        Args:
            tokens: ``(H * B, U, D)``, H successive hypotheses of each utterance.
            token_mask: ``(R * B, U)``.
            frames: ``(B, T, D)``, keys and values of which are computed once for all hypotheses.
            frame_mask: ``(B, T)``.

        Returns:
            ``(H * B, U, D)``.
        """
        for layer in self.decoders:
            tokens = layer(tokens, token_mask, frames, frame_mask)
        return self.after_norm(self.decoders3[0](tokens))

    def best(self, states: Tensor, count: int, never: Sequence[int] = ()) -> tuple[Tensor, Tensor]:
        """Return the ``count`` best outputs of states ``(M, D)`` and their log probabilities, ``(M, K)`` each."""
        return best_outputs(self.output_layer, states, count, never)


@torch.no_grad()  # logits are overwritten
def best_outputs(
    output_layer: nn.Module, states: Tensor, count: int, never: Sequence[int] = ()
) -> tuple[Tensor, Tensor]:
    """Return the ``count`` best outputs of states ``(M, D)`` and their log probabilities, ``(M, K)`` each.

    Logits of so large a vocabulary are worth no memory: they are made and reduced a few rows at a time. No gradient
    passes.

    Args:
        output_layer: map from states to logits.
        states: of tokens.
        count: outputs wanted; K is less where the vocabulary is smaller.
        never: outputs that are not recognised; they have no probability.
    """
    on_cpu = states.device.type == "cpu"
    found = [
        _best_of(logits, count, never)
        for rows in states.split(LOGIT_ROWS if on_cpu else GPU_LOGIT_ROWS)
        for logits in output_layer(rows).split(CACHED_ROWS if on_cpu else len(rows))
    ]
    tokens, log_probabilities = zip(*found, strict=True)
    return torch.cat(tokens), torch.cat(log_probabilities)


def _best_of(logits: Tensor, count: int, never: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The best outputs of logits ``(M, V)``, which are overwritten, and their log probabilities."""
    logits = logits.float()
    for output in never:
        logits[:, output] = -torch.inf
    values, outputs = top_k(logits, min(count, logits.shape[1]))
    highest = values[:, :1]
    total = logits.sub_(highest).exp_().sum(1, keepdim=True)  # in place: a vocabulary's width of memory less
    return outputs, values - highest - total.log()


def top_k(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the ``count`` greatest of each row of ``(M, V)`` and their places, as ``torch.topk``, in half the time.

    They lie in the groups whose greatest are the ``count`` greatest: only these are sorted. Of equal values any may
    come first.
    """
    size = values.shape[1]
    groups = size // GROUP
    if groups <= count:
        best = values.topk(count, dim=1)
        return best.values, best.indices
    whole = groups * GROUP
    greatest = values[:, :whole].unflatten(1, (GROUP, groups)).amax(1)
    members = torch.arange(0, whole, groups, device=values.device)
    places = (greatest.topk(count, dim=1).indices[:, None] + members[:, None]).flatten(1)
    left_over = torch.arange(whole, size, device=values.device).expand(len(values), -1)
    places = torch.cat([places, left_over], 1)
    best = values.gather(1, places).topk(count, dim=1)
    return best.values, places.gather(1, best.indices)
