"""Where a model comes from, by its reference: a checkpoint folder, or a released recogniser and a text encoder.

Nothing heavy is imported before it is needed: a typed query loads a text encoder alone.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from clsr import checkpoint_folder
from clsr.config import OFFLINE_TEXT_ENCODER, Precision
from clsr.errors import InputError
from clsr.funasr.sentence_pieces import SENSE_VOICE_PIECES
from clsr.hub import HUBS, find_folder
from clsr.text.encoder import SentenceEncoder, load_query_encoder
from clsr.text.folder import open_text_encoder
from clsr.wheels import file_sha256

if TYPE_CHECKING:
    from clsr.models.text_encoder import TextEncoder
    from clsr.systems.protocol import SpeechRecogniser, SpeechSystem

WHISPER, FASTER_WHISPER, FUNASR, CLAP, ST = ("whisper", "faster-whisper", "funasr", "clap", "st")
NOISY = "-noisy"  # ends the scheme of a pipeline whose text encoder was fine-tuned on its own transcripts
BEAM = "-beam"  # ends the scheme of a Whisper whose n-best list is measured too
WHISPERS = tuple(f"{name}{end}" for name in (WHISPER, FASTER_WHISPER) for end in ("", NOISY, BEAM))
INDEXED = (WHISPER, FASTER_WHISPER, FUNASR)  # schemes that an index can be built with
_LANGUAGE = re.compile(r"(?P<place>.+)#(?P<language>[a-z]{2,3})")


class ModelReference(NamedTuple):
    """A reference taken apart."""

    scheme: str  # one of ``WHISPERS``, "funasr", "clap", "st"; empty for a checkpoint folder
    place: str  # a folder, or what else ``clsr.hub.find_folder`` takes
    language: str | None = None  # spoken, for Whisper and SenseVoice

    def __str__(self) -> str:
        """The reference as it is written, folders absolute."""
        place = str(Path(self.place).resolve()) if self.place and Path(self.place).is_dir() else self.place
        scheme, language = self.scheme and f"{self.scheme}:", self.language and f"#{self.language}"
        return f"{scheme}{place}{language or ''}"


def parse_reference(text: str | Path) -> ModelReference:
    """Take the reference of a model apart; what has no known scheme is a folder.

    >>> parse_reference("whisper:hf:openai/whisper-base#fr")
    ModelReference(scheme='whisper', place='hf:openai/whisper-base', language='fr')
    >>> parse_reference("exp/joint").scheme
    ''
    """
    scheme, _, place = str(text).partition(":")
    if scheme not in (*WHISPERS, FUNASR, CLAP, ST):
        return ModelReference("", str(text))
    named = _LANGUAGE.fullmatch(place)
    if named is None or scheme in (CLAP, ST) or Path(place).is_dir():
        return ModelReference(scheme, place)
    return ModelReference(scheme, named["place"], named["language"])


class ModelSource(Protocol):
    """What loads the parts of a model.

    Attributes:
        reference: of the model, as an index remembers it.
        other_text_encoder: reference of its text encoder, where that is not its own.
        folder: of the weights.
    """

    reference: str
    other_text_encoder: str | None
    folder: Path

    def fingerprint(self, text_encoder: SentenceEncoder | None) -> str:
        """16 hexadecimal digits that stand for weights, vocabulary and text encoder.

        Args:
            text_encoder: the model's, loaded; not needed where it is the model's own.
        """

    def load_query_encoder(self, precision: Precision) -> SentenceEncoder | None:
        """What encodes typed queries without PyTorch; ``None`` where that is needed."""

    def load_text_encoder(self, precision: Precision) -> TextEncoder:
        """The text encoder without the rest, on the processor."""

    def load_recogniser(self, device: str, precision: Precision) -> SpeechRecogniser:
        """What writes down speech."""

    def load_speech_encoder(self, device: str, precision: Precision) -> SpeechSystem:
        """The whole model."""


def open_source(reference: str | Path, text_encoder: str | None = None) -> ModelSource:
    """Find a model by its reference, loading nothing yet.

    Args:
        reference: a checkpoint folder, ``whisper:PLACE`` (also ``faster-whisper:PLACE``) or ``funasr:PLACE``; a place
            is a folder, or what else ``clsr.hub.find_folder`` takes. ``whisper:PLACE#fr`` writes French; without a
            language a multilingual Whisper detects it, and so does a SenseVoice.
        text_encoder: reference of the text encoder; ``None`` is that of a CLSR model, or the bundled one for a
            recogniser that has none.

    Raises:
        InputError: there is no such model, or it is one that writes no transcripts.
    """
    model = parse_reference(reference)
    if model.scheme and model.scheme not in INDEXED:
        raise InputError(f"{reference}: is measured only (clsr evaluate): name a CLSR checkpoint, whisper:PLACE or "
                         "funasr:PLACE")  # fmt: skip
    if model.scheme == FUNASR:
        from clsr.systems.funasr import require_readable

        require_readable(find_folder(model.place), model.language)
    if model.scheme:
        return CascadeSource(model, find_folder(model.place), text_encoder)
    if model.place.startswith(HUBS) and not Path(model.place).is_dir():
        raise InputError(f"{reference}: does not say what kind of model it is: give whisper:{reference} or "
                         f"funasr:{reference}")  # fmt: skip
    folder = Path(model.place).resolve()
    kind = checkpoint_folder.read_meta(folder).kind
    if kind == "whisper":
        return CascadeSource(ModelReference("", str(folder)), folder, text_encoder)
    if kind in checkpoint_folder.WITHOUT_VOCABULARY:
        raise InputError(
            f"{folder}: a checkpoint of kind {kind}, which writes no transcripts and cannot be searched: give a CLSR "
            "checkpoint, whisper:PLACE or funasr:PLACE"
        )
    if kind == checkpoint_folder.RELEASE:
        return CascadeSource(ModelReference("", str(folder)), folder, text_encoder)
    return CheckpointSource(folder, text_encoder)


class CheckpointSource:
    """A CLSR checkpoint.

    Args:
        folder: of the checkpoint.
        text_encoder: reference of a text encoder with the same pieces in place of its own.
    """

    def __init__(self, folder: Path, text_encoder: str | None) -> None:
        self.folder = folder
        self.reference = str(folder)
        self.other_text_encoder = text_encoder

    def fingerprint(self, text_encoder: SentenceEncoder | None) -> str:
        """That of the checkpoint, with the text encoder that takes the place of its own."""
        checkpoint_folder.require_trained(self.folder)
        other = text_encoder.fingerprint if text_encoder and self.other_text_encoder else None
        return checkpoint_folder.fingerprint(self.folder, other)

    def load_query_encoder(self, precision: Precision) -> SentenceEncoder | None:
        """That of the checkpoint's text encoder, or of the one in its place."""
        checkpoint_folder.require_trained(self.folder)
        return load_query_encoder(checkpoint_folder.find_text_side(self.folder, self.other_text_encoder), precision)

    def load_text_encoder(self, precision: Precision) -> TextEncoder:
        """The checkpoint's text encoder, or the one in its place."""
        from clsr import checkpoint

        checkpoint_folder.require_trained(self.folder)
        return checkpoint.load_text_side(self.folder, precision, self.other_text_encoder)

    def load_recogniser(self, device: str, precision: Precision) -> SpeechRecogniser:
        """The whole model."""
        return self.load_speech_encoder(device, precision)

    def load_speech_encoder(self, device: str, precision: Precision) -> SpeechSystem:
        """The whole model."""
        from clsr import checkpoint

        checkpoint_folder.require_trained(self.folder)
        return checkpoint.load_speech_encoder(self.folder, device, precision, self.other_text_encoder)


class CascadeSource:
    """A released recogniser with a text encoder beside it.

    Args:
        model: its reference; without a scheme, the folder of an imported Paraformer or of a Whisper trained here.
        folder: of the weights.
        text_encoder: reference of the text encoder; ``None`` is the bundled one.
    """

    def __init__(self, model: ModelReference, folder: Path, text_encoder: str | None) -> None:
        self.model = model
        self.folder = folder
        self.reference = str(model)
        self.other_text_encoder: str | None = text_encoder or OFFLINE_TEXT_ENCODER

    def fingerprint(self, text_encoder: SentenceEncoder | None) -> str:
        """Digest of the weights, the tokens, the language and the text encoder."""
        files = [name for name in ("model.bin", "model.safetensors", "model.pt") if (self.folder / name).is_file()]
        tokens = [name for name in ("tokenizer.json", "tokens.json", "tokens.txt", "vocabulary.txt",
                              SENSE_VOICE_PIECES)
                  if (self.folder / name).is_file()]  # fmt: skip
        if not files or not tokens:
            lacking = "weights (model.bin, model.safetensors or model.pt)" if not files else "tokenizer.json or tokens"
            raise InputError(f"{self.folder}: no {lacking}: name the folder of a released model")
        parts = [file_sha256(self.folder / name) for name in (*files, *tokens)]
        parts += [self.model.language or "", text_encoder.fingerprint if text_encoder else ""]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]

    def load_query_encoder(self, precision: Precision) -> SentenceEncoder | None:
        """That of the text encoder, which needs nothing of the recogniser."""
        return load_query_encoder(open_text_encoder(self.other_text_encoder or OFFLINE_TEXT_ENCODER), precision)

    def load_text_encoder(self, precision: Precision) -> TextEncoder:
        """The text encoder, which needs nothing of the recogniser."""
        from clsr.models.precision import lower_text_encoder
        from clsr.models.text_encoder import load_text_encoder

        return lower_text_encoder(load_text_encoder(self.other_text_encoder or OFFLINE_TEXT_ENCODER), precision)

    def load_recogniser(self, device: str, precision: Precision) -> SpeechRecogniser:
        """The recogniser alone."""
        from clsr import checkpoint

        checkpoint.require_device(device)
        if self.model.scheme == FUNASR:
            from clsr.systems.funasr import load_funasr

            return load_funasr(self.folder, device, precision, self.model.language)
        if not self.model.scheme and checkpoint_folder.is_release(self.folder):
            return checkpoint.load_recogniser(self.folder, device, precision)
        from clsr.systems.whisper_folder import in_ctranslate2
        from clsr.systems.whisper_recogniser import WhisperDecoding, WhisperRecogniser

        decoding = WhisperDecoding(language=self.model.language)
        return WhisperRecogniser(in_ctranslate2(self.folder), device, precision, decoding)

    def load_speech_encoder(self, device: str, precision: Precision) -> SpeechSystem:
        """Both, one after the other."""
        from clsr.systems.cascade import CascadeEncoder

        recogniser = self.load_recogniser(device, precision)
        return CascadeEncoder(recogniser, self.load_text_encoder(precision).to(device))
