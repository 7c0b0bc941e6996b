"""Kaldi data directories <-> utterances; every check on speech data is here.

A data directory holds ``wav.scp`` (recording -> audio file, relative to the directory or absolute), and optionally
``segments`` (utterance -> recording, start, end), ``text``, ``utt2spk`` and ``utt2dur``. Without ``segments`` each
recording is one utterance. Every file is sorted by id in the C locale. Command pipes in ``wav.scp`` are refused.
"""

import codecs
import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from clsr.audio.spelling import as_on_disk
from clsr.audio.waveform import SAMPLE_RATE, decoded_duration_s, duration_s, read_header
from clsr.errors import InputError

if TYPE_CHECKING:
    from lhotse import CutSet

TOLERANCE_S = 0.1  # durations are written rounded, and MP3 decoders differ by a frame or two

ReportFault = Callable[[str], None]


@dataclass(frozen=True)
class Utterance:
    """A span of a recording, in seconds, and what is said in it (``None``: not known)."""

    id: str
    recording: Path
    start_s: float
    end_s: float
    text: str | None
    speaker: str

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.end_s - self.start_s


class KaldiEntry(NamedTuple):
    """The value of an id in a Kaldi file, and the line it stands on, from 1."""

    line: int
    value: str


class _Span(NamedTuple):
    recording: str
    start_s: float
    end_s: float


def read_data_dir(path: str | Path) -> list[Utterance]:
    """Utterances of a data directory, sorted by id.

    A length comes from ``segments``, else from ``utt2dur``, else from the audio file, which is not opened otherwise.
    An utterance that ``utt2spk`` does not name is its own speaker. Unlike ``check_data_dir`` this decodes no audio.

    Raises:
        InputError: the first fault found, with file, line and id.
    """
    return _scan(Path(path), refuse)


def check_data_dir(path: str | Path) -> list[str]:
    """All faults of a data directory as ``path:line: id: what, what to do``; empty if it is sound.

    Decodes every recording, so it finds damaged audio and utterances that end past the end of theirs.
    """
    path, faults = Path(path), list[str]()
    utterances = _scan(path, faults.append)
    table = path / ("segments" if (path / "segments").is_file() else "wav.scp")
    lines = read_table(table, lambda _: None) if table.is_file() else {}
    for recording, of_recording in groupby(sorted(utterances, key=lambda u: u.recording), key=lambda u: u.recording):
        try:
            length_s = decoded_duration_s(recording)
        except InputError as error:
            faults.append(f"{path / 'wav.scp'}: {error}")
            continue
        for utterance in of_recording:
            if utterance.end_s > length_s + TOLERANCE_S:
                place = f"{table}:{lines[utterance.id].line}: {utterance.id}"
                faults.append(
                    f"{place}: ends at {utterance.end_s} s, its recording at {length_s:.3f} s; mend the times"
                )
    return faults


def write_data_dir(path: str | Path, utterances: Iterable[Utterance]) -> None:
    """Write ``wav.scp``, ``text``, ``utt2spk``, ``spk2utt``, ``utt2dur``, and ``segments`` where needed.

    Audio inside the directory is named relative to it, so that the directory can be moved; other audio by its
    absolute path. ``segments`` is written when an utterance is not the whole of its recording; a recording is then
    named after its first utterance. Each file appears whole or not at all, ``wav.scp`` last.

    Raises:
        InputError: an id is there twice or is no single word, some but not all utterances have a text, or the directory
            cannot be written.
    """
    path, utterances = Path(path), sorted(utterances, key=lambda utterance: utterance.id)
    for one, other in pairwise(utterances):
        if one.id == other.id:
            raise InputError(f"{path}: {one.id}: is there twice; make ids unique")
    path.mkdir(parents=True, exist_ok=True)
    recordings: dict[Path, str] = {}
    for utterance in utterances:
        recordings.setdefault(utterance.recording.absolute(), utterance.id)
    if len(recordings) < len(utterances) or any(_is_part(utterance) for utterance in utterances):
        spans = (f"{recordings[u.recording.absolute()]} {u.start_s:.4f} {u.end_s:.4f}" for u in utterances)
        write_table(path / "segments", zip((u.id for u in utterances), spans, strict=True))
    else:
        (path / "segments").unlink(missing_ok=True)
    if all(utterance.text is None for utterance in utterances):
        (path / "text").unlink(missing_ok=True)
    else:
        write_table(path / "text", ((u.id, " ".join((u.text or "").split())) for u in utterances))
    write_table(path / "utt2spk", ((u.id, u.speaker) for u in utterances))
    by_speaker = groupby(sorted(utterances, key=lambda u: (u.speaker, u.id)), key=lambda u: u.speaker)
    write_table(path / "spk2utt", ((speaker, " ".join(u.id for u in group)) for speaker, group in by_speaker))
    write_table(path / "utt2dur", ((u.id, f"{u.duration_s:.4f}") for u in utterances))
    places = {name: _relative(recording, path.absolute()) for recording, name in recordings.items()}
    write_table(path / "wav.scp", places.items())


def read_text(path: str | Path) -> dict[str, str]:
    """Transcripts (or questions) of a Kaldi ``text`` file by id, in the order of the file.

    Raises:
        InputError: the first fault found: no such file, an id twice or out of order, an id without words.
    """
    return {id_: entry.value for id_, entry in read_table(Path(path), refuse).items()}


def to_cuts(utterances: Iterable[Utterance]) -> "CutSet":
    """Lhotse cuts of 16 kHz, one supervision each, ``cut.id`` being the utterance's id.

    A cut of a recording with several channels takes the first; ``clsr.audio.waveform.read_waveform`` averages them.
    """
    from lhotse import AudioSource, CutSet, MonoCut, Recording, SupervisionSegment

    recordings: dict[Path, Recording] = {}
    cuts = []
    for utterance in utterances:
        path = utterance.recording
        if path not in recordings:
            header = read_header(path)
            source = AudioSource("file", list(range(header.channels)), str(path))
            length_s = header.frames / header.sample_rate
            recording = Recording(str(path), [source], header.sample_rate, header.frames, length_s)
            recordings[path] = recording if header.sample_rate == SAMPLE_RATE else recording.resample(SAMPLE_RATE)
        length_s = min(utterance.end_s, recordings[path].duration) - utterance.start_s
        supervision = SupervisionSegment(
            utterance.id, str(path), 0.0, length_s, 0, utterance.text, speaker=utterance.speaker
        )
        cuts.append(MonoCut(utterance.id, utterance.start_s, length_s, 0, [supervision], recording=recordings[path]))
    return CutSet.from_cuts(cuts)


def refuse(fault: str) -> NoReturn:
    """The reporter that stops at the first fault.

    Raises:
        InputError: always, with the fault as its message.
    """
    raise InputError(fault)


def read_table(path: Path, report: ReportFault) -> dict[str, KaldiEntry]:
    """Entries of a Kaldi file of lines ``id value``; faulty lines are reported and left out.

    Order is reported and otherwise ignored. Of two lines with the same id the first counts.
    """
    entries: dict[str, KaldiEntry] = {}
    if not path.is_file():
        report(f"{path}: no such file; write it, or check the path")
        return entries
    last = ""
    # Some editors put a byte order mark in front, which is no part of the first id.
    for number, raw in enumerate(path.read_bytes().removeprefix(codecs.BOM_UTF8).splitlines(), start=1):
        try:
            id_, value = (*raw.decode().split(maxsplit=1), "", "")[:2]
        except UnicodeDecodeError:
            report(f"{path}:{number}: is not UTF-8; convert the file")
            continue
        place = f"{path}:{number}: {id_}"
        if not id_:
            report(f"{path}:{number}: is blank; remove the line")
        elif id_ in entries:
            report(f"{place}: is there twice, first on line {entries[id_].line}; make ids unique")
        elif not value:
            report(f"{place}: has nothing after the id; give its value or remove the line")
        else:
            if id_ < last:
                report(f"{place}: comes after {last}; sort the file with LC_ALL=C")
            entries[id_] = KaldiEntry(number, value.strip())
            last = id_
    if not entries:
        report(f"{path}: has no usable line; write at least one")
    return entries


def write_table(path: Path, rows: Iterable[tuple[str, str]]) -> None:
    """Write a Kaldi file of lines ``id value``, sorted by id; it appears whole or not at all.

    Raises:
        InputError: an id is no single word, a value is blank or has a line break, or the file cannot be written.
    """
    lines = []
    for id_, value in sorted(rows):
        if id_.split() != [id_]:
            raise InputError(f"{path}: {id_!r} cannot be an id; ids are one word without white space")
        if not value.strip() or "\n" in value:
            raise InputError(f"{path}: {id_}: {value!r} cannot be its value; give one line that is not blank")
        lines.append(f"{id_} {value}\n")
    write_lines(path, lines)


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write a text file under a temporary name and rename it, so that it appears whole or not at all.

    Raises:
        InputError: the file cannot be written (disk full, no permission).
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.writelines(lines)
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); free space or choose another place") from error
    finally:
        temporary.unlink(missing_ok=True)


def _scan(path: Path, report: ReportFault) -> list[Utterance]:
    """Utterances that have no fault in their span or audio file, sorted by id; every fault is reported."""
    recordings = _read_recordings(path, report)
    segmented = (path / "segments").is_file()
    spans = _read_segments(path, recordings, report) if segmented else _whole_recordings(path, recordings, report)
    texts = _read_beside(path / "text", spans, report)
    speakers = _read_beside(path / "utt2spk", spans, report)
    utterances = []
    for id_, span in sorted(spans.items()):
        if span is not None and (recording := recordings[span.recording]) is not None:
            text = texts[id_].value if id_ in texts else None
            speaker = speakers[id_].value if id_ in speakers else id_
            utterances.append(Utterance(id_, recording, span.start_s, span.end_s, text, speaker))
    return utterances


def _read_recordings(path: Path, report: ReportFault) -> dict[str, Path | None]:
    """Audio file of each recording, ``None`` where it is reported."""
    recordings: dict[str, Path | None] = {}
    for id_, (line, value) in read_table(path / "wav.scp", report).items():
        place, audio = f"{path / 'wav.scp'}:{line}: {id_}", as_on_disk(path / value)
        recordings[id_] = None
        if value.startswith("|") or value.endswith("|"):
            report(f"{place}: is a command, which is never run; write the audio to a file and name that")
        elif not audio.is_file():
            report(f"{place}: no such audio file {audio}; relative paths count from {path}")
        else:
            recordings[id_] = audio
    return recordings


def _read_segments(path: Path, recordings: Mapping[str, Path | None], report: ReportFault) -> dict[str, _Span | None]:
    """Span of each utterance in ``segments``, ``None`` where it is reported."""
    spans: dict[str, _Span | None] = {}
    for id_, (line, value) in read_table(path / "segments", report).items():
        place = f"{path / 'segments'}:{line}: {id_}"
        spans[id_] = None
        try:
            recording, start, end = value.split()
            start_s, end_s = float(start), float(end)
        except ValueError:
            report(f"{place}: is not 'utterance recording start end'; write times in seconds")
            continue
        if recording not in recordings:
            report(f"{place}: recording {recording} is not in wav.scp; add it or remove the line")
        elif not 0 <= start_s < end_s < math.inf:
            report(f"{place}: {start} to {end} s is not a span of time; give 0 <= start < end")
        else:
            spans[id_] = _Span(recording, start_s, end_s)
    return spans


def _whole_recordings(
    path: Path, recordings: Mapping[str, Path | None], report: ReportFault
) -> dict[str, _Span | None]:
    """Each recording as one utterance, its length from ``utt2dur`` or the audio, ``None`` where it is reported."""
    lengths = _read_beside(path / "utt2dur", recordings, report)
    spans: dict[str, _Span | None] = {}
    for id_, recording in recordings.items():
        spans[id_] = None
        try:
            known = lengths.get(id_)
            length_s = float(known.value) if known else duration_s(recording) if recording else math.nan
        except InputError as error:
            report(f"{path / 'wav.scp'}: {id_}: {error}")
            continue
        except ValueError:
            length_s = 0.0
        if 0 < length_s < math.inf:
            spans[id_] = _Span(id_, 0.0, length_s)
        elif id_ in lengths:
            line, value = lengths[id_]
            report(f"{path / 'utt2dur'}:{line}: {id_}: {value} is no length; give seconds above 0")
    return spans


def _read_beside(path: Path, known: Mapping[str, object], report: ReportFault) -> dict[str, KaldiEntry]:
    """Entries of a file that must name exactly the known ids, if the file is there."""
    if not path.is_file():
        return {}
    entries = read_table(path, report)
    for id_ in sorted(entries.keys() - known.keys()):
        report(f"{path}:{entries[id_].line}: {id_}: has no audio; add it to wav.scp (segments) or remove the line")
    for id_ in sorted(known.keys() - entries.keys()):
        report(f"{path}: {id_}: is missing, though it has audio; add its line")
    return entries


def _is_part(utterance: Utterance) -> bool:
    return utterance.start_s > 0 or utterance.end_s < duration_s(utterance.recording) - TOLERANCE_S


def _relative(recording: Path, folder: Path) -> str:
    return str(recording.relative_to(folder) if recording.is_relative_to(folder) else recording)
