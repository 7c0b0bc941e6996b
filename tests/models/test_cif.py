"""Continuous integrate-and-fire: worked examples, the recursion it stands for, exact lengths and times."""

import math
from fractions import Fraction

import pytest
import torch
from torch import Tensor

from clsr.config import CifConfig
from clsr.models.cif import Cif, add_tail, firing_times, integrate_and_fire, merge_repeats, scale_to
from clsr.padding import length_mask

FIGURE_4 = torch.tensor([[0.8, 0.3, 0.4, 0.4, 0.1]])  # of CLSR, threshold 1


def column(*values: float) -> Tensor:
    """Frames of width 1."""
    return torch.tensor(values, dtype=torch.float32)[None, :, None]


def slow_integrate_and_fire(frames: Tensor, weights: Tensor, threshold: float) -> list[Tensor]:
    """The recursion of Dong and Xu, a frame at a time, with exact sums."""
    tokens, gathered, token = [], Fraction(0), torch.zeros(frames.shape[1])
    limit = Fraction(threshold)
    for frame, weight in zip(frames, weights.tolist()):
        rest = Fraction(weight)
        while gathered + rest >= limit:
            share = limit - gathered
            tokens.append(token + float(share) * frame)
            rest, gathered, token = rest - share, Fraction(0), torch.zeros(frames.shape[1])
        gathered, token = gathered + rest, token + float(rest) * frame
    return tokens


@pytest.mark.parametrize("weight", [math.nan, math.inf])
def test_firing_weights_have_to_be_finite(weight: float):
    weights = torch.full((2, 3), 0.5)
    weights[1, 1] = weight
    with pytest.raises(ValueError, match="firing weights are not finite"):
        integrate_and_fire(torch.ones(2, 3, 4), weights)


def test_the_example_of_figure_4():
    tokens, lengths = integrate_and_fire(torch.eye(5)[None], FIGURE_4)
    expected = [[0.8, 0.2, 0.0, 0.0, 0.0], [0.0, 0.1, 0.4, 0.4, 0.1]]  # 0.1 of frame 2 overflows into token 2
    assert lengths.tolist() == [2]
    assert torch.allclose(tokens[0], torch.tensor(expected), atol=1e-6)


def test_halves_make_pairs():
    tokens, lengths = integrate_and_fire(column(1, 3, 5, 7), torch.full((1, 4), 0.5))
    assert tokens.flatten().tolist() == [2.0, 6.0]
    assert lengths.tolist() == [2]


def test_a_heavy_frame_fires_several_times():
    tokens, lengths = integrate_and_fire(column(1, 10), torch.tensor([[0.5, 2.75]]))
    assert tokens.flatten().tolist() == [5.5, 10.0, 10.0]  # 0.5 + 0.5 * 10, and two whole ones; 0.25 is left over
    assert lengths.tolist() == [3]


def test_the_threshold_is_the_weight_of_a_token():
    tokens, lengths = integrate_and_fire(column(1, 3, 5, 7), torch.full((1, 4), 0.5), threshold=2.0)
    assert tokens.flatten().tolist() == [8.0]  # half of each
    assert lengths.tolist() == [1]


def test_too_little_weight_fires_nothing():
    tokens, lengths = integrate_and_fire(column(1, 3), torch.tensor([[0.5, 0.4]]))
    assert tokens.shape == (1, 0, 1)
    assert lengths.tolist() == [0]


@pytest.mark.parametrize("threshold", [0.75, 1.0, 1.3])
def test_it_is_the_recursion(threshold: float):
    torch.manual_seed(0)
    frames, weights = torch.randn(20, 30, 4), torch.rand(20, 30)
    lengths_in = torch.randint(1, 31, (20,))
    weights = weights * length_mask(lengths_in, 30)
    tokens, lengths = integrate_and_fire(frames, weights, threshold)
    for row in range(20):
        expected = slow_integrate_and_fire(frames[row], weights[row], threshold)
        assert lengths[row] == len(expected)
        assert not tokens[row, len(expected) :].any()
        if expected:
            assert torch.allclose(tokens[row, : len(expected)], torch.stack(expected), atol=1e-5)


def test_the_gradient_is_that_of_finite_differences():
    torch.manual_seed(0)
    frames = torch.randn(1, 5, 3, dtype=torch.float64, requires_grad=True)
    weights = FIGURE_4.double() + 0.05  # away from the corners, where a frame ends exactly at a token
    weights.requires_grad_(True)
    assert torch.autograd.gradcheck(lambda f, w: integrate_and_fire(f, w)[0], (frames, weights))


def test_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match=r"\(1, 3\) do not fit frames \(1, 4, 1\)"):
        integrate_and_fire(torch.zeros(1, 4, 1), torch.zeros(1, 3))
    with pytest.raises(ValueError, match=r"lengths \(2,\)"):
        scale_to(torch.zeros(1, 3), torch.tensor([1, 2]))


@pytest.mark.parametrize("threshold", [1.0, 0.9])
def test_scaled_weights_fire_exactly_the_requested_count(threshold: float):
    """FunASR's float32 sums lose the last token in a quarter of such utterances; see test_funasr_parity."""
    torch.manual_seed(0)
    for _ in range(100):
        frames = int(torch.randint(5, 250, ()))
        weights = torch.rand(16, frames) * torch.rand(16, 1) + 1e-4
        token_lengths = torch.randint(1, frames + 1, (16,))
        weights *= length_mask(torch.randint(1, frames + 1, (16,)), frames)  # padding included
        tokens, lengths = integrate_and_fire(
            torch.ones(16, frames, 1), scale_to(weights, token_lengths, threshold), threshold
        )
        assert torch.equal(lengths, token_lengths)
        assert (tokens[length_mask(lengths)] > 0.99 * threshold).all()  # the last one is whole too


def test_tiny_weights_fire_as_many_tokens():
    for logit in (-20.0, -40.0, -80.0):  # sums of 4e-8, 8e-17 and 4e-34
        logits = torch.tensor([[logit] * 20, [logit, 0.0] * 10]).requires_grad_()
        weights = scale_to(logits.sigmoid(), torch.tensor([7, 3]))
        tokens, lengths = integrate_and_fire(torch.ones(2, 20, 1), weights)
        assert lengths.tolist() == [7, 3]
        assert torch.allclose(tokens[0, :7], torch.ones(7, 1), atol=1e-3)
        (weights * torch.arange(20.0)).sum().backward()
        # Each of the equal weights becomes 7 / 20: d/dlogit of sum_t w_t t is 7 / 20 (t - mean of t).
        assert logits.grad is not None
        assert torch.allclose(logits.grad[0], 7 / 20 * (torch.arange(20.0) - 9.5), rtol=1e-3, atol=1e-4)


def test_weights_of_zero_fire_nothing():
    assert scale_to(torch.zeros(1, 3), torch.tensor([2])).tolist() == [[0.0, 0.0, 0.0]]


def test_exact_lengths_in_an_hour_of_speech():
    torch.manual_seed(0)
    weights = torch.rand(1, 60_000)
    for token_count in (9_000, 9_999):
        total = scale_to(weights, torch.tensor([token_count])).double().sum().item()
        assert total == pytest.approx(token_count, abs=5e-5)  # half of what integrate_and_fire forgives


def test_a_tail_completes_the_last_token():
    frames, weights = column(1, 2, 3), torch.tensor([[0.4, 0.3, 0.0]])  # the third frame is padding
    tailed, tailed_weights = add_tail(frames, weights, torch.tensor([2]), 0.45)
    assert tailed_weights[0].tolist() == pytest.approx([0.4, 0.3, 0.45, 0.0])
    assert integrate_and_fire(frames, weights)[1].tolist() == [0]
    assert integrate_and_fire(tailed, tailed_weights)[1].tolist() == [1]


def test_a_tail_frame_is_silent():
    tailed, weights = add_tail(column(1, 2), torch.tensor([[0.4, 0.3]]), torch.tensor([2]), 0.45)
    tokens, _ = integrate_and_fire(tailed, weights)
    assert tokens.item() == pytest.approx(0.4 * 1 + 0.3 * 2)
    assert tailed[0, 2].tolist() == [0.0]


def test_times_of_figure_4():
    times = firing_times(FIGURE_4, 2)[0]
    # Token 1 ends when frame 2 has given 0.2 of its 0.3; token 2 ends with the last frame.
    assert torch.allclose(
        times, torch.tensor([[0.0, 1 + 0.2 / 0.3], [1 + 0.2 / 0.3, 5.0]], dtype=times.dtype), atol=1e-3
    )


def test_times_of_a_heavy_frame_divide_it():
    times = firing_times(torch.tensor([[0.5, 2.5]]), 3)[0]
    assert times.flatten().tolist() == pytest.approx([0.0, 1.2, 1.2, 1.6, 1.6, 2.0])


def test_an_incomplete_token_ends_with_the_last_frame():
    assert firing_times(torch.tensor([[0.5, 0.7, 0.3]]), 2)[0, 1].tolist() == pytest.approx([1 + 0.5 / 0.7, 3.0])
    assert firing_times(torch.tensor([[0.5, 0.7]]), 0).shape == (1, 0, 2)


def test_times_follow_each_other():
    torch.manual_seed(0)
    weights = torch.rand(16, 200) ** 4  # long spans of nearly nothing
    count = int(weights.sum(1).min())
    times = firing_times(weights, count)
    assert torch.equal(times[:, 1:, 0], times[:, :-1, 1])
    assert (times[..., 1] >= times[..., 0]).all() and (times <= 200).all() and not times[:, 0, 0].any()


def test_firing_weights_are_shares_and_0_on_padding():
    torch.manual_seed(0)
    cif = Cif(8, CifConfig(left_context=1, right_context=2))
    lengths = torch.tensor([6, 3])
    mask = length_mask(lengths)
    frames = torch.randn(2, 6, 8) * mask[:, :, None]
    weights = cif(frames, mask)
    assert ((weights > 0) == mask).all() and (weights < 1).all()
    alone = cif(frames[1:, :3], mask[1:, :3])
    assert torch.allclose(weights[1, :3], alone[0], atol=1e-6)


def test_a_weight_depends_on_its_context_alone():
    torch.manual_seed(0)
    cif = Cif(4, CifConfig(left_context=2, right_context=1))
    frames, mask = torch.randn(1, 9, 4), torch.ones(1, 9, dtype=torch.bool)
    changed = frames.clone()
    changed[0, 4] += 1.0
    moved = (cif(frames, mask) != cif(changed, mask))[0].nonzero().flatten().tolist()
    assert moved == [3, 4, 5, 6]  # one frame ahead of it to two after it


@pytest.mark.parametrize("context", [(1, 1), (0, 2), (3, 1)])
def test_products_equal_convolution_for_hidden_frames(context: tuple[int, int]):
    torch.manual_seed(0)
    cif, frames = Cif(6, CifConfig(*context)), torch.randn(2, 9, 6, requires_grad=True)
    wanted, parameters = torch.randn(2, 9, 6), (frames, *cif.cif_conv1d.parameters())
    results = []
    for compute in (cif._by_convolution, cif._by_products):
        hidden = compute(frames)
        results.append((hidden, *torch.autograd.grad((hidden * wanted).sum(), parameters)))
    for expected, found in zip(*results, strict=True):
        assert torch.allclose(found, expected, atol=1e-5)


def test_weights_stay_exact_in_mixed_precision():
    torch.manual_seed(0)
    cif = Cif(16, CifConfig())
    frames, mask = torch.randn(8, 300, 16), torch.ones(8, 300, dtype=torch.bool)
    lengths = torch.arange(60, 140, 10)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        weights = cif(frames, mask)
        assert weights.dtype == torch.float32
        assert torch.equal(integrate_and_fire(frames, scale_to(weights, lengths))[1], lengths)


def test_repeats_are_merged_and_blanks_dropped():
    best = torch.tensor([[0, 5, 5, 0, 5, 7, 7, 9], [3, 3, 0, 0, 0, 0, 0, 0]])
    tokens = torch.stack([best, torch.tensor([0, 2]).repeat(2, 4)], 2)
    scores = torch.stack([torch.tensor([[-1.0, -3, -2, -1, -4, -1, -1, -5]] * 2), torch.full((2, 8), -6.0)], 2)
    times = torch.stack([torch.arange(8.0), torch.arange(1.0, 9)], 1).expand(2, -1, -1)
    merged = merge_repeats(tokens, scores, torch.tensor([7, 2]), times)  # what lies past the length counts for nothing
    assert merged.lengths.tolist() == [3, 1]
    assert merged.tokens[0, :, 0].tolist() == [5, 5, 7] and merged.tokens[1, :1, 0].tolist() == [3]
    assert merged.scores[0, :, 0].tolist() == [-2, -4, -1]  # of each run the highest
    assert merged.scores[0, :, 1].tolist() == [-torch.inf, -torch.inf, -6]  # the blank is no alternative
    assert merged.times[0].tolist() == [[1, 3], [4, 5], [5, 7]]
    assert merged.times[1, 0].tolist() == [0, 2]
    assert merged.firings[0].tolist() == [2, 4, 5] and merged.firings[1, 0] == 0  # whose states are kept
