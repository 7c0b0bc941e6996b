"""Commands that read recordings with a model: ``clsr transcribe`` and ``clsr index``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from clsr.cli.options import File, Folder, Hardware, Location, Ref, options_of, positional
from clsr.config import DEFAULT_MODEL, Compression, TranscriptFormat
from clsr.errors import InputError, printable_line
from clsr.index.config import IndexConfig, RayConfig

if TYPE_CHECKING:
    from clsr.audio.files import FoundFiles
    from clsr.data.kaldi import Utterance
    from clsr.index.index import Index
    from clsr.index.recordings import RecordingStatus
    from clsr.transcribe import Transcript


@dataclass(kw_only=True)
class Transcribe:
    """Transcribe recordings, with the time of each word.

    Args:
        audio: audio files, folders or data directories.
        model: checkpoint folder, or released recogniser such as whisper:FOLDER.
        format: how a transcript is written: text, subtitles (srt, vtt), a table (tsv), or JSON with the times and the
            confidence of each word; by default a line of text, or txt with --output.
        output: folder that gets a file for each recording; those that are there already are left as they are.
        overwrite: write files that are there already anew.
        json: print one object per file, with token times.
    """

    audio: Annotated[list[File], "AUDIO"] = positional()
    model: Ref = DEFAULT_MODEL
    hardware: Hardware = options_of(Hardware)
    format: TranscriptFormat | None = None
    output: Folder | None = None
    overwrite: bool = False
    json: bool = False

    def run(self) -> int:
        """Print or write each transcript as soon as it is there; 2 if a file could not be read, or not all of it."""
        from clsr.transcribe import find_utterances
        from clsr.transcript_folder import TranscriptFolder

        utterances = find_utterances(self.audio)
        if self.json and (self.format or self.output):
            raise InputError("--json prints one line per file: leave it out, or --format and --output")
        if self.output:
            folder = TranscriptFolder(self.output, self.format or "txt", self.overwrite)
            files = folder.files(utterances)
            _say_there(len(utterances), len(files))
            return self._recognise(list(files), lambda result, one: _say_path(folder.write(result, files[one])))
        if self.format and len(utterances) != 1:
            raise InputError(f"--format {self.format}: there are {len(utterances)} recordings: give --output FOLDER")
        return self._recognise(utterances, lambda result, _: print(self._written(result), flush=True))

    def _recognise(self, utterances: Sequence[Utterance], take: Callable[[Transcript, Utterance], None]) -> int:
        from clsr.model import load
        from clsr.transcribe import transcribe

        if not utterances:
            return 0
        failed = False
        recogniser = load(self.model, self.hardware.device, self.hardware.precision).recogniser
        for result, utterance in zip(transcribe(recogniser, utterances), utterances, strict=True):
            if isinstance(result, InputError):
                failed = True
                print(f"clsr: {printable_line(str(result))}", file=sys.stderr)
                continue
            take(result, utterance)
            if result.reason:
                failed |= result.partial
                print(printable_line(f"clsr: {result.audio}: {result.reason}"), file=sys.stderr)
        return 2 if failed else 0

    def _written(self, transcript: Transcript) -> str:
        if self.format:
            return transcript.format(self.format).rstrip("\n")
        if self.json:
            return transcript.to_json()
        return f"{printable_line(transcript.id or transcript.audio)}\t{printable_line(transcript.text)}"


def _say_there(wanted: int, missing: int) -> None:
    if wanted > missing:
        there = f"{wanted - missing} of {wanted} transcripts are there already"
        print(f"clsr: {there}; --overwrite writes them anew", file=sys.stderr)


def _say_path(path: Path) -> None:
    print(printable_line(str(path)), flush=True)


@dataclass(kw_only=True)
class MakeIndex:
    """Make recordings searchable: build an index, bring it up to date, or check it.

    Args:
        audio: audio files, folders, or patterns such as 'a/**/*.mp3'.
        index: folder of the index, or its address such as s3://bucket/index
        model: checkpoint folder, or released recogniser such as whisper:FOLDER; by default the one that built the
            index, and for a new index Whisper tiny.en.
        text_encoder: text encoder for the transcripts of a released recogniser, by default MiniLM; or one that replaces
            that of a CLSR model.
        engine: what encodes: this process, or the workers of Ray.
        prune: remove from the index the recordings whose files no longer exist. Where a folder of recordings is missing
            or empty, or more than a tenth of them would go, nothing is removed without --yes.
        yes: with --prune, remove whatever is missing.
        status: print what the index holds for each recording, and stop.
        verify: read the whole index, report damage, and stop.
        export: folder that gets a transcript of each recording, of those named or of all, without recognising them
            again; those that are there already are left as they are.
        format: of the transcripts.
        overwrite: write transcripts that are there already anew.
        json: print one object per file.
    """

    audio: Annotated[tuple[File, ...], "AUDIO"] = positional(default=())
    index: Location
    model: Ref | None = None
    text_encoder: Ref | None = None
    indexing: IndexConfig = options_of(IndexConfig, without=["batch_s"])
    compression: Compression = options_of(Compression)
    hardware: Hardware = options_of(Hardware)
    engine: Literal["local", "ray"] = "local"
    ray: RayConfig = options_of(RayConfig, without=["cpus", "precision"], rename={"address": "ray_address"})
    prune: bool = False
    yes: bool = False
    status: bool = False
    verify: bool = False
    export: Folder | None = None
    format: TranscriptFormat = "txt"
    overwrite: bool = False
    json: bool = False

    @property
    def resumes(self) -> bool:
        """Whether the same command resumes an interrupted run: where it indexes."""
        return bool(self.audio) and not (self.status or self.verify or self.export)

    def run(self) -> int:
        """Index, or say what the index holds; 2 if a recording failed or is partial, or the index is damaged."""
        from clsr.index.index import Index

        if self.verify:
            return _print_verdict(Index.open(self.index))
        if self.status:
            self._print(Index.open(self.index).status(self.audio))
            return 0
        if self.export:
            return self._export(Index.open(self.index), self.export)
        if not (self.audio or self.prune or self.indexing.token_vectors):
            raise InputError("nothing to index: name files, folders or patterns, or give --status, --verify or --prune")
        failed = self._add() if self.audio else False
        if self.indexing.token_vectors and not self.audio:
            self._add_token_vectors()
        if self.prune:
            self._prune(Index.open(self.index))
        return 2 if failed else 0

    def _export(self, index: Index, output: Folder) -> int:
        """Write what the index has of each recording; 2 if one that was named is not there, or not all of it."""
        from clsr.index.recordings import UNKNOWN
        from clsr.transcript_folder import TranscriptFolder, whole_files

        statuses = index.status(self.audio)
        folder = TranscriptFolder(output, self.format, self.overwrite)
        recordings = whole_files(status.path for status in statuses if status.reason != UNKNOWN)
        files = folder.files(recordings)
        _say_there(len(recordings), len(files))
        for recording, file in files.items():
            _say_path(folder.write(index.transcript(recording.recording), file))
        faulty = [status for status in statuses if status.status in ("partial", "failed")]
        for status in faulty:
            print(printable_line(f"clsr: {status.path}: {status.status}: {status.reason}"), file=sys.stderr)
        return 2 if faulty and self.audio else 0

    def _prune(self, index: Index) -> None:
        """Remove what is missing, and say how much."""
        removed = index.prune(self.yes)
        for path in removed.paths:
            print(printable_line(f"{path}: removed, its file is gone"), file=sys.stderr if self.json else sys.stdout)
        if removed.paths:
            print(f"clsr: removed {removed}", file=sys.stderr)

    def _add(self) -> bool:
        """Index; return whether any recording failed, or could be read in part only."""
        from clsr.audio.files import search_files
        from clsr.index.index import Index

        found = search_files(self.audio)
        _print_skipped(found)
        computing = self.hardware
        index = Index.open_or_create(
            self.index, self.model, self.indexing, computing.device, computing.precision, self.text_encoder,
            self.compression,
        )  # fmt: skip
        if self.engine == "ray":
            from clsr.index.distributed import add_with_ray

            statuses = add_with_ray(index, found.recordings, replace(self.ray, precision=computing.precision))
        else:
            statuses = index.add(found.recordings)
        self._print(statuses)
        return any(status.status in ("partial", "failed") for status in statuses)

    def _add_token_vectors(self) -> None:
        """Add token vectors to what is indexed, and say how many windows got them."""
        from clsr.index.index import Index

        computing = self.hardware
        Index.open(self.index)  # a folder without one is no new index here
        index = Index.open_or_create(
            self.index, self.model, self.indexing, computing.device, computing.precision, self.text_encoder
        )
        print(f"clsr: token vectors of {index.add_token_vectors()} windows were added", file=sys.stderr)

    def _print(self, statuses: Sequence[RecordingStatus]) -> None:
        from clsr.index.recordings import FLAG

        for status in statuses:
            if self.json:
                print(status.to_json())
            else:
                seconds = f"{status.duration_s:.1f} s, {status.indexed_s:.1f} indexed, {status.silent_s:.1f} silent"
                reason = f": {status.reason}" if status.reason else ""
                sure = f"  confidence {status.confidence:.2f}" if status.confidence is not None else ""
                flag = f": {FLAG}" if status.flagged else ""
                line = f"{status.path}  {status.status}  {seconds}  {status.windows} windows{sure}{flag}{reason}"
                print(printable_line(line))


def _print_skipped(found: FoundFiles) -> None:
    if found.skipped:
        print("\n  ".join([found.summary(), *found.names()]), file=sys.stderr)


def _print_verdict(index: Index) -> int:
    verdict = index.verify()
    for line in verdict.damage + verdict.stale:
        print(printable_line(line))
    if not verdict.damage:
        stale = f", but {len(verdict.stale)} recordings are not up to date or not whole" if verdict.stale else ""
        print(f"{index.location}: sound{stale}")
    return 2 if verdict.damage else 0
