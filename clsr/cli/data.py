"""Commands that check and make retrieval sets: ``clsr data ...``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from clsr.cli.options import File, Folder, options_of, positional
from clsr.corpora.config import InterleavingConfig, SynthesisConfig, TableConfig
from clsr.errors import InputError


@dataclass(kw_only=True)
class Validate:
    """Check a retrieval set or data directory, naming each fault.

    Args:
        folder: folder of the retrieval set or Kaldi data directory.
    """

    folder: Folder = positional()

    def run(self) -> int:
        """Print every fault, or that there is none."""
        from clsr.data.kaldi import check_data_dir
        from clsr.data.retrieval_set import check_retrieval_set, is_retrieval_set

        if is_retrieval_set(self.folder):
            faults = check_retrieval_set(self.folder)
        elif (self.folder / "wav.scp").exists():
            faults = check_data_dir(self.folder)
        else:
            raise InputError(
                f"{self.folder}: no retrieval set (passages/, questions/, qrels) and no data directory (wav.scp)"
            )
        print("\n".join(faults) if faults else f"{self.folder}: sound")
        return 2 if faults else 0


@dataclass(kw_only=True)
class Make:
    """Make training, development and test sets from a table of your recordings.

    Args:
        table: CSV, TSV or JSONL file with columns id, audio, transcript [start_s end_s question speaker].
        output: folder for train/, dev/ and test/.
    """

    table: File = positional()
    output: Folder = positional()
    splitting: TableConfig = options_of(TableConfig)

    def run(self) -> int:
        """Write the sets, or print the faults of the table."""
        from clsr.corpora.table import describe, read_passages, split, write_sets

        faults: list[str] = []
        passages = read_passages(self.table, faults.append)
        if faults:
            print("\n".join(faults))
            return 2
        splits = split(passages, self.splitting)
        write_sets(splits, self.output)
        print("\n".join(describe(str(self.output / name), chosen) for name, chosen in splits.items()))
        return 0


@dataclass(kw_only=True)
class Synthesize:
    """Make a retrieval set by speech synthesis, from a JSONL of questions and contexts.

    Args:
        jsonl: file with rows of {"id", "question", "context"[, "answer"]}.
        output: folder of the retrieval set; with --recording the .wav file.
        also: JSONL of more passages, which answer no question.
        recording: write one long recording instead of a retrieval set.
    """

    jsonl: File = positional()
    output: Folder = positional()
    also: Annotated[File | None, "JSONL"] = None
    speaking: SynthesisConfig = options_of(SynthesisConfig, without=["pitch"])
    recording: bool = False

    @property
    def resumes(self) -> bool:
        """Whether the same command keeps the audio that is there already: that of a set, not a long recording."""
        return not self.recording

    def run(self) -> None:
        """Synthesise what is not there yet."""
        from clsr.corpora.synthesis import synthesize, synthesize_recording

        if not self.recording:
            synthesize(self.jsonl, self.output, self.speaking, self.also)
        elif self.also:
            raise InputError("--also: a recording is of one JSONL; leave it out, or put the rows into that")
        else:
            synthesize_recording(self.jsonl, self.output, self.speaking)


@dataclass(kw_only=True)
class Lengthen:
    """Place the passages of a retrieval set inside long recordings.

    Args:
        set: folder of the retrieval set.
        output: folder for recordings/ and questions.jsonl.
        minutes: least length of a recording, in minutes.
        seed: seed of the order of the passages and of the silences between them.
        chapters: put passages together again in the order of their ids, and chapters (ids that agree up to the last
            hyphen) into one recording each, or several short ones into one.
    """

    set: Folder
    output: Folder
    minutes: float = 30.0
    seed: int = 0
    chapters: bool = False

    def run(self) -> None:
        """Write the recordings, and where in them each question is answered."""
        from clsr.corpora.long_recordings import lengthen

        questions = lengthen(self.set, self.output, self.minutes, self.seed, self.chapters)
        recordings = {question.recording for question in questions}
        print(f"{self.output}: {len(questions)} questions about {len(recordings)} recordings")


@dataclass(kw_only=True)
class Transcribed:
    """Write a retrieval set with the transcripts of a system.

    Args:
        model: system that transcribes, as clsr evaluate takes it.
        set: folder of the retrieval set.
        output: folder of the new one.
    """

    model: str
    set: Folder
    output: Folder

    def run(self) -> None:
        """Transcribe all passages and spoken questions."""
        from clsr.systems.transcribed import write_transcribed

        write_transcribed(self.model, self.set, self.output)
        print(f"{self.output}: done")


@dataclass(kw_only=True)
class Interleave:
    """Make a benchmark of questions in text, speech and both in turn.

    Args:
        sets: folders of retrieval sets; what has no recording is spoken by espeak-ng.
        output: folder of the benchmark. SETTING/ENVIRONMENT in it is a retrieval set. The settings are a2t (spoken
            questions, text passages), t2a (typed questions, spoken passages), iat2t and iat2a (questions of text and
            speech in turn); the environments are clean and those whose recordings are given.
    """

    sets: list[Folder] = positional()
    output: Folder
    making: InterleavingConfig = options_of(InterleavingConfig)

    @property
    def resumes(self) -> bool:
        """Whether the same command keeps the audio that is there already."""
        return True

    def run(self) -> None:
        """Write the sets and say what is in them."""
        from clsr.corpora.interleaving import interleave

        made = interleave(self.sets, self.output, self.making)
        first = next(iter(made.sets.values()))
        print(
            f"{self.output}: {len(made.sets)} sets of {len(first.questions)} questions, {len(first.passages)} passages"
        )
        print(", ".join(f"{form}: {count}" for form, count in made.forms.items()))
