#!/usr/bin/env python
"""Compare ways to choose the token count of the same models; prints a Markdown table over models.

Every row uses the same recogniser and text encoder. The columns: word error rate, utterances with a wrong token count,
and Q-C recall at 1 of hard and of soft codes, each a mean over the models (seeds) with the lowest and highest.
"""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize as unit

from clsr.audio.features import fbank, stack_frames
from clsr.audio.waveform import read_waveform
from clsr.checkpoint import load_speech_encoder
from clsr.data.kaldi import Utterance
from clsr.data.retrieval_set import RetrievalSet, read_retrieval_set
from clsr.metrics.recall import rank
from clsr.metrics.word_errors import pool, word_errors
from clsr.models.adaptor import best_codes
from clsr.models.cif import ROUNDING, integrate_and_fire, scale_to
from clsr.models.speech_encoder import SpeechEncoder
from clsr.padding import length_mask, pad
from clsr.vocabulary import BLANK, UNKNOWN, fold_accents

BATCH = 24  # utterances
OFFSETS = (0, -1, 1, -2, 2)
THRESHOLDS = (1.0, 0.95, 1.05)


class Decoding(NamedTuple):
    """One way to decode a batch: a number of tokens for each utterance."""

    tokens: Tensor  # (B, U) best tokens
    lengths: Tensor  # (B,)
    score: Tensor  # (B,) mean log probability of the best tokens
    hard: Tensor  # (B, E) unit vectors
    soft: Tensor
    masked: Tensor  # of soft codes that give way to [MASK] as far as the best three tokens leave doubt


class Outcome(NamedTuple):
    """What a row makes of a set: transcripts, numbers of tokens, vectors."""

    texts: list[str]
    right: list[bool]
    hard: list[Tensor]
    soft: list[Tensor]


Figures = dict[str, tuple[float, float, float, float]]


class DecodedBatch:
    """A batch of speech, to be decoded with any numbers of tokens."""

    def __init__(self, encoder: SpeechEncoder, utterances: list[Utterance]):
        self.encoder = encoder
        self.model = encoder.paraformer
        features, lengths = pad(
            [stack_frames(fbank(read_waveform(u.recording, u.start_s, u.end_s))) for u in utterances]
        )
        self.frames, self.mask = self.model.encoder(self.model.cmvn(features), lengths)
        self.weights = self.model.predictor(self.frames, self.mask)
        self.quantities = self.weights.sum(1)

    def ctc_count(self) -> Tensor:
        """Count what the best path of an auxiliary CTC of pieces says, ``(B,)``: repeats and blanks left out."""
        assert self.model.ctc is not None
        upsampling = self.model.ctc.upsampling
        path = self.model.ctc(self.frames).argmax(2) * self.mask.repeat_interleave(upsampling, dim=1)
        before = torch.nn.functional.pad(path, (1, 0))[:, :-1]
        return ((path != BLANK) & (path != before)).sum(1).float()

    def decode(self, numbers: Tensor) -> Decoding:
        """Decode with so many tokens each, one at least."""
        tokens, lengths = integrate_and_fire(self.frames, scale_to(self.weights, numbers.clamp(min=1)))
        mask = length_mask(lengths)
        logits = self.model.decoder(tokens, mask, self.frames, self.mask)
        logits[..., : UNKNOWN + 1] = -torch.inf
        best = logits.log_softmax(2).max(2)
        text, adaptor = self.encoder.text_encoder, self.model.config.adaptor
        codebook = text.word_embeddings[self.encoder.vocabulary.text_ids]
        likely = logits.log_softmax(2).topk(max(3, self.model.config.adaptor.top_k))
        codes = best_codes(likely.indices, likely.values, codebook, adaptor, adaptor.top_k)
        sure = likely.values[..., :3].exp().sum(2, keepdim=True)
        blank = text.word_embeddings[text.tokenizer.token_to_id("[MASK]")]
        return Decoding(
            best.indices, lengths, (best.values * mask).sum(1) / lengths,
            text(codebook[best.indices], lengths), text(codes, lengths),
            text(sure * codes + (1 - sure) * blank, lengths),
        )  # fmt: skip


def chosen(ways: list[Decoding], which: Tensor, soft: Tensor) -> Decoding:
    """For each utterance one of several ways, with its own or another soft vector."""
    picked = [ways[int(n)] for n in which]
    rows = [(way.tokens[i], way.lengths[i], way.score[i], way.hard[i]) for i, way in enumerate(picked)]
    tokens, lengths, scores, hard = zip(*rows, strict=True)
    return Decoding(pad(list(tokens))[0], torch.stack(lengths), torch.stack(scores), torch.stack(hard), soft, soft)


def ideas(decoded: DecodedBatch, truth: Tensor) -> Iterator[tuple[str, Decoding]]:
    """Every row of the table for a batch."""
    rounded = decoded.quantities.round().clamp(min=1)
    ways = [decoded.decode(rounded + offset) for offset in OFFSETS]
    yield "rounded", ways[0]
    yield (
        "with a tail of 0.45, rounded down (FunASR)",
        decoded.decode((decoded.quantities + 0.45 + ROUNDING).floor()),
    )
    scores = torch.stack([rounded * w.score - (w.lengths - decoded.quantities) ** 2 / 2 for w in ways])
    soft = torch.stack([way.soft for way in ways])
    index = torch.arange(len(rounded))
    for margin, count in ((1, 3), (2, 5)):
        best, shares = scores[:count].argmax(0), scores[:count].softmax(0)
        yield f"the likeliest within {margin}", chosen(ways, best, soft[best, index])
        mean = unit((shares[:, :, None] * soft[:count]).sum(0), dim=1)
        yield f"the likeliest within {margin}, vectors averaged by probability", chosen(ways, best, mean)
    even = unit(soft[:3].sum(0), dim=1)
    yield "rounded, vectors of three counts averaged evenly", chosen(ways, torch.zeros_like(rounded), even)
    thresholds = [decoded.decode((decoded.quantities / threshold).round()) for threshold in THRESHOLDS]
    even = unit(torch.stack([way.soft for way in thresholds]).sum(0), dim=1)
    yield "rounded, vectors of three thresholds averaged evenly", chosen(ways, torch.zeros_like(rounded), even)
    yield "rounded, unlikely tokens faded into [MASK]", ways[0]._replace(soft=ways[0].masked)
    if decoded.model.ctc is not None:
        yield "that of the best CTC path", decoded.decode(decoded.ctc_count())
    yield "the true count", decoded.decode(truth)


@torch.inference_mode()
def outcomes(encoder: SpeechEncoder, passages: list[Utterance]) -> dict[str, Outcome]:
    """Collect what every row makes of all passages."""
    found: dict[str, Outcome] = {}
    for start in range(0, len(passages), BATCH):
        batch = passages[start : start + BATCH]
        truth = torch.tensor([len(encoder.vocabulary.encode(u.text or "")) for u in batch])
        for name, decoding in ideas(DecodedBatch(encoder, batch), truth):
            row = found.setdefault(name, Outcome([], [], [], []))
            lengths = decoding.lengths.tolist()
            row.texts.extend(
                encoder.vocabulary.decode(t[:n].tolist()) for t, n in zip(decoding.tokens, lengths, strict=True)
            )
            row.right.extend((decoding.lengths == truth).tolist())
            row.hard.extend(decoding.hard)
            row.soft.extend(decoding.soft)
    return found


def measure(encoder: SpeechEncoder, whole: RetrievalSet) -> Figures:
    """Return word error rate, share of wrong token counts, and recall at 1 of hard and soft codes, by row."""
    questions = encoder.text_encoder.encode(list(whole.questions.values()), "question").numpy()
    references = [fold_accents(u.text or "") for u in whole.passages]

    def recall(vectors: list[Tensor]) -> float:
        ids = [u.id for u in whole.passages]
        found = rank(questions, torch.stack(vectors).numpy(), list(whole.questions), ids, depth=1)
        return float(np.mean([whole.relevance[question].get(hits[0][0], 0) > 0 for question, hits in found.items()]))

    figures = {}
    for name, row in outcomes(encoder, whole.passages).items():
        wer = pool(word_errors(r, h) for r, h in zip(references, row.texts, strict=True)).value
        figures[name] = (wer, 1 - float(np.mean(row.right)), recall(row.hard), recall(row.soft))
    return figures


def table(per_model: list[Figures], write: Callable[[str], None]) -> None:
    """Write mean, lowest and highest of each figure, in percent."""
    write("| token count | WER | wrong counts | R@1, hard | R@1, soft |\n| --- | ---: | ---: | ---: | ---: |")
    for name in per_model[0]:
        columns = np.array([figures[name] for figures in per_model]).T * 100
        cells = [f"{column.mean():.1f} [{column.min():.1f}, {column.max():.1f}]" for column in columns]
        write(f"| {name} | {' | '.join(cells)} |")


def main() -> None:
    """Read the command line, measure every model, print a table a set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", type=Path, required=True, help="checkpoints, one a seed")
    parser.add_argument("--sets", nargs="+", type=Path, required=True, help="retrieval sets")
    args = parser.parse_args()
    for path in args.sets:
        whole = read_retrieval_set(path)
        print(
            f"\n{path}: {len(whole.questions)} questions, {len(whole.passages)} passages, {len(args.models)} models\n"
        )
        table([measure(load_speech_encoder(model), whole) for model in args.models], print)


if __name__ == "__main__":
    main()
