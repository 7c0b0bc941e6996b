"""Parts of a batch: their losses are pooled, and the backward pass takes each once more."""

import torch
from torch import Tensor

from clsr.data.datamodule import SpeechBatch, split_batch
from clsr.training.gradient_cache import ForwardPass, forward_in_parts


def make_batch(lengths: list[int]) -> SpeechBatch:
    """Utterances of two features a frame, as many tokens as frames, and the second one without a question."""
    features = torch.arange(2.0 * len(lengths) * max(lengths)).view(len(lengths), max(lengths), 2)
    frames = torch.tensor(lengths)
    targets = torch.ones(len(lengths), max(lengths), dtype=torch.long)
    rows = torch.tensor([0, -1, 1, 2][: len(lengths)])
    ids = [f"u{i}" for i in range(len(lengths))]
    return SpeechBatch(ids, features, frames, targets, frames, targets, frames, rows)


class Toy:
    """A model of one weight, with losses that are means over tokens and over utterances."""

    def __init__(self) -> None:
        self.weight = torch.tensor([0.5, -0.25], requires_grad=True)
        self.sizes: list[int] = []

    def __call__(self, batch: SpeechBatch) -> ForwardPass:
        self.sizes.append(len(batch.ids))
        scores = batch.features @ self.weight
        mask = torch.arange(scores.shape[1]) < batch.frame_lengths[:, None]
        losses = {"ce": scores[mask].square().mean(), "mwer": scores[:, 0].sin().mean()}
        kept = batch.pair_rows >= 0
        return ForwardPass(losses, scores[mask].detach().mean(), scores[kept, :1].cos(), batch.pair_rows[kept])


def total(found: ForwardPass) -> Tensor:
    """A loss over all vectors that is no sum over parts."""
    similarity = found.vectors @ found.vectors.T
    return found.losses["ce"] + 2 * found.losses["mwer"] + similarity.softmax(1).diagonal().log().sum()


def test_parts_give_losses_and_gradients_of_the_batch():
    batch, whole, parted = make_batch([2, 5, 3, 5]), Toy(), Toy()
    expected, found = whole(batch), forward_in_parts(parted, split_batch(batch, 10))
    assert parted.sizes == [2, 2] and whole.sizes == [4]
    for name, value in expected.losses.items():
        assert torch.allclose(found.losses[name], value)
    assert torch.allclose(found.accuracy, expected.accuracy)
    assert torch.equal(found.rows, expected.rows) and torch.allclose(found.vectors, expected.vectors)
    total(expected).backward()
    total(found).backward()
    assert parted.sizes == [2, 2, 2, 2]  # each part once more
    assert whole.weight.grad is not None and parted.weight.grad is not None
    assert torch.allclose(parted.weight.grad, whole.weight.grad, rtol=1e-4)
