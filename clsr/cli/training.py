"""Commands that end in a checkpoint: ``clsr train-...`` and ``clsr import-funasr``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from clsr.cli.options import File, Folder, positional, settings_of
from clsr.config import OFFLINE_TEXT_ENCODER, TrainingConfig
from clsr.errors import InputError


@dataclass(kw_only=True)
class Train:
    """Run a training stage.

    Args:
        configs: YAML files of settings; later ones override earlier ones.
        data: folder with the retrieval sets or data directories train/ and dev/.
        output: folder of the checkpoint; an interrupted run is resumed by the same command.
        start: checkpoint to start from; sizes, vocabulary and text encoder are taken from it. train-clap and
            train-whisper start from released weights too: a folder, hf:ORG/NAME or modelscope:NAME.
        given: settings that are given as options.
    """

    configs: Annotated[tuple[File, ...], "CONFIG"] = positional(default=())
    data: Folder
    output: Folder
    start: Annotated[str | None, "DIR"] = None
    given: list[str] = settings_of(TrainingConfig)

    own_start: ClassVar[bool] = True  # whether what it starts from is a checkpoint of ours, with settings

    @property
    def resumes(self) -> bool:
        """Whether an interrupted run has left a state that the same command resumes from."""
        return (self.output / "state" / "last.ckpt").exists()

    @staticmethod
    def stage() -> Callable[[TrainingConfig, Path, Path, Path | None], object]:
        """Import the function that trains: of settings, data, output folder and start."""
        raise NotImplementedError

    def run(self) -> None:
        """Train, or resume training."""
        from clsr.hub import find_folder
        from clsr.settings import read_settings, start_settings

        start = None
        if self.start:
            start = Path(self.start) if self.own_start else find_folder(self.start)
        base = start_settings(start) if start and self.own_start else None
        config = read_settings(TrainingConfig, self.configs, self.given, base)
        self.stage()(config, self.data, self.output, start)
        print(f"{self.output}: done")


class TrainAsr(Train):
    """Train a recogniser on transcripts."""

    @staticmethod
    def stage() -> Callable:
        from clsr.training.asr import train_asr

        return train_asr


class TrainText(Train):
    """Fine-tune a text encoder on questions and the passages that answer them."""

    @staticmethod
    def stage() -> Callable:
        from clsr.training.text import train_text

        return train_text


class TrainJoint(Train):
    """Train recogniser and retrieval together."""

    @staticmethod
    def stage() -> Callable:
        from clsr.training.joint import train_joint

        return train_joint


class TrainPost(Train):
    """Fine-tune the text encoder on the codes of a trained recogniser."""

    @staticmethod
    def stage() -> Callable:
        from clsr.training.post import train_post

        return train_post


class TrainParaBge(Train):
    """Train ParaBGE, the baseline without a recogniser."""

    @staticmethod
    def stage() -> Callable:
        from clsr.systems.parabge import train_parabge

        return train_parabge


class TrainSpeechDpr(Train):
    """Train SpeechDPR, a speech encoder distilled from a cascade."""

    @staticmethod
    def stage() -> Callable:
        from clsr.systems.speechdpr import train_speechdpr

        return train_speechdpr


class TrainClap(Train):
    """Fine-tune CLAP, or train a small one from random weights."""

    own_start = False

    @staticmethod
    def stage() -> Callable:
        from clsr.systems.clap import train_clap

        return train_clap


class TrainWhisper(Train):
    """Fine-tune Whisper on transcripts, or train a small one from random weights."""

    own_start = False

    @staticmethod
    def stage() -> Callable:
        from clsr.systems.whisper import train_whisper

        return train_whisper


@dataclass(kw_only=True)
class ImportFunasr:
    """Turn a released Paraformer of FunASR into a checkpoint.

    Args:
        model: folder of the model, modelscope:NAME or hf:ORG/NAME; with --hub, its name there.
        hub: hub to fetch the model from, by its name.
        output: folder of the checkpoint.
        vocabulary: text encoder whose pieces get a new output layer, to be trained; by default the model keeps its own
            tokens.
        seed: seed of the new rows of the output layer.
    """

    model: Annotated[str, "DIR"] = positional()
    hub: Literal["modelscope"] | None = None
    output: Folder
    vocabulary: Annotated[str | None, "TEXT_ENCODER"] = None
    seed: int = 0

    def run(self) -> None:
        """Write the checkpoint, and say what was left out."""
        from clsr.funasr.release import import_release
        from clsr.hub import HUBS, fetch, find_folder

        if self.hub:
            folder = fetch(self.model)
        else:
            folder = find_folder(self.model) if self.model.startswith(HUBS) else Path(self.model)
        release = import_release(folder, self.output, self.vocabulary, self.seed)
        if release.ignored:
            names = (f"{start.rstrip('.')} ({count} tensors)" for start, count in release.ignored.items())
            print(f"left out, since the recogniser needs none of it: {', '.join(names)}")
        if self.vocabulary:
            print(f"{release.shared} rows of the output layer are the model's own, for words that it shares with "
                  f"{self.vocabulary}; all others are random: run clsr train-asr --start {self.output}")  # fmt: skip
        print(f"{self.output}: done")


@dataclass(kw_only=True)
class Convert:
    """Make an untrained checkpoint that starts from a released recogniser.

    Args:
        model: whisper:PLACE, a released Whisper in the layout of CTranslate2 or Hugging Face, whose encoder and decoder
            are taken; or funasr:PLACE, a released Paraformer or SenseVoice, whose encoder is taken. PLACE is a
            folder, hf:ORG/NAME, modelscope:NAME or pip:PACKAGE.
        output: folder of the checkpoint, which train-asr starts from.
        text_encoder: text encoder that the checkpoint is for.
        decoder: "whisper" is that of a Whisper, made non-autoregressive, and the default there; "sanm" starts from
            random weights.
        seed: seed of the parts that start from random weights.
    """

    model: Annotated[str, "REF"] = positional()
    output: Folder
    text_encoder: str = OFFLINE_TEXT_ENCODER
    decoder: Literal["whisper", "sanm"] | None = None
    seed: int = 0

    def run(self) -> None:
        """Write the checkpoint, and say what trains it."""
        from clsr.funasr.conversion import convert_funasr
        from clsr.hub import find_folder
        from clsr.whisper.conversion import convert_whisper

        kind, _, folder = self.model.partition(":")
        if kind not in ("whisper", "funasr") or not folder:
            raise InputError(f"{self.model}: give whisper:PLACE or funasr:PLACE, a released recogniser")
        if kind == "whisper":
            decoder = self.decoder or "whisper"
            convert_whisper(find_folder(folder), self.output, self.text_encoder, decoder, self.seed)
        elif self.decoder == "whisper":
            raise InputError(f"--decoder whisper: {self.model} has none: leave it out")
        else:
            convert_funasr(find_folder(folder), self.output, self.text_encoder, self.seed)
        print(f"{self.output}: done; train it: clsr train-asr --start {self.output} --data DATA --output DIR")
