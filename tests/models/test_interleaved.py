"""Texts and speech in turn as one sequence of the text encoder's input embeddings."""

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from clsr.audio import waveform
from clsr.checkpoint import load_speech_encoder
from clsr.models.interleaved import CodedSpeech, encode_interleaved
from clsr.models.speech_encoder import SpeechEncoder
from clsr.models.text_encoder import TextEncoder, load_text_encoder
from clsr.text.folder import Side

Say = Callable[[str], np.ndarray]
SIDES: tuple[Side, ...] = ("passage", "question")


@pytest.fixture(scope="module")
def speech_encoder(tone_model: Path) -> SpeechEncoder:
    return load_speech_encoder(tone_model)


@pytest.fixture
def text_encoder(tiny_bert: Path) -> TextEncoder:
    """It reads 38 tokens, and wants words before a question."""
    encoder = load_text_encoder(str(tiny_bert))
    encoder.prompts = {"question": "where is the "}
    return encoder


def codes(text_encoder: TextEncoder, text: str) -> torch.Tensor:
    """The hard codes of a transcript."""
    return text_encoder.word_embeddings[text_encoder.token_ids(text)]


@pytest.mark.parametrize("side", SIDES)
def test_one_text_has_its_own_vector(text_encoder: TextEncoder, side: Side) -> None:
    texts = ["red dog", "a boat", "", "sun " * 50]
    expected = text_encoder.encode(texts, side)
    assert torch.allclose(encode_interleaved(text_encoder, [[text] for text in texts], side), expected, atol=1e-6)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("kind", ["soft", "hard"])
def test_one_utterance_has_its_own_vector(
    speech_encoder: SpeechEncoder, say_in_tones: Say, side: Side, kind: str
) -> None:
    waveforms = [say_in_tones("old boat red"), say_in_tones("sun")]
    speech_encoder.text_encoder.prompts = {"question": "where is the "}
    try:
        expected = speech_encoder.encode(waveforms, kind, side)  # type: ignore[arg-type]
        found = speech_encoder.encode_parts([[one] for one in waveforms], kind, side)  # type: ignore[arg-type]
    finally:
        speech_encoder.text_encoder.prompts = {}
    assert np.allclose(found.vectors, expected.vectors, atol=1e-6)
    assert found.texts == expected.transcripts


@pytest.mark.parametrize("side", SIDES)
def test_parts_are_one_text_in_their_order(text_encoder: TextEncoder, side: Side) -> None:
    spoken = CodedSpeech("old boat", [(1.0, codes(text_encoder, "old boat"))])
    inputs: list[list[str | CodedSpeech]] = [
        ["red dog", spoken, "sun"], [spoken, "red dog", "sun"], ["red", "dog", "sun", spoken],
    ]  # fmt: skip
    expected = text_encoder.encode(["red dog old boat sun", "old boat red dog sun", "red dog sun old boat"], side)
    found = encode_interleaved(text_encoder, inputs, side)
    assert torch.allclose(found, expected, atol=1e-6)
    assert (found[0] - found[1]).abs().max() > 1e-4 and torch.allclose(found.norm(dim=1), torch.ones(3), atol=1e-6)


def test_hard_codes_stand_for_their_transcript(speech_encoder: SpeechEncoder, say_in_tones: Say) -> None:
    inputs = [["red dog", say_in_tones("old boat"), "sun"], [say_in_tones("cat"), say_in_tones("blue sun")]]
    found = speech_encoder.encode_parts(inputs, "hard", "question")
    assert found.texts == ["red dog old boat sun", "cat blue sun"]
    assert np.allclose(found.vectors, speech_encoder.text_encoder.encode(found.texts, "question").numpy(), atol=1e-5)
    soft = speech_encoder.encode_parts(inputs, "soft", "question")
    assert soft.texts == found.texts and np.abs(soft.vectors - found.vectors).max() > 1e-7


def test_batch_changes_no_vector(speech_encoder: SpeechEncoder, say_in_tones: Say) -> None:
    inputs = [
        ["red dog", say_in_tones("old boat")],
        ["sun"],
        [say_in_tones("cat"), "blue", say_in_tones("red dog sun")],
    ]
    together = speech_encoder.encode_parts(inputs).vectors
    alone = [speech_encoder.encode_parts([one]).vectors[0] for one in inputs]
    assert np.allclose(together, alone, atol=1e-5)


def test_hypotheses_of_parts_are_combined(text_encoder: TextEncoder) -> None:
    first = CodedSpeech("cat", [(0.7, codes(text_encoder, "cat")), (0.3, codes(text_encoder, "old cat"))])
    second = CodedSpeech("sun", [(0.6, codes(text_encoder, "sun")), (0.4, codes(text_encoder, "sun boat"))])
    mean = sum(
        p * q * text_encoder.encode([f"{a} the {b}"])[0]
        for p, a in ((0.7, "cat"), (0.3, "old cat"))
        for q, b in ((0.6, "sun"), (0.4, "sun boat"))
    )
    found = encode_interleaved(text_encoder, [[first, "the", second]], "passage")[0]
    assert torch.allclose(found, torch.nn.functional.normalize(mean, dim=0), atol=1e-6)


def test_unlikely_combinations_are_left_out(text_encoder: TextEncoder) -> None:
    words = ["cat", "dog", "sun", "boat", "red"]
    doubtful = CodedSpeech("cat", [(0.2, codes(text_encoder, word)) for word in words])
    sure = CodedSpeech("cat", [(0.94, codes(text_encoder, "cat")), (0.06, codes(text_encoder, "dog"))])
    assert torch.isfinite(encode_interleaved(text_encoder, [[doubtful] * 9], "passage")).all()  # of two million
    twice = encode_interleaved(text_encoder, [[sure, sure]], "passage")[0]
    kept = [
        ("cat cat", 0.94 * 0.94),
        ("cat dog", 0.94 * 0.06),
        ("dog cat", 0.06 * 0.94),
    ]  # "dog dog": 0.004 of the best
    mean = sum(p * text_encoder.encode([text])[0] for text, p in kept)
    assert torch.allclose(twice, torch.nn.functional.normalize(mean, dim=0), atol=1e-6)


def test_long_inputs_are_means_of_windows(
    text_encoder: TextEncoder, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waveform, "_logged", set())
    caplog.set_level(logging.INFO, "clsr")
    inputs = [["red " * 30, CodedSpeech("", [(1.0, codes(text_encoder, "sun " * 30))])]] * 2
    found = encode_interleaved(text_encoder, inputs, "question")
    mean = text_encoder.encode(["red " * 30, "sun " * 30], "question").mean(0)
    assert torch.allclose(found, torch.nn.functional.normalize(mean, dim=0).expand(2, -1), atol=1e-6)
    (record,) = caplog.records
    assert "63 tokens is longer than the 38" in record.message and "mean of 2 windows" in record.message
