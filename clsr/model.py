"""clsr from Python: load a model, make recordings searchable, ask; or take its vectors and transcripts.

::

    model = Model.load("exp/joint")
    retriever = model.index(["recordings/"], "my-index")
    print(*retriever.search("who sold the old horse?"), sep="\\n")
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, overload

import numpy as np

from clsr.audio.waveform import SAMPLE_RATE, duration_s, read_waveform
from clsr.config import Precision
from clsr.data.kaldi import Utterance
from clsr.errors import InputError
from clsr.index.config import IndexConfig
from clsr.index.index import index_recordings
from clsr.search.retriever import Retriever
from clsr.transcribe import PIECE_S, Transcript, transcribe_one, transcribe_waveforms

if TYPE_CHECKING:
    from clsr.models.speech_encoder import Codes, SpeechEncoder

LONGEST_S = 60.0  # of speech that becomes one vector: attention grows with its square, and a sentence is lost in more
BATCH = 8  # utterances held in memory and encoded at once

Audio = str | Path | np.ndarray
"""A file, or a waveform ``(N,)`` at 16 kHz."""

Side = Literal["passage", "question"]

_log = logging.getLogger("clsr")


class Model:
    """A trained CLSR model: speech and text to vectors of one space, speech to text, recordings to an index.

    Args:
        speech_encoder: the network.
        folder: its checkpoint folder, which an index remembers.
    """

    def __init__(self, speech_encoder: SpeechEncoder, folder: Path) -> None:
        self.speech_encoder = speech_encoder
        self.folder = folder

    @classmethod
    def load(cls, folder: str | Path, device: str = "cpu", precision: Precision = "auto") -> Model:
        """Load a checkpoint folder.

        Args:
            folder: of the checkpoint.
            device: "cpu", or "cuda" and the like.
            precision: numbers to compute in; "auto" goes by the hardware and the size of the model.

        Raises:
            InputError: it is no checkpoint, or its text encoder is missing or another one.
        """
        from clsr import checkpoint

        return cls(checkpoint.load_speech_encoder(folder, device, precision), Path(folder))

    def index(
        self, recordings: str | Path | Sequence[str | Path], index_dir: str | Path, settings: IndexConfig | None = None
    ) -> Retriever:
        """Make recordings searchable, or bring their index up to date, and open it.

        A recording that fails is logged as a warning and does not stop the rest; ``clsr.index.index.index_recordings``
        returns what became of each.

        Args:
            recordings: files and folders.
            index_dir: folder of the index, made if there is none.
            settings: windows; ``None`` is the defaults.

        Raises:
            InputError: a path is missing, no recording could be indexed, or another model has built the index.
        """
        paths = [recordings] if isinstance(recordings, str | Path) else recordings
        for status in index_recordings(self.speech_encoder, self.folder, index_dir, paths, settings):
            if status.status == "failed":
                _log.warning("%s: not indexed: %s", status.path, status.reason)
        return self.open(index_dir)

    def open(self, index_dir: str | Path) -> Retriever:
        """Open an index that this model has built.

        Raises:
            InputError: there is none, or another model has built it.
        """
        return Retriever.open(index_dir, self.folder, self.speech_encoder)

    def encode_text(self, texts: str | Sequence[str], side: Side = "question") -> np.ndarray:
        """Return the unit vector ``(E,)`` of a text, or those of several, ``(B, E)``; float32.

        Args:
            texts: of any length; what is beyond the text encoder's longest input is not read.
            side: what the text stands for. Passages go through the passage projection, as spoken ones do.
        """
        import torch

        several = [texts] if isinstance(texts, str) else list(texts)
        vectors = self.speech_encoder.text_encoder.encode(several, side)
        if side == "passage":
            with torch.inference_mode():
                vectors = self.speech_encoder.as_passages(vectors)
        return vectors.numpy()[0] if isinstance(texts, str) else vectors.numpy()

    def encode_speech(
        self, audio: Audio | Sequence[Audio], side: Side = "passage", codes: Codes = "soft"
    ) -> np.ndarray:
        """Return the unit vector ``(E,)`` of speech, or those of several utterances, ``(B, E)``; float32.

        The cosine of speech and a question is the product of ``encode_speech(audio)`` and ``encode_text(question)``.

        Args:
            audio: a file or a waveform, or a list of them, each of a minute at most.
            side: passages, or spoken questions.
            codes: "soft", or "hard" as in the paper.

        Raises:
            InputError: a file cannot be read, a waveform is none, or one lasts longer than a minute.
        """
        several = [audio] if isinstance(audio, Audio) else list(audio)
        vectors = [np.empty((0, self.speech_encoder.text_encoder.width), np.float32)]
        for batch in _batches(several):
            waveforms = [_read(one, LONGEST_S) for one in batch]
            vectors.append(self.speech_encoder.encode(waveforms, codes, side).vectors)
        together = np.concatenate(vectors)
        return together[0] if isinstance(audio, Audio) else together

    @overload
    def transcribe(self, audio: Audio) -> Transcript: ...  # type: ignore[overload-overlap]  # a text is one file

    @overload
    def transcribe(self, audio: Sequence[Audio]) -> list[Transcript]: ...

    def transcribe(self, audio: Audio | Sequence[Audio]) -> Transcript | list[Transcript]:
        """Write down speech of any length, with the times of its tokens; the path of a waveform is empty.

        Args:
            audio: a file or a waveform, or a list of them.

        Raises:
            InputError: a file cannot be read, or a waveform is none.
        """
        several = [audio] if isinstance(audio, Audio) else list(audio)
        found = [transcript for batch in _batches(several) for transcript in self._transcribe(batch)]
        return found[0] if isinstance(audio, Audio) else found

    def _transcribe(self, batch: Sequence[Audio]) -> list[Transcript]:
        """Long files piece by piece, so that memory does not grow with them, and all else at once."""
        long = {i for i, one in enumerate(batch) if not isinstance(one, np.ndarray) and duration_s(one) > PIECE_S}
        short = {str(i): _read(one) for i, one in enumerate(batch) if i not in long}
        heard = iter(transcribe_waveforms(self.speech_encoder, short) if short else [])
        return [
            transcribe_one(self.speech_encoder, Utterance("", Path(one), 0.0, 0.0, None, ""))  # type: ignore[arg-type]
            if i in long
            else replace(next(heard), audio="" if isinstance(one, np.ndarray) else str(one))
            for i, one in enumerate(batch)
        ]


def _batches(items: Sequence[Audio]) -> Iterator[Sequence[Audio]]:
    for first in range(0, len(items), BATCH):
        yield items[first : first + BATCH]


def _read(audio: Audio, longest_s: float = math.inf) -> np.ndarray:
    """The waveform, checked: of one channel, finite, not empty and not too long."""
    name = "the waveform" if isinstance(audio, np.ndarray) else str(audio)
    if not isinstance(audio, np.ndarray):
        audio = read_waveform(audio, 0.0, None if math.isinf(longest_s) else longest_s + 1)
    if audio.ndim != 1 or not len(audio) or not np.isfinite(audio).all():
        raise InputError(f"{name}: has shape {audio.shape}; give samples of one channel at 16 kHz, finite numbers")
    if len(audio) > longest_s * SAMPLE_RATE:
        raise InputError(f"{name}: lasts longer than {longest_s:g} s; index it, which cuts it into windows")
    return audio.astype(np.float32, copy=False)
