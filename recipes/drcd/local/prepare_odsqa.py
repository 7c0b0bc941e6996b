#!/usr/bin/env python
"""Write the test set of ODSQA as its publisher hands it out: people reading questions and passages of DRCD aloud.

The corpus folder holds DRCD_dev.json (what was read aloud), ODSQA_spokenq_test-v1.1.json (which questions were kept,
and the transcripts of a recogniser) and audio_data.zip, which stays packed. A passage is the written sentence in which
the answer starts, and one recording. Questions whose transcript is empty are left out, and pairs are one to one: of the
publisher's 1,465 questions these are 1,425, the number of the paper. Written are the retrieval set OUTPUT and its
recordings in OUTPUT_audio.

Recordings are found by their names in the archive, which the templates describe: {id} is that of a question (6331-1-2),
{paragraph} that of its paragraph (6331-1), {sentence} the number of a sentence in it, * anything.
"""

import argparse
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from clsr.audio.waveform import duration_s
from clsr.corpora.archive import AudioArchive
from clsr.corpora.one_to_one import one_to_one
from clsr.corpora.script import run_script, stop_at
from clsr.corpora.sources import Source, check_sources
from clsr.corpora.squad import SquadQuestion, read_squad, sentence_spans
from clsr.data.kaldi import ReportFault, Utterance
from clsr.data.retrieval_set import RetrievalSet, write_retrieval_sets
from clsr.errors import InputError
from clsr.vocabulary import normalise

WRITTEN, SPOKEN, AUDIO = "DRCD_dev.json", "ODSQA_spokenq_test-v1.1.json", "audio_data.zip"
DRCD = "https://raw.githubusercontent.com/DRCKnowledgeTeam/DRCD/b944790de5af02c5fbb7cd9cb1473d27d169eebf"
ODSQA = "https://raw.githubusercontent.com/Chia-Hsuan-Lee/ODSQA/5eed56f100b62198fe7e8e46a5d093eb94d5c070"
SOURCES = (
    Source(WRITTEN, f"get it with: wget {DRCD}/{WRITTEN}"),
    Source(SPOKEN, f"get it with: wget {ODSQA}/{SPOKEN}"),
    Source(AUDIO, "get it with: wget http://speech.ee.ntu.edu.tw/~chiahsuan/ODSQA/audio_data.zip"),
)
PAIRS = 1425  # Table 1 of the paper
QUESTION_FIELDS = {"id": r"\d+-\d+-\d+"}
SENTENCE_FIELDS = {"paragraph": r"\d+-\d+", "sentence": r"\d+"}

log = logging.getLogger("clsr")


class Pair(NamedTuple):
    """A question, the sentence that answers it, and which of its paragraph that is, from 0."""

    id: str
    question: str
    context: str
    answer: str
    paragraph: str
    sentence: int


def find_pairs(
    written: Iterable[SquadQuestion], spoken: Iterable[SquadQuestion], place: str, report: ReportFault
) -> list[Pair]:
    """Pairs, one to one, of the questions that were spoken; what a question lacks is reported with its id."""
    known = {question.id: question for question in written}
    pairs = []
    for recognised in spoken:
        question = known.get(recognised.id)
        if question is None or question.answer_start is None:
            report(f"{place}: question {recognised.id}: has no answer in {WRITTEN}; fetch both files again")
            continue
        spans = sentence_spans(question.context)
        number = max(i for i, (start, _) in enumerate(spans) if start <= question.answer_start or i == 0)
        sentence = question.context[slice(*spans[number])]
        pairs.append(Pair(question.id, question.question, sentence, question.answer, question.paragraph_id, number))
    return one_to_one([pair for pair in pairs if normalise(pair.question) and normalise(pair.context)])


def read_spoken(path: Path, report: ReportFault) -> list[SquadQuestion]:
    """Questions that the publisher's recogniser made something of; the others are counted, other faults reported."""
    faults: list[str] = []
    questions = read_squad(path, faults.append)
    silent = [fault for fault in faults if ": question is missing or empty" in fault]
    for fault in faults:
        if fault not in silent:
            report(fault)
    for fault in silent:
        log.info("%s: left out, as its transcript is empty", fault.partition(": question is")[0])
    return questions


def find_recordings(
    archive: AudioArchive, pairs: Sequence[Pair], args: argparse.Namespace, report: ReportFault
) -> dict[tuple[str, ...], str]:
    """The name in the archive of each question, by its id, and of each sentence, by paragraph and number."""
    wanted: dict[tuple[str, ...], str] = {}
    kinds = (
        (args.question_name, QUESTION_FIELDS, [(pair.id,) for pair in pairs]),
        (args.sentence_name, SENTENCE_FIELDS, [(p.paragraph, str(p.sentence + args.first_sentence)) for p in pairs]),
    )
    for template, fields, keys in kinds:
        found = archive.find(template, fields)
        if not found.keys() & set(keys):
            names = ", ".join(archive.names[:3])
            report(f"{archive.path}: no name is like {template}; name it by an option: the archive has {names}, ...")
            continue
        for pair, key in zip(pairs, keys, strict=True):
            names = found.get(key, [])
            if len(names) != 1:
                fault = f"recordings like {template} for {' '.join(key)}: {len(names)}, not one"
                report(f"{archive.path}: question {pair.id}: {fault}; name them by an option, or fetch it again")
            else:
                wanted[key] = names[0]
    return wanted


def make_set(output: Path, pairs: Sequence[Pair], names: dict[tuple[str, ...], str], archive: AudioArchive,
             first_sentence: int) -> RetrievalSet:  # fmt: skip
    """Copy the recordings out of the archive, and return the retrieval set of the pairs."""
    audio = output.with_name(f"{output.name}_audio")

    def utterance(id_: str, kind: str, key: tuple[str, ...], text: str) -> Utterance:
        file = audio / kind / f"{id_}{Path(names[key]).suffix.lower()}"
        archive.copy_out(names[key], file)
        return Utterance(id_, file, 0.0, duration_s(file), text, id_)

    passages, speech, relevance = [], [], {}
    for pair in pairs:
        number = pair.sentence + first_sentence
        passage = f"{pair.paragraph}_{number}"
        passages.append(utterance(passage, "passages", (pair.paragraph, str(number)), normalise(pair.context)))
        speech.append(utterance(pair.id, "questions", (pair.id,), pair.question))
        relevance[pair.id] = {passage: 1}
    questions = {pair.id: pair.question for pair in pairs}
    return RetrievalSet(output, passages, questions, speech, relevance, {pair.id: pair.answer for pair in pairs})


def prepare(args: argparse.Namespace) -> None:
    """Write the set, after everything is read and found."""
    check_sources(args.corpus, SOURCES)
    faults: list[str] = []
    written = read_squad(args.corpus / WRITTEN, faults.append)
    spoken = read_spoken(args.corpus / SPOKEN, faults.append)
    pairs = find_pairs(written, spoken, f"{args.corpus / SPOKEN}", faults.append)
    if not pairs and not faults:
        raise InputError(f"{args.corpus / SPOKEN}: no question is left; check that {WRITTEN} belongs to it")
    with AudioArchive(args.corpus / AUDIO) as archive:
        names = find_recordings(archive, pairs, args, faults.append)
        stop_at(faults)
        args.output.parent.mkdir(parents=True, exist_ok=True)
        whole = make_set(args.output, pairs, names, archive, args.first_sentence)
    write_retrieval_sets([whole])
    rule = "questions with a transcript, the sentence that the answer starts in, one to one"
    number = "the paper's number" if len(pairs) == PAIRS else f"the paper has {PAIRS}"
    log.info("%s: %d pairs (%s); %s", whole.path, len(pairs), rule, number)


def main() -> None:
    """Read the command line and write the set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path, help="folder as described above")
    parser.add_argument("output", type=Path, help="folder of the retrieval set")
    parser.add_argument(
        "--question-name", default="question/{id}.wav", help="of a question's recording (question/{id}.wav)"
    )
    parser.add_argument("--sentence-name", default="document/{paragraph}-{sentence}.wav", help="of a sentence's")
    parser.add_argument("--first-sentence", type=int, default=1, help="number of the first sentence (1)")
    run_script(parser, prepare)


if __name__ == "__main__":
    main()
