"""Recordings of any length to text with times, piece by piece. Internal: ``Model.transcribe`` is public."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path

import numpy as np

from clsr.audio.decoding import Decoder
from clsr.audio.files import search_files
from clsr.audio.pauses import find_pauses, pieces, without_pauses
from clsr.audio.pieces import Piece, PieceStream
from clsr.audio.waveform import SAMPLE_RATE, Remarks, say_once, stream_progress
from clsr.config import TranscriptFormat
from clsr.data.kaldi import Utterance, read_data_dir
from clsr.errors import InputError
from clsr.models.recogniser import Recognition
from clsr.models.sounding import transcribe_sounding
from clsr.subtitles import format_words
from clsr.systems.protocol import SpeechRecogniser
from clsr.vocabulary import Word

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
        partial: whether some of the file could not be decoded, and is not in the text.
        reason: what is wrong with the file; empty where all is well.
        words: with start and end in seconds from the start of the file.
        word_confidences: of each word, 0 to 1; none where they are not known, as in an index.
    """

    audio: str
    text: str
    token_ids: list[int]
    times: list[tuple[float, float]]
    duration_s: float
    id: str | None = None
    partial: bool = False
    reason: str = ""
    words: list[Word] = field(default_factory=list)
    word_confidences: list[float] = field(default_factory=list)

    def format(self, kind: TranscriptFormat) -> str:
        """Write the transcript down: "srt" and "vtt" are subtitles, "tsv" is a table, "txt" text, "json" has all words.

        The lines of subtitles are short, two at most, and cut at pauses.
        """
        return self._to_words_json() if kind == "json" else format_words(self.words, kind)

    def _to_words_json(self) -> str:
        words = [
            {"text": word.text, "start_s": round(word.start_s, 3), "end_s": round(word.end_s, 3)} for word in self.words
        ]
        for word, confidence in zip(words, self.word_confidences, strict=False):
            word["confidence"] = round(confidence, 3)
        named = {"id": self.id} if self.id else {}
        faulty = {"reason": self.reason} if self.reason else {}
        values = {"audio": self.audio, **named, "text": self.text, "duration_s": round(self.duration_s, 3), **faulty}
        return json.dumps(values | {"words": words}, ensure_ascii=False) + "\n"

    def to_json(self) -> str:
        """The transcript as one line of JSON, with its tokens; times to the millisecond."""
        values = asdict(self) | {"times": [[round(start, 3), round(end, 3)] for start, end in self.times]}
        del values["partial"], values["words"], values["word_confidences"]
        for name in ("id", "reason"):
            if not values[name]:
                del values[name]
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
    """Transcribe one utterance after the other; one that cannot be read gives its error and stops nothing.

    A process of its own decodes the files.
    """
    with Decoder() as decoder:
        for utterance in utterances:
            try:
                yield transcribe_one(recogniser, utterance, decoder)
            except InputError as error:
                yield error


def transcribe_one(recogniser: SpeechRecogniser, utterance: Utterance, decoder: Decoder | None = None) -> Transcript:
    """Transcribe an utterance, or a whole file where the utterance has no id.

    Args:
        recogniser: transcribes the pieces.
        utterance: the utterance, or the file.
        decoder: decodes it in a process of its own; by default this process does.

    Raises:
        InputError: the audio cannot be read.
    """
    path, remarks = utterance.recording, Remarks()
    start_s, end_s = (utterance.start_s, utterance.end_s) if utterance.id else (0.0, None)
    blocks = decoder.stream(path, start_s, end_s) if decoder else stream_progress(path, start_s, end_s, remarks)
    found: list[Recognition] = []
    starts_s: list[float] = []
    length_s, coming = 0.0, _pieces_of(blocks)
    while some := list(islice(coming, PIECES)):
        found += _recognise(recogniser, [piece.waveform for piece in some])
        starts_s += [start_s + piece.start_s for piece in some]
        length_s = some[-1].end_s
    transcript = _join(recogniser, found, starts_s, str(path), length_s, utterance.id or None)
    remarks = decoder.remarks if decoder else remarks
    say_once(remarks.changes)  # the process that decoded it has no terminal
    return replace(transcript, partial=bool(remarks.losses), reason="; ".join([*remarks.losses, *remarks.notes]))


def _pieces_of(blocks: Iterable[np.ndarray]) -> Iterator[Piece]:
    """The pieces of a recording, each but the last ending in a quiet moment, as its blocks come."""
    cutter = PieceStream(PIECE_S)
    for _ in cutter.follow(blocks):
        yield from cutter.take()
    yield from cutter.take()


def transcribe_waveforms(recogniser: SpeechRecogniser, waveforms: Mapping[str, np.ndarray]) -> list[Transcript]:
    """Transcribe 16 kHz waveforms ``(N_i,)`` of any length by name, the pieces of all of them together."""
    cut = [pieces(waveform, PIECE_S) for waveform in waveforms.values()]
    starts_s = [[first / SAMPLE_RATE for first, _ in of_one] for of_one in cut]
    every = [piece for of_one in cut for _, piece in of_one]
    found = iter(_recognise(recogniser, every))
    return [
        _join(recogniser, [next(found) for _ in starts], starts, name, len(waveform) / SAMPLE_RATE, None)
        for (name, waveform), starts in zip(waveforms.items(), starts_s, strict=True)
    ]


def _recognise(recogniser: SpeechRecogniser, waveforms: Sequence[np.ndarray]) -> list[Recognition]:
    """Transcribe pieces; the words leave out the pauses."""
    return [
        one._replace(words=without_pauses(one.words, find_pauses(waveform)))
        for one, waveform in zip(transcribe_sounding(recogniser.transcribe, waveforms), waveforms, strict=True)
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
    words = [
        Word(word.text, start_s + word.start_s, start_s + word.end_s)
        for one, start_s in zip(found, starts_s, strict=True)
        for word in one.words
    ]
    confidences = [confidence for one in found for confidence in one.word_confidences]
    return Transcript(audio, text, token_ids, times, length_s, id_, words=words, word_confidences=confidences)
