#!/usr/bin/env python3
"""Measure what shorter sequences of codes, and shorter vectors, cost in recall.

tools/measure_compression.py --set data/test --model exp/seed0/asr exp/seed1/asr exp/seed2/asr

Each model recognises the passages once. Its soft codes are averaged in groups before the text encoder; the vectors of
passages and questions are cut to their first numbers and scaled to norm 1. Printed are the means over the models, with
95 % bootstrap intervals over questions.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from clsr.audio.waveform import read_waveform
from clsr.checkpoint import load_speech_encoder
from clsr.data.retrieval_set import RetrievalSet, read_retrieval_set
from clsr.errors import InputError
from clsr.metrics.recall import bootstrap, paired_difference, per_query, rank
from clsr.models.recogniser import LengthHypotheses
from clsr.models.speech_encoder import SpeechEncoder

POOLING, DIMENSIONS = (1, 2, 4, 8), (256, 128, 64, 32)
READ_AT_ONCE = 64  # recordings in memory


class Compressed(NamedTuple):
    """What one setting gives."""

    tokens: float  # of a passage, on average, before the text encoder
    dimensions: int  # of a vector
    first: np.ndarray  # recall@1 of each question, (Q,)


def main() -> None:
    """Print the table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", type=Path, required=True, metavar="DIR", help="retrieval set")
    parser.add_argument("--model", type=Path, required=True, nargs="+", metavar="DIR", help="checkpoints, by seed")
    options = parser.parse_args()
    data = read_retrieval_set(options.set)
    print_table([measure(load_speech_encoder(model), data) for model in options.model])


def measure(encoder: SpeechEncoder, data: RetrievalSet) -> dict[str, Compressed]:
    """Recognise the passages of a set, and rank them under each setting, by its name."""
    utterances: list[LengthHypotheses] = []
    for start in range(0, len(data.passages), READ_AT_ONCE):
        chunk = data.passages[start : start + READ_AT_ONCE]
        utterances += encoder.recognise([read_waveform(u.recording, u.start_s, u.end_s) for u in chunk])
    whole = encoder.text_encoder.width
    settings = {f"--code-pooling {factor}": (factor, whole) for factor in POOLING}
    settings |= {f"--dimensions {size}": (1, size) for size in DIMENSIONS if size < whole}
    found = {name: rank_first(encoder, utterances, data, *setting) for name, setting in settings.items()}
    encoder.code_pooling, encoder.text_encoder.dimensions = 1, None
    return found


def rank_first(
    encoder: SpeechEncoder, utterances: Sequence[LengthHypotheses], data: RetrievalSet, factor: int, size: int
) -> Compressed:
    """Rank the passages for each question, codes averaged in groups of ``factor`` and vectors ``size`` long."""
    if encoder.passage_projection is not None and size < encoder.text_encoder.width:
        raise InputError("the model has a passage projection, which takes whole vectors: measure one without it")
    encoder.code_pooling, encoder.text_encoder.dimensions = factor, size
    passages = encoder.as_passages(encoder.embed(utterances)).numpy()
    questions = encoder.text_encoder.encode(list(data.questions.values()), "question").numpy()
    rankings = rank(questions, passages, list(data.questions), [passage.id for passage in data.passages])
    tokens = [len(coded.hypotheses[0][1]) for coded in encoder.code(utterances, "hard")]
    return Compressed(float(np.mean(tokens)), size, per_query(rankings, data.relevance)["recall@1"])


def print_table(models: Sequence[dict[str, Compressed]]) -> None:
    """A row for each setting: tokens, bytes of a vector, R@1, and what it has over the first setting."""
    print(
        "| setting | tokens a passage | bytes a vector | R@1 | against the first row |\n"
        "| --- | ---: | ---: | ---: | ---: |"
    )
    base = np.mean([next(iter(found.values())).first for found in models], axis=0)
    for name, one in models[0].items():
        first = np.mean([found[name].first for found in models], axis=0)
        tokens = np.mean([found[name].tokens for found in models])
        share, gain = bootstrap(first), paired_difference(first, base)
        print(
            f"| `{name}` | {tokens:.1f} | {4 * one.dimensions:,} | "
            f"{100 * share.value:.1f} [{100 * share.low:.1f}, {100 * share.high:.1f}] | "
            f"{100 * gain.value:+.1f} [{100 * gain.low:+.1f}, {100 * gain.high:+.1f}] |"
        )


if __name__ == "__main__":
    main()
