"""Hits -> subtitles and clips."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from clsr.audio.waveform import write_waveform
from clsr.errors import InputError, printable_line
from clsr.search.hit import Hit
from clsr.subtitles import time_stamp

CLIP_MARGIN_S = 0.5  # before and after a moment, so that a clip does not begin and end within a breath
LONGEST_NAME_BYTES = 200  # a file system takes 255, rank and time included


def format_srt(hits: Sequence[Hit]) -> str:
    """The hits as SubRip subtitles, matching words in bold: recordings by their best hit, moments of each by time.

    Times count from the start of a recording. Where there are several, its path from the folder that holds them all is
    the first line of a subtitle.
    """
    order: dict[str, int] = {}
    for hit in hits:
        order.setdefault(hit.recording, len(order))
    ordered = sorted(hits, key=lambda hit: (order[hit.recording], hit.start_s))
    folder = os.path.commonpath([os.path.dirname(path) for path in order]) if order else ""
    blocks = []
    for number, hit in enumerate(ordered, start=1):
        name = f"{printable_line(os.path.relpath(hit.recording, folder or None))}\n" if len(order) > 1 else ""
        span = f"{time_stamp(hit.start_s)} --> {time_stamp(hit.end_s)}"
        blocks.append(f"{number}\n{span}\n{name}{printable_line(hit.marked('<b>', '</b>'))}\n")
    return "\n".join(blocks)


def write_srt(hits: Sequence[Hit], path: Path) -> None:
    """Write ``format_srt`` into a new file.

    Raises:
        InputError: the file exists, or cannot be written.
    """
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(format_srt(hits))
    except FileExistsError:
        raise InputError(f"{path}: exists already; remove it or name another file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); name another place") from error


def save_clips(hits: Sequence[Hit], folder: Path) -> list[Path]:
    """Write each moment and half a second around it as 16 kHz wav, ``RANK_RECORDING_START.wav``, and return the files.

    ``01_interview_754.2s.wav`` is the best hit; it begins half a second before second 754.2 of ``interview.mp3``.

    Raises:
        InputError: a file of that name exists (nothing is written then), a recording cannot be read, or the folder
            cannot be written.
    """
    from clsr.audio.decoding import Decoder

    files = [folder / f"{hit.rank:02}_{_clip_name(hit)}_{hit.start_s:.1f}s.wav" for hit in hits]
    there = next((file for file in files if file.exists()), None)
    if there:
        raise InputError(f"{there}: exists already; remove it or name another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be made ({error.strerror}); name another place") from error
    with Decoder() as decoder:
        for hit, file in zip(hits, files, strict=True):
            start_s, end_s = max(0.0, hit.start_s - CLIP_MARGIN_S), hit.end_s + CLIP_MARGIN_S
            write_waveform(file, decoder.read_waveform(hit.recording, start_s, end_s))
    return files


def _clip_name(hit: Hit) -> str:
    """The name of the recording, without what a terminal would obey when it lists the clip."""
    name = printable_line(Path(hit.recording).stem).replace("\\", "_")
    return name.encode()[:LONGEST_NAME_BYTES].decode(errors="ignore")
