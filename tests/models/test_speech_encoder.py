"""Speech to unit vectors: hard codes are the transcript, soft ones carry doubt, and batches change nothing."""

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from clsr.audio.features import fbank, stack_frames
from clsr.checkpoint import load_speech_encoder
from clsr.metrics.word_errors import word_errors
from clsr.models.adaptor import soft_codes, top_k_codes
from clsr.models.cif import integrate_and_fire, scale_to
from clsr.models.paraformer import BEST
from clsr.models.recogniser import MIN_PROBABILITY
from clsr.models.speech_encoder import SpeechEncoder
from clsr.vocabulary import UNKNOWN

TEXTS = ["old boat red", "sun", "green dog blue cat sun red", "cat dog"]


@pytest.fixture(scope="module")
def encoder(tone_model: Path) -> SpeechEncoder:
    return load_speech_encoder(tone_model)


@pytest.fixture(scope="module")
def waveforms(say_in_tones: Callable[[str], np.ndarray]) -> list[np.ndarray]:
    return [say_in_tones(text) for text in TEXTS]


def unsure(encoder: SpeechEncoder, waveforms: list[np.ndarray]) -> list[np.ndarray]:
    """Waveforms in noise, which the recogniser was never trained on."""
    draw = np.random.default_rng(0)
    return [w + 0.3 * draw.standard_normal(len(w), dtype=np.float32) for w in waveforms]


def without_quantiser(encoder: SpeechEncoder) -> SpeechEncoder:
    """The same weights, as if joint training had mixed the whole codebook."""
    same = copy.deepcopy(encoder)
    same.paraformer.config.adaptor.codes = "soft"
    return SpeechEncoder(same.paraformer, same.text_encoder, encoder.vocabulary)


def test_transcript_equals_what_was_said(encoder: SpeechEncoder, waveforms: list[np.ndarray]):
    encoding = encoder.encode(waveforms)
    assert encoding.transcripts == TEXTS
    ids = [encoder.text_encoder.token_ids(text) for text in TEXTS]
    assert encoding.token_ids == ids
    assert encoding.vectors.dtype == np.float32
    assert np.linalg.norm(encoding.vectors, axis=1) == pytest.approx(1.0)


def test_words_have_the_times_of_their_speech(encoder: SpeechEncoder, waveforms: list[np.ndarray]):
    (words,) = encoder.encode(waveforms[2:3]).words
    assert [word.text for word in words] == TEXTS[2].split()
    for number, word in enumerate(words):  # a word lasts 0.3 s; where the weight arrives was never taught
        middle_s = (word.start_s + word.end_s) / 2
        assert middle_s == pytest.approx(0.3 * number + 0.15, abs=0.2)
    assert words[0].start_s == 0.0
    assert words[-1].end_s == pytest.approx(1.8, abs=0.06)  # a stacked frame


def test_token_vectors_pool_to_the_text_vector(encoder: SpeechEncoder, waveforms: list[np.ndarray]):
    hypothesis = encoder.recognise(unsure(encoder, waveforms)[2:3])[0][0]
    ids = torch.tensor([[encoder.vocabulary.text_ids[i] for i in hypothesis.best]])
    hard = encoder.token_vectors(hypothesis, "hard")
    rows = encoder.text_encoder.word_embeddings[ids]
    assert torch.allclose(hard, encoder.text_encoder.token_vectors(rows, torch.tensor([ids.shape[1]]))[0], atol=1e-6)
    soft = encoder.token_vectors(hypothesis)
    assert soft.shape == hard.shape and (soft - hard).abs().max() > 1e-4
    assert soft.norm(dim=1).numpy() == pytest.approx(1.0)


@pytest.mark.parametrize("kind", [list, unsure], ids=["sure", "unsure"])
def test_hard_codes_equal_the_recognised_text(encoder: SpeechEncoder, waveforms: list[np.ndarray], kind):
    given = waveforms if kind is list else unsure(encoder, waveforms)
    encoding = encoder.encode(given, "hard")
    of_tokens = encoder.text_encoder.encode_ids(encoding.token_ids).numpy()
    assert np.abs(encoding.vectors - of_tokens).max() < 1e-6
    if kind is list:  # the pieces are those that the transcript is split into
        assert np.abs(encoding.vectors - encoder.text_encoder.encode(encoding.transcripts).numpy()).max() < 1e-6


def test_soft_codes_mix_best_tokens_and_hypotheses(encoder: SpeechEncoder, waveforms: list[np.ndarray]):
    """Against logits of the whole vocabulary, of each number of tokens by itself."""
    mixed, network, never = [], encoder.paraformer, encoder.paraformer.never
    codebook, gamma = encoder.text_encoder.word_embeddings[encoder.vocabulary.text_ids], network.config.adaptor.gamma
    unquantised = without_quantiser(encoder)
    for waveform in unsure(encoder, waveforms):
        features = stack_frames(fbank(waveform))[None]
        lengths = torch.tensor([features.shape[1]])
        expected, of_all_rows = torch.zeros(2, encoder.text_encoder.width)
        with torch.no_grad():
            hypotheses = network.length_hypotheses(features, lengths)
            frames, mask = network.encoder(network.cmvn(features), lengths)
            weights = hypotheses.scores[:, 0].softmax(0).tolist()
            kept = [(n, weight) for n, weight in enumerate(weights) if weight >= MIN_PROBABILITY]
            for n, weight in kept:
                number = hypotheses.token_lengths[n]
                tokens, _ = integrate_and_fire(frames, scale_to(network.predictor(frames, mask), number))
                logits = network.decoder(tokens, torch.ones(tokens.shape[:2], dtype=torch.bool), frames, mask)
                of_all_rows += weight * encoder.text_encoder(soft_codes(logits, codebook, gamma), number)[0]
                logits[..., never] = -torch.inf
                expected += weight * encoder.text_encoder(top_k_codes(logits, codebook, 3, gamma), number)[0]
        mixed.append(len(kept))
        soft, hard = (encoder.encode([waveform], codes).vectors[0] for codes in ("soft", "hard"))
        assert np.abs(soft - (expected / expected.norm()).numpy()).max() < 1e-5
        assert np.abs(soft - hard).max() > 1e-4
        whole = unquantised.encode([waveform], "unquantised").vectors[0]
        assert np.abs(whole - (of_all_rows / of_all_rows.norm()).numpy()).max() < 1e-5
        assert np.abs(whole - soft).max() > 1e-4
    assert max(mixed) > 1


def test_a_quantised_model_has_no_unquantised_codes(encoder: SpeechEncoder, waveforms: list[np.ndarray]):
    with pytest.raises(ValueError, match="not trained with mixtures of the whole codebook"):
        encoder.encode(waveforms, "unquantised")


def test_a_length_off_by_one_is_corrected(tone_model: Path, waveforms: list[np.ndarray]):
    short = load_speech_encoder(tone_model)
    short.paraformer.config.cif.length_margin = 0
    with torch.no_grad():
        while len(short.encode(waveforms[2:3]).token_ids[0]) == len(TEXTS[2].split()):
            short.paraformer.predictor.cif_output.bias -= 0.02
    assert len(short.encode(waveforms[2:3]).token_ids[0]) == len(TEXTS[2].split()) - 1
    short.paraformer.config.cif.length_margin = 1
    assert short.encode(waveforms[2:3]).transcripts == TEXTS[2:3]


def test_a_code_is_a_word_embedding(encoder: SpeechEncoder):
    for index, piece in enumerate(encoder.vocabulary.pieces):
        row = encoder.text_encoder.word_embeddings[encoder.text_encoder.tokenizer.token_to_id(piece)]
        assert torch.equal(encoder.text_encoder.word_embeddings[encoder.vocabulary.text_ids[index]], row)


@pytest.mark.parametrize("codes", ["soft", "hard", "unquantised"])
def test_batches_and_order_change_nothing(encoder: SpeechEncoder, waveforms: list[np.ndarray], codes):
    given = unsure(encoder, waveforms)
    encoder = without_quantiser(encoder) if codes == "unquantised" else encoder
    together, turned = encoder.encode(given, codes), encoder.encode(given[::-1], codes)
    for i, waveform in enumerate(given):
        alone = encoder.encode([waveform], codes)
        assert together.transcripts[i] == turned.transcripts[-1 - i] == alone.transcripts[0]
        assert np.abs(together.vectors[i] - alone.vectors[0]).max() < 1e-5
        assert np.abs(together.vectors[i] - turned.vectors[-1 - i]).max() < 1e-5
        for word, same in zip(together.words[i], alone.words[0]):
            assert (word.start_s, word.end_s) == pytest.approx((same.start_s, same.end_s), abs=1e-3)


def test_empty_hypothesis_is_the_empty_text(tone_model: Path, waveforms: list[np.ndarray]):
    deaf = load_speech_encoder(tone_model)
    with torch.no_grad():
        deaf.paraformer.predictor.cif_output.bias.fill_(-20.0)
    encoding = deaf.encode(waveforms[:2])
    assert encoding.transcripts == ["", ""]
    assert encoding.token_ids == encoding.words == [[], []]
    empty = deaf.text_encoder.encode([""]).numpy()
    assert np.abs(encoding.vectors - empty).max() < 1e-6


def test_a_click_and_no_waveform_at_all(encoder: SpeechEncoder):
    click = encoder.encode([np.full(10, 0.1, np.float32)])
    assert np.linalg.norm(click.vectors) == pytest.approx(1.0)
    assert encoder.encode([]).vectors.shape == (0, 32)
    assert encoder.encode([]).transcripts == []


def test_recognition_keeps_the_best_tokens_in_order(encoder: SpeechEncoder, waveforms: list[np.ndarray]):
    for recognition in encoder.recognise(unsure(encoder, waveforms)):
        probabilities = [hypothesis.probability for hypothesis in recognition]
        assert sum(probabilities) == pytest.approx(1)
        assert sorted(probabilities, reverse=True) == probabilities and probabilities[-1] >= MIN_PROBABILITY
        for hypothesis in recognition:
            assert hypothesis.tokens.shape == hypothesis.scores.shape == (len(hypothesis.times), BEST)
            assert (np.diff(hypothesis.scores, axis=1) <= 0).all()
            assert (hypothesis.tokens > UNKNOWN).all()


def test_longer_speech_than_trained_is_recognised(encoder: SpeechEncoder, say_in_tones):
    text = " ".join(TEXTS * 2)  # 24 words, and four at most in training
    assert word_errors(text, encoder.encode([say_in_tones(text)]).transcripts[0]).errors <= 2
