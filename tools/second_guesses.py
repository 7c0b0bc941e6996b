#!/usr/bin/env python3
"""Print a Markdown table of what soft codes can repair: how often the correct token is next where the best is wrong.

The best tokens of each passage are aligned with those of its reference transcript. Columns are means over models
(seeds) with the lowest and the highest: substitutions, and deletions with insertions, in percent of the reference
tokens; and the share of substitutions whose correct token is second, second or third, or among the best eight.
"""

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import jiwer
import numpy as np

from clsr.audio.waveform import read_waveform
from clsr.data.retrieval_set import read_retrieval_set
from clsr.errors import InputError
from clsr.models.paraformer import BEST
from clsr.models.speech_encoder import SpeechEncoder
from clsr.systems.clsr import load_clsr

DEPTHS = (2, 3, BEST)


def count(likely: Sequence[Sequence[int]], reference: Sequence[int]) -> Counter[str | int]:
    """Count reference tokens, substitutions, and deletions with insertions; and the ranks of the right tokens.

    Under each rank: the substitutions whose correct token has it.

    Args:
        likely: tokens of each position, best first.
        reference: tokens of the transcript, at least one.
    """
    counts: Counter[str | int] = Counter({"reference": len(reference)})
    if not likely:
        counts["deleted or inserted"] = len(reference)
        return counts
    aligned = jiwer.process_words(" ".join(map(str, reference)), " ".join(str(of_place[0]) for of_place in likely))
    counts["deleted or inserted"] = aligned.insertions + aligned.deletions
    for chunk in aligned.alignments[0]:
        if chunk.type == "substitute":
            for at, right in zip(
                range(chunk.hyp_start_idx, chunk.hyp_end_idx),
                reference[chunk.ref_start_idx : chunk.ref_end_idx],
                strict=True,
            ):
                counts["substituted"] += 1
                if right in likely[at]:
                    counts[list(likely[at]).index(right) + 1] += 1
    return counts


def shares(counts: Counter[str | int]) -> list[float]:
    """Percent of reference tokens substituted, and deleted or inserted; of substitutions, correct within each depth."""
    of_reference = [100 * counts[what] / counts["reference"] for what in ("substituted", "deleted or inserted")]
    substituted = max(1, counts["substituted"])
    return of_reference + [100 * sum(counts[rank] for rank in range(2, depth + 1)) / substituted for depth in DEPTHS]


def measure(model: Path, path: Path) -> list[float]:
    """The shares of a model on a set."""
    system = load_clsr(model)
    if not isinstance(system.encoder, SpeechEncoder):
        raise InputError(f"{model}: has no codes: name a model of clsr train-joint")
    passages = read_retrieval_set(path).passages
    recognised = system.recognise([read_waveform(u.recording, u.start_s, u.end_s) for u in passages])
    total: Counter[str | int] = Counter()
    for passage, recognition in zip(passages, recognised, strict=True):
        if reference := system.encoder.vocabulary.encode(passage.text or ""):
            total += count(recognition[0].tokens.tolist(), reference)
    if not total["reference"]:
        raise InputError(f"{path}: no passage has a transcript")
    return shares(total)


def main() -> None:
    """Read the command line and print a line for each set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", type=Path, required=True, help="checkpoints, one a seed")
    parser.add_argument("--sets", nargs="+", type=Path, required=True, help="retrieval sets")
    args = parser.parse_args()
    try:
        print(f"| set | substituted | deleted or inserted |{''.join(f' correct one within {n} |' for n in DEPTHS)}")
        print(f"| --- |{' ---: |' * (2 + len(DEPTHS))}")
        for path in args.sets:
            columns = np.array([measure(model, path) for model in args.models]).T
            cells = [f"{values.mean():.1f} [{values.min():.1f}, {values.max():.1f}]" for values in columns]
            print(f"| {path} | {' | '.join(cells)} |", flush=True)
    except InputError as error:
        parser.exit(2, f"error: {error}\n")


if __name__ == "__main__":
    main()
