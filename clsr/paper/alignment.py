"""Which words of a question meet which of a passage, in CLSR and in ParaBGE (Figure 7 of the paper)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from clsr.audio.features import FRAME_S
from clsr.audio.waveform import read_waveform
from clsr.checkpoint import load_speech_encoder
from clsr.data.kaldi import Utterance
from clsr.data.retrieval_set import read_retrieval_set
from clsr.errors import InputError
from clsr.models.text_encoder import TextEncoder
from clsr.paper.drawing import image_format, new_figure, save_figure
from clsr.systems.parabge import load_parabge

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

_CELL_INCHES = 0.24


class Alignment(NamedTuple):
    """Cosine of each token of a passage with each of a question.

    Attributes:
        system: name of the system.
        question: pieces, ``V``.
        passage: recognised pieces, ``U``.
        similarity: ``(U, V)``, between -1 and 1.
    """

    system: str
    question: list[str]
    passage: list[str]
    similarity: np.ndarray


def align(model: Path, parabge: Path | None, data: Path, question_id: str) -> list[Alignment]:
    """Align a question with the passage that answers it best, by CLSR and, where given, by ParaBGE.

    Tokens of the question are those that the text encoder reads, in its context, a prompt for questions included but
    not shown. In CLSR a token of the passage is the same encoder's vector of a soft code, in the context of the others.
    ParaBGE has no tokens: its rows are speech frames projected into the text space, averaged over the time of each
    token that CLSR recognised, by which they are labelled.

    Args:
        model: checkpoint of CLSR.
        parabge: checkpoint of ParaBGE.
        data: retrieval set.
        question_id: of one of its questions.

    Raises:
        InputError: a checkpoint or the set is at fault, has no such question, or nothing is recognised in the passage.
    """
    question, passage = _find_pair(data, question_id)
    encoder = load_speech_encoder(model)
    waveform = read_waveform(passage.recording, passage.start_s, passage.end_s)
    hypothesis = encoder.recognise([waveform])[0][0]
    if not hypothesis.best:
        raise InputError(f"{data}: {passage.id}: no word is recognised in this passage: name another question")
    recognised = [encoder.vocabulary.pieces[token] for token in hypothesis.best]
    pieces, vectors = _question_vectors(encoder.text_encoder, question)
    tokens = encoder.token_vectors(hypothesis)  # as many as the text encoder takes
    found = [Alignment("CLSR", pieces, recognised[: len(tokens)], _cosines(tokens, vectors))]
    if parabge is not None:
        baseline, text_encoder = load_parabge(parabge)
        pieces, vectors = _question_vectors(text_encoder, question)
        frames = mean_by_token(_unit(baseline.frame_vectors(waveform)), hypothesis.times[: len(tokens)])
        found.append(Alignment("ParaBGE", pieces, recognised[: len(tokens)], _cosines(frames, vectors)))
    return found


def _find_pair(data: Path, question_id: str) -> tuple[str, Utterance]:
    """The text of a question and the passage of the highest relevance, of equals the first."""
    whole = read_retrieval_set(data)
    if question_id not in whole.questions:
        first = next(iter(whole.questions))
        raise InputError(f"{data}: no question {question_id!r}: name one of questions/text, {first} for instance")
    grades = whole.relevance[question_id]
    best = min(grades, key=lambda passage_id: (-grades[passage_id], passage_id))
    return whole.questions[question_id], next(passage for passage in whole.passages if passage.id == best)


@torch.no_grad()
def _question_vectors(text_encoder: TextEncoder, question: str) -> tuple[list[str], Tensor]:
    """The pieces of a question and their vectors, unit rows ``(V, E)``; a prompt is encoded but left out."""
    prompt = text_encoder.prompts.get("question", "")
    ids = text_encoder.token_ids(prompt + question)
    rows = text_encoder.word_embeddings[
        torch.tensor([ids], dtype=torch.long, device=text_encoder.word_embeddings.device)
    ]
    vectors = text_encoder.token_vectors(rows, torch.tensor([len(ids)], device=rows.device))[0].float().cpu()
    start = len(text_encoder.token_ids(prompt))
    return [text_encoder.tokenizer.id_to_token(i) or "" for i in ids[start : len(vectors)]], vectors[start:]


def mean_by_token(frames: Tensor, times: Sequence[tuple[float, float]]) -> Tensor:
    """Average frames over the time of each token: rows ``(T, E)`` of 60 ms each to ``(U, E)``.

    A frame belongs to a token whose span holds its middle; a token too short for any takes the frame in its middle.
    """
    middles = (torch.arange(len(frames)) + 0.5) * FRAME_S
    rows = []
    for start_s, end_s in times:
        inside = (middles >= start_s) & (middles < end_s)
        nearest = min(int((start_s + end_s) / 2 / FRAME_S), len(frames) - 1)
        rows.append(frames[inside].mean(0) if inside.any() else frames[nearest])
    return torch.stack(rows)


def _unit(rows: Tensor) -> Tensor:
    return nn.functional.normalize(rows, dim=1)


def _cosines(passage: Tensor, question: Tensor) -> np.ndarray:
    return (_unit(passage) @ question.T).numpy()


def draw_alignment(model: Path, parabge: Path | None, data: Path, question_id: str, output: Path) -> None:
    """Draw `align` as heat maps on one scale of colours, darker for more similar.

    Args:
        model: checkpoint of CLSR.
        parabge: checkpoint of ParaBGE, drawn beside it.
        data: retrieval set.
        question_id: of one of its questions.
        output: PNG or SVG file.

    Raises:
        InputError: as `align`, or the suffix is of no figure.
    """
    image_format(output)
    alignments = align(model, parabge, data, question_id)
    low = min(float(alignment.similarity.min()) for alignment in alignments)
    high = max(float(alignment.similarity.max()) for alignment in alignments)
    rows, columns = alignments[0].similarity.shape
    across = len(alignments) * max(2.4, 1.1 + _CELL_INCHES * columns) + 1
    figure = new_figure(across, max(2.8, 1.2 + _CELL_INCHES * rows))
    panels = figure.subplots(1, len(alignments), squeeze=False)[0]
    images = [_draw_map(panel, found, low, high) for panel, found in zip(panels, alignments)]
    panels[0].set_ylabel("passage, as recognised", fontsize=9)
    figure.colorbar(images[0], ax=list(panels), label="cosine similarity", fraction=0.05, aspect=30)
    save_figure(figure, output)


def _draw_map(axes: Axes, found: Alignment, low: float, high: float) -> AxesImage:
    """One heat map: the question across, the passage downwards."""
    image = axes.imshow(found.similarity, cmap="Blues", vmin=low, vmax=high, aspect="auto", interpolation="nearest")
    axes.set_xticks(range(len(found.question)), found.question, rotation=90, fontsize=8)
    axes.set_yticks(range(len(found.passage)), found.passage, fontsize=8)
    axes.tick_params(length=2)
    axes.set_xlabel("question", fontsize=9)
    axes.set_title(found.system, fontsize=10)
    return image
