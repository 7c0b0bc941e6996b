"""The SAN-M decoder: all tokens at once, none of them padding."""

import pytest
import torch

from clsr.config import DecoderConfig
from clsr.models.decoder import SanmDecoder, top_k
from clsr.padding import length_mask, pad

TINY = DecoderConfig(hidden=24, layers=2, heads=2, kernel=3)


def decoder() -> SanmDecoder:
    torch.manual_seed(0)
    return SanmDecoder(9, 16, TINY).eval()


def test_padding_of_tokens_and_frames_changes_nothing():
    model = decoder()
    token_rows = [torch.randn(length, 16) for length in (5, 1, 3)]
    frame_rows = [torch.randn(length, 16) for length in (4, 8, 2)]
    tokens, token_lengths = pad(token_rows)
    frames, frame_lengths = pad(frame_rows)
    tokens[1, 1:] = frames[0, 4:] = 1e4  # padding may hold anything
    logits = model(tokens, length_mask(token_lengths), frames, length_mask(frame_lengths))
    for i, (token_row, frame_row) in enumerate(zip(token_rows, frame_rows)):
        masks = (torch.ones(1, len(row), dtype=torch.bool) for row in (token_row, frame_row))
        token_mask, frame_mask = masks
        alone = model(token_row[None], token_mask, frame_row[None], frame_mask)
        assert torch.allclose(logits[i, : len(token_row)], alone[0], atol=1e-5)


def test_a_token_affects_frames_within_the_memory():
    model = decoder()
    tokens, mask = torch.randn(1, 11, 16), torch.ones(1, 11, dtype=torch.bool)
    frames = torch.randn(1, 4, 16)
    changed = tokens.clone()
    changed[0, 5, 0] += 1.0
    before = model(tokens, mask, frames, mask[:, :4])
    after = model(changed, mask, frames, mask[:, :4])
    moved = ((before - after).abs().amax(2) > 1e-5)[0].nonzero().flatten().tolist()
    assert moved == [3, 4, 5, 6, 7]  # two layers, one token to each side in each


def test_every_token_looks_at_every_frame():
    model = decoder()
    tokens, mask = torch.randn(1, 6, 16), torch.ones(1, 6, dtype=torch.bool)
    frames = torch.randn(1, 4, 16, requires_grad=True)
    for u in range(6):
        (gradient,) = torch.autograd.grad(model(tokens, mask, frames, mask[:, :4])[0, u].square().sum(), frames)
        assert (gradient.abs().sum(2) > 0).all()


def test_hypotheses_of_an_utterance_look_at_its_frames():
    """Keys and values are computed once: the same as for each hypothesis with frames of its own."""
    model = decoder()
    tokens, token_mask = torch.randn(6, 5, 16), length_mask(torch.tensor([5, 4, 3, 2, 5, 1]))
    frames, frame_mask = torch.randn(2, 7, 16), length_mask(torch.tensor([7, 4]))
    together = model(tokens, token_mask, frames, frame_mask)
    apart = model(tokens, token_mask, frames.repeat_interleave(3, 0), frame_mask.repeat_interleave(3, 0))
    assert torch.allclose(together[token_mask], apart[token_mask], atol=1e-5)


def test_the_best_outputs_are_those_of_all_logits(monkeypatch):
    model, states = decoder(), torch.randn(7, 16)
    monkeypatch.setattr("clsr.models.decoder.LOGIT_ROWS", 3)
    with torch.no_grad():
        tokens, log_probabilities = model.best(states, 4, never=[0, 5])
        known = model.output_layer(states)[:, [1, 2, 3, 4, 6, 7, 8]].log_softmax(1).topk(4)
        assert torch.equal(tokens, torch.tensor([1, 2, 3, 4, 6, 7, 8])[known.indices])
        assert torch.allclose(log_probabilities, known.values, atol=1e-6)
        assert model.best(states, 99)[0].sort(1).values.tolist() == [list(range(9))] * 7


@pytest.mark.parametrize("size", [40, 1000, 1024])  # few outputs, a rest outside the groups, none
def test_top_k_is_that_of_torch(size: int):
    values = torch.randn(6, size)
    values[:, -1] = 9.0  # in the rest
    found, right = top_k(values, 4), values.topk(4)
    assert torch.equal(found[0], right.values) and torch.equal(found[1], right.indices)
