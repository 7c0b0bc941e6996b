"""The recogniser as a whole: two-pass training, recognition, times, and learning one batch by heart."""

import math

import pytest
import torch
from torch import Tensor

from clsr.audio.features import FEATURE_SIZE
from clsr.config import CtcConfig, DecoderConfig, EncoderConfig, ModelConfig, SamplerConfig
from clsr.models.cif import integrate_and_fire, scale_to
from clsr.models.paraformer import BEST, CtcHead, Paraformer
from clsr.padding import length_mask
from clsr.training.losses import quantity_loss, token_cross_entropy

V = 11


def tiny(sampler: SamplerConfig | None = None, ctc_size: int = 0, upsampling: int = 1) -> Paraformer:
    torch.manual_seed(0)
    config = ModelConfig(
        encoder=EncoderConfig(width=32, hidden=48, layers=2, heads=2, kernel=5),
        decoder=DecoderConfig(hidden=48, layers=2, heads=2, kernel=3),
        sampler=sampler or SamplerConfig(),
        ctc=CtcConfig("pieces" if ctc_size else "none", upsampling),
    )
    return Paraformer(config, V, ctc_size)


def batch() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Features, their lengths, targets and theirs."""
    torch.manual_seed(1)
    targets, target_lengths = torch.randint(2, V, (3, 8)), torch.tensor([8, 3, 6])
    return torch.randn(3, 30, FEATURE_SIZE), torch.tensor([30, 18, 24]), targets, target_lengths


def test_training_says_as_many_tokens_as_the_targets():
    model = tiny()
    features, frame_lengths, targets, target_lengths = batch()
    output = model(features, frame_lengths, targets, target_lengths)
    assert output.logits.shape == (3, 8, V)
    assert torch.equal(output.first_pass, output.logits.argmax(2))
    frames, mask = model.encoder(model.cmvn(features), frame_lengths)
    assert torch.allclose(output.quantities, model.predictor(frames, mask).sum(1))
    assert output.ctc_logits is None


def test_the_second_pass_sees_targets_for_wrong_tokens():
    model = tiny(SamplerConfig(ratio=1.0, positions="wrong"))
    features, frame_lengths, targets, target_lengths = batch()
    output = model(features, frame_lengths, targets, target_lengths)
    frames, frame_mask = model.encoder(features, frame_lengths)
    tokens, _ = integrate_and_fire(frames, scale_to(model.predictor(frames, frame_mask), target_lengths))
    token_mask = length_mask(target_lengths)
    first_pass = model.decoder(tokens, token_mask, frames, frame_mask).argmax(2)
    wrong = (first_pass != targets) & token_mask
    mixed = tokens.clone()
    mixed[wrong] = model.decoder.output_layer.weight[targets[wrong]]
    assert torch.equal(output.first_pass, first_pass)
    assert wrong.any() and torch.allclose(
        output.logits, model.decoder(mixed, token_mask, frames, frame_mask), atol=1e-5
    )


@pytest.mark.parametrize("ratio", [0.0, 1.0])
def test_listed_outputs_are_columns_of_all(ratio: float):
    model = tiny(SamplerConfig(ratio=ratio, positions="wrong"))
    features, frame_lengths, targets, target_lengths = batch()
    outputs = torch.arange(0, V)  # all, in order: nothing may change
    every = model(features, frame_lengths, targets, target_lengths)
    assert torch.allclose(model(features, frame_lengths, targets, target_lengths, outputs).logits, every.logits)
    outputs = torch.cat([torch.tensor([0]), targets.flatten()]).unique()
    places = torch.searchsorted(outputs, targets)
    some = model.eval()(features, frame_lengths, places, target_lengths, outputs)
    every = model(features, frame_lengths, targets, target_lengths)
    assert 2 < len(outputs) < V
    assert torch.allclose(some.logits, every.logits[:, :, outputs], atol=1e-6)
    assert torch.equal(some.first_pass, every.logits[:, :, outputs].argmax(2))


def test_outside_training_there_is_no_sampler():
    model, plain = tiny(SamplerConfig(ratio=1.0)).eval(), tiny().eval()
    assert torch.equal(model(*batch()).logits, plain(*batch()).logits)


def test_ctc_upsamples_and_only_in_training():
    model = tiny(ctc_size=5, upsampling=2)
    output = model(*batch())
    assert output.ctc_logits is not None and output.ctc_logits.shape == (3, 60, 5)
    assert model.eval()(*batch()).ctc_logits is None


def test_ctc_predictions_of_a_frame_are_adjacent():
    head = CtcHead(4, 3, upsampling=2)
    frames = torch.randn(1, 5, 4)
    flat = head.ctc_lo(frames)
    for frame in range(5):
        assert torch.equal(head(frames)[0, 2 * frame], flat[0, frame, :3])
        assert torch.equal(head(frames)[0, 2 * frame + 1], flat[0, frame, 3:])


def test_recognition_does_not_depend_on_the_batch():
    model = tiny().eval()
    features, lengths, _, _ = batch()
    features[1, 18:] = 1e3  # padding may hold anything
    recognised = model.recognise(features, lengths)
    for i, length in enumerate(lengths.tolist()):
        alone = model.recognise(features[i : i + 1, :length], lengths[i : i + 1])
        count = int(alone.token_lengths)
        assert count == recognised.token_lengths[i] > 0
        assert torch.equal(recognised.tokens[i, :count], alone.tokens[0])
        assert torch.allclose(recognised.log_probabilities[i, :count], alone.log_probabilities[0], atol=1e-4)
        assert torch.allclose(recognised.times[i, :count], alone.times[0], atol=1e-3)


def test_inference_rounds_the_quantity_or_adds_a_tail():
    model = tiny().eval()
    model.config.cif.length_margin = 0
    torch.manual_seed(2)
    features, lengths = torch.randn(16, 30, FEATURE_SIZE), torch.full((16,), 30)
    quantities = model.predictor(*model.encoder(features, lengths)).sum(1).tolist()
    rounded = model.recognise(features, lengths).token_lengths.tolist()
    assert rounded == [round(quantity) for quantity in quantities]
    model.config.cif.ending, model.config.cif.tail = "tail", 0.2
    tailed = model.recognise(features, lengths).token_lengths.tolist()
    assert tailed == [int(quantity + 0.2) for quantity in quantities] != rounded


@torch.no_grad()
def test_every_length_within_the_margin_is_scored():
    model = tiny().eval()
    features, lengths, _, _ = batch()
    frames, frame_mask = model.encoder(model.cmvn(features), lengths)
    weights = model.predictor(frames, frame_mask)
    hypotheses, chosen = model.length_hypotheses(features, lengths), model.recognise(features, lengths)
    for i, quantity in enumerate(weights.sum(1).tolist()):
        scores = []
        for row, number in enumerate([round(quantity), round(quantity) - 1, round(quantity) + 1]):
            one = weights[i : i + 1] * number / weights[i].sum()
            tokens, _ = integrate_and_fire(frames[i : i + 1], one)
            logits = model.decoder(
                tokens, torch.ones(1, number, dtype=torch.bool), frames[i : i + 1], frame_mask[i : i + 1]
            )
            known = logits[0, :, 2:].log_softmax(1).topk(BEST)  # neither padding nor unknown
            assert hypotheses.token_lengths[row, i] == number
            assert torch.equal(hypotheses.tokens[row, i, :number], known.indices + 2)
            assert torch.allclose(hypotheses.log_probabilities[row, i, :number], known.values, atol=1e-4)
            likelihood = known.values[:, 0].mean().item()
            scores.append(round(quantity) * likelihood - (number - quantity) ** 2 / 2)
            assert hypotheses.scores[row, i].item() == pytest.approx(scores[-1], abs=1e-3)
            assert hypotheses.times[row, i, number - 1, 1] == pytest.approx(lengths[i].item(), abs=1e-3)
        best = scores.index(max(scores))
        count = int(chosen.token_lengths[i])
        assert count == hypotheses.token_lengths[best, i]
        assert torch.equal(chosen.tokens[i, :count], hypotheses.tokens[best, i, :count])
        assert torch.equal(chosen.log_probabilities[i, :count], hypotheses.log_probabilities[best, i, :count])
        assert torch.equal(chosen.times[i, :count], hypotheses.times[best, i, :count])


@torch.no_grad()
def test_speech_is_never_read_as_silence():
    model = tiny().eval()
    features, lengths, _, _ = batch()
    frames, mask = model.encoder(model.cmvn(features), lengths)
    while model.predictor(frames, mask)[0].sum() >= 1.5:
        model.predictor.cif_output.bias -= 0.1
    hypotheses = model.length_hypotheses(features, lengths)
    assert hypotheses.token_lengths[:, 0].tolist() == [1, 0, 2]
    assert hypotheses.scores[1, 0] == -math.inf and torch.isfinite(hypotheses.scores[::2, 0]).all()


def test_inference_equals_training_at_the_right_length():
    model = tiny().eval()
    features, lengths, _, _ = batch()
    recognised = model.recognise(features, lengths)
    targets = torch.full((3, int(recognised.token_lengths.max())), 2)
    trained = model(features, lengths, targets, recognised.token_lengths)
    for i, count in enumerate(recognised.token_lengths.tolist()):
        known = trained.logits[i, :count, 2:].log_softmax(1).topk(BEST)
        assert torch.equal(recognised.tokens[i, :count], known.indices + 2)
        assert torch.allclose(recognised.log_probabilities[i, :count], known.values, atol=1e-5)


def test_padding_and_unknown_are_never_recognised():
    model = tiny().eval()
    with torch.no_grad():
        model.decoder.output_layer.bias[:2] = 1e6
    recognised = model.recognise(*batch()[:2])
    for tokens, count in zip(recognised.tokens, recognised.token_lengths):
        assert count > 0 and (tokens[:count] >= 2).all()


def test_times_are_ordered_within_the_utterance():
    model = tiny().eval()
    features, lengths, _, _ = batch()
    recognised = model.recognise(features, lengths)
    for times, count, length in zip(recognised.times, recognised.token_lengths, lengths):
        begin, end = times[:count].T
        assert begin[0] == 0 and (end <= length).all()
        assert torch.equal(begin[1:], end[:-1]) and (end > begin).all()


def test_silence_is_no_token():
    model = tiny().eval()
    with torch.no_grad():
        model.predictor.cif_output.bias.fill_(-20.0)
    recognised = model.recognise(*batch()[:2])  # although one token was tried too
    assert recognised.tokens.shape == recognised.log_probabilities.shape == (3, 0, BEST)
    assert recognised.token_lengths.tolist() == [0, 0, 0]
    assert recognised.times.shape == (3, 0, 2)


def test_silence_beside_speech_is_no_token_either():
    model = tiny().eval()
    features, lengths, _, _ = batch()
    lengths[1] = 0
    recognised = model.recognise(features, lengths)
    assert recognised.token_lengths[1] == 0 and recognised.token_lengths[0] > 0
    assert torch.isfinite(recognised.log_probabilities).all()


@pytest.mark.parametrize("sampler", [SamplerConfig(0.0), SamplerConfig(0.5, "wrong"), SamplerConfig(0.5, "random")])
def test_one_batch_is_learnt_by_heart(sampler: SamplerConfig):
    model = tiny()
    features, frame_lengths, targets, target_lengths = batch()
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    for step in range(60):
        if step == 30:  # a decoder that knows nothing yet would only learn to copy what the sampler puts in
            model.config.sampler = sampler
        output = model(features, frame_lengths, targets, target_lengths)
        mae = quantity_loss(output.quantities, target_lengths)
        loss = token_cross_entropy(output.logits, targets, target_lengths) + mae
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1
    recognised = model.eval().recognise(features, frame_lengths)
    assert torch.equal(recognised.token_lengths, target_lengths)
    for tokens, target, length in zip(recognised.tokens[..., 0], targets, target_lengths):
        assert torch.equal(tokens[:length], target[:length])
