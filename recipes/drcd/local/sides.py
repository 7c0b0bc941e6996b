#!/usr/bin/env python
"""Compare what questions and passages are encoded as: typed, as transcripts, as soft codes; prints a Markdown table.

Every cell uses the same models and recognised speech. Printed, for each set of spoken questions: Q-C recall at 1 in
percent, means over the models (seeds), with the lowest and highest.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from clsr.audio.waveform import read_waveform
from clsr.data.kaldi import Utterance
from clsr.data.retrieval_set import read_retrieval_set
from clsr.errors import InputError
from clsr.metrics.recall import rank
from clsr.systems.clsr import ClsrSystem, load_clsr

PASSAGES = {"transcripts": "cascade", "soft codes": "clsr-soft"}
QUESTIONS = ("typed", *PASSAGES)

Recalls = dict[tuple[str, str], float]


def recognise(system: ClsrSystem, utterances: list[Utterance]) -> list:
    """Recognise utterances."""
    return system.recognise([read_waveform(u.recording, u.start_s, u.end_s) for u in utterances])


@torch.inference_mode()
def measure(model: Path, path: Path) -> Recalls:
    """Return recall at 1, in percent, of each way to encode questions and each way to encode passages."""
    system, whole = load_clsr(model), read_retrieval_set(path)
    if whole.question_speech is None:
        raise InputError(f"{path}: its questions are not spoken: name a set of clsr data synthesize --speak-questions")
    question_ids = [question.id for question in whole.question_speech]
    of_questions, of_passages = recognise(system, whole.question_speech), recognise(system, whole.passages)
    passages = {name: system.encode(of_passages, row, "passage").numpy() for name, row in PASSAGES.items()}
    questions = {name: system.encode(of_questions, row, "question").numpy() for name, row in PASSAGES.items()}
    questions["typed"] = system.encode_text([whole.questions[id_] for id_ in question_ids], "question").numpy()
    found: Recalls = {}
    for of_question in QUESTIONS:
        for of_passage in PASSAGES:
            ranked = rank(
                questions[of_question],
                passages[of_passage],
                question_ids,
                [passage.id for passage in whole.passages],
                depth=1,
            )
            right = [whole.relevance[id_].get(hits[0][0], 0) > 0 for id_, hits in ranked.items()]
            found[of_question, of_passage] = 100 * float(np.mean(right))
    return found


def main() -> None:
    """Read the command line, measure every model, print a table a set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", type=Path, required=True, help="checkpoints, one a seed")
    parser.add_argument("--sets", nargs="+", type=Path, required=True, help="retrieval sets whose questions are spoken")
    args = parser.parse_args()
    try:
        print(f"| set | questions |{''.join(f' passages as {name} |' for name in PASSAGES)}")
        print(f"| --- | --- |{' ---: |' * len(PASSAGES)}")
        for path in args.sets:
            recalls = [measure(model, path) for model in args.models]
            for of_question in QUESTIONS:
                columns = [np.array([of[of_question, name] for of in recalls]) for name in PASSAGES]
                cells = [f"{values.mean():.1f} [{values.min():.1f}, {values.max():.1f}]" for values in columns]
                print(f"| {path} | {of_question} | {' | '.join(cells)} |", flush=True)
    except InputError as error:
        parser.exit(2, f"error: {error}\n")


if __name__ == "__main__":
    main()
