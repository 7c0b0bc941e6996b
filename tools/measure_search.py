#!/usr/bin/env python3
"""Search an index for the questions of a set in each mode, and print how often the first hits hold the answer.

In a retrieval set, whose passages are recordings of the index, a right hit is of a relevant recording. In a
long-form set (clsr data lengthen), the window of a right hit holds at least half of the passage. There, the first hit
of the relevant recording is also compared with the spans of passage and answer: its window and its moment.

Then, how many of the right hits among the first ten are weak, and of how many questions all hits are: also of
questions that nothing in the index answers, if there are any.
"""

import argparse
import json
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from clsr.audio.pauses import Span
from clsr.corpora.long_recordings import QUESTIONS, LongQuestion, read_long_form
from clsr.data.retrieval_set import read_retrieval_set
from clsr.index.config import MODES, WINDOW_MODES
from clsr.index.filters import Filter
from clsr.metrics.recall import bootstrap, paired_difference
from clsr.search.hit import Hit
from clsr.search.query import EncodedQuery
from clsr.search.retriever import Retriever

DEPTHS = (1, 5, 10)
OTHERS = 300  # questions that nothing answers, drawn at random
IsRight = Callable[[int, Hit], bool]


def main() -> None:
    """Print the tables in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--index", type=Path, required=True, metavar="DIR")
    parser.add_argument("--set", type=Path, required=True, metavar="DIR", help="retrieval set or long-form set")
    parser.add_argument("--model", type=Path, metavar="DIR", help="the model, where it has moved")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="use every N-th question of a long-form set")
    parser.add_argument("--but-every", type=int, metavar="N", help="leave out what --every N uses, to tune on that")
    parser.add_argument("--others", type=Path, metavar="FILE", help="JSON lines with questions that nothing answers")
    options = parser.parse_args()
    retriever = Retriever.open(options.index, options.model)
    if (options.set / QUESTIONS).exists():
        questions = read_long_form(options.set)
        taken = set(range(0, len(questions), options.but_every)) if options.but_every else set()
        there = retriever.index.entries()
        questions = [
            question
            for i, question in enumerate(questions)
            if i % options.every == 0 and i not in taken and str(question.recording.resolve()) in there
        ]
        print(f"{len(questions)} questions about recordings of the index\n")
        queries = retriever.encode_many([question.text for question in questions])
        recall(retriever, queries, lambda i, hit: in_window(questions[i], hit))
        weakness(retriever, queries, lambda i, hit: in_window(questions[i], hit), options.others)
        print()
        spans(retriever, queries, questions)
    else:
        whole = read_retrieval_set(options.set)
        ids = {str(passage.recording.resolve()): passage.id for passage in whole.passages}
        right = [whole.relevance[question] for question in whole.questions]
        queries = retriever.encode_many(list(whole.questions.values()))
        recall(retriever, queries, lambda i, hit: ids[hit.recording] in right[i])
        weakness(retriever, queries, lambda i, hit: ids[hit.recording] in right[i], options.others)


def recall(retriever: Retriever, queries: Sequence[EncodedQuery], is_right: IsRight) -> None:
    """A row for each mode: share of questions with a right hit among the first k, and milliseconds a question.

    Shares have 95 % bootstrap intervals over questions. Then, what each mode has over ``dense`` at the first hit.
    """
    first: dict[str, np.ndarray] = {}
    print(f"| mode | {' | '.join(f'R@{k}' for k in DEPTHS)} | ms a question |\n| --- | ---: | ---: | ---: | ---: |")
    for mode in MODES if retriever.index.has_token_vectors else WINDOW_MODES:
        retriever.search(queries[0], 1, mode)  # opens files, and without a full-text index makes one
        start = time.perf_counter()
        found = retriever.search_many(queries, max(DEPTHS), mode)
        each_ms = 1000 * (time.perf_counter() - start) / len(queries)
        right = {k: np.array([any(is_right(i, h) for h in hits[:k]) for i, hits in enumerate(found)]) for k in DEPTHS}
        shares = (bootstrap(of_k.astype(float)) for of_k in right.values())
        cells = (f"{100 * s.value:.1f} [{100 * s.low:.1f}, {100 * s.high:.1f}]" for s in shares)
        print(f"| {mode} | {' | '.join(cells)} | {each_ms:.0f} |")
        first[mode] = right[1].astype(float)
    for mode in [mode for mode in first if mode != "dense"]:
        gain = paired_difference(first[mode], first["dense"])
        print(f"\n{mode} − dense, R@1: {100 * gain.value:+.1f} [{100 * gain.low:+.1f}, {100 * gain.high:+.1f}]")


def weakness(retriever: Retriever, queries: Sequence[EncodedQuery], is_right: IsRight, others: Path | None) -> None:
    """Print how many right hits are weak, and how many questions have only weak hits."""
    found = retriever.search_many(queries, max(DEPTHS))
    right = [hit.weak for i, hits in enumerate(found) for hit in hits if is_right(i, hit)]
    alone = [all(hit.weak for hit in hits) for hits in found]
    print(f"\nweak: {share(right)} right hits; all hits of {share(alone)} questions")
    if others:
        lines = [json.loads(line)["question"] for line in others.read_text(encoding="utf-8").splitlines()]
        chosen = random.Random(0).sample(lines, min(OTHERS, len(lines)))
        alone = [all(hit.weak for hit in hits) for hits in retriever.search_many(chosen, 1)]
        print(f"all hits of {share(alone)} questions of {others.name}")


def share(flags: Sequence[bool]) -> str:
    """How many are set, of how many."""
    return f"{sum(flags)} of {len(flags)} ({100 * np.mean(flags):.1f} %)"


def spans(retriever: Retriever, queries: Sequence[EncodedQuery], questions: Sequence[LongQuestion]) -> None:
    """Compare window and moment of the first hit in the relevant recording with passage and answer."""
    rows: dict[str, list[list[float]]] = {"window": [], "moment": []}
    for query, question in zip(queries, questions, strict=True):
        hit = retriever.search(query, 1, only=Filter(recordings=[question.recording]))[0]
        for name, span in (("window", (hit.window_start_s, hit.window_end_s)), ("moment", (hit.start_s, hit.end_s))):
            answer = question.answer_span or question.passage_span
            covered = common_s(span, answer) / (answer[1] - answer[0])
            rows[name].append([iou(span, question.passage_span), covered >= 0.999, covered >= 0.5, span[1] - span[0]])
    print("| first hit | time-IoU with the passage | answer inside, % | half of it inside, % | seconds |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, values in rows.items():
        overlap, inside, half, seconds = np.mean(values, axis=0)
        print(f"| {name} | {overlap:.3f} | {100 * inside:.1f} | {100 * half:.1f} | {seconds:.1f} |")


def in_window(question: LongQuestion, hit: Hit) -> bool:
    """Whether the window holds at least half of the relevant passage."""
    span = question.passage_span
    inside_s = common_s((hit.window_start_s, hit.window_end_s), span)
    return hit.recording == str(question.recording.resolve()) and inside_s >= (span[1] - span[0]) / 2


def common_s(one: Span, other: Span) -> float:
    """Seconds that both spans share."""
    return max(0.0, min(one[1], other[1]) - max(one[0], other[0]))


def iou(one: Span, other: Span) -> float:
    """Intersection over union of two spans."""
    both_s = common_s(one, other)
    return both_s / (one[1] - one[0] + other[1] - other[0] - both_s)


if __name__ == "__main__":
    main()
