"""A batch too large for memory: its parts go through the model one by one, and learn from a loss over all of them.

The contrastive loss compares every passage of a batch with the questions of all others, so it is no sum over parts. But
it needs nothing of a part except the vectors of its passages. Gradient caching (Gao et al., arXiv:2101.06983) makes use
of that:

1. *First pass.* Every part goes through the model, and nothing is kept for a backward pass but its inputs: what stays
   are the vectors of its passages and its own losses, which are sums and add up.
2. *Loss.* The contrastive loss is taken over the vectors of all parts, and the total loss as for a whole batch. The
   backward pass starts here: it gives the gradient of every vector and of every part's own losses.
3. *Second pass.* The backward pass comes to the parts, the last one first. Each goes through the model again, with the
   random draws of the first time (dropout, sampler, candidates) and activations kept, takes the gradients of step 2 on
   to the weights, and is forgotten.

Memory holds the activations of one part and the vectors of all; time is that of one more forward pass. The gradients
are those of the whole batch. ``torch.utils.checkpoint`` does steps 1 and 3, inside of autograd: no state waits between
the forward and the backward pass but the graph, and mixed precision and accumulated steps are as always.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from clsr.data.datamodule import SpeechBatch
from clsr.training.asr import loss_counts


class ForwardPass(NamedTuple):
    """What a batch, or a part of one, leaves to the contrastive and the total loss."""

    losses: dict[str, Tensor]  # of the recogniser, each before its weight
    accuracy: Tensor  # share of tokens that the first pass of the decoder got right
    vectors: Tensor  # (P, E) of the passages that have a question, and of their questions where these are spoken
    rows: Tensor  # (P,) as ``SpeechBatch.pair_rows``
    question_rows: Tensor | None = None  # (P,) as ``SpeechBatch.question_rows``


def forward_in_parts(forward: Callable[[SpeechBatch], ForwardPass], parts: Sequence[SpeechBatch]) -> ForwardPass:
    """Run the first pass over the parts of a batch; the backward pass of what is returned runs the second.

    Args:
        forward: the model up to the vectors; it is called twice on each part.
        parts: in the order of the batch.
    """
    passes: list[ForwardPass] = [checkpoint(forward, part, use_reentrant=False) for part in parts]
    asked = [one.question_rows for one in passes if one.question_rows is not None]
    return ForwardPass(
        _mean_losses([one.losses for one in passes], [loss_counts(part) for part in parts]),
        _mean([one.accuracy for one in passes], [part.target_lengths.sum() for part in parts]),
        torch.cat([one.vectors for one in passes]),
        torch.cat([one.rows for one in passes]),
        torch.cat(asked) if asked else None,
    )


def _mean_losses(losses: Sequence[dict[str, Tensor]], counts: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return the losses of a batch, each a mean over its things, from those of its parts."""
    return {
        name: _mean([of_part[name] for of_part in losses], [of_part[name] for of_part in counts]) for name in losses[0]
    }


def _mean(values: Sequence[Tensor], counts: Sequence[Tensor]) -> Tensor:
    """Return the mean over all things from the means over parts and their numbers of things."""
    weights = torch.stack([*counts])
    return (torch.stack([*values]) * (weights / weights.sum().clamp(min=1))).sum()
