#!/usr/bin/env python3
"""Print a Markdown table of how well a text encoder finds passages that a recogniser wrote: recall, and word errors.

For corpora that come as transcripts without recordings. Each line is a pair of fields of the JSONL, the question's and
the passage's; a row's question is answered by its own passage. Values are percent with the 95 % interval of a bootstrap
over questions; the last column is recall at 1 less that of the first line, of the same questions. With --written, the
error rates of the passages of the first column are against that field of another JSONL, over the ids that both have.
With --only, rows count whose id another JSONL has.
"""

import argparse
import json
from collections.abc import Collection, Sequence
from pathlib import Path

from clsr.config import OFFLINE_TEXT_ENCODER
from clsr.errors import InputError
from clsr.evaluation.scores import Retrieval, measure_recognition, measure_retrieval
from clsr.metrics.recall import Interval, paired_difference, rank
from clsr.models.text_encoder import TextEncoder, load_text_encoder
from clsr.vocabulary import fold_accents, normalise

METRICS = ("recall@1", "recall@5", "recall@10", "mrr@10")

Texts = dict[str, str]


def read_field(path: Path, field: str, wanted: Collection[str] | None = None) -> Texts:
    """A field of each line by the line's id, of those ids alone that are wanted.

    Raises:
        InputError: a line is no object with both as text, has no word there, or has an id that was there before.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; name a JSONL file with id and {field}")
    texts: Texts = {}
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            row = json.loads(line)
            id_, text = row["id"].strip(), row[field].strip()
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{path}:{number}: is no object with id and {field} as text; mend or remove it") from error
        if not normalise(text) or id_ in texts:
            raise InputError(
                f"{path}:{number}: {id_}: {field} has no word, or the id was there; mend or remove the line"
            )
        texts[id_] = text
    texts = {id_: text for id_, text in texts.items() if wanted is None or id_ in wanted}
    if not texts:
        raise InputError(f"{path}: has no line that is wanted; name a JSONL file with id and {field}")
    return texts


def find(text_encoder: TextEncoder, questions: Texts, passages: Texts) -> Retrieval:
    """Measure how questions find the passage of the same id among all, normalised as `clsr evaluate` does."""
    of_questions = text_encoder.encode(list(questions.values()), "question").numpy()
    of_passages = text_encoder.encode([normalise(text) for text in passages.values()], "passage").numpy()
    return measure_retrieval(
        rank(of_questions, of_passages, list(questions), list(passages)), {id_: {id_: 1} for id_ in questions}
    )


def error_rate(references: Texts, hypotheses: Texts) -> str:
    """The pooled rate of errors, in characters where there are no spaces between words, and of how many texts."""
    both = references.keys() & hypotheses.keys()
    if not both:
        return "–"
    pair = ({id_: fold_accents(texts[id_]) for id_ in both} for texts in (references, hypotheses))
    total = measure_recognition(*pair).total
    return f"{100 * total.value:.1f} ({len(both)})"


def percent(of: Interval, sign: str = "") -> str:
    """Value and interval in percent."""
    value, low, high = (format(100 * number, f"{sign}.1f") for number in of)
    return f"{value} [{low}, {high}]"


def table(file: Path, pairs: Sequence[str], text_encoder: str, written: str | None, only: Path | None = None) -> str:
    """The table; all files are read before the text encoder is."""
    wanted = None if only is None else read_field(only, "id").keys()
    fields = []
    for pair in pairs:
        question, colon, passage = pair.partition(":")
        if not (question and colon and passage):
            raise InputError(f"{pair}: is no pair of fields: write QUESTION:PASSAGE")
        fields.append((pair, read_field(file, question, wanted), read_field(file, passage, wanted)))
    place, _, field = (written or "").rpartition(":")
    truth = read_field(Path(place), field) if written else {}
    encoder = load_text_encoder(text_encoder)
    lines = [
        f"| texts | errors | {' | '.join(METRICS)} | recall@1 − first |",
        f"| --- |{' ---: |' * (len(METRICS) + 2)}",
    ]
    first = None
    for pair, questions, passages in fields:
        found = find(encoder, questions, passages)
        values = found.values("recall@1")
        less = "" if first is None else percent(paired_difference(values, first), "+")
        first = values if first is None else first
        means = " | ".join(percent(found.intervals[metric]) for metric in METRICS)
        lines.append(f"| `{pair}` | {error_rate(truth, passages)} | {means} | {less} |")
    return "\n".join(lines)


def main() -> None:
    """Read the command line and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help="JSONL of rows with an id and texts")
    parser.add_argument("pairs", nargs="+", metavar="QUESTION:PASSAGE", help="fields of a question and of a passage")
    parser.add_argument("--text-encoder", default=OFFLINE_TEXT_ENCODER, help="reference (the offline one)")
    parser.add_argument("--written", metavar="FILE:FIELD", help="reference texts of the passages: JSONL and field")
    parser.add_argument("--only", type=Path, metavar="FILE", help="JSONL that has the ids of the rows to take")
    args = parser.parse_args()
    try:
        print(table(args.file, args.pairs, args.text_encoder, args.written, args.only))
    except InputError as error:
        parser.exit(2, f"error: {error}\n")


if __name__ == "__main__":
    main()
