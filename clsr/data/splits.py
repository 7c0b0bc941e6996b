"""A training or development set in memory: utterances with transcripts, and questions with their passages."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, NamedTuple

from clsr.data.augmentation import speed_copies
from clsr.data.kaldi import Utterance, read_data_dir
from clsr.data.retrieval_set import is_retrieval_set, read_retrieval_set
from clsr.errors import InputError
from clsr.metrics.recall import Relevance

Questions = Literal["typed", "spoken"]

SPOKEN = "question "  # begins the id of a question's recording; no id of a passage has a blank


class Pair(NamedTuple):
    """A question and the text of the passage that answers it.

    Pairs of one group share a passage, or are joined by pairs that do: what answers one of them is no wrong answer to
    another.
    """

    question: str
    passage: str
    group: int


@dataclass(frozen=True)
class Split:
    """Utterances and, for a retrieval set, the questions about them.

    Attributes:
        utterances: sorted by id, all with transcripts.
        pairs: questions with their passages; empty for a plain data directory.
        pairs_of: rows in ``pairs`` of each passage id that answers questions.
        questions: the recording of each question, row by row as ``pairs``; empty where questions are typed.
    """

    utterances: list[Utterance]
    pairs: list[Pair]
    pairs_of: dict[str, list[int]]
    questions: list[Utterance] = field(default_factory=list)

    @property
    def speech(self) -> list[Utterance]:
        """All that is spoken: passages, then questions."""
        return [*self.utterances, *self.questions]


def read_split(path: Path, questions: Questions = "typed") -> Split:
    """Read a retrieval set or a plain Kaldi data directory.

    Args:
        path: its folder.
        questions: what is read of questions, beside their text: "spoken" their recordings too.

    Raises:
        InputError: nothing is there, a transcript is missing, or recordings of questions are.
    """
    if not is_retrieval_set(path):
        utterances = read_data_dir(path)
        if any(utterance.text is None for utterance in utterances):
            raise InputError(f"{path}/text: missing: training needs what is said in each utterance")
        return Split(utterances, [], {})
    whole = read_retrieval_set(path)
    speech: dict[str, Utterance] = {}
    if questions == "spoken":
        if whole.question_speech is None:
            raise InputError(
                f"{path / 'questions' / 'wav.scp'}: no such file: for typed questions, set data.questions typed"
            )
        speech = {u.id: replace(u, id=SPOKEN + u.id, text=whole.questions[u.id]) for u in whole.question_speech}
    texts = {passage.id: passage.text or "" for passage in whole.passages}
    pairs: list[Pair] = []
    pairs_of: dict[str, list[int]] = {}
    roots, groups = _joined(whole.relevance), dict[str, int]()
    recordings: list[Utterance] = []
    for question_id, relevance in sorted(whole.relevance.items()):
        answers = sorted(passage_id for passage_id, grade in relevance.items() if grade > 0)
        if not answers:
            continue
        for passage_id in answers:
            pairs_of.setdefault(passage_id, []).append(len(pairs))
        group = groups.setdefault(roots[answers[0]], len(pairs))
        pairs.append(Pair(whole.questions[question_id], texts[answers[0]], group))
        recordings += [speech[question_id]] if speech else []
    return Split(whole.passages, pairs, pairs_of, recordings)


def _joined(relevance: Relevance) -> dict[str, str]:
    """Return for each passage one that stands for all that questions join to it, directly or through others."""
    parent: dict[str, str] = {}

    def root(passage_id: str) -> str:
        while parent.setdefault(passage_id, passage_id) != passage_id:
            parent[passage_id] = passage_id = parent[parent[passage_id]]
        return passage_id

    for grades in relevance.values():
        answers = [passage_id for passage_id, grade in grades.items() if grade > 0]
        for passage_id in answers:
            parent[root(passage_id)] = root(answers[0])
    return {passage_id: root(passage_id) for passage_id in list(parent)}


def read_splits(data: Path, questions: Questions = "typed") -> tuple[Split, Split]:
    """Read ``train`` and ``dev`` of a data folder.

    Args:
        data: the folder.
        questions: as for ``read_split``.

    Raises:
        InputError: one of the two is missing, or as ``read_split``.
    """
    for name in ("train", "dev"):
        if not (data / name).is_dir():
            raise InputError(f"{data}: no folder '{name}': a training set is a folder with 'train' and 'dev' in it")
    return read_split(data / "train", questions), read_split(data / "dev", questions)


def require_pairs(splits: tuple[Split, Split], data: Path) -> None:
    """Refuse splits without questions.

    Raises:
        InputError: naming the split.
    """
    for name, split in zip(("train", "dev"), splits, strict=True):
        if not split.pairs:
            raise InputError(
                f"{data / name}: no questions: this stage needs a retrieval set (passages/, questions/, qrels)"
            )


def data_digest(split: Split) -> str:
    """Return 16 hexadecimal digits that stand for ids, transcripts, questions and what answers them."""
    digest = hashlib.sha256()
    for utterance in split.utterances:
        digest.update(f"{utterance.id}\t{utterance.text}\t{utterance.duration_s:.3f}\n".encode())
    for pair in split.pairs:
        digest.update(f"{pair.question}\t{pair.passage}\n".encode())
    digest.update(repr(sorted(split.pairs_of.items())).encode())
    for question in split.questions:
        digest.update(f"{question.id}\t{question.duration_s:.3f}\n".encode())
    return digest.hexdigest()[:16]


def at_speeds(split: Split, speeds: Sequence[float]) -> Split:
    """Return a split in which copies at each speed stand for each utterance, and answer its question.

    Spoken questions stay as they are.
    """
    copies = {utterance.id: speed_copies(utterance, speeds) for utterance in split.utterances}
    utterances = sorted((copy for of_one in copies.values() for copy in of_one), key=lambda copy: copy.id)
    pairs_of = {copy.id: rows for i, rows in split.pairs_of.items() for copy in copies[i]}
    return Split(utterances, split.pairs, pairs_of, split.questions)
