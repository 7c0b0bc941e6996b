"""Whisper (Radford et al. 2022, arXiv:2212.04356) by CTranslate2: windows in batches, word times, n-best lists."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from clsr.audio.log_mel import HOP_SAMPLES, log_mel
from clsr.audio.pauses import pieces
from clsr.audio.waveform import SAMPLE_RATE
from clsr.config import Precision
from clsr.errors import InputError
from clsr.extras import require
from clsr.models.attention import multiplies_tiles
from clsr.models.precision import lower_part
from clsr.models.recogniser import Recognition, word_confidences
from clsr.models.whisper import WhisperEncoder
from clsr.systems.whisper_folder import NO_TIMES, START, TRANSCRIBE, load_tokenizer, repeats_itself, token_words
from clsr.threads import start_pool
from clsr.vocabulary import join_words
from clsr.whisper.weights import read_whisper

if TYPE_CHECKING:
    from ctranslate2 import StorageView

LONGEST_S = 30.0  # that released models take
BATCH = 8  # pieces decoded together
MOST_THREADS = 4  # that decode, each a batch of its own
STEP_S = 0.02  # of the encoder
SILENT = 1e-4  # greatest sample of digital silence, dither included
NO_SPEECH, UNSURE = 0.6, -1.0  # Whisper's own: nobody speaks where no_speech is likelier, and tokens less likely
LEAST_PROBABILITY = 1e-10  # of a token, whose logarithm is taken
Found = TypeVar("Found")
COMPUTE_TYPES = {"int8": "int8", "float32": "float32", "bf16": "bfloat16"}


@dataclass(frozen=True)
class WhisperDecoding:
    """How a Whisper model is decoded.

    Args:
        beam_size: number of hypotheses kept at each token; 1 is greedy.
        language: code of the language spoken, such as en; by default a multilingual model detects it.
    """

    beam_size: int = 1
    language: str | None = None


class Decoded(NamedTuple):
    """One hypothesis of one piece."""

    token_ids: list[int]
    score: float  # by which a beam ranks: the log probability of tokens and end, divided by the number of tokens

    @property
    def log_probability(self) -> float:
        """The log probability of all tokens, the end included."""
        return self.score * max(1, len(self.token_ids))

    @property
    def confidence(self) -> float:
        """Mean log probability of a token, the end included."""
        return self.log_probability / (len(self.token_ids) + 1)


class TextHypothesis(NamedTuple):
    """One transcript of an n-best list."""

    text: str
    probability: float  # among those of its list


class _Piece(NamedTuple):
    """A part of a waveform that Whisper takes at once."""

    row: int  # of the waveform
    start_s: float
    waveform: np.ndarray


class _Aligned(NamedTuple):
    """The tokens of one piece in time."""

    times: list[tuple[float, float]]  # start and end in seconds
    log_probabilities: list[float]


class _Joined(NamedTuple):
    """One hypothesis of successive pieces."""

    score: float
    log_probability: float
    text: str


class WhisperRecogniser:
    """A Whisper model in CTranslate2's layout: transcripts, words with times, n-best lists.

    Waveforms longer than 30 s are cut in quiet moments. What one waveform gives does not depend on the others. Digital
    silence gives no text, nor does a piece in which the model itself says that nobody speaks; a piece whose transcript
    repeats itself is decoded again without repetitions.

    Args:
        folder: ``model.bin``, ``config.json``, ``vocabulary`` and ``tokenizer.json``.
        device: to compute on.
        precision: numbers to compute in; "auto" is int8 on a processor (with AMX, bfloat16 in the encoder), and float16
            elsewhere.
        decoding: beam and language.

    Raises:
        InputError: the folder is at fault, CTranslate2 is not installed, or the model does not know the language.
    """

    def __init__(
        self,
        folder: Path,
        device: str = "cpu",
        precision: Precision = "auto",
        decoding: WhisperDecoding = WhisperDecoding(),
    ) -> None:
        require("ctranslate2")
        self.tokenizer = load_tokenizer(folder)
        self.decoding = decoding
        self._threads = min(MOST_THREADS, torch.get_num_threads()) if device == "cpu" else 1
        self._model = _open(folder, device, precision, self._threads)
        self._longest_s = _longest_s(folder)
        tiles = device == "cpu" and precision == "auto" and self._longest_s == LONGEST_S and multiplies_tiles()
        self._encoder = _tile_encoder(folder) if tiles else None
        if decoding.language is not None:
            self._require_language(decoding.language, folder)

    def transcribe(self, waveforms: Sequence[np.ndarray]) -> list[Recognition]:
        """Transcribe 16 kHz waveforms ``(N_i,)`` with the times of tokens and words."""
        found: list[list[Recognition]] = [[] for _ in waveforms]
        for batch, recognised in self._in_threads(self._transcribe, waveforms):
            for piece, recognition in zip(batch, recognised, strict=True):
                found[piece.row].append(recognition)
        return [self._joined(of_one) for of_one in found]

    def _transcribe(self, batch: Sequence[_Piece]) -> list[Recognition]:
        frames, prompts = self._encode(batch)
        best = [hypotheses[0] for hypotheses in self._decode(batch, frames, prompts, 1)]
        return list(map(self._recognition, best, self._align(batch, frames, prompts, best)))

    def write(self, waveforms: Sequence[np.ndarray]) -> list[str]:
        """Transcribe 16 kHz waveforms ``(N_i,)``; without times, which take a second pass of the decoder."""
        return [hypotheses[0].text for hypotheses in self.n_best(waveforms, 1)]

    def n_best(self, waveforms: Sequence[np.ndarray], n: int) -> list[list[TextHypothesis]]:
        """Return the best transcripts of 16 kHz waveforms ``(N_i,)``, best first: at least one, at most ``n`` each.

        Args:
            waveforms: of any length; the hypotheses of a long one combine those of its pieces.
            n: at most the beam size.
        """
        found = [[_Joined(0.0, 0.0, "")] for _ in waveforms]

        def decode(batch: Sequence[_Piece]) -> list[list[Decoded]]:
            return self._decode(batch, *self._encode(batch), n)

        for batch, decoded_ones in self._in_threads(decode, waveforms):
            for piece, hypotheses in zip(batch, decoded_ones, strict=True):
                longer = [self._longer(before, decoded) for before in found[piece.row] for decoded in hypotheses]
                found[piece.row] = sorted(longer, key=lambda one: -one.score)[:n]
        return [_normalised(hypotheses) for hypotheses in found]

    def _longer(self, before: _Joined, decoded: Decoded) -> _Joined:
        text = join_words(filter(None, [before.text, self._text(decoded)]))
        return _Joined(before.score + decoded.score, before.log_probability + decoded.log_probability, text)

    def join(self, texts: Iterable[str]) -> str:
        """Join transcripts of successive pieces."""
        return join_words(texts)

    def _in_threads(
        self, work: Callable[[Sequence[_Piece]], Found], waveforms: Sequence[np.ndarray]
    ) -> Iterator[tuple[list[_Piece], Found]]:
        """Batches of pieces in order, and what threads make of them."""
        batches = list(self._batches(waveforms))
        with start_pool(self._threads) as pool:
            yield from zip(batches, pool.map(work, batches), strict=True)

    def _batches(self, waveforms: Sequence[np.ndarray]) -> Iterator[list[_Piece]]:
        """Pieces of waveforms in order, without digital silence; there are batches for all threads."""
        every = [
            _Piece(row, first / SAMPLE_RATE, piece)
            for row, waveform in enumerate(waveforms)
            for first, piece in pieces(waveform, self._longest_s)
            if np.abs(piece).max() > SILENT
        ]
        size = max(1, min(BATCH, -(-len(every) // self._threads)))
        for start in range(0, len(every), size):
            yield every[start : start + size]

    def _encode(self, batch: Sequence[_Piece]) -> tuple[StorageView, list[list[int]]]:
        """The encoder's output, and the prompt of each piece."""
        from ctranslate2 import StorageView

        samples = torch.zeros(len(batch), int(self._longest_s * SAMPLE_RATE))
        for row, piece in enumerate(batch):
            samples[row, : len(piece.waveform)] = torch.from_numpy(piece.waveform)
        spectra = log_mel(samples, self._model.n_mels)
        features = spectra.contiguous().numpy()
        if self._encoder is not None:
            frames = StorageView.from_array(np.concatenate([_encode_whole(self._encoder, one) for one in spectra]))
        elif self._model.device == "cpu":
            # One by one is faster: the attention of several does not fit the cache.
            alone = [np.asarray(self._model.encode(StorageView.from_array(one[None]))) for one in features]
            frames = StorageView.from_array(np.concatenate(alone))
        else:
            frames = self._model.encode(StorageView.from_array(features))
        return frames, [[*opening, self._id(NO_TIMES)] for opening in self._openings(frames, len(batch))]

    def _openings(self, frames: StorageView, count: int) -> list[list[int]]:
        """The first tokens of each piece: of a multilingual model, its language too."""
        if not self._model.is_multilingual:
            return [[self._id(START)]] * count
        if self.decoding.language is not None:
            languages = [f"<|{self.decoding.language}|>"] * count
        else:
            languages = [found[0][0] for found in self._model.detect_language(frames)]
        return [[self._id(START), self._id(language), self._id(TRANSCRIBE)] for language in languages]

    def _decode(
        self, batch: Sequence[_Piece], frames: StorageView, prompts: list[list[int]], n: int
    ) -> list[list[Decoded]]:
        """The best hypotheses of each piece; one without tokens where nobody speaks."""
        beam = max(self.decoding.beam_size, n)
        found = self._generate(frames, prompts, beam, n)
        repeating = [row for row, hypotheses in enumerate(found) if repeats_itself(self._text(hypotheses[0]))]
        if repeating:
            again, their_prompts = self._encode([batch[row] for row in repeating])
            for row, hypotheses in zip(repeating, self._generate(again, their_prompts, beam, n, 3), strict=True):
                found[row] = hypotheses
        return found

    def _generate(
        self, frames: StorageView, prompts: list[list[int]], beam: int, n: int, unrepeated: int = 0
    ) -> list[list[Decoded]]:
        results = self._model.generate(
            frames, prompts, beam_size=beam, num_hypotheses=n, return_scores=True, return_no_speech_prob=True,
            no_repeat_ngram_size=unrepeated,
        )  # fmt: skip
        return [_hypotheses(result) for result in results]

    def _align(
        self, batch: Sequence[_Piece], frames: StorageView, prompts: list[list[int]], best: Sequence[Decoded]
    ) -> list[_Aligned]:
        """Times of each token, by the decoder's attention to the frames, and its probability."""
        aligned = [_Aligned([], []) for _ in batch]
        for opening in {tuple(prompt[:-1]) for prompt in prompts}:
            rows = [row for row, prompt in enumerate(prompts) if tuple(prompt[:-1]) == opening and best[row].token_ids]
            if not rows:
                continue
            counts = [max(2, len(batch[row].waveform) // HOP_SAMPLES) for row in rows]
            found = self._model.align(_rows(frames, rows, len(batch)), list(opening),
                                      [best[row].token_ids for row in rows], counts)  # fmt: skip
            for row, alignment in zip(rows, found, strict=True):
                times = _token_times(alignment.alignments, len(best[row].token_ids), batch[row])
                probabilities = np.maximum(alignment.text_token_probs, LEAST_PROBABILITY)
                aligned[row] = _Aligned(times, np.log(probabilities).tolist())
        return aligned

    def _recognition(self, decoded: Decoded, aligned: _Aligned) -> Recognition:
        words = partial(token_words, self.tokenizer, decoded.token_ids)
        sure = word_confidences(words, aligned.log_probabilities)
        times = aligned.times
        return Recognition(self._text(decoded), decoded.token_ids, times, words(times), decoded.confidence, sure)

    def _joined(self, parts: Sequence[Recognition]) -> Recognition:
        parts = [part for part in parts if part.text]
        tokens = sum(len(part.token_ids) for part in parts)
        total = sum(part.confidence * len(part.token_ids) for part in parts)
        return Recognition(
            join_words(part.text for part in parts),
            [token_id for part in parts for token_id in part.token_ids],
            [span for part in parts for span in part.times],
            [word for part in parts for word in part.words],
            total / tokens if tokens else math.nan,
            [confidence for part in parts for confidence in part.word_confidences],
        )

    def _text(self, decoded: Decoded) -> str:
        return self.tokenizer.decode(decoded.token_ids).strip()

    def _id(self, token: str) -> int:
        found = self.tokenizer.token_to_id(token)
        if found is None:
            raise InputError(f"the tokenizer has no {token}: copy tokenizer.json of the released model")
        return found

    def _require_language(self, language: str, folder: Path) -> None:
        known = self.tokenizer.token_to_id(f"<|{language}|>") is not None
        if not (known if self._model.is_multilingual else language == "en"):
            raise InputError(f"{folder}: does not know the language {language!r}; give a code such as en")


def _open(folder: Path, device: str, precision: Precision, threads: int) -> Any:
    """Open the network.

    Raises:
        InputError: it cannot be read, CTranslate2 is not installed, or there is no such device.
    """
    if not (folder / "config.json").is_file():  # CTranslate2 opens the model, and fails at the first waveform
        raise InputError(f"{folder / 'config.json'}: missing: copy config.json of the released model into the folder")
    from ctranslate2.models import Whisper

    kind, _, number = device.partition(":")
    compute_type = COMPUTE_TYPES.get(precision, "int8" if kind == "cpu" else "float16")
    try:
        return Whisper(str(folder), kind, device_index=int(number or 0), compute_type=compute_type,
                       inter_threads=threads, intra_threads=torch.get_num_threads())  # fmt: skip
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{folder}: not a readable model ({reason}): fetch or convert it again") from error


def _tile_encoder(folder: Path) -> WhisperEncoder | None:
    """Whisper's encoder in bfloat16 by torch, for processors that multiply tiles: CTranslate2 multiplies vectors.

    None where the folder has no weights but those of 8 bits.
    """
    try:
        weights = read_whisper(folder)
    except InputError:
        return None
    encoder = WhisperEncoder(weights.config).eval().requires_grad_(False)
    encoder.load_state_dict(weights.encoder)
    return lower_part(encoder, "bf16", torch.device("cpu"))


@torch.inference_mode()
def _encode_whole(encoder: WhisperEncoder, spectrum: Tensor) -> np.ndarray:
    """Encode a log-mel spectrum ``(bins, 2 * T)`` of the length that Whisper takes: ``(1, T, D)``."""
    frames = encoder.embed(spectrum[None].to(encoder.after_norm.weight.dtype))
    lengths = torch.tensor([frames.shape[1]])
    return encoder.after_norm(encoder.run(frames, lengths, 0, len(encoder.layers))).float().numpy()


def _longest_s(folder: Path) -> float:
    """Seconds that the encoder takes, which a model trained here may have fewer of."""
    path = folder / "preprocessor_config.json"
    try:
        return float(json.loads(path.read_text(encoding="utf-8"))["chunk_length"])
    except (OSError, ValueError, TypeError, KeyError):  # CTranslate2 needs no such file
        return LONGEST_S


def _hypotheses(result: Any) -> list[Decoded]:
    """Hypotheses of one piece from CTranslate2, whose scores are divided by the number of tokens."""
    found = [Decoded(ids, score) for ids, score in zip(result.sequences_ids, result.scores, strict=True)]
    if result.no_speech_prob > NO_SPEECH and found[0].confidence < UNSURE:
        return [Decoded([], 0.0)]
    return found


def _token_times(alignment: Sequence[tuple[int, int]], tokens: int, piece: _Piece) -> list[tuple[float, float]]:
    """Start and end of each token, from the frames that the alignment gives tokens and the end of text."""
    first: dict[int, int] = {}
    for token, frame in alignment:
        first.setdefault(token, frame)
    length_s = len(piece.waveform) / SAMPLE_RATE
    edges = [min(first.get(token, math.inf) * STEP_S, length_s) for token in range(tokens + 1)]
    return [(piece.start_s + a, piece.start_s + max(a, b)) for a, b in pairwise(edges)]


def _rows(frames: StorageView, rows: Sequence[int], count: int) -> StorageView:
    """Some rows of the encoder's output ``(B, T, D)``."""
    from ctranslate2 import StorageView

    if len(rows) == count:
        return frames
    return StorageView.from_array(np.ascontiguousarray(np.asarray(frames)[list(rows)]))


def _normalised(hypotheses: Sequence[_Joined]) -> list[TextHypothesis]:
    """Hypotheses with their probabilities among themselves; equal texts are one."""
    totals = np.array([hypothesis.log_probability for hypothesis in hypotheses])
    weights = np.exp(totals - totals.max())
    probabilities: dict[str, float] = {}
    for hypothesis, weight in zip(hypotheses, weights / weights.sum(), strict=True):
        probabilities[hypothesis.text] = probabilities.get(hypothesis.text, 0.0) + float(weight)
    return [TextHypothesis(text, probability) for text, probability in probabilities.items()]
