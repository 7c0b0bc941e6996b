"""How corpora are made: synthesis, splits of tables, benchmarks; cheap to import, since these are options too."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from clsr.errors import InputError


@dataclass
class SynthesisConfig:
    """How texts are spoken. Who speaks a text, how fast and how high, depends on the seed and its id alone.

    Args:
        voices: espeak-ng voices, such as en-us+f2.
        voices_per_text: number of different voices that speak each context; above 1 ids end in -v0, -v1, ...
        rate_wpm: speaking rate in words per minute, drawn from this range, both ends included; 80 to 450. For Mandarin
            200 260 is usual.
        pitch: espeak-ng's pitch, drawn from this range, both ends included; 0 to 99, 50 is the voice's own.
        noise_snr_db: signal-to-noise ratio of added white noise, in dB; none is added by default.
        seed: seed of voices, rates and noise.
        jobs: number of processes; 0 is one per core.
        speak_questions: speak the questions too; by default they are text alone.
        passages_only: write a data directory of the contexts, without questions; they may be missing then.
    """

    voices: Annotated[list[str], "VOICE"] = field(
        default_factory=lambda: ["en-us+f2", "en-us+m3", "en-gb-x-rp+f4", "en-gb-x-rp+m1"]
    )
    rate_wpm: Annotated[tuple[int, int], "LOW HIGH"] = (135, 175)
    pitch: Annotated[tuple[int, int], "LOW HIGH"] = (40, 60)
    seed: int = 0
    jobs: int = 0
    noise_snr_db: float | None = None
    speak_questions: bool = False
    passages_only: bool = False
    voices_per_text: int = 1

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            InputError: a range is upside down or not espeak-ng's, or there are too few different voices.
        """
        for name, (low, high), least, most in (("rate_wpm", self.rate_wpm, 80, 450), ("pitch", self.pitch, 0, 99)):
            if not least <= low <= high <= most:
                raise InputError(f"{name}: {low} to {high} is out of range; give {least} <= low <= high <= {most}")
        if not 1 <= self.voices_per_text <= len(set(self.voices)) == len(self.voices):
            raise InputError(f"voices_per_text: {self.voices_per_text} of {self.voices}; name enough different voices")


@dataclass(frozen=True)
class TableConfig:
    """How the passages of a table are split. All passages of a recording (or speaker) come to the same split.

    Args:
        dev_share: share of the passages in dev/, about; above 0.
        test_share: share of the passages in test/, about; above 0.
        split_by: what comes to one split as a whole.
        seed: seed of the split.
    """

    dev_share: Annotated[float, "SHARE"] = 0.1
    test_share: Annotated[float, "SHARE"] = 0.1
    split_by: Literal["recording", "speaker"] = "recording"
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the shares.

        Raises:
            InputError: a share is not above 0, or nothing is left to train on.
        """
        if not (self.dev_share > 0 and self.test_share > 0 and self.dev_share + self.test_share < 1):
            raise InputError(
                f"shares: dev {self.dev_share}, test {self.test_share}: give two above 0, together below 1"
            )


@dataclass(frozen=True)
class InterleavingConfig:
    """What a benchmark of questions in text and speech is made of. The seed decides all that is drawn.

    Args:
        distractors: folders of passages that answer no question: retrieval sets, or data directories with text.
        chapters: ids that differ in a last number alone, as 61-70968-0003, are successive passages of a chapter. A
            question about one of them is a follow-up to the passage before it, as one about a segment of a recording
            always is.
        speech: recordings of speech, a data directory or a folder of audio files; they make the environment speech:
            one of them in the background.
        babble: recordings of speech or of traffic; they make the environment babble: six of them at once.
        media: recordings of music, films or broadcasts; they make the environment media: one of them at a time.
        snr_db: signal-to-noise ratio in these environments, in dB.
        voices: espeak-ng voices of what has no recording, such as en-us+f2; a question has one voice.
        seed: seed of parts, voices and backgrounds.
        jobs: number of processes that speak; 0 is one per core.
    """

    distractors: Annotated[tuple[Path, ...], "DIR"] = ()
    chapters: bool = False
    speech: Annotated[Path | None, "DIR"] = None
    babble: Annotated[Path | None, "DIR"] = None
    media: Annotated[Path | None, "DIR"] = None
    snr_db: float = 10.0
    voices: Annotated[tuple[str, ...], "VOICE"] = tuple(SynthesisConfig().voices)
    seed: int = 0
    jobs: int = 0

    def __post_init__(self) -> None:
        """Check the ratio.

        Raises:
            InputError: it is no number.
        """
        if not math.isfinite(self.snr_db):
            raise InputError(f"snr_db: {self.snr_db} is no ratio; give decibels, such as 10")
