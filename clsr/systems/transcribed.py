"""A retrieval set as a recogniser hears it: what text encoders are fine-tuned on, and SpeechDPR is taught from."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from clsr.audio.waveform import read_waveform
from clsr.data.kaldi import Utterance
from clsr.data.retrieval_set import RetrievalSet, read_retrieval_set, write_retrieval_sets
from clsr.errors import InputError
from clsr.systems.load import load_system
from clsr.vocabulary import normalise

READ_AT_ONCE = 64  # recordings held in memory

log = logging.getLogger("clsr")


def write_transcribed(reference: str, data: Path, output: Path) -> None:
    """Write a retrieval set whose passages' texts are what a system makes of them; all else stays as it is.

    Passages in which it hears no word are left out, and counted, and so are the questions that only they answer.

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
    texts = _transcribe(reference, whole.passages)
    passages = [replace(passage, text=texts[passage.id]) for passage in whole.passages if texts[passage.id]]
    heard = {passage.id for passage in passages}
    left = {question: {p: value for p, value in of.items() if p in heard} for question, of in whole.relevance.items()}
    relevance = {question: of_question for question, of_question in left.items() if any(of_question.values())}
    if not relevance:
        raise InputError(f"{reference}: heard no word in any passage of {data} that is asked for: train it longer")
    if len(heard) < len(whole.passages):
        log.warning("%d of %d passages, in which no word was heard, are left out with %d questions",
                    len(whole.passages) - len(heard), len(whole.passages),
                    len(whole.questions) - len(relevance))  # fmt: skip
    questions = {question: text for question, text in whole.questions.items() if question in relevance}
    speech = whole.question_speech and [question for question in whole.question_speech if question.id in relevance]
    write_retrieval_sets([RetrievalSet(output, passages, questions, speech, relevance)])


def _transcribe(reference: str, passages: list[Utterance]) -> dict[str, str]:
    """Return the normalised transcript of each passage by its id."""
    system = load_system(reference)
    texts: dict[str, str] = {}
    for start in tqdm(range(0, len(passages), READ_AT_ONCE), "transcribe", disable=None):
        chunk = passages[start : start + READ_AT_ONCE]
        heard = system.recognise([read_waveform(u.recording, u.start_s, u.end_s) for u in chunk])
        written = system.transcribe(heard)
        if written is None:
            raise InputError(f"{reference}: writes no transcripts: name a recogniser")
        texts |= {u.id: normalise(text) for u, text in zip(chunk, written, strict=True)}
    return texts
