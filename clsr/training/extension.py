"""A checkpoint to start from and a corpus with other words: what its output layer lacks, and rows for that."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from clsr.vocabulary import UNKNOWN, Vocabulary, normalise

log = logging.getLogger("clsr")


def missing_pieces(texts: Iterable[str], vocabulary: Vocabulary) -> tuple[Counter[str], int]:
    """Count the pieces of texts that the output layer lacks, each as often as it occurs, and the pieces in all.

    Pieces that the text encoder itself does not know are not counted as missing: no output layer can have them.
    """
    tokenizer, known = vocabulary.tokenizer, set(vocabulary.pieces)
    counts = Counter(
        piece for text in texts for piece in tokenizer.encode(normalise(text), add_special_tokens=False).tokens
    )
    return Counter({piece: count for piece, count in counts.items() if piece not in known}), counts.total()


def extended(vocabulary: Vocabulary, missing: Counter[str]) -> Vocabulary:
    """Return the vocabulary with the missing pieces behind its own, the most frequent first."""
    new = sorted(missing, key=lambda piece: (-missing[piece], piece))
    return Vocabulary([*vocabulary.pieces, *new], vocabulary.tokenizer)


def say_what_is_missing(missing: Counter[str], pieces: int, extend: bool, source: object) -> None:
    """Tell, before hours of training, what the output layer of a start cannot write."""
    if not missing:
        return
    often = ", ".join(piece for piece, _ in missing.most_common(5))
    share = 100 * missing.total() / pieces
    log.warning(
        "%s: its output layer lacks %d pieces of the training transcripts, %.1f %% of what is said (%s): %s",
        source, len(missing), share, often,
        "they are added" if extend else "they will never be recognised; add them with --vocabulary extend",
    )  # fmt: skip


def add_rows(weights: Mapping[str, Tensor], pieces: int, units: Sequence[str], upsampling: int) -> dict[str, Tensor]:
    """Lengthen output layers, the auxiliary CTC's too; each new row is the mean of the rows that stand for something.

    A mean row takes little probability from any piece, so that the model at first recognises what it did before.

    Args:
        weights: of a recogniser; rows of ``decoder.output_layer`` are kept, ``(V, D)`` and ``(V,)``.
        pieces: rows of the output layer afterwards.
        units: what the CTC predicts afterwards.
        upsampling: predictions that the CTC makes a frame: its rows are so many times the units.
    """
    longer = dict(weights)
    for name in ("decoder.output_layer.weight", "decoder.output_layer.bias"):
        longer[name] = _longer(weights[name][None], pieces, UNKNOWN + 1)[0]
    if units:
        for name in ("ctc.ctc_lo.weight", "ctc.ctc_lo.bias"):
            rows = weights[name].unflatten(0, (upsampling, -1))
            longer[name] = _longer(rows, len(units), 1).flatten(0, 1)  # the blank alone stands for nothing
    return longer


def _longer(rows: Tensor, count: int, first: int) -> Tensor:
    """Rows ``(S, V, ...)`` with means of those from ``first`` on added behind, ``count`` in all."""
    mean = rows[:, first:].mean(1, keepdim=True)
    return torch.cat([rows, mean.expand(-1, count - rows.shape[1], *rows.shape[2:])], dim=1)
