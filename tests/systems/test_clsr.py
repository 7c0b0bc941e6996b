"""CLSR among the systems: which rows a model gives."""

from pathlib import Path

from clsr.checkpoint import load_speech_encoder
from clsr.models.speech_encoder import SpeechEncoder
from clsr.systems.clsr import ClsrSystem


def test_unquantised_training_gives_one_row_more(tone_model: Path):
    encoder = load_speech_encoder(tone_model)
    quantised = ("text", "cascade", "cascade-8best", "clsr", "clsr-soft")
    assert ClsrSystem(encoder, encoder).rows == quantised
    encoder.paraformer.config.adaptor.codes = "soft"
    unquantised = SpeechEncoder(encoder.paraformer, encoder.text_encoder, encoder.vocabulary)
    assert set(ClsrSystem(unquantised, unquantised).rows) - set(quantised) == {"clsr-unquantised"}
