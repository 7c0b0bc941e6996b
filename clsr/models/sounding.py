"""Recognition and encoding of what of a waveform can be speech: digital silence and steady sound never yield words."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from clsr.audio.sounding import Sounding, leave_out_dead
from clsr.models.recogniser import Recognition
from clsr.models.speech_encoder import SpeechEncoding
from clsr.models.text_encoder import TextEncoder
from clsr.text.folder import Side
from clsr.vocabulary import Word

NOTHING = Recognition("", [], [], [], math.nan, [])


def transcribe_sounding(
    transcribe: Callable[[Sequence[np.ndarray]], list[Recognition]], waveforms: Sequence[np.ndarray]
) -> list[Recognition]:
    """Transcribe 16 kHz waveforms ``(N_i,)`` without their dead parts; times count from the start of the waveforms.

    Args:
        transcribe: of a recogniser.
        waveforms: mono, float32.
    """
    sounding = [leave_out_dead(waveform) for waveform in waveforms]
    found = iter(transcribe([one.waveform for one in sounding if len(one.waveform)]))
    return [_in_whole(next(found), one) if len(one.waveform) else NOTHING for one in sounding]


def encode_sounding(
    encode: Callable[[Sequence[np.ndarray]], SpeechEncoding],
    text_encoder: TextEncoder,
    waveforms: Sequence[np.ndarray],
    side: Side = "passage",
) -> SpeechEncoding:
    """Encode 16 kHz waveforms ``(N_i,)`` without their dead parts.

    A waveform that is dead as a whole has the vector of an empty text, no words, and no confidence.

    Args:
        encode: of a speech system, for this side.
        text_encoder: of the system.
        waveforms: mono, float32.
        side: what they stand for.
    """
    sounding = [leave_out_dead(waveform) for waveform in waveforms]
    rows = [i for i, one in enumerate(sounding) if len(one.waveform)]
    if all(one.waveform is waveform for one, waveform in zip(sounding, waveforms, strict=True)):
        return encode(waveforms)
    vectors = np.repeat(text_encoder.encode([""], side).numpy(), len(sounding), axis=0)
    encoding = SpeechEncoding(
        vectors, [""] * len(sounding), [[] for _ in sounding], [[] for _ in sounding], [math.nan] * len(sounding)
    )
    if rows:
        found = encode([sounding[i].waveform for i in rows])
        for i, vector, *others in zip(rows, *found, strict=True):
            vectors[i] = vector
            encoding.transcripts[i], encoding.token_ids[i], words, encoding.confidences[i] = others
            encoding.words[i] = _words_in_whole(words, sounding[i])
    return encoding


def _in_whole(found: Recognition, sounding: Sounding) -> Recognition:
    times = [sounding.in_whole(*span) for span in found.times]
    return found._replace(times=times, words=_words_in_whole(found.words, sounding))


def _words_in_whole(words: Sequence[Word], sounding: Sounding) -> list[Word]:
    return [Word(word.text, *sounding.in_whole(word.start_s, word.end_s)) for word in words]
