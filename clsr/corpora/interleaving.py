"""Retrieval sets -> a benchmark of questions in text, speech, and both in turn, in several environments.

Its four settings are those of ATIR (arXiv:2604.20267), each a retrieval set: ``a2t`` has spoken questions and text
passages, ``t2a`` typed questions and spoken passages, ``iat2t`` and ``iat2a`` questions of text and speech in turn.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import quote

import numpy as np

from clsr.audio.clip import parse_part
from clsr.audio.waveform import SAMPLE_RATE, read_waveform, write_waveform
from clsr.corpora.background import add_background, read_background
from clsr.corpora.config import InterleavingConfig, SynthesisConfig
from clsr.corpora.long_recordings import chapter_place
from clsr.corpora.synthesis import SpokenText, claim, speak_texts
from clsr.data.kaldi import Utterance, read_data_dir, write_lines
from clsr.data.question_parts import QuestionParts
from clsr.data.retrieval_set import AnswerSpan, RetrievalSet, is_retrieval_set, read_retrieval_set, write_retrieval_sets
from clsr.errors import InputError
from clsr.vocabulary import join_words

SETTINGS = ("a2t", "t2a", "iat2t", "iat2a")
CLEAN = "clean"
AT_ONCE = {"speech": 1, "babble": 6, "media": 1}  # recordings in the background, by environment
MOST_PARTS = 4  # of a question that is cut
LONGEST_CONTEXT_S = 60.0  # which is what a query may have in a part
_WORD = re.compile("[\u3400-\u9fff]|[^\\s\u3400-\u9fff]+")  # a Han character is a word
_NOTE, _QUESTIONS = "interleaving.json", "questions.jsonl"

Form = Literal["cut", "spoken context", "spoken question"]
_Kind = Literal["passages", "questions", "parts"]


class Benchmark(NamedTuple):
    """What was written: the sets by setting and environment, and how many questions have each form."""

    sets: dict[tuple[str, str], RetrievalSet]
    forms: dict[Form, int]


@dataclass
class _Material:
    """All sets as one: passages and questions by id, speech where there is any."""

    passages: dict[str, Utterance] = field(default_factory=dict)
    questions: dict[str, str] = field(default_factory=dict)
    speech: dict[str, Utterance] = field(default_factory=dict)
    relevance: dict[str, dict[str, int]] = field(default_factory=dict)
    answers: dict[str, str] = field(default_factory=dict)
    answer_spans: dict[str, AnswerSpan] = field(default_factory=dict)


class _Spoken(NamedTuple):
    """A spoken part: a passage, a whole question, or a run of its words."""

    kind: _Kind
    id: str
    text: str


class _Question(NamedTuple):
    """A question of parts; ``context`` is the passage that it follows."""

    form: Form
    parts: list[str | _Spoken]
    context: str | None = None

    @property
    def text(self) -> str:
        return join_words(part if isinstance(part, str) else part.text for part in self.parts)


_Speech = dict[_Kind, dict[str, Utterance]]
"""Utterances by what they are and their ids."""


def interleave(sets: Sequence[Path], output: Path, config: InterleavingConfig) -> Benchmark:
    """Write the benchmark: ``output/SETTING/ENVIRONMENT`` is a retrieval set each, and ``output/audio`` has new audio.

    A question about a passage that follows another one in its recording or chapter becomes a follow-up: that passage as
    its context, and the question, one of the two spoken and the other typed. Any other question is cut into two to four
    runs of words, typed and spoken in turn. Whole questions are spoken by their own recordings where there are some;
    all else that lacks a recording is spoken by espeak-ng. In an environment, all speech of a set, that of passages and
    of questions, has recordings in its background; the clean sets name the recordings as they are.

    Beside the sets, ``questions.jsonl`` says of each question which form it has, and which passage its context is.

    Args:
        sets: folders of retrieval sets; passages may be text alone.
        output: a folder that is made here, or was by a run with the same sets and settings.
        config: distractors, environments, voices, seed.

    Raises:
        InputError: a set or a folder of recordings is at fault, an id is there twice, a voice does not exist, or the
            output holds something else.
    """
    material = _read(sets, config)
    _claim(output, material, config)
    questions = {id_: _compose(id_, material, config) for id_ in material.questions}
    audio = output / "audio"
    clean = _speak(material, questions, audio / CLEAN, config)
    backgrounds = {name: read_background(folder) for name in AT_ONCE if (folder := getattr(config, name))}
    made: dict[tuple[str, str], RetrievalSet] = {}
    for environment in (CLEAN, *backgrounds):
        recordings = backgrounds.get(environment, [])
        speech = _in_environment(clean, environment, recordings, audio / environment, config)
        for setting in SETTINGS:
            path = output / setting / environment
            made[setting, environment] = _set_of(path, setting, material, questions, speech)
    write_retrieval_sets(list(made.values()))
    write_lines(output / _QUESTIONS, (_line(id_, question) for id_, question in questions.items()))
    forms = [question.form for question in questions.values()]
    return Benchmark(made, {form: forms.count(form) for form in sorted(set(forms))})


def _read(sets: Sequence[Path], config: InterleavingConfig) -> _Material:
    """All sets and distractors as one.

    Raises:
        InputError: one is at fault, or an id is in two of them.
    """
    material = _Material()
    for path in sets:
        whole = read_retrieval_set(path, text_passages=True)
        _add_passages(material, whole.passages, path)
        if twice := sorted(whole.questions.keys() & material.questions.keys()):
            raise InputError(f"{path}: question {twice[0]} is in another set too; make ids unique")
        material.questions |= whole.questions
        material.speech |= {utterance.id: utterance for utterance in whole.question_speech or ()}
        material.relevance |= whole.relevance
        material.answers |= whole.answers
        material.answer_spans |= whole.answer_spans
    for path in config.distractors:
        passages = read_retrieval_set(path, text_passages=True).passages if is_retrieval_set(path) else None
        _add_passages(material, passages or read_data_dir(path), path)
    return material


def _add_passages(material: _Material, passages: Sequence[Utterance], path: Path) -> None:
    for passage in passages:
        if passage.text is None:
            raise InputError(f"{path}: {passage.id} has no text; write what is said in each passage")
        if passage.id in material.passages:
            raise InputError(f"{path}: passage {passage.id} is in another set too; make ids unique")
        material.passages[passage.id] = passage


def _claim(output: Path, material: _Material, config: InterleavingConfig) -> None:
    """Note in the output what it is made from.

    Raises:
        InputError: it holds something else.
    """
    if output.exists() and not (output / _NOTE).is_file() and (not output.is_dir() or any(output.iterdir())):
        raise InputError(f"{output}: holds something else; name a new folder")
    digest = hashlib.sha256(repr(asdict(material)).encode()).hexdigest()
    settings = {key: str(value) if isinstance(value, Path) else value for key, value in asdict(config).items()}
    del settings["jobs"]  # which changes nothing
    settings["distractors"] = [str(folder) for folder in config.distractors]
    claim(output / _NOTE, {"material_sha256": digest, **settings})


def _compose(id_: str, material: _Material, config: InterleavingConfig) -> _Question:
    """Decide which parts a question has."""
    text, draw = material.questions[id_], random.Random(f"{config.seed} {id_} parts")
    context = _context(material.relevance[id_], material.passages, config.chapters)
    if context is None:
        return _Question("cut", _cut(id_, text, draw))
    before = material.passages[context].text or ""
    if draw.random() < 0.5:
        return _Question("spoken context", [_Spoken("passages", context, before), _typed(text)], context)
    return _Question("spoken question", [_typed(before), _Spoken("questions", id_, text)], context)


def _context(relevance: Mapping[str, int], passages: Mapping[str, Utterance], chapters: bool) -> str | None:
    """The passage before the most relevant one, in its recording or chapter; ``None`` where none can be a context."""
    gold = passages[min(relevance, key=lambda id_: (-relevance[id_], id_))]
    chapter, number, _ = chapter_place(gold.id)
    before: list[tuple[float, str]] = []
    for one in passages.values():
        if gold.recording != Path() and one.recording == gold.recording and one.start_s < gold.start_s:
            before.append((one.start_s - gold.start_s, one.id))
        elif chapters and chapter_place(one.id)[0] == chapter and chapter_place(one.id)[1] < number:
            before.append((chapter_place(one.id)[1] - number, one.id))
    if not before:
        return None
    last = passages[max(before)[1]]
    serves = not relevance.get(last.id) and last.text != gold.text and last.duration_s <= LONGEST_CONTEXT_S
    return last.id if serves else None


def _cut(id_: str, text: str, draw: random.Random) -> list[str | _Spoken]:
    """Runs of the words of a text, typed and spoken in turn; a single word is spoken."""
    starts = [found.start() for found in _WORD.finditer(text)]
    count = draw.randint(min(2, len(starts)), min(MOST_PARTS, len(starts)))
    places = sorted(draw.sample(starts[1:], count - 1))
    runs = [text[start:end].strip() for start, end in pairwise([0, *places, len(text)])]
    spoken = 0 if len(runs) == 1 else draw.randrange(2)  # of two successive runs
    return [
        _Spoken("parts", f"{id_}/{number}", run) if (number - 1) % 2 == spoken else _typed(run)
        for number, run in enumerate(runs, start=1)
    ]


def _typed(text: str) -> str:
    """A text as a part, with a full stop where it would be taken for the path of audio."""
    return text if isinstance(parse_part(text), str) else f"{text}."


def _speak(
    material: _Material, questions: Mapping[str, _Question], folder: Path, config: InterleavingConfig
) -> _Speech:
    """All utterances, those without a recording spoken by espeak-ng; a question and its parts have one voice."""
    synthesis = SynthesisConfig(voices=list(config.voices), seed=config.seed, jobs=config.jobs)
    without = [passage for passage in material.passages.values() if passage.recording == Path()]
    lacking = sorted(material.questions.keys() - material.speech.keys())
    runs = [
        SpokenText(part.id, id_, part.text)
        for id_, question in questions.items()
        for part in question.parts
        if isinstance(part, _Spoken) and part.kind == "parts"
    ]
    texts: dict[_Kind, list[SpokenText]] = {
        "passages": [SpokenText(passage.id, passage.id, passage.text or "") for passage in without],
        "questions": [SpokenText(id_, id_, material.questions[id_]) for id_ in lacking],
        "parts": runs,
    }
    recorded: _Speech = {"passages": material.passages, "questions": material.speech, "parts": {}}
    return {
        kind: {
            id_: _playable(utterance, folder / kind)
            for id_, utterance in (recorded[kind] | _synthetic(of_kind, folder / kind, synthesis)).items()
        }
        for kind, of_kind in texts.items()
    }


def _synthetic(texts: Sequence[SpokenText], folder: Path, synthesis: SynthesisConfig) -> dict[str, Utterance]:
    """Utterances of texts, by their ids."""
    if not texts:
        return {}
    made = speak_texts([text._replace(id=_file_name(text.id)) for text in texts], folder, synthesis)
    return {text.id: replace(made[_file_name(text.id)], id=text.id) for text in texts}


def _file_name(id_: str) -> str:
    """An id as a name for a file, with what no such name may have spelled as in addresses."""
    return re.sub(r"^\.", "%2E", quote(id_, safe=""))


def _playable(utterance: Utterance, folder: Path) -> Utterance:
    """The utterance, or a copy where the name of its file has no suffix of audio, so that a part would be text."""
    if not isinstance(parse_part(str(utterance.recording)), str):
        return utterance
    waveform = read_waveform(utterance.recording, utterance.start_s, utterance.end_s)
    return _written(utterance, folder / f"{_file_name(utterance.id)}.wav", waveform)


def _in_environment(
    clean: _Speech, environment: str, recordings: Sequence[Utterance], folder: Path, config: InterleavingConfig
) -> _Speech:
    """All utterances in an environment, in files of their own, which are kept where they are there already."""
    if environment == CLEAN:
        return clean

    def noisy(utterance: Utterance, kind: _Kind) -> Utterance:
        file = folder / kind / f"{_file_name(utterance.id)}.wav"
        if file.is_file():
            return replace(utterance, recording=file, start_s=0.0, end_s=utterance.duration_s)
        waveform = read_waveform(utterance.recording, utterance.start_s, utterance.end_s)
        name = f"{config.seed} {kind} {utterance.id} {environment}"
        return _written(
            utterance, file, add_background(waveform, recordings, AT_ONCE[environment], config.snr_db, name)
        )

    return {kind: {id_: noisy(one, kind) for id_, one in of_kind.items()} for kind, of_kind in clean.items()}


def _written(utterance: Utterance, file: Path, waveform: np.ndarray) -> Utterance:
    file.parent.mkdir(parents=True, exist_ok=True)
    write_waveform(file, waveform)
    return replace(utterance, recording=file, start_s=0.0, end_s=len(waveform) / SAMPLE_RATE)


def _set_of(
    path: Path, setting: str, material: _Material, questions: Mapping[str, _Question], speech: _Speech
) -> RetrievalSet:
    """The retrieval set of a setting."""
    asked, found = setting.split("2")
    passages = [replace(speech["passages"][id_], text=material.passages[id_].text) for id_ in sorted(material.passages)]
    if found == "t":
        passages = [Utterance(passage.id, Path(), 0.0, 0.0, passage.text, passage.id) for passage in passages]
    made = RetrievalSet(
        path, passages, material.questions, None, material.relevance, material.answers,
        material.answer_spans if found == "a" else {},
    )  # fmt: skip
    if asked == "a":
        of_all = [replace(speech["questions"][id_], text=text) for id_, text in sorted(material.questions.items())]
        return replace(made, question_speech=of_all)
    if asked == "iat":
        parts: QuestionParts = {
            id_: [part if isinstance(part, str) else speech[part.kind][part.id] for part in question.parts]
            for id_, question in questions.items()
        }
        return replace(made, questions={id_: one.text for id_, one in questions.items()}, question_parts=parts)
    return made


def _line(id_: str, question: _Question) -> str:
    return json.dumps({"id": id_, "form": question.form, "context": question.context}, ensure_ascii=False) + "\n"
