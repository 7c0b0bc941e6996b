"""The folder of a checkpoint without its weights: what is known of it, settings, vocabulary, text encoder, fingerprint.

PyTorch is not imported: a typed query needs none of the rest.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from clsr.byte_pairs import WORDS, BytePairVocabulary
from clsr.config import BUNDLED, TrainingConfig
from clsr.errors import InputError
from clsr.settings import read_checkpoint_settings
from clsr.text.folder import TextEncoderFolder, open_text_encoder
from clsr.vocabulary import Vocabulary

if TYPE_CHECKING:
    from tokenizers import Tokenizer

WITHOUT_VOCABULARY = ("text", "parabge", "speechdpr", "clap", "whisper")  # kinds that write none of our tokens
RELEASE = "release"  # kind of a checkpoint that was imported with a vocabulary of its own, without text encoder


@dataclass
class Meta:
    """What is known of how a checkpoint came to be.

    Args:
        kind: stage or baseline that it holds ("asr", "text", "joint", "post", "parabge", ...), or "release".
        text_encoder: reference of the text encoder; empty for a release.
        text_encoder_fingerprint: its fingerprint.
        ctc_units: what the auxiliary CTC predicts, by index, blank first; empty without CTC.
        data_digest: digest of the training data.
        commit: commit of the code, or "unknown".
        metrics: of the development set.
        untrained: whether parts of it are random, so that training has to come before any use. Each training stage
            writes a checkpoint without this mark.
    """

    kind: str
    text_encoder: str
    text_encoder_fingerprint: str
    ctc_units: list[str] = dataclasses.field(default_factory=list)
    data_digest: str = ""
    commit: str = "unknown"
    metrics: dict[str, float] = dataclasses.field(default_factory=dict)
    untrained: bool = False

    def to_json(self) -> str:
        """The content of ``meta.json``; the mark is in it only where it is set."""
        values = dataclasses.asdict(self)
        if not self.untrained:
            del values["untrained"]
        return json.dumps(values, indent=1) + "\n"


def read_meta(folder: Path | str) -> Meta:
    """Read ``meta.json``.

    Raises:
        InputError: the folder is no checkpoint, or an unfinished one.
    """
    path = Path(folder) / "meta.json"
    try:
        return Meta(**json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise InputError(f"{folder}: no checkpoint (no meta.json): name a folder that training finished") from error
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}: damaged: train again or copy the checkpoint again") from error


def load_config(folder: Path | str) -> TrainingConfig:
    """Read the resolved settings of a checkpoint."""
    return read_checkpoint_settings(TrainingConfig, Path(folder) / "config.yaml")


def is_release(folder: Path | str) -> bool:
    """Say whether a checkpoint was imported with a vocabulary of its own, which no text encoder knows."""
    return read_meta(folder).kind == RELEASE


def require_text_pieces(folder: Path | str) -> None:
    """See that a checkpoint recognises the pieces of a text encoder.

    Raises:
        InputError: it was imported with a vocabulary of its own.
    """
    if is_release(folder):
        raise InputError(
            f"{folder}: recognises its own tokens, not a text encoder's pieces: import the model again with "
            "--vocabulary TEXT_ENCODER, then train it with --start"
        )


def require_trained(folder: Path | str) -> None:
    """See that a checkpoint was trained before it is used.

    Raises:
        InputError: parts of it are random.
    """
    if read_meta(folder).untrained:
        raise InputError(
            f"{folder}: its output layer is not trained yet, so it recognises noise: run clsr train-asr "
            f"--start {folder} --data DATA --output DIR, then give DIR"
        )


def find_text_side(folder: Path | str, text_encoder: str | None = None) -> TextEncoderFolder:
    """Find the text encoder of a checkpoint, or another one in its place.

    Args:
        folder: the checkpoint.
        text_encoder: reference of a text encoder with the same pieces, whatever its width; ``None`` is the one that the
            checkpoint was trained with.

    Raises:
        InputError: another text encoder than the one it was trained with is found, or it has none; or the one named
            has other pieces.
    """
    require_text_pieces(folder)
    meta = read_meta(folder)
    if text_encoder is not None:
        other = open_text_encoder(text_encoder)
        load_vocabulary(folder, other.tokenizer)  # refuses other pieces
        return other
    bundled = Path(folder) / BUNDLED
    own = open_text_encoder(str(bundled) if bundled.is_dir() else meta.text_encoder)
    if own.fingerprint != meta.text_encoder_fingerprint:
        raise InputError(
            f"{folder}: trained with text encoder {meta.text_encoder} {meta.text_encoder_fingerprint}, but the one "
            f"found is {own.fingerprint}: bring the right one, or train again"
        )
    return own


def load_vocabulary(folder: Path | str, tokenizer: Tokenizer) -> Vocabulary | BytePairVocabulary:
    """Load what the outputs of a checkpoint stand for, given the text encoder's tokenizer.

    Raises:
        InputError: a file is missing or malformed, or does not fit the text encoder.
    """
    if load_config(folder).model.decoder.kind == "whisper":
        return BytePairVocabulary.load(Path(folder), tokenizer)
    return Vocabulary.load(Path(folder) / "vocabulary.txt", tokenizer)


def fingerprint(folder: Path | str, text_encoder: str | None = None) -> str:
    """Return 16 hexadecimal digits that stand for the weights of a checkpoint, its vocabulary and its text encoder.

    Args:
        folder: the checkpoint.
        text_encoder: fingerprint of another text encoder in place of its own.

    Raises:
        InputError: it is no checkpoint.
    """
    digest = hashlib.sha256()
    vocabulary = [] if read_meta(folder).kind in WITHOUT_VOCABULARY else ["vocabulary.txt"]
    vocabulary += [WORDS] if (Path(folder) / WORDS).is_file() else []
    for name in ("model.safetensors", *vocabulary, "meta.json"):
        path = Path(folder) / name
        if not path.exists():
            raise InputError(f"{path}: missing: name a folder that a training stage finished")
        other = (text_encoder or read_meta(folder).text_encoder_fingerprint).encode()
        digest.update(path.read_bytes() if name != "meta.json" else other)
    return digest.hexdigest()[:16]
