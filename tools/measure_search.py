#!/usr/bin/env python3
"""Put the questions of a set to an index in each mode, and say how often the answer is among the first hits.

Of a retrieval set, whose passages are recordings of the index, the hit's recording has to be one that answers. Of a
long-form set (clsr data lengthen) at least half of the passage has to lie in the hit's window; the first hit of the
recording that answers is then also held against where the passage and the answer lie, whole and tightened.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from clsr.audio.pauses import Span
from clsr.corpora.long_recordings import QUESTIONS, LongQuestion, read_long_form
from clsr.data.retrieval_set import read_retrieval_set
from clsr.index.config import MODES
from clsr.index.filters import Filter
from clsr.search.hit import Hit
from clsr.search.query import EncodedQuery
from clsr.search.retriever import Retriever

DEPTHS = (1, 5, 10)
IsRight = Callable[[int, Hit], bool]


def main() -> None:
    """Print the tables in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--index", type=Path, required=True, metavar="DIR")
    parser.add_argument("--set", type=Path, required=True, metavar="DIR", help="retrieval set or long-form set")
    parser.add_argument("--model", type=Path, metavar="DIR", help="the model, if it was moved")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="of a long-form set, each N-th question")
    options = parser.parse_args()
    retriever = Retriever.open(options.index, options.model)
    if (options.set / QUESTIONS).exists():
        questions = read_long_form(options.set)[:: options.every]
        queries = retriever.encode_many([question.text for question in questions])
        recall(retriever, queries, lambda i, hit: in_window(questions[i], hit))
        print()
        spans(retriever, queries, questions)
    else:
        whole = read_retrieval_set(options.set)
        ids = {str(passage.recording.resolve()): passage.id for passage in whole.passages}
        right = [whole.relevance[question] for question in whole.questions]
        queries = retriever.encode_many(list(whole.questions.values()))
        recall(retriever, queries, lambda i, hit: ids[hit.recording] in right[i])


def recall(retriever: Retriever, queries: Sequence[EncodedQuery], is_right: IsRight) -> None:
    """A row for each mode: share of questions with a right hit among the first k, and milliseconds a question."""
    print(f"| mode | {' | '.join(f'R@{k}' for k in DEPTHS)} | ms a question |\n| --- | ---: | ---: | ---: | ---: |")
    for mode in MODES:
        retriever.search(queries[0], 1, mode)  # opens files, and without a full-text index makes one
        start = time.perf_counter()
        found = retriever.search_many(queries, max(DEPTHS), mode)
        each_ms = 1000 * (time.perf_counter() - start) / len(queries)
        shares = [np.mean([any(is_right(i, h) for h in hits[:k]) for i, hits in enumerate(found)]) for k in DEPTHS]
        print(f"| {mode} | {' | '.join(f'{100 * share:.1f}' for share in shares)} | {each_ms:.0f} |")


def spans(retriever: Retriever, queries: Sequence[EncodedQuery], questions: Sequence[LongQuestion]) -> None:
    """The window and the moment of the first hit in the recording that answers, against passage and answer."""
    rows: dict[str, list[list[float]]] = {"window": [], "moment": []}
    for query, question in zip(queries, questions, strict=True):
        hit = retriever.search(query, 1, only=Filter(recordings=[question.recording]))[0]
        for name, span in (("window", (hit.window_start_s, hit.window_end_s)), ("moment", (hit.start_s, hit.end_s))):
            answer = question.answer_span or question.passage_span
            held = common_s(span, answer) / (answer[1] - answer[0])
            rows[name].append([iou(span, question.passage_span), held >= 0.999, held >= 0.5, span[1] - span[0]])
    print("| first hit | time-IoU with the passage | answer inside, % | half of it inside, % | seconds |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, values in rows.items():
        overlap, inside, half, seconds = np.mean(values, axis=0)
        print(f"| {name} | {overlap:.3f} | {100 * inside:.1f} | {100 * half:.1f} | {seconds:.1f} |")


def in_window(question: LongQuestion, hit: Hit) -> bool:
    """Whether at least half of the passage that answers lies in the window."""
    span = question.passage_span
    inside_s = common_s((hit.window_start_s, hit.window_end_s), span)
    return hit.recording == str(question.recording.resolve()) and inside_s >= (span[1] - span[0]) / 2


def common_s(one: Span, other: Span) -> float:
    """Seconds that lie in both."""
    return max(0.0, min(one[1], other[1]) - max(one[0], other[0]))


def iou(one: Span, other: Span) -> float:
    """Seconds that lie in both over seconds that lie in either."""
    both_s = common_s(one, other)
    return both_s / (one[1] - one[0] + other[1] - other[0] - both_s)


if __name__ == "__main__":
    main()
