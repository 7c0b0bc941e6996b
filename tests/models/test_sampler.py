"""The sampler, against the equation of CLSR and its Algorithm 1."""

import math
from fractions import Fraction

import pytest
import torch
from torch import Tensor

from clsr.config import SamplerConfig
from clsr.models.sampler import replacement_counts, sample
from clsr.padding import length_mask


def algorithm_1(ys_con: Tensor, pred_tokens: Tensor, sampling_ratio: float, ignore_id: int = -1) -> Tensor:
    """Algorithm 1 of CLSR, line by line: True where the acoustic embedding is replaced."""
    nonpad_positions = ys_con.ne(ignore_id)
    seq_lens = nonpad_positions.sum(1)
    same_num = ((pred_tokens == ys_con) & nonpad_positions).sum(1)
    input_mask = torch.ones_like(nonpad_positions)
    for li in range(len(ys_con)):
        target_num = int((seq_lens[li] - same_num[li].sum()).item() * sampling_ratio)
        if target_num > 0:
            input_mask[li].scatter_(0, torch.randperm(int(seq_lens[li]))[:target_num], 0)
    return ~input_mask & nonpad_positions


def replaced(predictions: Tensor, targets: Tensor, mask: Tensor, config: SamplerConfig) -> Tensor:
    """Where the sampler puts a target embedding, all of them 1 among token embeddings that are 0."""
    zeros = torch.zeros(*targets.shape, 1)
    return sample(zeros, zeros + 1, predictions, targets, mask, config)[..., 0] == 1


def random_batch() -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    targets = torch.randint(2, 5, (64, 12))
    return torch.randint(2, 5, (64, 12)), targets, length_mask(torch.randint(1, 13, (64,)), 12)


def test_ratio_1_replaces_exactly_the_wrong_tokens():
    predictions, targets, mask = random_batch()
    where = replaced(predictions, targets, mask, SamplerConfig(1.0, "wrong"))
    assert torch.equal(where, (predictions != targets) & mask)


@pytest.mark.parametrize(
    ("ratio", "errors", "wrong", "anywhere"),
    [(0.2, 1, 1, 0), (0.5, 3, 2, 1), (0.75, 8, 6, 6), (0.5, 0, 0, 0)],
)
def test_counts_by_hand(ratio: float, errors: int, wrong: int, anywhere: int):
    mistakes = torch.arange(10)[None] < errors
    assert replacement_counts(mistakes, SamplerConfig(ratio, "wrong")).item() == wrong
    assert replacement_counts(mistakes, SamplerConfig(ratio, "random")).item() == anywhere


def test_counts_do_not_suffer_from_rounding():
    mistakes = length_mask(torch.arange(200))
    for hundredths in range(1, 101):
        exact = [Fraction(hundredths, 100) * errors for errors in range(200)]
        up = replacement_counts(mistakes, SamplerConfig(hundredths / 100, "wrong"))
        down = replacement_counts(mistakes, SamplerConfig(hundredths / 100, "random"))
        assert up.tolist() == [math.ceil(x) for x in exact]
        assert down.tolist() == [math.floor(x) for x in exact]


def test_wrong_positions_follow_the_equation():
    predictions, targets, mask = random_batch()
    mistakes = (predictions != targets) & mask
    where = replaced(predictions, targets, mask, SamplerConfig(0.4, "wrong"))
    assert not (where & ~mistakes).any()
    assert where.sum(1).tolist() == [math.ceil(Fraction(4, 10) * n) for n in mistakes.sum(1).tolist()]


def test_random_positions_follow_algorithm_1():
    predictions, targets, mask = random_batch()
    expected = algorithm_1(targets.masked_fill(~mask, -1), predictions, 0.75)
    where = replaced(predictions, targets, mask, SamplerConfig(0.75, "random"))
    assert torch.equal(where.sum(1), expected.sum(1))
    assert not (where & ~mask).any()


@pytest.mark.parametrize(("positions", "eligible"), [("wrong", [1, 3, 4]), ("random", [0, 1, 2, 3, 4])])
def test_every_eligible_position_is_as_likely(positions: str, eligible: list[int]):
    torch.manual_seed(0)
    targets = torch.tensor([5, 5, 5, 5, 5, 5]).expand(3000, 6)
    predictions = torch.tensor([5, 6, 5, 6, 6, 6]).expand(3000, 6)  # the last one is padding
    mask = length_mask(torch.full((3000,), 5), 6)
    config = SamplerConfig(2 / 3, positions)
    share = replaced(predictions, targets, mask, config).float().mean(0)
    expected = [2 / len(eligible) if i in eligible else 0.0 for i in range(6)]
    assert share.tolist() == pytest.approx(expected, abs=0.04)  # 4 deviations of 3,000 draws


def test_a_perfect_first_pass_changes_nothing():
    tokens, targets = torch.randn(2, 4, 3), torch.full((2, 4), 7)
    mask = length_mask(torch.tensor([4, 2]))
    mixed = sample(tokens, torch.randn(2, 4, 3), targets, targets, mask, SamplerConfig(1.0))
    assert torch.equal(mixed, tokens)


def test_gradients_reach_kept_and_sampled_tokens():
    tokens = torch.zeros(1, 3, 2, requires_grad=True)
    embeddings = torch.zeros(1, 3, 2, requires_grad=True)
    predictions, targets = torch.tensor([[1, 2, 3]]), torch.tensor([[1, 9, 3]])
    mixed = sample(tokens, embeddings, predictions, targets, torch.ones(1, 3, dtype=torch.bool), SamplerConfig(1.0))
    mixed.sum().backward()
    assert tokens.grad is not None and tokens.grad[0, :, 0].tolist() == [1.0, 0.0, 1.0]
    assert embeddings.grad is not None and embeddings.grad[0, :, 0].tolist() == [0.0, 1.0, 0.0]
