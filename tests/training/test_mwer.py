"""Candidates of the minimum word error rate loss, and whether learning from them lowers the errors expected."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from clsr.models.text_encoder import TextEncoder
from clsr.training.losses import mwer_loss, sampled_mwer_loss
from clsr.training.mwer import Candidates, Draw, draw_candidates, mwer
from clsr.vocabulary import SPECIAL_PIECES, Vocabulary

DRAWS: tuple[Draw, ...] = ("mask", "sample")


@pytest.fixture(scope="module")
def vocabulary(minilm: TextEncoder) -> Vocabulary:
    return Vocabulary([*SPECIAL_PIECES, "red", "blue", "dog", "##s"], minilm.tokenizer)


def log_probability(logits: Tensor, tokens: list[int]) -> float:
    known = logits[:, 2:].log_softmax(1)
    return sum(known[u, token - 2].item() for u, token in enumerate(tokens))


@pytest.mark.parametrize("draw", DRAWS)
def test_candidates_have_the_probability_of_their_tokens(draw: Draw):
    torch.manual_seed(0)
    logits, lengths = torch.randn(3, 4, 6), torch.tensor([4, 1, 2])
    tokens, log_probabilities = draw_candidates(logits, lengths, 6, draw)
    assert tokens.shape == (3, 6, 4)
    for b, n in itertools.product(range(3), range(6)):
        row = tokens[b, n, : lengths[b]].tolist()
        assert min(row) >= 2  # neither padding nor unknown
        if log_probabilities[b, n] > -math.inf:
            assert log_probabilities[b, n].item() == pytest.approx(log_probability(logits[b], row), abs=1e-5)


def test_masked_candidates_are_best_or_second_best():
    torch.manual_seed(0)
    logits, lengths = torch.randn(2, 8, 6), torch.tensor([8, 5])
    best, second = logits[..., 2:].topk(2).indices.unbind(2)
    tokens, log_probabilities = draw_candidates(logits, lengths, 10, "mask")
    for b in range(2):
        real = tokens[b, :, : lengths[b]]
        assert torch.equal(real[0], best[b, : lengths[b]] + 2)
        changed = real != real[0]
        assert (changed[1:].sum(1) >= 1).all()
        assert torch.equal(real[changed], (second[b, : lengths[b]] + 2).expand_as(real)[changed])
        seen = [tuple(row) for row in real.tolist()]
        assert [p == -math.inf for p in log_probabilities[b].tolist()] == [
            row in seen[:n] for n, row in enumerate(seen)
        ]  # a double counts once


def test_samples_come_as_often_as_they_are_likely():
    torch.manual_seed(0)
    logits = torch.tensor([[[0.0, 0.0, math.log(6), math.log(3), math.log(1), -50.0]]])
    tokens, _ = draw_candidates(logits, torch.tensor([1]), 20_000, "sample")
    shares = torch.bincount(tokens.flatten(), minlength=6) / 20_000
    assert shares.tolist() == pytest.approx([0, 0, 0.6, 0.3, 0.1, 0], abs=0.015)


def test_errors_are_those_of_words(vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch):
    """Of "red dogs" said as "red dog ##s" (right), "red dog red" and "blue dog ##s", by hand."""
    candidates = torch.tensor([[[2, 4, 5], [2, 4, 2], [3, 4, 5]]])
    seen = {}

    def loss(log_probabilities: Tensor, errors: Tensor) -> Tensor:
        seen["errors"] = errors
        return errors.sum()

    monkeypatch.setattr("clsr.training.mwer.draw_candidates", lambda *_: Candidates(candidates, torch.zeros(1, 3)))
    monkeypatch.setattr("clsr.training.mwer.mwer_loss", loss)
    mwer(torch.zeros(1, 3, 6), torch.tensor([[2, 4, 5]]), torch.tensor([3]), vocabulary, 3, "mask")
    assert seen["errors"].tolist() == [[0.0, 2.0, 1.0]]  # "red dog red" has one word wrong and one too many


def all_transcripts() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Logits of two tokens over three pieces, log probabilities and errors of all 9 transcripts, and the gradient of
    the expected errors: those of every transcript, weighted by its probability."""
    torch.manual_seed(0)
    logits, errors = torch.randn(2, 3, dtype=torch.double, requires_grad=True), torch.rand(9).double()
    known = logits.log_softmax(1)
    paths = torch.tensor(list(itertools.product(range(3), repeat=2)))
    of_paths = known[0, paths[:, 0]] + known[1, paths[:, 1]]
    (expected,) = torch.autograd.grad((of_paths.exp() * errors).sum(), logits, retain_graph=True)
    return logits, of_paths, errors, expected


def test_all_candidates_give_the_exact_gradient():
    logits, of_paths, errors, expected = all_transcripts()
    (found,) = torch.autograd.grad(mwer_loss(of_paths[None], errors[None]), logits)
    assert torch.allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("count", [2, 3])
def test_sampled_candidates_are_unbiased(count: int):
    """Every way to draw 2 or 3 of 9 transcripts, weighted by its probability: no chance is involved."""
    logits, of_paths, errors, expected = all_transcripts()
    draws = torch.tensor(list(itertools.product(range(9), repeat=count)))
    chances = of_paths.detach()[draws].sum(1).exp()
    assert chances.sum().item() == pytest.approx(1.0)

    def mean_gradient(loss) -> Tensor:
        each = torch.stack([loss(of_paths[draw][None], errors[draw][None]) for draw in draws])
        return torch.autograd.grad((chances * each).sum(), logits, retain_graph=True)[0]

    assert torch.allclose(mean_gradient(sampled_mwer_loss), expected, atol=1e-12)
    assert (mean_gradient(mwer_loss) - expected).abs().max() > 1e-3


@pytest.mark.parametrize("draw", DRAWS)
def test_learning_from_candidates_lowers_the_expected_errors(vocabulary: Vocabulary, draw: Draw, descend):
    torch.manual_seed(0)
    logits = torch.zeros(4, 3, 6, requires_grad=True)
    targets, lengths = torch.tensor([[2, 3, 4]] * 4), torch.full((4,), 3)

    def right() -> float:
        return logits[..., 2:].softmax(2).gather(2, (targets - 2)[..., None]).mean().item()

    assert right() == pytest.approx(0.25)
    descend(lambda step: mwer(logits, targets, lengths, vocabulary, 8, draw), [logits], 0.1, 150)
    assert right() > 0.7
