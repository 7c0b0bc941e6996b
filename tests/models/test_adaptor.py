"""Codes: values worked out by hand, gradients of the straight-through estimator, and how far they reach."""

import math

import pytest
import torch
from torch import Tensor

from clsr.audio.features import FEATURE_SIZE
from clsr.config import AdaptorConfig, EncoderConfig, ModelConfig
from clsr.models.adaptor import (
    PassageProjection,
    best_codes,
    hard_codes,
    mix_rows,
    pool_codes,
    soft_codes,
    straight_through_codes,
    top_k_codes,
    training_codes,
)
from clsr.models.paraformer import Paraformer
from clsr.models.text_encoder import load_text_encoder

TABLE = torch.tensor([[1.0, 0.0], [0.0, 1.0], [5.0, 5.0], [-2.0, 3.0]])


def random_logits() -> Tensor:
    torch.manual_seed(0)
    return (3 * torch.randn(2, 3, 4)).requires_grad_(True)


def test_hard_codes_are_rows():
    logits = torch.tensor([[[0.0, 2.0, 1.0, -1.0], [0.1, 0.0, 0.0, 0.2]]])
    assert hard_codes(logits, TABLE).tolist() == [[[0.0, 1.0], [-2.0, 3.0]]]


def test_top_k_codes_by_hand():
    logits = torch.tensor([[[math.log(6.0), math.log(3.0), -50.0, math.log(2.0)]]])
    assert top_k_codes(logits, TABLE, 1)[0, 0].tolist() == [1.0, 0.0]
    assert top_k_codes(logits, TABLE, 2)[0, 0].tolist() == pytest.approx([6 / 9, 3 / 9])
    # Rows 0, 1 and 3 at 6 : 3 : 2; row 2 is not among the best three.
    assert top_k_codes(logits, TABLE, 3)[0, 0].tolist() == pytest.approx([(6 - 2 * 2) / 11, (3 + 3 * 2) / 11])


def test_a_temperature_sharpens_soft_codes():
    logits = torch.tensor([[[math.log(2.0), 0.0]]])
    assert soft_codes(logits, TABLE[:2], 1.0)[0, 0].tolist() == pytest.approx([2 / 3, 1 / 3])
    assert soft_codes(logits, TABLE[:2], 0.5)[0, 0].tolist() == pytest.approx([4 / 5, 1 / 5])


def test_the_whole_vocabulary_as_best_is_soft():
    logits = random_logits()
    assert torch.allclose(top_k_codes(logits, TABLE, 4), soft_codes(logits, TABLE, 1.0), atol=1e-6)
    assert torch.equal(top_k_codes(logits, TABLE, 99), top_k_codes(logits, TABLE, 4))


def test_what_is_never_recognised_has_no_weight():
    logits = torch.tensor([[[-math.inf, -math.inf, 1.0, 1.0]]])
    assert top_k_codes(logits, TABLE, 3)[0, 0].tolist() == [1.5, 4.0]
    assert mix_rows(torch.zeros(1, 1, 1), torch.tensor([[[3]]]), TABLE)[0, 0].tolist() == [-2.0, 3.0]


@pytest.mark.parametrize("gamma", [0.1, 1.0])
def test_straight_through_has_the_gradient_of_the_mixture(gamma: float):
    torch.manual_seed(0)
    logits, codebook, upstream = torch.randn(4, 9, 50, requires_grad=True), torch.randn(50, 16), torch.randn(4, 9, 16)
    codes = straight_through_codes(logits, codebook, gamma)
    assert torch.equal(codes, codebook[logits.argmax(2)])
    (straight,) = torch.autograd.grad((codes * upstream).sum(), logits)
    (soft,) = torch.autograd.grad((soft_codes(logits, codebook, gamma) * upstream).sum(), logits)
    assert torch.equal(straight, soft)


def test_the_straight_through_gradient_by_hand():
    # Two rows 0 and 1, p = sigmoid(d / gamma): dp/dd = p (1 - p) / gamma.
    logits = torch.tensor([[[0.0, 0.2]]], requires_grad=True)
    straight_through_codes(logits, torch.tensor([[0.0], [1.0]]), 0.1).sum().backward()
    p = 1 / (1 + math.exp(-2.0))
    assert logits.grad is not None
    assert logits.grad.flatten().tolist() == pytest.approx([-p * (1 - p) / 0.1, p * (1 - p) / 0.1], rel=1e-5)


def test_top_k_gradients_reach_the_best_alone():
    logits = torch.tensor([[[3.0, 2.0, -5.0, 1.0]]], requires_grad=True)
    top_k_codes(logits, TABLE, 2).square().sum().backward()
    assert logits.grad is not None
    assert (logits.grad != 0).flatten().tolist() == [True, True, False, False]


def test_training_codes_are_those_of_the_settings():
    logits = random_logits()
    for config, expected in (
        (AdaptorConfig("top_k", top_k=2, gamma=2.0), top_k_codes(logits, TABLE, 2, 2.0)),
        (AdaptorConfig("soft", gamma=0.5), soft_codes(logits, TABLE, 0.5)),
        (AdaptorConfig("straight_through", gamma=0.1), hard_codes(logits, TABLE)),
    ):
        assert torch.equal(training_codes(logits, TABLE, config), expected)


@pytest.mark.parametrize("codes", ["top_k", "soft", "straight_through"])
def test_log_probabilities_mix_as_logits_do(codes):
    logits = random_logits()
    made = [training_codes(x, TABLE, AdaptorConfig(codes, 2, "logits", 0.5)) for x in (logits, logits.log_softmax(2))]
    gradients = [torch.autograd.grad(rows.square().sum(), logits)[0] for rows in made]
    assert torch.allclose(made[0], made[1], atol=1e-5) and torch.allclose(gradients[0], gradients[1], atol=1e-5)


def test_probabilities_by_hand():
    logits = torch.tensor([[[math.log(3.0), 0.0]]])  # probabilities 3/4 and 1/4, half a temperature apart
    config = AdaptorConfig("soft", input="probabilities", gamma=0.25)
    share = 1 / (1 + math.exp(-2.0))
    assert training_codes(logits, TABLE[:2], config)[0, 0].tolist() == pytest.approx([share, 1 - share])
    best = best_codes(torch.tensor([[[0, 1]]]), logits.log_softmax(2), TABLE[:2], config, 2)
    assert best[0, 0].tolist() == pytest.approx([share, 1 - share])


@pytest.mark.parametrize("kind", ["logits", "probabilities"])
def test_best_outputs_suffice_for_training_codes(kind):
    logits = torch.randn(2, 5, 4)
    config = AdaptorConfig("top_k", top_k=2, input=kind, gamma=0.7)
    best = logits.log_softmax(2).topk(3)
    codes = best_codes(best.indices, best.values, TABLE, config, 2)
    assert torch.allclose(codes, training_codes(logits, TABLE, config), atol=1e-6)
    assert torch.equal(best_codes(best.indices, best.values, TABLE, config, 1), hard_codes(logits, TABLE))


def test_hard_codes_pass_no_gradient_on():
    codes = training_codes(random_logits(), TABLE, AdaptorConfig("hard"))
    assert torch.equal(codes, hard_codes(random_logits(), TABLE)) and not codes.requires_grad


def test_a_passage_projection_starts_as_the_identity():
    torch.manual_seed(0)
    passage_projection, vectors = PassageProjection(5), torch.nn.functional.normalize(torch.randn(3, 5), dim=1)
    assert torch.allclose(passage_projection(vectors), vectors, atol=1e-6)
    with torch.no_grad():
        passage_projection.weight.copy_(torch.diag(torch.tensor([3.0, 4.0, 0.0, 0.0, 0.0])))
    assert passage_projection(torch.tensor([[1.0, 1.0, 1.0, 0.0, 0.0]]))[0].tolist() == pytest.approx(
        [0.6, 0.8, 0, 0, 0]
    )


@pytest.mark.parametrize("kind", ["top_k", "soft", "straight_through"])
def test_gradients_reach_firing_weights_not_the_text_encoder(tiny_bert, kind: str):
    torch.manual_seed(0)
    text_encoder = load_text_encoder(str(tiny_bert))
    config = ModelConfig(encoder=EncoderConfig(width=32, hidden=32, layers=2))
    config.adaptor = AdaptorConfig(kind)  # type: ignore[arg-type]
    paraformer = Paraformer(config, 12)
    lengths = torch.tensor([4, 2])
    output = paraformer(torch.randn(2, 20, FEATURE_SIZE), torch.tensor([20, 12]), torch.randint(2, 12, (2, 4)), lengths)
    codes = training_codes(output.logits, text_encoder.word_embeddings[10:22], config.adaptor)
    (text_encoder(codes, lengths) @ torch.randn(32)).sum().backward()
    for part in (
        paraformer.encoder,
        paraformer.predictor.cif_conv1d,
        paraformer.predictor.cif_output,
        paraformer.decoder,
    ):
        gradients = [weight.grad for weight in part.parameters() if weight.grad is not None]
        assert sum(gradient.abs().sum() for gradient in gradients) > 0
    assert all(weight.grad is None for weight in text_encoder.parameters())


def test_pooled_codes_ignore_padding():
    codes = torch.randn(2, 5, 3)
    lengths = torch.tensor([5, 2])
    pooled, short = pool_codes(codes, lengths, 2)
    assert short.tolist() == [3, 1] and pooled.shape == (2, 3, 3)
    assert torch.allclose(pooled[0, 2], codes[0, 4]) and torch.allclose(pooled[1, 0], codes[1, :2].mean(0))
    alone, _ = pool_codes(codes[1:, :2], lengths[1:], 2)
    assert torch.allclose(pooled[1, :1], alone[0])
    assert torch.equal(pool_codes(codes, lengths, 1)[0], codes)
