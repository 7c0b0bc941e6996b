"""Texts and speech in turn -> one sequence of the text encoder's input embeddings -> a unit vector."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from clsr.audio.waveform import say_once
from clsr.models.recogniser import MIN_PROBABILITY, batches
from clsr.models.text_encoder import TextEncoder, weighted_means
from clsr.padding import pad
from clsr.text.folder import Side
from clsr.vocabulary import join_words

JOINT_HYPOTHESES = round(1 / MIN_PROBABILITY)  # of an input at most, as of one utterance


class CodedSpeech(NamedTuple):
    """Speech as the text encoder reads it.

    Attributes:
        text: the transcript.
        hypotheses: probability and codes ``(U, D)`` of each length hypothesis, the likeliest first.
    """

    text: str
    hypotheses: list[tuple[float, Tensor]]


class PartsEncoding(NamedTuple):
    """Inputs of several parts as vectors, and in words."""

    vectors: np.ndarray  # (B, E) float32, unit rows
    texts: list[str]  # text parts, and transcripts of audio parts, in order


def encode_parts(
    text_encoder: TextEncoder,
    code: Callable[[Sequence[np.ndarray]], Sequence[str | CodedSpeech]],
    inputs: Sequence[Sequence[str | np.ndarray]],
    side: Side,
) -> PartsEncoding:
    """Encode inputs of parts, the speech of all of them recognised together.

    Args:
        text_encoder: of the system.
        code: turns 16 kHz waveforms ``(N_i,)`` into codes, or into transcripts.
        inputs: the parts of each: texts, and waveforms of speech.
        side: what the inputs stand for.
    """
    coded = code_parts(code, inputs)
    texts = [join_words(filter(None, map(_words, parts))) for parts in coded]
    return PartsEncoding(encode_interleaved(text_encoder, coded, side).numpy(), texts)


def code_parts(
    code: Callable[[Sequence[np.ndarray]], Sequence[str | CodedSpeech]], inputs: Sequence[Sequence[str | np.ndarray]]
) -> list[list[str | CodedSpeech]]:
    """Put codes or transcripts in the place of waveforms, those of all inputs recognised together.

    Args:
        code: turns 16 kHz waveforms ``(N_i,)`` into codes, or into transcripts.
        inputs: the parts of each: texts, and waveforms of speech.
    """
    waveforms = [part for parts in inputs for part in parts if isinstance(part, np.ndarray)]
    coded = iter(code(waveforms) if waveforms else [])
    return [[part if isinstance(part, str) else next(coded) for part in parts] for parts in inputs]


@torch.inference_mode()
def encode_interleaved(
    text_encoder: TextEncoder, inputs: Sequence[Sequence[str | CodedSpeech]], side: Side, seed: int | None = None
) -> Tensor:
    """Encode sequences of word embeddings and codes in the order of their parts: unit vectors ``(B, E)`` on the CPU.

    The text encoder's prompt, positions, opening and closing tokens are those of any text, so that an input of one text
    has the vector of that text, and an input of one utterance that of the utterance. Length hypotheses of several
    utterances are taken to be independent: the vector is the mean over the likeliest combinations of them.

    An input that is longer than the text encoder's positions has the mean vector of windows of equal length; one of a
    single part is cut, as any text is.

    Args:
        text_encoder: whose word embeddings and codes share a space.
        inputs: the parts of each.
        side: what the inputs stand for.
        seed: shuffles the rows of each input among the positions, which shows what their order is worth; by default
            they are in order.
    """
    rows: list[Tensor] = []
    weights: list[list[float]] = []
    for parts in inputs:
        weights.append([])
        for probability, hypothesis in _combinations(parts):
            parts_of = hypothesis if seed is None else [_shuffled(_embed(text_encoder, hypothesis), seed)]
            windows = _windows(text_encoder, parts_of, side)
            rows += windows
            weights[-1] += [probability / len(windows)] * len(windows)
    vectors = torch.empty(len(rows), text_encoder.width)
    for batch in batches([len(one) + 1 for one in rows]):
        padded, lengths = pad([rows[i] for i in batch])
        vectors[batch] = text_encoder(padded, lengths.to(padded.device)).float().cpu()
    return weighted_means(vectors, weights)


@torch.inference_mode()
def interleaved_token_vectors(
    text_encoder: TextEncoder, inputs: Sequence[Sequence[str | CodedSpeech]], side: Side
) -> list[Tensor]:
    """Return the text encoder's vector of each token of each input, in its context: unit rows ``(U, D)`` on the CPU.

    Speech has the codes of its likeliest hypothesis. An input that is longer than the text encoder's positions is read
    in windows of equal length.

    Args:
        text_encoder: whose word embeddings and codes share a space.
        inputs: the parts of each.
        side: what the inputs stand for.
    """
    most = text_encoder.max_tokens - len(text_encoder.token_ids(text_encoder.prompts.get(side, "")))
    rows = [_embed(text_encoder, _combinations(parts)[0][1]) for parts in inputs]
    windows = [one.tensor_split(max(1, -(-len(one) // most))) for one in rows]
    flat = [window for of_input in windows for window in of_input]
    vectors: list[Tensor] = [torch.empty(0)] * len(flat)
    for batch in batches([len(one) + 1 for one in flat]):
        padded, lengths = pad([flat[i] for i in batch])
        encoded = text_encoder.token_vectors(padded, lengths.to(padded.device), side).float().cpu()
        for i, of_window in zip(batch, encoded, strict=True):
            vectors[i] = of_window[: len(flat[i])]
    each = iter(vectors)
    return [torch.cat([next(each) for _ in of_input]) for of_input in windows]


def _shuffled(rows: Tensor, seed: int) -> Tensor:
    return rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed)).to(rows.device)]


def _words(part: str | CodedSpeech) -> str:
    return " ".join((part if isinstance(part, str) else part.text).split())


def _combinations(parts: Sequence[str | CodedSpeech]) -> list[tuple[float, list[str | Tensor]]]:
    """Return the likeliest combinations of the hypotheses of parts: probability, and texts or codes in order."""
    found: list[tuple[float, list[str | Tensor]]] = [(1.0, [])]
    for part in parts:
        options: Sequence[tuple[float, str | Tensor]] = [(1.0, part)] if isinstance(part, str) else part.hypotheses
        longer = [(before * p, [*rows, option]) for before, rows in found for p, option in options]
        found = sorted(longer, key=lambda one: -one[0])[:JOINT_HYPOTHESES]
    return [one for one in found if one[0] >= MIN_PROBABILITY * found[0][0]]


def _windows(text_encoder: TextEncoder, parts: Sequence[str | Tensor], side: Side) -> list[Tensor]:
    """Return the input embeddings of parts, prompt included: ``(R, D)``, or several windows where R is too large."""
    prompt, most = text_encoder.prompts.get(side, ""), text_encoder.max_tokens
    # A first text is split into pieces together with the prompt, as where it stands alone.
    with_prompt = [prompt + parts[0], *parts[1:]] if parts and isinstance(parts[0], str) else [prompt, *parts]
    whole = _embed(text_encoder, with_prompt)
    if len(whole) <= most or len(parts) == 1:
        return [whole[:most]]
    opening, rows = _embed(text_encoder, [prompt]), _embed(text_encoder, parts)
    count = -(-len(rows) // (most - len(opening)))
    say_once({"windows of parts": (
        f"an input of {len(whole)} tokens is longer than the {most} that the text encoder reads at once: its vector is "
        f"the mean of {count} windows (further inputs are not mentioned)"
    )})  # fmt: skip
    return [torch.cat([opening, window]) for window in rows.tensor_split(count)]


def _embed(text_encoder: TextEncoder, parts: Sequence[str | Tensor]) -> Tensor:
    """Look up the pieces of texts, and put codes between them: ``(R, D)``."""
    embeddings = text_encoder.word_embeddings
    rows = [text_encoder.embed_text(part) if isinstance(part, str) else part.to(embeddings) for part in parts]
    return torch.cat(rows)
