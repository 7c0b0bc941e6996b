"""Cascades of the model's own transcripts."""

import itertools
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from clsr.checkpoint import load_speech_encoder
from clsr.models.recogniser import Recognition
from clsr.models.speech_encoder import LengthHypotheses, LengthHypothesis, SpeechEncoder
from clsr.models.text_encoder import load_text_encoder
from clsr.systems.cascade import CascadeEncoder, encode_n_best, encode_transcripts, n_best, transcripts


@pytest.fixture(scope="module")
def encoder(tone_model: Path) -> SpeechEncoder:
    return load_speech_encoder(tone_model)


def recognition(*positions: dict[int, float]) -> LengthHypotheses:
    """Tokens with their probabilities at each position, best first."""
    tokens = np.array([list(position) for position in positions])
    scores = np.log(np.array([list(position.values()) for position in positions])).astype(np.float32)
    return [LengthHypothesis(tokens, scores, [(float(u), u + 1.0) for u in range(len(positions))])]


def slow_n_best(recognised: LengthHypothesis, n: int) -> list[tuple[tuple[int, ...], float]]:
    hypotheses = []
    for choice in itertools.product(range(recognised.tokens.shape[1]), repeat=len(recognised.tokens)):
        score = sum(float(recognised.scores[u, k]) for u, k in enumerate(choice))
        hypotheses.append((tuple(int(recognised.tokens[u, k]) for u, k in enumerate(choice)), math.exp(score)))
    best = sorted(hypotheses, key=lambda hypothesis: -hypothesis[1])[:n]
    return [(tokens, p / sum(p for _, p in best)) for tokens, p in best]


def test_n_best_by_hand():
    recognised = recognition({5: 0.6, 7: 0.4}, {2: 0.9, 3: 0.1})
    first, second, third = n_best(recognised, 3)
    assert [h.tokens for h in (first, second, third)] == [(5, 2), (7, 2), (5, 3)]  # 0.54, 0.36, 0.06
    assert [h.probability for h in (first, second, third)] == pytest.approx([54 / 96, 36 / 96, 6 / 96], rel=1e-4)


def test_n_best_is_what_enumeration_finds():
    draw = np.random.default_rng(0)
    for _ in range(20):
        scores = -np.sort(-draw.standard_normal((5, 4)).astype(np.float32), axis=1)
        tokens = np.array([draw.permutation(20)[:4] for _ in range(5)])
        recognised = LengthHypothesis(tokens, scores, [(0.0, 1.0)] * 5)
        expected = slow_n_best(recognised, 4)
        found = n_best([recognised], 4)
        assert [h.tokens for h in found] == [hypothesis for hypothesis, _ in expected]
        assert [h.probability for h in found] == pytest.approx([p for _, p in expected], rel=1e-4)


def test_n_best_goes_over_all_hypotheses():
    (one,), (two,) = recognition({5: 0.5, 7: 0.4}), recognition({5: 0.8, 2: 0.2}, {3: 0.6, 4: 0.3})
    found = n_best([one._replace(probability=0.75), two._replace(probability=0.25)], 4)
    # A hypothesis's best transcript has the hypothesis's probability, the others theirs in proportion.
    assert [h.tokens for h in found] == [(5,), (7,), (5, 3), (5, 4)]
    assert [h.probability for h in found] == pytest.approx([x / 1.725 for x in (0.75, 0.6, 0.25, 0.125)], rel=1e-4)


def test_silence_has_one_empty_hypothesis():
    silent = LengthHypothesis(np.empty((0, 8), int), np.empty((0, 8), np.float32), [])
    assert n_best([silent], 8) == [((), 1.0)]


def test_a_transcript_is_encoded_as_any_text(encoder: SpeechEncoder):
    red, dog, sun = (encoder.vocabulary.pieces.index(piece) for piece in ("red", "dog", "sun"))
    recognised = [recognition({red: 0.9, sun: 0.1}, {dog: 0.8, sun: 0.2}), recognition({sun: 0.7, red: 0.3})]
    assert transcripts(encoder, recognised) == ["red dog", "sun"]
    expected = encoder.text_encoder.encode(["red dog", "sun"])
    assert torch.equal(encode_transcripts(encoder, recognised), expected)
    assert torch.allclose(encode_n_best(encoder, recognised, 1), expected, atol=1e-6)


def test_the_n_best_vector_is_a_weighted_mean(encoder: SpeechEncoder):
    red, dog, sun = (encoder.vocabulary.pieces.index(piece) for piece in ("red", "dog", "sun"))
    recognised = [recognition({sun: 0.7, red: 0.3}), recognition({red: 0.5, dog: 0.5}, {sun: 0.75, dog: 0.25})]
    vectors = encode_n_best(encoder, recognised, 2)
    sun_vector, red_vector = encoder.text_encoder.encode(["sun", "red"])
    red_sun, dog_sun = encoder.text_encoder.encode(["red sun", "dog sun"])
    expected = torch.stack([0.7 * sun_vector + 0.3 * red_vector, 0.5 * red_sun + 0.5 * dog_sun])
    assert torch.allclose(vectors, torch.nn.functional.normalize(expected, dim=1), atol=1e-5)


def test_parts_of_a_cascade_are_its_transcripts(tiny_bert: Path):
    class Deaf:
        def transcribe(self, waveforms: Sequence[np.ndarray]) -> list[Recognition]:
            return [Recognition("old boat", [], [], [], 0.0, []) for _ in waveforms]

        def join(self, texts: Iterable[str]) -> str:
            return " ".join(texts)

    text_encoder = load_text_encoder(str(tiny_bert))
    text_encoder.prompts = {"question": "where is the "}
    cascade, spoken = CascadeEncoder(Deaf(), text_encoder), np.zeros(16_000, np.float32)
    inputs = [["red", spoken, "sun"], [spoken], [spoken, "sun"], ["sun"]]
    for side in ("passage", "question"):
        found = cascade.encode_parts(inputs, side=side)
        assert found.texts == ["red old boat sun", "old boat", "old boat sun", "sun"]
        assert np.allclose(found.vectors, text_encoder.encode(found.texts, side).numpy(), atol=1e-6)
        assert np.allclose(found.vectors[1], cascade.encode([spoken], side=side).vectors[0], atol=1e-6)
