"""Answers to questions about long recordings, kept on disk: an interrupted run resumes where it stopped."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from clsr.audio.waveform import read_waveform
from clsr.corpora.long_recordings import LongQuestion
from clsr.errors import InputError
from clsr.evaluation.longform_report import FoundWindow
from clsr.search.answerers import Answerer


class Answered(NamedTuple):
    """An answer, and the seconds it took."""

    answer: str
    seconds: float


class AnswerLog:
    """Answers on disk, one JSON object a line, written as they come; the answers of an earlier run are reused.

    Args:
        path: the file. A last line that was cut off is dropped; answers of other answerers, about other sets or from
            other windows stay and are skipped.
        answerer: answers the questions.
        reference: its name.
        made_of: digest of the set's questions.
        typed: give the text of a question that is spoken too.

    Raises:
        InputError: a line is no answer.
    """

    def __init__(self, path: Path, answerer: Answerer, reference: str, made_of: str, typed: bool = False):
        self.path = path
        self.answerer = answerer
        self.reference = reference
        self.made_of = made_of
        self.typed = typed
        self.known: dict[str, Answered] = {}
        lines = path.read_bytes().splitlines(keepends=True) if path.is_file() else []
        if lines and not lines[-1].endswith(b"\n"):
            with open(path, "r+b") as file:
                file.truncate(sum(map(len, lines[:-1])))
            lines.pop()
        for number, line in enumerate(lines, start=1):
            try:
                entry = json.loads(line)
                self.known[_key(entry)] = Answered(str(entry["answer"]), float(entry["seconds"]))
            except (ValueError, KeyError, TypeError) as error:
                raise InputError(f"{path}:{number}: is no answer ({error!r}); remove the line") from error

    def answer(self, question: LongQuestion, returned: Sequence[FoundWindow]) -> Answered:
        """Answer a question from windows, or take the answer from disk; without windows the answer is empty.

        The time is that of the answerer, without reading the windows.
        """
        audio = None if self.typed else question.audio
        entry = {
            "answerer": self.reference,
            "set": self.made_of,
            "question": question.id,
            "spoken": audio is not None,
            "windows": [[Path(w.recording).name, round(w.start_s, 3), round(w.end_s, 3)] for w in returned],
        }
        key = _key(entry)
        if key not in self.known:
            given = read_waveform(audio) if audio else question.text
            waveforms = [read_waveform(w.recording, w.start_s, w.end_s) for w in returned]
            start = time.perf_counter()
            answer = self.answerer.answer(given, waveforms) if waveforms else ""
            self.known[key] = Answered(answer, time.perf_counter() - start)
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps(entry | self.known[key]._asdict(), ensure_ascii=False) + "\n")
        return self.known[key]


def _key(entry: Mapping[str, Any]) -> str:
    return json.dumps([entry[name] for name in ("answerer", "set", "question", "spoken", "windows")])
