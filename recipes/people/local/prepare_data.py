#!/usr/bin/env python
"""Write data directories and retrieval sets of people's speech; audio stays where it is.

The corpus folder has `speech/mini_librispeech_en`, `speech/common_voice_en` and `speech/librispeech_en` (Kaldi data
directories) and `speech_qa/librispeech_people.{train,test}.jsonl` (objects of id and question, the id being that of the
utterance that answers). Of mini LibriSpeech whole speakers are held out for development, of Common Voice whole
sentences. Written are::

    asr/{train,dev}     all speech to train the recogniser on, with further corpora, if these are named
    pairs/{train,dev}   mini LibriSpeech with its questions
    mini                mini LibriSpeech whole, with its questions: for long recordings
    test, test_unseen   LibriSpeech with its questions: all of it, and the speakers that mini LibriSpeech does not have
    others/NAME         each other corpus as a data directory (Mandarin of `speech/common_voice_zh` too, if it is there)
"""

import argparse
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from clsr.audio.waveform import duration_s
from clsr.corpora.holdout import held_out
from clsr.corpora.script import run_script
from clsr.corpora.sources import Source, check_audio, check_sources
from clsr.data.kaldi import Utterance, read_data_dir, write_data_dir
from clsr.data.retrieval_set import RetrievalSet, write_retrieval_sets
from clsr.errors import InputError
from clsr.vocabulary import normalise

DEV_SHARE = 0.12  # of the questions, in whole speakers
DEV_SENTENCES = 0.04  # of Common Voice
SPEECH, QUESTIONS = "speech", "speech_qa/librispeech_people.{}.jsonl"
MANDARIN = "common_voice_zh"
NEEDED = ("mini_librispeech_en", "common_voice_en", "librispeech_en")
HOW = "name the folder that holds speech/ and speech_qa/ (README.md says what is in them)"


def read_questions(path: Path) -> dict[str, str]:
    """Questions by the id of the utterance that answers.

    Raises:
        InputError: a line is no object of id and question, or an id is there twice.
    """
    questions: dict[str, str] = {}
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            row = json.loads(line)
            id_, question = row["id"], row["question"].strip()
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{path}:{number}: is no object of id and question; mend or remove the line") from error
        if not question or id_ in questions:
            raise InputError(f"{path}:{number}: {id_}: has no question, or a second one; mend or remove the line")
        questions[id_] = question
    return questions


def read_speechocean762(folder: Path) -> list[Utterance]:
    """Sentences by learners of English, both halves; their texts hold no questions."""
    read = [utterance for half in ("train", "test") for utterance in read_scp(folder, half)]
    check_audio([utterance.recording for utterance in read], "fetch speechocean762 again")
    return read


def read_scp(folder: Path, half: str) -> Iterable[Utterance]:
    """Utterances of a half, whose wav.scp is relative to the folder above it."""
    tables = [dict(line.split(maxsplit=1) for line in (folder / half / name).read_text().splitlines() if line.strip())
              for name in ("text", "utt2spk", "wav.scp")]  # fmt: skip
    text, speaker, audio = tables
    for id_ in text:
        path = folder / audio[id_]
        yield Utterance(id_, path, 0.0, duration_s(path), text[id_], speaker[id_])


def read_cathy(folder: Path) -> list[Utterance]:
    """CMU Arctic's sentences by one speaker: a .txt beside each .wav."""
    return [
        Utterance(f"cathy-{text.stem}", text.with_suffix(".wav"), 0.0, duration_s(text.with_suffix(".wav")),
                  text.read_text(encoding="utf-8").strip(), "cathy")
        for text in sorted((folder / "data").glob("*.txt"))
        if text.with_suffix(".wav").is_file() and text.read_text(encoding="utf-8").strip()
    ]  # fmt: skip


def read_ljspeech(folder: Path) -> list[Utterance]:
    """LJ Speech, or the part of it that is there: metadata.csv and wavs/."""
    rows = (line.split("|") for line in (folder / "metadata.csv").read_text(encoding="utf-8").splitlines())
    found = ((id_, folder / "wavs" / f"{id_}.wav", text) for id_, _, text in rows)
    return [
        Utterance(id_, path, 0.0, duration_s(path), text, "ljspeech") for id_, path, text in found if path.is_file()
    ]


READERS: dict[str, Callable[[Path], list[Utterance]]] = {
    "speechocean762": read_speechocean762, "cathy": read_cathy, "ljspeech": read_ljspeech,
}  # fmt: skip


def read_more(name: str, folder: Path) -> list[Utterance]:
    """Utterances of a further corpus, with those left out that have no word in their transcript.

    Raises:
        InputError: it is not there as its publisher hands it out.
    """
    try:
        return [utterance for utterance in READERS[name](folder) if normalise(utterance.text or "")]
    except (OSError, KeyError, ValueError) as error:
        raise InputError(f"{folder}: is not {name} as published ({error!r}); fetch it again") from error


def normalised(utterances: Iterable[Utterance]) -> list[Utterance]:
    """The utterances with transcripts as recognisers are scored; LibriSpeech's are upper case."""
    return [replace(utterance, text=normalise(utterance.text or "")) for utterance in utterances]


def retrieval_set(path: Path, passages: Sequence[Utterance], questions: dict[str, str]) -> RetrievalSet:
    """Passages with the questions about them."""
    ids = {passage.id for passage in passages}
    about = {f"q-{id_}": text for id_, text in sorted(questions.items()) if id_ in ids}
    return RetrievalSet(path, list(passages), about, None, {id_: {id_.removeprefix("q-"): 1} for id_ in about})


def prepare(args: argparse.Namespace) -> None:
    """Write all sets, after everything is read."""
    corpus, output = args.corpus, args.output
    check_sources(corpus, [Source(f"{SPEECH}/{name}/wav.scp", HOW) for name in NEEDED])
    check_sources(corpus, [Source(QUESTIONS.format(split), HOW) for split in ("train", "test")])
    mini, common, tested = (normalised(read_data_dir(corpus / SPEECH / name)) for name in NEEDED)
    train_questions, test_questions = (read_questions(corpus / QUESTIONS.format(split)) for split in ("train", "test"))
    mini, common, tested = (utterances[:: args.every] for utterances in (mini, common, tested))
    unknown = sorted({*train_questions, *test_questions} - {u.id for u in (*mini, *tested)})
    if unknown and args.every == 1:
        raise InputError(f"{corpus}: {unknown[0]}: has a question and no audio; the speech is not whole: {HOW}")
    dev_speakers = held_out((u.speaker for u in mini if u.id in train_questions), DEV_SHARE)
    dev_sentences = held_out((u.text or "" for u in common), DEV_SENTENCES)
    others = {"common_voice_en": common}
    others |= {name: normalised(read_more(name, at)) for name in READERS if (at := getattr(args, name))}
    more = [utterance for name in READERS for utterance in others.get(name, [])]
    if (corpus / SPEECH / MANDARIN / "wav.scp").is_file():
        others[MANDARIN] = read_data_dir(corpus / SPEECH / MANDARIN)[:: args.every]
    parts = {
        "train": [u for u in mini if u.speaker not in dev_speakers],
        "dev": [u for u in mini if u.speaker in dev_speakers],
    }
    trained = [*parts["train"], *(u for u in common if u.text not in dev_sentences), *more]
    write_data_dir(output / "asr/train", sorted(trained, key=lambda utterance: utterance.id)[:: args.train_every])
    write_data_dir(output / "asr/dev", [*parts["dev"], *(u for u in common if u.text in dev_sentences)])
    for name, utterances in others.items():
        write_data_dir(output / "others" / name, utterances)
    seen = {utterance.speaker for utterance in mini}
    unseen = [utterance for utterance in tested if utterance.speaker not in seen]
    sets = [retrieval_set(output / "pairs" / split, parts[split], train_questions) for split in parts]
    sets += [retrieval_set(output / "mini", mini, train_questions)]
    sets += [retrieval_set(output / "test", tested, test_questions)]
    sets += [retrieval_set(output / "test_unseen", unseen, test_questions)]
    write_retrieval_sets(sets)
    for whole in sets:
        minutes = sum(passage.duration_s for passage in whole.passages) / 60
        print(f"{whole.path}: {len(whole.questions)} questions, {len(whole.passages)} utterances, {minutes:.1f} min")


def main() -> None:
    """Read the command line and write the sets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path, help="folder with speech/ and speech_qa/")
    parser.add_argument("output", type=Path, help="folder for asr, pairs, test and test_unseen")
    for name in READERS:
        parser.add_argument(f"--{name}", type=Path, metavar="DIR", help="train the recogniser on this corpus too")
    parser.add_argument("--every", type=int, default=1, help="take only every n-th utterance, for a quick look (1)")
    parser.add_argument("--train-every", type=int, default=1, help="train the recogniser on every n-th utterance (1)")
    run_script(parser, prepare)


if __name__ == "__main__":
    main()
