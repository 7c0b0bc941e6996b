#!/usr/bin/env python
"""Compare codes of inference at equal weights: how many rows are mixed, how evenly, and vectors averaged.

Every row uses the same models, recognised speech and passage projections. Printed, for each set: Q-C recall at 1 and
at 10, means over the models (seeds), with the lowest and highest recall at 1, and by how much it is above that of the
two cascades.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize as unit

from clsr.audio.waveform import add_noise, read_waveform
from clsr.data.retrieval_set import RetrievalSet, read_retrieval_set
from clsr.metrics.recall import rank
from clsr.models.recogniser import LengthHypotheses
from clsr.models.speech_encoder import SpeechEncoder
from clsr.systems.clsr import load_clsr

CASCADE, EIGHT_BEST = "cascade", "cascade, 8 best"
ROWS_MIXED = (2, 3, 5, 8)
GAMMAS = (0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
AVERAGED = (1.0, 2.0, 4.0)

Recalls = dict[str, tuple[float, float]]


def vectors(
    encoder: SpeechEncoder, utterances: list[LengthHypotheses], n_best: Tensor, hard: Tensor
) -> Iterator[tuple[str, Tensor]]:
    """Yield what every row makes of recognised speech: unit vectors ``(B, E)`` before the passage projection."""
    yield CASCADE, hard
    yield EIGHT_BEST, n_best
    adaptor = encoder.paraformer.config.adaptor
    before, by_gamma = (adaptor.top_k, adaptor.gamma), {}
    for adaptor.top_k in ROWS_MIXED:
        for adaptor.gamma in GAMMAS:
            soft = encoder.embed(utterances)
            yield f"{adaptor.top_k} rows, gamma {adaptor.gamma:g}", soft
            by_gamma[adaptor.top_k, adaptor.gamma] = soft
    for adaptor.gamma in (gamma for gamma in AVERAGED if gamma not in GAMMAS):
        by_gamma[8, adaptor.gamma] = encoder.embed(utterances)
    adaptor.top_k, adaptor.gamma = before
    yield (
        f"8 rows, gamma {', '.join(f'{gamma:g}' for gamma in AVERAGED)} averaged",
        unit(sum(by_gamma[8, gamma] for gamma in AVERAGED), dim=1),
    )
    for key in ((3, 1.5), (8, 1.0), (8, 2.0)):
        yield f"{key[0]} rows, gamma {key[1]:g}, and the 8 best averaged", unit(by_gamma[key] + n_best, dim=1)


@torch.inference_mode()
def measure(model: Path, whole: RetrievalSet, snr_db: float | None) -> Recalls:
    """Return recall at 1 and at 10 of each row."""
    system = load_clsr(model)
    encoder = system.encoder
    assert isinstance(encoder, SpeechEncoder)
    draw, waveforms = np.random.default_rng(0), []
    for passage in whole.passages:
        waveform = read_waveform(passage.recording, passage.start_s, passage.end_s)
        if snr_db is not None:
            waveform = add_noise(waveform, draw.standard_normal(len(waveform), dtype=np.float32), snr_db)
        waveforms.append(waveform)
    recognised = system.recognise(waveforms)
    n_best, hard = (system.encode(recognised, row, "question") for row in ("cascade-8best", "cascade"))
    queries = system.encode_text(list(whole.questions.values()), "question").numpy()
    ids = [passage.id for passage in whole.passages]
    found: Recalls = {}
    for name, rows in vectors(encoder, recognised, n_best, hard):
        ranked = rank(queries, encoder.as_passages(rows).numpy(), list(whole.questions), ids, depth=10)
        right = np.array([[whole.relevance[q].get(hit[0], 0) > 0 for hit in hits] for q, hits in ranked.items()])
        found[name] = (float(right[:, 0].mean()) * 100, float(right.any(1).mean()) * 100)
    return found


def print_table(per_model: list[Recalls]) -> None:
    """Print mean, lowest and highest, in percent, and gains in points."""
    print("| codes | R@1 | above the cascade | above its 8 best | R@10 |\n| --- | ---: | ---: | ---: | ---: |")
    for name in per_model[0]:
        first, tenth = np.array([recalls[name] for recalls in per_model]).T
        gains = [np.mean([r[name][0] - r[other][0] for r in per_model]) for other in (CASCADE, EIGHT_BEST)]
        spread = f"{first.mean():.1f} [{first.min():.1f}, {first.max():.1f}]"
        print(f"| {name} | {spread} | {gains[0]:+.1f} | {gains[1]:+.1f} | {tenth.mean():.1f} |")


def main() -> None:
    """Read the command line, measure every model, print a table a set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", type=Path, required=True, help="checkpoints, one a seed")
    parser.add_argument("--sets", nargs="+", type=Path, required=True, help="retrieval sets")
    parser.add_argument("--snr-db", type=float, metavar="DB", help="add white noise to the passages at this ratio")
    args = parser.parse_args()
    for path in args.sets:
        whole = read_retrieval_set(path)
        noise = f", noise at {args.snr_db:g} dB" if args.snr_db is not None else ""
        print(f"\n{path}{noise}: {len(whole.questions)} questions, {len(args.models)} models\n")
        print_table([measure(model, whole, args.snr_db) for model in args.models])


if __name__ == "__main__":
    main()
