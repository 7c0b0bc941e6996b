#!/usr/bin/env python
"""Write train, dev and test sets from Spoken-SQuAD as its publisher hands it out, the audio staying where it is.

The corpus folder holds SQuAD v1.1 (train-v1.1.json, dev-v1.1.json: what was read aloud), Spoken-SQuAD
(spoken_train-v1.1.json, spoken_test-v1.1.json: the questions that were kept, and the transcripts of a recogniser) and
recordings, Spoken-SQuAD_audio/{train_wav,dev_wav}/TopicIndex_ParagraphIndex_SentenceIndex.wav. A passage is the
sentence that holds the answer: one recording. The publisher's testing set is test; dev is held out from its training
set by titles.

Which sentence that is can be told by the written answer, or by where the publisher found the answer in its transcript.
The second, one to one, gives the paper's 3,884 pairs of the testing set; but what it names is the first place of these
words, which may be in another sentence than the answer.
"""

import argparse
import logging
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, NamedTuple

from clsr.audio.waveform import duration_s
from clsr.corpora.holdout import held_out
from clsr.corpora.one_to_one import one_to_one
from clsr.corpora.script import run_script, stop_at
from clsr.corpora.sources import Source, check_audio, check_sources
from clsr.corpora.squad import SquadQuestion, read_squad
from clsr.data.kaldi import ReportFault, Utterance
from clsr.data.retrieval_set import RetrievalSet, write_retrieval_sets
from clsr.errors import InputError
from clsr.vocabulary import normalise

DEV_SHARE = 0.05  # of the training questions, in whole articles
COMMIT = "834be9a52253a2563ba87d1f22c7fb95243769ca"  # no digest is published, but this names what is fetched
PUBLISHER = f"https://raw.githubusercontent.com/Chia-Hsuan-Lee/Spoken-SQuAD/{COMMIT}"
SQUAD = "https://rajpurkar.github.io/SQuAD-explorer/dataset"
AUDIO = (
    "get it with: wget http://speech.ee.ntu.edu.tw/~chiahsuan/Spoken-SQuAD/Spoken-SQuAD_audio.zip (50 GB), unzip it, "
    "then train_wav.zip and dev_wav.zip inside it"
)
SOURCES = (
    Source(
        "train-v1.1.json",
        f"get it with: wget {SQUAD}/train-v1.1.json",
        "3527663986b8295af4f7fcdff1ba1ff3f72d07d61a20f487cb238a6ef92fd955",
    ),
    Source(
        "dev-v1.1.json",
        f"get it with: wget {SQUAD}/dev-v1.1.json",
        "95aa6a52d5d6a735563366753ca50492a658031da74f301ac5238b03966972c9",
    ),
    Source("spoken_train-v1.1.json", f"get it with: wget {PUBLISHER}/spoken_train-v1.1.json"),
    Source("spoken_test-v1.1.json", f"get it with: wget {PUBLISHER}/spoken_test-v1.1.json"),
    Source("Spoken-SQuAD_audio/train_wav", AUDIO),
    Source("Spoken-SQuAD_audio/dev_wav", AUDIO),
)

Kind = Literal["all", "one-to-one"]
AnswerText = Literal["written", "transcript"]
log = logging.getLogger("clsr")


class Pair(NamedTuple):
    """A question, the written sentence that answers it, the recording of that, and the written answer."""

    id: str
    title: str
    question: str
    context: str
    recording: Path
    answer: str


def sentences_written(text: str, count: int) -> list[tuple[int, int]] | None:
    """Where the sentences that were read aloud lie in a paragraph, if it has so many of them.

    The publisher cut paragraphs at every full stop before a space, that of ``i.e. `` too, or at other ends as well.
    """
    for ends in (".", ".?!"):
        starts = [0, *(match.end() for match in re.finditer(rf"(?<=[{ends}]) +(?=\S)", text))]
        if len(starts) == count:
            return list(zip(starts, [*starts[1:], len(text)], strict=True))
    return None


def sentences_spoken(transcript: str) -> int:
    """Number of sentences that the recogniser was given, each of which ends with a full stop."""
    return len(transcript.strip().removesuffix(".").split(". "))


def sentence_at(transcript: str, position: int) -> int:
    """Number, from 0, of the sentence of a transcript that holds a character."""
    return len(re.findall(r"\. +", transcript[:position]))


def find_pair(written: SquadQuestion, spoken: SquadQuestion, audio: Path, answer_in: AnswerText) -> Pair | str:
    """The sentence that the answer starts in and its recording, or why there is none."""
    spans = sentences_written(written.context, sentences_spoken(spoken.context))
    if spans is None:
        return "of paragraphs with other sentences than were read"
    start = written.answer_start if answer_in == "written" else spoken.answer_start
    if start is None:
        return "whose answer is not in the paragraph"
    if answer_in == "written":
        number = max(i for i, (begin, _) in enumerate(spans) if begin <= start)
    else:
        number = sentence_at(spoken.context, start)
    sentence = written.context[slice(*spans[number])].strip()
    if not normalise(sentence):
        return "of sentences without words"
    recording = audio / f"{written.article}_{written.paragraph}_{number}.wav"
    return Pair(written.id, written.title, written.question, sentence, recording, written.answer)


class PublishedSet(NamedTuple):
    """Files of one of the publisher's two sets, relative to the corpus."""

    written: str
    spoken: str
    audio: str


TRAIN = PublishedSet("train-v1.1.json", "spoken_train-v1.1.json", "Spoken-SQuAD_audio/train_wav")
TEST = PublishedSet("dev-v1.1.json", "spoken_test-v1.1.json", "Spoken-SQuAD_audio/dev_wav")


def read_pairs(corpus: Path, of: PublishedSet, answer_in: AnswerText, report: ReportFault) -> list[Pair]:
    """Pairs of one of the publisher's two sets; how many questions are left out is logged, faulty ones are reported."""
    written, spoken, audio = of
    faults: list[str] = []
    questions = {question.id: question for question in read_squad(corpus / written, faults.append)}
    pairs, left_out = [], Counter[str]()
    for recognised in read_squad(corpus / spoken, faults.append):
        question = questions.get(recognised.id)
        if question is None:
            found: Pair | str = f"that {written} does not have"
        else:
            found = find_pair(question, recognised, corpus / audio, answer_in)
        if isinstance(found, Pair):
            pairs.append(found)
        else:
            left_out[found] += 1
    for reason, count in left_out.items():
        log.info("%s: %d questions %s are left out", corpus / spoken, count, reason)
    if not pairs and not faults:
        raise InputError(f"{corpus / spoken}: no question is left; check that {written} belongs to it")
    for fault in faults:
        report(fault)
    return pairs


def make_splits(corpus: Path, kind: Kind, answer_in: AnswerText) -> dict[str, list[Pair]]:
    """Train, dev and test; one to one, no question or passage is in two of them."""
    faults: list[str] = []
    test, rest = (read_pairs(corpus, of, answer_in, faults.append) for of in (TEST, TRAIN))
    stop_at(faults)
    titles = held_out((pair.title for pair in rest), DEV_SHARE)
    dev = [pair for pair in rest if pair.title in titles]
    train = [pair for pair in rest if pair.title not in titles]
    if kind == "one-to-one":
        test = one_to_one(test)
        dev = one_to_one(dev, before=test)
        train = one_to_one(train, before=[*test, *dev])
    return {"train": train, "dev": dev, "test": test}


def make_set(path: Path, pairs: Iterable[Pair]) -> RetrievalSet:
    """The retrieval set of pairs: a passage is a recording, whatever number of questions it answers."""
    passages: dict[Path, Utterance] = {}
    questions, relevance, answers = {}, {}, {}
    for pair in pairs:
        if pair.recording not in passages:
            end_s = duration_s(pair.recording)
            text = normalise(pair.context)
            passages[pair.recording] = Utterance(pair.recording.stem, pair.recording, 0.0, end_s, text, "google-tts")
        questions[pair.id] = pair.question
        relevance[pair.id] = {pair.recording.stem: 1}
        if pair.answer:
            answers[pair.id] = " ".join(pair.answer.split())
    return RetrievalSet(path, list(passages.values()), questions, None, relevance, answers)


def prepare(args: argparse.Namespace) -> None:
    """Write the sets, after everything is read and found."""
    check_sources(args.corpus, SOURCES)
    splits = make_splits(args.corpus, args.pairs, args.answer_in)
    check_audio([pair.recording for pairs in splits.values() for pair in pairs], AUDIO)
    sets = [make_set(args.output / name, pairs) for name, pairs in splits.items()]
    args.output.mkdir(parents=True, exist_ok=True)
    write_retrieval_sets(sets)
    for whole in sets:
        log.info("%s: %d questions, %d passages", whole.path, len(whole.questions), len(whole.passages))


def main() -> None:
    """Read the command line and write the sets."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path, help="folder as described above")
    parser.add_argument("output", type=Path, help="folder for train/, dev/ and test/")
    parser.add_argument("--pairs", choices=["all", "one-to-one"], default="one-to-one", help="which pairs (one-to-one)")
    parser.add_argument(
        "--answer-in", choices=["written", "transcript"], default="written",
        help="text whose answer names the sentence: transcript gives the paper's pairs (written)",
    )  # fmt: skip
    run_script(parser, prepare)


if __name__ == "__main__":
    main()
