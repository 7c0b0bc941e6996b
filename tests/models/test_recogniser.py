"""The recogniser: what it makes of batches, with and without a text encoder."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from clsr.audio.features import stacked_at_once, stacked_features
from clsr.checkpoint import load_recogniser
from clsr.models.recogniser import MAX_BATCH_FRAMES, Recogniser, batches
from clsr.models.speech_encoder import SpeechEncoder


@pytest.fixture
def recogniser(release_model: Path) -> Recogniser:
    return load_recogniser(release_model)


def test_a_recogniser_needs_no_text_encoder(recogniser: Recogniser, tone_model: Path):
    assert not isinstance(recogniser, SpeechEncoder)
    assert isinstance(load_recogniser(tone_model), SpeechEncoder)


def test_transcripts_are_the_words_joined(recogniser: Recogniser, say_in_tones: Callable[[str], np.ndarray]):
    recognised = recogniser.recognise([say_in_tones("red dog sun boat"), say_in_tones("cat")])
    for transcript, words in zip(recogniser.transcripts(recognised), recogniser.words(recognised), strict=True):
        assert words and transcript == recogniser.vocabulary.join(word.text for word in words)
        assert all(0 <= word.start_s < word.end_s for word in words)


def test_a_release_may_recognise_any_output(recogniser: Recogniser, say_in_tones: Callable[[str], np.ndarray]):
    for index in (0, 1, 17):  # blank, sentence start, unknown: FunASR takes the best output, whatever it is
        with torch.no_grad():
            recogniser.paraformer.decoder.output_layer.bias.zero_()[index] = 1e3
        (hypotheses,) = recogniser.recognise([say_in_tones("red dog")])
        assert set(hypotheses[0].best) == {index}
        assert recogniser.transcripts([hypotheses]) == [""]


def test_features_at_once_are_those_one_by_one(say_in_tones: Callable[[str], np.ndarray]):
    """As an accelerator computes them, on the processor here."""
    waveforms, cpu = (
        [say_in_tones("red dog sun boat"), say_in_tones("cat"), np.zeros(3, np.float32)],
        torch.device("cpu"),
    )
    for rows, known in zip(stacked_at_once(waveforms, cpu), stacked_features(waveforms, cpu), strict=True):
        torch.testing.assert_close(rows, known, atol=2e-3, rtol=0)
    assert stacked_at_once([], cpu) == []


def test_batches_hold_everything_once_within_the_limit():
    draw = np.random.default_rng(0)
    lengths = [*draw.integers(1, 700, 200).tolist(), 3 * MAX_BATCH_FRAMES, 0]
    found = list(batches(lengths))
    assert sorted(i for batch in found for i in batch) == list(range(len(lengths)))
    for batch in found:
        assert len(batch) == 1 or max(lengths[i] for i in batch) * len(batch) <= MAX_BATCH_FRAMES
    assert sum(max(lengths[i] for i in batch) * len(batch) for batch in found) < 1.1 * sum(lengths)
