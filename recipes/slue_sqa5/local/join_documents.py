#!/usr/bin/env python
"""Write a retrieval set for answers from long recordings (Table 5 of the paper), out of those of prepare_data.py.

SLUE's documents are pieces of articles of the Spoken Wikipedia, some 40 s each, numbered in their order
(`Harp_(music)_3`). The paper puts whole articles in their place, which the release does not have. Here the pieces of an
article that are in any part of the release are joined again: the passages of this set are all pieces of the articles
that its questions are about. `clsr data lengthen --chapters` then puts them into recordings in their order.

Questions are drawn from those of a part that have a known answer; the paper draws 500. In the blind test part none has.
"""

import argparse
import logging
import random
import re
from pathlib import Path

from clsr.corpora.script import positive, run_script
from clsr.data.kaldi import Utterance
from clsr.data.retrieval_set import RetrievalSet, is_retrieval_set, read_retrieval_set, write_retrieval_sets
from clsr.errors import InputError

log = logging.getLogger("clsr")


def article_of(document: str) -> str:
    """The article of a document, which is numbered.

    >>> article_of("Harp_(music)_3")
    'Harp_(music)'
    """
    return re.sub(r"[-_]\d+$", "", document)


def join(sets: Path, part: str, count: int, seed: int, output: Path) -> RetrievalSet:
    """Questions of one part, with all documents of their articles.

    Raises:
        InputError: there is no such set, or no question in it has a known answer.
    """
    asked = read_retrieval_set(sets / part)
    known = [q for q in asked.questions if q in asked.answers]
    if not known:
        raise InputError(
            f"{sets / part}: none of its questions has a known answer; name a part of which they are public"
        )
    chosen = sorted(random.Random(seed).sample(known, min(count, len(known))))
    articles = {article_of(document) for question in chosen for document in asked.relevance[question]}
    documents: dict[str, Utterance] = {}
    for folder in sorted(path for path in sets.iterdir() if is_retrieval_set(path)):
        for document in read_retrieval_set(folder).passages:
            if article_of(document.id) in articles:
                documents.setdefault(document.id, document)
    log.info("%s: %d questions about %d articles of %d documents", output, len(chosen), len(articles), len(documents))
    spoken = [question for question in asked.question_speech or [] if question.id in set(chosen)]
    return RetrievalSet(
        output,
        list(documents.values()),
        {question: asked.questions[question] for question in chosen},
        spoken or None,
        {question: asked.relevance[question] for question in chosen},
        {question: asked.answers[question] for question in chosen},
        {question: asked.answer_spans[question] for question in chosen if question in asked.answer_spans},
    )


def prepare(args: argparse.Namespace) -> None:
    """Write the set."""
    args.output.parent.mkdir(parents=True, exist_ok=True)
    write_retrieval_sets([join(args.sets, args.part, args.questions, args.seed, args.output)])


def main() -> None:
    """Read the command line and write the set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sets", type=Path, help="folder with train/, dev/ and test/")
    parser.add_argument("output", type=Path, help="folder of the retrieval set, outside of the other")
    parser.add_argument("--part", default="test", help="whose questions (test)")
    parser.add_argument("--questions", type=positive, default=500, help="number of questions at most (500)")
    parser.add_argument("--seed", type=int, default=0, help="of the choice (0)")
    run_script(parser, prepare)


if __name__ == "__main__":
    main()
