"""Recordings of any length to text with times, piece by piece. Internal: ``Model.transcribe`` is public."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from clsr.audio.files import search_files
from clsr.audio.pauses import pieces, quietest
from clsr.audio.waveform import SAMPLE_RATE, duration_s, read_waveform
from clsr.data.kaldi import Utterance, read_data_dir
from clsr.errors import InputError
from clsr.models.recogniser import Recognition
from clsr.models.sounding import transcribe_sounding
from clsr.systems.protocol import SpeechRecogniser

PIECE_S = 30.0  # a piece is at most this long: attention grows with its square; it ends in a quiet moment

PIECES = 8  # of a long file that are recognised together

_log = logging.getLogger("clsr")


@dataclass(frozen=True)
class Transcript:
    """What was said in a file, or in an utterance of a data directory.

    Attributes:
        audio: path of the file.
        text: words, separated by spaces where the language has them.
        token_ids: ids of the text encoder's pieces, or output indices of a release with tokens of its own.
        times: begin and end of each token, in seconds from the start of the file.
        duration_s: length of what was transcribed.
        id: of the utterance, where a data directory names it.
    """

    audio: str
    text: str
    token_ids: list[int]
    times: list[tuple[float, float]]
    duration_s: float
    id: str | None = None

    def to_json(self) -> str:
        """The transcript as one line of JSON; times to the millisecond."""
        values = asdict(self) | {"times": [[round(start, 3), round(end, 3)] for start, end in self.times]}
        if self.id is None:
            del values["id"]
        return json.dumps(values | {"duration_s": round(self.duration_s, 3)}, ensure_ascii=False)


def find_utterances(paths: Sequence[Path]) -> list[Utterance]:
    """Return what is to be transcribed: utterances of Kaldi data directories, and whole audio files (without id).

    Raises:
        InputError: a path is missing, or a folder holds neither.
    """
    found: list[Utterance] = []
    for path in paths:
        if (path / "wav.scp").is_file():
            found += read_data_dir(path)
        else:
            files = search_files([path])
            if files.skipped:
                _log.info("%s: %s", path, files.summary())
            found += [Utterance("", file, 0.0, 0.0, None, "") for file in files.recordings]
    return found


def transcribe(recogniser: SpeechRecogniser, utterances: Iterable[Utterance]) -> Iterator[Transcript | InputError]:
    """Transcribe one utterance after the other; one that cannot be read gives its error and stops nothing."""
    for utterance in utterances:
        try:
            yield transcribe_one(recogniser, utterance)
        except InputError as error:
            yield error


def transcribe_one(recogniser: SpeechRecogniser, utterance: Utterance) -> Transcript:
    """Transcribe an utterance, or a whole file where the utterance has no id.

    Raises:
        InputError: the audio cannot be read.
    """
    end_s = utterance.end_s if utterance.id else duration_s(utterance.recording)
    found: list[Recognition] = []
    starts_s: list[float] = []
    waiting: list[np.ndarray] = []
    position_s = utterance.start_s
    while position_s < end_s:
        stop_s = min(end_s, position_s + PIECE_S)
        waveform = read_waveform(utterance.recording, position_s, stop_s)
        if stop_s < end_s:
            waveform = waveform[: quietest(waveform)]
            stop_s = position_s + len(waveform) / SAMPLE_RATE
        waiting.append(waveform)
        starts_s.append(position_s)
        position_s = stop_s  # not the length of the waveform, which resampling rounds
        if len(waiting) == PIECES or position_s >= end_s:
            found += transcribe_sounding(recogniser.transcribe, waiting)
            waiting = []
    length_s = end_s - utterance.start_s
    return _join(recogniser, found, starts_s, str(utterance.recording), length_s, utterance.id or None)


def transcribe_waveforms(recogniser: SpeechRecogniser, waveforms: Mapping[str, np.ndarray]) -> list[Transcript]:
    """Transcribe 16 kHz waveforms ``(N_i,)`` of any length by name, the pieces of all of them together."""
    cut = [pieces(waveform, PIECE_S) for waveform in waveforms.values()]
    starts_s = [[first / SAMPLE_RATE for first, _ in of_one] for of_one in cut]
    every = [piece for of_one in cut for _, piece in of_one]
    found = iter(transcribe_sounding(recogniser.transcribe, every))
    return [
        _join(recogniser, [next(found) for _ in starts], starts, name, len(waveform) / SAMPLE_RATE, None)
        for (name, waveform), starts in zip(waveforms.items(), starts_s, strict=True)
    ]


def _join(
    recogniser: SpeechRecogniser, found: Sequence[Recognition], starts_s: Sequence[float], audio: str, length_s: float,
    id_: str | None,
) -> Transcript:  # fmt: skip
    """The transcript of successive pieces, which start at so many seconds."""
    token_ids = [token_id for one in found for token_id in one.token_ids]
    times = [
        (start_s + begin_s, start_s + end_s)
        for one, start_s in zip(found, starts_s, strict=True)
        for begin_s, end_s in one.times
    ]
    text = recogniser.join(one.text for one in found if one.text)
    return Transcript(audio, text, token_ids, times, length_s, id_)
