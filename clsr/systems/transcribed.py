"""A retrieval set with the transcripts of a system: it fine-tunes text encoders and teaches SpeechDPR."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from clsr.audio.waveform import read_waveform
from clsr.data.kaldi import Utterance
from clsr.data.retrieval_set import RetrievalSet, read_retrieval_set, write_retrieval_sets
from clsr.errors import InputError
from clsr.systems.load import load_system
from clsr.systems.protocol import System
from clsr.vocabulary import normalise

READ_AT_ONCE = 64  # recordings in memory

log = logging.getLogger("clsr")


def write_transcribed(reference: str, data: Path, output: Path) -> None:
    """Write a retrieval set whose speech, passages and spoken questions, has the transcripts of a system.

    All else stays as it is. Passages in which it recognises no word are left out and counted, with the questions that
    only they answer; so are spoken questions in which it recognises none.

    Args:
        reference: a system, as `clsr.systems.load.load_system` takes it.
        data: retrieval set.
        output: folder of the new one; it names the recordings of the old one.

    Raises:
        InputError: the system writes no transcripts, or the set is at fault.
    """
    if output.resolve() in (data.resolve(), *data.resolve().parents):
        raise InputError(f"{output}: would replace {data}: name another folder")
    whole = read_retrieval_set(data)
    system = load_system(reference)
    texts = _transcribe(system, reference, whole.passages)
    passages = [replace(passage, text=texts[passage.id]) for passage in whole.passages if texts[passage.id]]
    kept = {passage.id for passage in passages}
    speech = whole.question_speech
    asked = _transcribe(system, reference, speech) if speech else whole.questions
    left = {question: {p: value for p, value in of.items() if p in kept} for question, of in whole.relevance.items()}
    relevance = {question: of for question, of in left.items() if any(of.values()) and asked[question]}
    if not relevance:
        raise InputError(f"{reference}: recognises no word in any relevant passage of {data}: train it longer")
    if len(kept) < len(whole.passages):
        log.warning("%d of %d passages, in which no word is recognised, are left out with %d questions",
                    len(whole.passages) - len(kept), len(whole.passages),
                    len(whole.questions) - len(relevance))  # fmt: skip
    questions = {question: asked[question] for question in whole.questions if question in relevance}
    speech = speech and [replace(one, text=asked[one.id]) for one in speech if one.id in relevance]
    write_retrieval_sets([RetrievalSet(output, passages, questions, speech, relevance)])


def _transcribe(system: System[Any], reference: str, utterances: list[Utterance]) -> dict[str, str]:
    """Return the normalised transcript of each utterance by its id."""
    texts: dict[str, str] = {}
    for start in tqdm(range(0, len(utterances), READ_AT_ONCE), "transcribe", disable=None):
        chunk = utterances[start : start + READ_AT_ONCE]
        recognised = system.recognise([read_waveform(u.recording, u.start_s, u.end_s) for u in chunk])
        written = system.transcribe(recognised)
        if written is None:
            raise InputError(f"{reference}: writes no transcripts: name a recogniser")
        texts |= {u.id: normalise(text) for u, text in zip(chunk, written, strict=True)}
    return texts
