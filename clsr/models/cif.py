"""Frames to tokens: continuous integrate-and-fire (CIF)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from clsr.config import CifConfig
from clsr.padding import length_mask
from clsr.vocabulary import BLANK

ROUNDING = 1e-4  # weights scaled to sum to 3 do so only up to float32: 2.9999998 is three tokens
MOST_TOKENS = 2**31  # more than any recording has


class FiringError(ValueError):
    """Firing weights that make no tokens: training diverged, or weights are damaged."""


def integrate_and_fire(frames: Tensor, weights: Tensor, threshold: float = 1.0) -> tuple[Tensor, Tensor]:
    """Turn weighted frames into token embeddings, one each time the weight reaches the threshold.

    Let ``A[t]`` be the weight of frames ``0..t`` divided by the threshold, and ``A[-1] = 0``. Token ``u``
    takes from every frame the share of its weight that lies between ``u`` and ``u + 1``::

        tokens[u] = threshold * sum_t max(0, min(A[t], u + 1) - max(A[t - 1], u)) * frames[t]

    This is the integrate-and-fire recursion of Dong and Xu (arXiv:1905.11235) without its loop over frames;
    a frame heavier than the threshold fires as often as its weight says. Weight left after the last full
    token is dropped; ``add_tail`` keeps it.

    Args:
        frames: encoder output, ``(B, T, D)``.
        weights: firing weight of each frame, ``(B, T)``, at least 0, and 0 on padding.
        threshold: weight that makes one token, above 0.

    Returns:
        The token embeddings ``(B, U, D)``, zero past each length, and the token lengths ``(B,)``.

    Raises:
        ValueError: ``weights`` has no entry, or more than one, for some frame.
        FiringError: a weight is not finite.
    """
    if weights.shape != frames.shape[:2]:
        raise ValueError(f"weights {tuple(weights.shape)} do not fit frames {tuple(frames.shape)}")
    after = weights.double().cumsum(1) / threshold  # A[t]; float32 would lose tokens of long recordings
    before = after - weights.double() / threshold
    lengths = (after[:, -1] + ROUNDING).floor().long()
    least, most = torch.stack(lengths.aminmax()).tolist()
    if least < 0 or most > MOST_TOKENS:  # what a NaN or an infinite weight is as a whole number
        raise FiringError("firing weights are not finite: the model's weights are damaged, or its training diverged")
    tokens = torch.arange(most, device=weights.device)[None, :, None]  # (1, U, 1)
    shares = torch.minimum(after[:, None], tokens + 1) - torch.maximum(before[:, None], tokens)  # (B, U, T)
    shares = (shares.clamp(min=0) * threshold).to(frames.dtype) * length_mask(lengths)[:, :, None]
    return shares @ frames, lengths


def scale_to(weights: Tensor, token_lengths: Tensor, threshold: float = 1.0) -> Tensor:
    """Scale firing weights ``(B, T)`` so that exactly ``token_lengths`` tokens fire, however small the weights are.

    Weights that are all 0 stay so: no scale makes tokens of them.

    Raises:
        ValueError: there is not one length for each row.
    """
    if token_lengths.shape != weights.shape[:1]:
        raise ValueError(f"lengths {tuple(token_lengths.shape)} do not fit weights {tuple(weights.shape)}")
    # In float32 a long recording would be a token off, and the two gradients of a weight that is almost 0, through
    # itself and through the sum, would be infinite before they cancel.
    wide = weights.double()
    total = wide.sum(1).clamp(min=torch.finfo(wide.dtype).tiny)
    return (wide * (token_lengths * threshold / total)[:, None]).to(weights.dtype)


def add_tail(frames: Tensor, weights: Tensor, frame_lengths: Tensor, tail: float) -> tuple[Tensor, Tensor]:
    """Append a frame of zeros with weight ``tail``, so that a token more than ``1 - tail`` complete still fires.

    Args:
        frames: ``(B, T, D)``.
        weights: ``(B, T)``, 0 on padding.
        frame_lengths: ``(B,)``.
        tail: weight of the added frame, 0 to 1.

    Returns:
        Frames ``(B, T + 1, D)`` and weights ``(B, T + 1)``.
    """
    frames = nn.functional.pad(frames, (0, 0, 0, 1))
    weights = nn.functional.pad(weights, (0, 1))
    return frames, weights.scatter(1, frame_lengths[:, None], tail)


def firing_times(weights: Tensor, token_count: int, threshold: float = 1.0) -> Tensor:
    """Return when each token begins and ends, ``(B, U, 2)``, in frames.

    Token ``u`` lasts while the accumulated weight goes from ``u`` to ``u + 1`` thresholds; within a frame the
    weight is taken to arrive evenly. A token that the weights never complete ends with the last frame.
    """
    after = weights.double().cumsum(1) / threshold
    levels = torch.arange(token_count + 1, device=weights.device, dtype=torch.float64).expand(len(weights), -1)
    # A level is reached in the first frame whose accumulated weight is at least that level, up to rounding.
    frame = torch.searchsorted(after, (levels - ROUNDING).contiguous()).clamp(max=weights.shape[1] - 1)
    reached = after.gather(1, frame)
    weight = (weights.double() / threshold).gather(1, frame).clamp(min=1e-9)
    crossing = frame + 1 - ((reached - levels) / weight).clamp(0, 1)
    crossing[:, 0] = 0.0
    return torch.stack([crossing[:, :-1], crossing[:, 1:]], dim=2)


class Merged(NamedTuple):
    """Outputs without repeats and blanks."""

    tokens: Tensor  # (B, U, K)
    scores: Tensor  # (B, U, K)
    lengths: Tensor  # (B,)
    times: Tensor  # (B, U, 2)
    firings: Tensor  # (B, U), the firing that stands for each


def merge_repeats(tokens: Tensor, scores: Tensor, lengths: Tensor, times: Tensor) -> Merged:
    """Merge neighbouring firings with the same best output, and leave out blanks (the rule of CTC, Graves et al. 2006).

    Of the firings that are merged the one with the highest score stands for all, from the first one's begin to the last
    one's end. The blank has no part in what is left: as an alternative its score is minus infinity.

    Args:
        tokens: best outputs of each firing, best first, ``(B, N, K)``.
        scores: theirs, ``(B, N, K)``; gradients pass.
        lengths: number of firings, ``(B,)``.
        times: begin and end of each firing, ``(B, N, 2)``.
    """
    mask = length_mask(lengths, tokens.shape[1])
    best, places = tokens[:, :, 0], torch.arange(tokens.shape[1], device=tokens.device).expand(len(tokens), -1)
    starts = torch.cat([torch.ones_like(mask[:, :1]), best[:, 1:] != best[:, :-1]], 1) | ~mask
    run = starts.cumsum(1) - 1  # the number of each firing's run; padding has runs of its own
    highest = scores[:, :, 0].detach().float().masked_fill(~mask, -torch.inf)
    peak = torch.full_like(highest, -torch.inf).scatter_reduce(1, run, highest, "amax").gather(1, run)
    peaks = places.masked_fill(highest < peak, tokens.shape[1])
    first_peak = torch.full_like(places, tokens.shape[1]).scatter_reduce(1, run, peaks, "amin").gather(1, run)
    kept = (places == first_peak) & mask & (best != BLANK)
    begin = torch.full_like(times[:, :, 0], torch.inf).scatter_reduce(1, run, times[:, :, 0], "amin").gather(1, run)
    end = torch.full_like(times[:, :, 1], -torch.inf).scatter_reduce(1, run, times[:, :, 1], "amax").gather(1, run)
    merged_lengths = kept.sum(1)
    order = (~kept).long().argsort(dim=1, stable=True)[:, : int(merged_lengths.max())]  # what is kept, in its order
    wide = order[:, :, None].expand(-1, -1, tokens.shape[2])
    tokens, scores = (
        tokens.gather(1, wide),
        scores.gather(1, wide).masked_fill(tokens.gather(1, wide) == BLANK, -torch.inf),
    )
    spans = torch.stack([begin, end], 2).gather(1, order[:, :, None].expand(-1, -1, 2))
    return Merged(tokens, scores, merged_lengths, spans, order)


class Cif(nn.Module):
    """Firing weights of frames (Dong and Xu, arXiv:1905.11235; FunASR's ``CifPredictorV2`` by parameter names)::

    weights = sigmoid(linear(relu(conv(frames))))
    """

    def __init__(self, width: int, config: CifConfig):
        super().__init__()
        self.config = config
        self.cif_conv1d = nn.Conv1d(width, width, config.left_context + config.right_context + 1)
        self.cif_output = nn.Linear(width, 1)

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """Return firing weights ``(B, T)`` in 0..1, zero on padding, of frames ``(B, T, D)`` that are zero there.

        They are float32 even where the rest is computed in bfloat16, whose sums would be whole tokens off.
        """
        frames = frames.to(self.cif_output.weight.dtype)
        by_products = frames.device.type == "cuda" and self.training
        convolved = self._by_products(frames) if by_products else self._by_convolution(frames)
        return self.cif_output(convolved.relu()).squeeze(2).float().sigmoid() * mask

    def _by_products(self, frames: Tensor) -> Tensor:
        """Map what the kernel covers, laid side by side: the same without cuDNN (``attention.KERNELS`` says why)."""
        padded = nn.functional.pad(frames, (0, 0, self.config.left_context, self.config.right_context))
        covered = padded.unfold(1, self.cif_conv1d.kernel_size[0], 1).flatten(2)  # (B, T, D * K)
        return nn.functional.linear(covered, self.cif_conv1d.weight.flatten(1), self.cif_conv1d.bias)

    def _by_convolution(self, frames: Tensor) -> Tensor:
        padded = nn.functional.pad(frames.transpose(1, 2), (self.config.left_context, self.config.right_context))
        return self.cif_conv1d(padded).transpose(1, 2)
