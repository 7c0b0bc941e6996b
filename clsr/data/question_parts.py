"""Questions of text and speech in turn <-> ``parts.jsonl``."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from clsr.audio.clip import Clip, parse_parts
from clsr.audio.waveform import duration_s
from clsr.data.kaldi import ReportFault, Utterance, write_lines
from clsr.errors import InputError, each_once

QuestionParts = dict[str, list[str | Utterance]]
"""Question id -> its texts, and what is said in its audio, in order."""


def read_question_parts(path: Path, questions: Collection[str], report: ReportFault) -> QuestionParts:
    """Read the parts of the questions that have several; a faulty line is reported and left out.

    A line is ``{"id": "q1", "data": ["what does", "clip.wav", "talk.wav:3-5.5"]}``: a part is audio by its suffix, and
    paths count from the file.

    Args:
        path: the file; without one, no question has parts.
        questions: ids of the questions.
        report: called with each fault.
    """
    found: QuestionParts = {}
    if not path.is_file():
        return found
    for number, line in enumerate(path.read_text(encoding="utf-8-sig", errors="replace").splitlines(), start=1):
        try:
            row = json.loads(line, object_pairs_hook=each_once)
            id_, data = row["id"], row["data"]
        except (ValueError, KeyError, TypeError) as error:
            report(f"{path}:{number}: is no question ({error!r}); give id and data, a list of parts")
            continue
        if id_ not in questions or id_ in found:
            fault = "is there twice; make ids unique" if id_ in found else "is not in questions/text; add it"
            report(f"{path}:{number}: {id_}: {fault}")
            continue
        try:
            parts = parse_parts(data, path.parent)
            found[id_] = [_utterance(part, f"{id_}/{n}") for n, part in enumerate(parts, start=1)]
        except InputError as error:
            report(f"{path}:{number}: {id_}: {error}")
    return found


def write_question_parts(path: Path, parts: Mapping[str, Sequence[str | Utterance]]) -> None:
    """Write the parts of questions, sorted by id; audio inside the folder is named relative to it.

    Raises:
        InputError: the file cannot be written.
    """
    write_lines(
        path,
        (
            json.dumps({"id": id_, "data": [_spelled(part, path.parent) for part in of_one]}, ensure_ascii=False) + "\n"
            for id_, of_one in sorted(parts.items())
        ),
    )


def _utterance(part: str | Path | Clip, id_: str) -> str | Utterance:
    if isinstance(part, str):
        return part
    clip = part if isinstance(part, Clip) else Clip(part)
    path = Path(str(clip.audio))
    length_s = duration_s(path)
    end_s = length_s if clip.end_s is None else min(clip.end_s, length_s)
    if end_s <= clip.start_s:
        raise InputError(f"{clip}: begins behind the end of the recording, at {length_s:.3f} s; mend the times")
    return Utterance(id_, path, clip.start_s, end_s, None, id_)


def _spelled(part: str | Utterance, folder: Path) -> str:
    if isinstance(part, str):
        return part
    path, folder = part.recording.absolute(), folder.absolute()
    place = os.path.relpath(path, folder) if path.is_relative_to(folder) else str(path)
    return f"{place}:{part.start_s:.4f}-{part.end_s:.4f}"
