"""FunASR's released Paraformers and SenseVoice as the recogniser of a pipeline.

A folder is read by our own import (`clsr.funasr`), whose networks are tested against FunASR's: FunASR itself takes ten
seconds and 800 MB to import, and its loader may ask the network.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from clsr.checkpoint import load_recogniser
from clsr.config import Precision
from clsr.errors import InputError
from clsr.funasr.release import import_release
from clsr.funasr.sense_voice import LANGUAGES
from clsr.funasr.sense_voice_recogniser import load_sense_voice
from clsr.funasr.sense_voice_release import MODEL as SENSE_VOICE
from clsr.funasr.sense_voice_release import is_sense_voice, release_model
from clsr.systems.protocol import SpeechRecogniser


def require_readable(folder: Path, language: str | None = None) -> None:
    """Refuse releases that are neither a Paraformer nor a SenseVoice-small, and languages that these do not take.

    Raises:
        InputError: the folder holds another model, or the model takes no such language.
    """
    model = release_model(folder)
    if model and model != SENSE_VOICE and "Paraformer" not in model:
        raise InputError(
            f"{folder}: holds FunASR's {model}, which clsr does not read: name a Paraformer or a {SENSE_VOICE}"
        )
    if language is None or (model == SENSE_VOICE and language in LANGUAGES):
        return
    if model == SENSE_VOICE:
        raise InputError(f"{folder}: does not know the language '{language}': give one of {', '.join(LANGUAGES)}")
    raise InputError(f"{folder}: a Paraformer takes no language: leave out #{language}")


def load_funasr(
    folder: Path, device: str = "cpu", precision: Precision = "float32", language: str | None = None
) -> SpeechRecogniser:
    """Load a released Paraformer or SenseVoice-small, with its own tokens.

    Args:
        folder: of the release.
        device: to compute on.
        precision: numbers to compute in.
        language: code of the language spoken, which only SenseVoice takes; None lets it find out.

    Raises:
        InputError: the folder is missing, incomplete, or holds another model, or the model takes no such language.
    """
    require_readable(folder, language)
    if is_sense_voice(folder):
        return load_sense_voice(folder, device, precision, language or "auto")
    with TemporaryDirectory() as imported:
        import_release(folder, Path(imported))
        return load_recogniser(imported, device, precision)
