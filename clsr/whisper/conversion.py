"""``clsr convert``: a CLSR checkpoint whose parts start from a released Whisper."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from clsr.byte_pairs import RELEASE_TOKENIZER, BytePairVocabulary, read_tokenizer
from clsr.checkpoint import require_free, save_untrained
from clsr.config import CifConfig, DecoderConfig, EncoderConfig, ModelConfig, TrainingConfig, WhisperConfig
from clsr.errors import InputError
from clsr.models.text_encoder import load_text_encoder
from clsr.vocabulary import Vocabulary
from clsr.whisper.weights import WhisperWeights, read_whisper

ENCODER_LAYERS = 2  # SAN-M layers between the release's encoder and CIF
FIRINGS_PER_TOKEN = 1.3
START_MARKS = ("<|startoftranscript|>", "<|notimestamps|>")
LANGUAGE_MARKS = ("<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|notimestamps|>")


def convert_whisper(folder: Path, output: Path, text_encoder: str, decoder: str = "whisper", seed: int = 0) -> None:
    """Write an untrained checkpoint that starts from a Whisper release; ``clsr train-asr --start`` trains it.

    Front end and, unless ``decoder`` is "sanm", decoder and output embeddings are the release's; the SAN-M layers
    between them and CIF are random. Of the output embeddings those are kept that write normalised English text.

    Args:
        folder: the release, of CTranslate2 or Hugging Face, with its ``tokenizer.json``.
        output: folder of the checkpoint.
        text_encoder: reference of the text encoder.
        decoder: "whisper", or "sanm" for a decoder from random weights over the text encoder's pieces.
        seed: of the random parts.

    Raises:
        InputError: the folder holds no release, or ``output`` holds a checkpoint.
    """
    require_free(output)
    weights = read_whisper(folder)
    encoder = load_text_encoder(text_encoder)
    release = read_tokenizer(folder / RELEASE_TOKENIZER)
    many_languages = release.token_to_id("<|en|>") is not None and len(weights.embeddings) > 51864
    marks = [release.token_to_id(mark) for mark in (LANGUAGE_MARKS if many_languages else START_MARKS)]
    if None in marks:
        raise InputError(f"{folder / RELEASE_TOKENIZER}: has no start marks of Whisper: bring the release's own")
    kept = decoder == "whisper"
    vocabulary = BytePairVocabulary(release, encoder.tokenizer) if kept else Vocabulary.whole(encoder.tokenizer)
    model = _model_settings(replace(weights.config, start_marks=len(marks)), kept)
    released = {f"frontend.encoder.{name}": value for name, value in weights.encoder.items()}
    if isinstance(vocabulary, BytePairVocabulary):
        released |= _decoder_state(weights, vocabulary, [mark for mark in marks if mark is not None])
    save_untrained(output, TrainingConfig(text_encoder, model=model), vocabulary, encoder.fingerprint, released, seed)


def _model_settings(whisper: WhisperConfig, kept: bool) -> ModelConfig:
    """Return the sizes of a model around a release."""
    width = whisper.width
    return ModelConfig(
        encoder=EncoderConfig(width, 4 * width, ENCODER_LAYERS, whisper.heads, 11, 0.1),
        cif=CifConfig(firings_per_token=FIRINGS_PER_TOKEN if kept else 1.0),
        decoder=DecoderConfig(kind="whisper") if kept else DecoderConfig(4 * width, 3, whisper.heads, 11, 0.1),
        frontend="whisper",
        whisper=whisper,
    )


def _decoder_state(weights: WhisperWeights, vocabulary: BytePairVocabulary, marks: list[int]) -> dict:
    """Return the decoder's weights by their names in a recogniser."""
    state = {f"decoder.{name}": value for name, value in weights.decoder.items()}
    state["decoder.start"] = weights.embeddings[marks]
    state["decoder.output_layer.weight"] = weights.embeddings[vocabulary.release_ids]
    return state
