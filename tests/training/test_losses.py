"""Losses, worked out by hand or with loops."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from clsr.training.losses import (
    bank_nll,
    batch_nll,
    contrastive_loss,
    cosines,
    ctc_loss,
    mwer_loss,
    quantity_loss,
    sampled_mwer_loss,
    score_distillation,
    token_cross_entropy,
)


def unit(*shape: int) -> Tensor:
    return torch.nn.functional.normalize(torch.randn(*shape), dim=-1)


def minus_log_share(scores: list[float], right: int, temperature: float) -> float:
    exponentials = [math.exp(score / temperature) for score in scores]
    return -math.log(exponentials[right] / sum(exponentials))


def test_cross_entropy_by_hand():
    # Probabilities 1/2, 1/4, 1/4 and 1/8, 1/8, 6/8; the third token is padding.
    logits = torch.tensor([[[0.5, 0.25, 0.25], [0.125, 0.125, 0.75], [1.0, 2.0, 3.0]]]).log()
    targets, lengths = torch.tensor([[0, 2, -7]]), torch.tensor([2])
    assert token_cross_entropy(logits, targets, lengths).item() == pytest.approx((math.log(2) - math.log(0.75)) / 2)


def test_cross_entropy_is_a_mean_over_tokens():
    logits = torch.zeros(2, 3, 4)
    logits[0, 0, 1] = 100.0  # certain and right, in the utterance of one token
    targets, lengths = torch.tensor([[1, 0, 0], [0, 0, 0]]), torch.tensor([1, 3])
    assert token_cross_entropy(logits, targets, lengths).item() == pytest.approx(3 / 4 * math.log(4), rel=1e-5)


def test_smoothing_spreads_probability():
    logits = torch.tensor([[[0.5, 0.25, 0.25]]]).log()
    loss = token_cross_entropy(logits, torch.tensor([[0]]), torch.tensor([1]), smoothing=0.3)
    assert loss.item() == pytest.approx(-(0.8 * math.log(0.5) + 0.2 * math.log(0.25)))


def test_quantity_by_hand():
    loss = quantity_loss(torch.tensor([2.5, 3.0, 1.0]), torch.tensor([2, 4, 1]))
    assert loss.item() == pytest.approx((0.5 + 1.0 + 0.0) / 7)


def test_mwer_by_hand():
    # Shares 1/2, 1/4, 1/4 of errors 0, 2, 4 (mean 2): 1/2 (-2) + 1/4 (0) + 1/4 (2) = -1/2; and of one sure candidate 0.
    log_probabilities = torch.tensor([[0.02, 0.01, 0.01], [0.5, 0.0, 0.0]]).log()
    errors = torch.tensor([[0.0, 2.0, 4.0], [3.0, 9.0, 9.0]])
    assert mwer_loss(log_probabilities, errors).item() == pytest.approx((-0.5 + 0.0) / 2)
    assert mwer_loss(log_probabilities[:1], errors[:1]).item() == pytest.approx(-0.5)


@pytest.mark.parametrize("part_rows", [1, 3, 7, 100])
def test_cosines_are_inner_products_of_rows_with_rows(monkeypatch: pytest.MonkeyPatch, part_rows: int):
    monkeypatch.setattr("clsr.training.losses.PART_ROWS", part_rows)
    torch.manual_seed(0)
    few, many, weights = unit(4, 6), unit(7, 6), torch.randn(4, 7)
    pairs = [(few.clone().requires_grad_(), many.clone().requires_grad_()) for _ in range(2)]
    products = [cosines(*pairs[0]), (pairs[1][0][:, None] * pairs[1][1][None]).sum(2)]
    assert torch.allclose(products[0], products[1], atol=1e-6)
    for product in products:
        (product * weights).sum().backward()
    for ours, theirs in zip(*pairs):
        assert ours.grad is not None and theirs.grad is not None and torch.allclose(ours.grad, theirs.grad, atol=1e-6)


def test_the_gradient_of_mwer_by_hand():
    # Of sum_i p_i (W_i - W) with p = softmax(l) it is p_i (W_i - sum_j p_j W_j): here 1/2 (0 - 3/2), 1/4 (2 - 3/2), ...
    log_probabilities = torch.tensor([[0.02, 0.01, 0.01]]).log().requires_grad_()
    mwer_loss(log_probabilities, torch.tensor([[0.0, 2.0, 4.0]])).backward()
    assert log_probabilities.grad is not None
    assert log_probabilities.grad.flatten().tolist() == pytest.approx([-0.75, 0.125, 0.625])


def test_sampled_mwer_by_hand():
    log_probabilities = torch.tensor([[-1.0, -2.0, -3.0]], requires_grad=True)
    loss = sampled_mwer_loss(log_probabilities, torch.tensor([[0.0, 2.0, 4.0]]))
    loss.backward()
    assert loss.item() == pytest.approx((-2 * -1 + 0 * -2 + 2 * -3) / 2)
    assert log_probabilities.grad is not None
    assert log_probabilities.grad.flatten().tolist() == [-1.0, 0.0, 1.0]  # half of what it errs above the mean


def slow_ctc(probabilities: Tensor, target: list[int]) -> float:
    """Sum the probability of every alignment that collapses to the target."""
    total = 0.0
    for path in itertools.product(range(probabilities.shape[1]), repeat=len(probabilities)):
        collapsed = [unit for unit, _ in itertools.groupby(path) if unit != 0]
        if collapsed == target:
            total += math.prod(probabilities[t, unit].item() for t, unit in enumerate(path))
    return -math.log(total)


def test_ctc_sums_over_alignments():
    torch.manual_seed(0)
    logits = torch.randn(2, 5, 4)
    targets, lengths = torch.tensor([[1, 1, 2], [3, 0, 0]]), torch.tensor([3, 1])
    loss = ctc_loss(logits, torch.tensor([5, 3]), targets, lengths)
    expected = slow_ctc(logits[0].softmax(1), [1, 1, 2]) + slow_ctc(logits[1, :3].softmax(1), [3])
    assert loss.item() == pytest.approx(expected / 4, rel=1e-5)


def test_ctc_of_more_units_than_predictions_adds_nothing():
    logits = torch.zeros(2, 3, 4, requires_grad=True)
    lengths = torch.tensor([2, 1])
    loss = ctc_loss(logits, torch.tensor([2, 3]), torch.tensor([[1, 1], [2, 0]]), lengths)  # 1 1 needs a blank between
    loss.backward()
    assert loss.item() == pytest.approx(slow_ctc(torch.full((3, 4), 0.25), [2]) / 3, rel=1e-5)
    assert logits.grad is not None and not logits.grad[0].any() and logits.grad[1].any()


def test_contrastive_by_hand():
    similarity = torch.tensor([[0.5, 0.1], [0.0, -0.2]])
    loss = contrastive_loss(similarity, torch.tensor([0, 1]), 0.1)
    expected = (math.log(1 + math.exp(-4)) + math.log(1 + math.exp(2))) / 2
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_batch_nll_with_loops():
    torch.manual_seed(0)
    speech, questions = unit(5, 3), unit(5, 3)
    expected = 0.0
    for i in range(5):
        expected += minus_log_share([float(speech[i] @ q) for q in questions], i, 0.2) / 10
        expected += minus_log_share([float(questions[i] @ s) for s in speech], i, 0.2) / 10
    assert batch_nll(speech, questions, 0.2).item() == pytest.approx(expected, rel=1e-5)


def test_batch_nll_of_perfect_pairs_is_nearly_zero():
    assert batch_nll(torch.eye(4), torch.eye(4), 0.05).item() < 1e-6


def slow_bank_nll(speech: Tensor, own: list[int], questions: Tensor, passages: Tensor, temperature: float) -> float:
    total = 0.0
    for i, row in enumerate(own):
        total += minus_log_share([float(speech[i] @ question) for question in questions], row, temperature)
        negatives = [float(questions[row] @ speech[j]) for j in range(len(own)) if own[j] != row]
        negatives += [float(questions[row] @ passages[n]) for n in range(len(passages)) if n not in own]
        total += minus_log_share([float(questions[row] @ speech[i]), *negatives], 0, temperature)
    return total / (2 * len(own))


@pytest.mark.parametrize("own", [[4, 0, 2], [1, 5, 1, 1], [0, 1, 2, 3, 4, 5]])
def test_bank_nll_with_loops(own: list[int]):
    torch.manual_seed(0)
    speech, questions, passages = unit(len(own), 3), unit(6, 3), unit(6, 3)
    loss = bank_nll(speech, torch.tensor(own), questions, passages, 0.2)
    assert loss.item() == pytest.approx(slow_bank_nll(speech, own, questions, passages, 0.2), rel=1e-5)


def test_a_bank_of_the_batch_equals_it():
    torch.manual_seed(0)
    speech, questions = unit(4, 3), unit(4, 3)
    bank = bank_nll(speech, torch.arange(4), questions, unit(4, 3), 0.1)
    assert bank.item() == pytest.approx(batch_nll(speech, questions, 0.1).item(), rel=1e-5)


def test_copies_of_a_passage_are_no_negatives():
    speech = torch.eye(3)[[0, 0, 0, 1]]  # three voices of one passage, recognised perfectly
    groups = torch.tensor([5, 5, 5, 7])
    assert batch_nll(speech, speech, 0.05, groups).item() < 1e-6
    assert batch_nll(speech, speech, 0.05).item() > 0.5
    bank = torch.eye(3)[[0, 0, 1, 2]]  # rows 0 and 1 are two questions about one passage
    own, rows = torch.tensor([0, 1, 2]), torch.tensor([4, 4, 6, 8])
    assert bank_nll(bank[own], own, bank, bank, 0.05, rows).item() < 1e-6
    assert bank_nll(bank[own], own, bank, bank, 0.05).item() > 0.2


def test_groups_by_hand():
    # Cosines of speech 0 with the questions are 1, 0.5 and 0; question 1 is about the same passage.
    speech, questions = torch.tensor([[1.0, 0.0]] * 3), torch.tensor([[1.0, 0.0], [0.5, 0.0], [0.0, 1.0]])
    found = bank_nll(speech[:1], torch.tensor([0]), questions, torch.zeros(3, 2), 1.0, torch.tensor([0, 0, 2]))
    to_question = minus_log_share([1.0, 0.0], 0, 1.0)
    to_passage = minus_log_share([1.0, 0.0], 0, 1.0)  # its speech, and the text of the other passage
    assert found.item() == pytest.approx((to_question + to_passage) / 2)


def test_cosines_are_not_rounded_in_mixed_precision():
    torch.manual_seed(0)
    speech, questions = unit(4, 64), unit(4, 64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = batch_nll(speech, questions, 0.05)
    assert mixed.item() == pytest.approx(batch_nll(speech, questions, 0.05).item(), rel=1e-5)


def test_distillation_by_hand():
    # Teacher 1/2, 1/4, 1/4 against student 1/3 each; of the second question both say the same.
    teacher = torch.tensor([[0.5, 0.25, 0.25], [0.2, 0.3, 0.5]]).log() * 0.1
    student = torch.stack([torch.zeros(3), teacher[1] + 0.3])  # a constant changes no softmax
    by_hand = 0.5 * math.log(0.5 * 3) + 2 * 0.25 * math.log(0.25 * 3)
    assert score_distillation(student, teacher, 0.1).item() == pytest.approx(by_hand / 2, rel=1e-5)


def test_distillation_draws_the_student_to_the_teacher_alone():
    # d KL / d student = (softmax(student / t) - softmax(teacher / t)) / t, a mean over questions
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 4, requires_grad=True), torch.randn(2, 4, requires_grad=True)
    score_distillation(student, teacher, 0.5).backward()
    expected = ((student / 0.5).softmax(1) - (teacher / 0.5).softmax(1)) / 0.5 / 2
    assert student.grad is not None and torch.allclose(student.grad, expected, atol=1e-6)
    assert teacher.grad is None
