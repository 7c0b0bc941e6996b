"""Retriever, the public object: question in, ranked hits with times out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from clsr.errors import InputError
from clsr.index.config import MODES, Mode
from clsr.index.filters import Filter, quote
from clsr.index.ranking import FUSED_DEPTH, Rankings, Window, fuse, read_down
from clsr.index.schema import open_table, read_description, require_current, require_same_model, windows_schema
from clsr.index.vector_cache import HELD_BYTES
from clsr.search.hit import Hit
from clsr.search.moments import Heard, find_moments
from clsr.search.passage_cache import PassageMemory
from clsr.search.query import Asked, Question, encode_questions

if TYPE_CHECKING:
    from lancedb.table import LanceTable

    from clsr.config import Precision
    from clsr.models.speech_encoder import SpeechEncoder
    from clsr.models.text_encoder import TextEncoder


class Retriever:
    """Finds the moments of indexed recordings that answer a question.

    Args:
        text_encoder: of the model that built the index, at the precision that typed questions are encoded in.
        table: the index's windows.
        model_path: the model's checkpoint folder; the whole of it is loaded at the first spoken question.
        speech_encoder: the model, where it is loaded already.
        device: to load it on.
        precision: numbers that the whole model computes in then.
        held_bytes: of vectors that may be held in memory (``clsr.index.ranking.Rankings``).
    """

    def __init__(
        self,
        text_encoder: TextEncoder,
        table: LanceTable,
        model_path: Path,
        speech_encoder: SpeechEncoder | None = None,
        device: str = "cpu",
        precision: Precision = "auto",
        held_bytes: int = HELD_BYTES,
    ) -> None:
        self.text_encoder = text_encoder
        self.table = table
        self.model_path = model_path
        self._speech_encoder = speech_encoder
        self._device, self._precision = device, precision
        self._rankings = Rankings(table, held_bytes)
        self._passages = PassageMemory(text_encoder)

    @classmethod
    def open(
        cls,
        index_dir: str | Path,
        model_path: str | Path | None = None,
        speech_encoder: SpeechEncoder | None = None,
        device: str = "cpu",
        precision: Precision = "auto",
    ) -> Retriever:
        """Open an index, loading only the text encoder of the model that built it.

        Args:
            index_dir: folder of the index.
            model_path: the model's checkpoint folder, where it is no longer the one that built the index.
            speech_encoder: the model, where it is loaded already; it has to be that of the folder.
            device: to load it on, for spoken questions; typed ones are encoded on the processor.
            precision: numbers that questions are encoded in; typed ones in "auto" where the device is no processor.

        Raises:
            InputError: there is no index or nothing in it, or the model is missing or another one.
        """
        from clsr import checkpoint

        built_with = read_description(index_dir)
        model_path = Path(model_path or built_with.model)
        if not model_path.is_dir():
            raise InputError(f"{index_dir}: the model that built it is not at {model_path}; say where it is now")
        require_same_model(index_dir, built_with.fingerprint, checkpoint.fingerprint(model_path))
        table = open_table(index_dir)
        if table is None:
            raise InputError(f"{index_dir}: nothing is indexed yet; run clsr index")
        require_current(index_dir, table, windows_schema(1))
        if speech_encoder is not None:
            text_encoder = speech_encoder.text_encoder
        else:
            # A precision that is meant for an accelerator need not suit the processor.
            text_encoder = checkpoint.load_text_side(model_path, precision if device == "cpu" else "auto")
        return cls(text_encoder, table, model_path, speech_encoder, device, precision)

    def search(
        self,
        question: Question,
        top_k: int = 10,
        mode: Mode = "dense",
        only: Filter | None = None,
        exact: bool = False,
    ) -> list[Hit]:
        """Best moments for a question, best first, fewer than ``top_k`` if the recordings have no more.

        Windows in which nothing was recognised are no hits; of windows that overlap, whatever their sizes, the best is
        one (``clsr.index.spans.merge``). A hit's times are those of the best stretch of speech in its window
        (``clsr.search.moments.find_moments``).

        Args:
            question: typed (a text), or spoken (a ``Path``, or a waveform ``(N,)`` at 16 kHz) for up to a minute.
            top_k: hits at most.
            mode: rank by cosine of vectors ("dense"), by BM25 of transcripts, in which only windows that share a word
                with the question are hits ("bm25"), or by both, fused by reciprocal ranks ("hybrid").
            only: recordings, folder and dates to look at; ``None`` is all.
            exact: compare every window, even if the index has an approximate index of vectors.

        Raises:
            InputError: the question is empty or cannot be read or understood, ``top_k`` is below 1, there is no such
                mode, or a recording that is looked at is not in the index.
        """
        return self.search_many([question], top_k, mode, only, exact)[0]

    def search_many(
        self,
        questions: Sequence[Question],
        top_k: int = 10,
        mode: Mode = "dense",
        only: Filter | None = None,
        exact: bool = False,
    ) -> list[list[Hit]]:
        """The hits of each question, as ``search`` finds them; questions are encoded together."""
        if top_k < 1:
            raise InputError(f"top_k is {top_k}: give 1 or more")
        if mode not in MODES:
            raise InputError(f"there is no mode {mode!r}; give {', '.join(MODES)}")
        where = only.to_sql() if only else ""
        if only:
            self._require_indexed(only)
        asked = self.encode_many(questions)
        return [self._hits(one, self.rank(one, top_k, mode, where, exact)) for one in asked]

    def encode(self, question: Question) -> Asked:
        """The words and the vector of a question, which can be given in its place; a spoken one is recognised once.

        Raises:
            InputError: the question is empty or cannot be read or understood.
        """
        return self.encode_many([question])[0]

    def encode_many(self, questions: Sequence[Question]) -> list[Asked]:
        """The words and vectors of questions, encoded together."""
        return encode_questions(questions, self.text_encoder, self.load_speech_encoder)

    def rank(
        self, asked: Asked, top_k: int = 10, mode: Mode = "dense", where: str = "", exact: bool = False
    ) -> list[Window]:
        """The windows of the hits that ``search`` finds, without their words; ``where`` is a condition in SQL."""

        def ranking(limit: int) -> tuple[list[Window], bool]:
            dense = self._rankings.dense(asked.vector, limit, where, exact) if mode != "bm25" else []
            by_words = self._rankings.bm25(asked.text, limit, where) if mode != "dense" else []
            more = max(len(dense), len(by_words)) >= limit
            return fuse(dense, by_words) if mode == "hybrid" else dense or by_words, more

        return read_down(ranking, top_k, FUSED_DEPTH if mode == "hybrid" else 4 * top_k)

    def profile(self, question: Question, recording: str | Path) -> list[tuple[float, float, float]]:
        """How well each window of a recording answers a question: start and end in seconds, and cosine, by start.

        Windows in which nothing was recognised have no score and are left out; windows of several sizes are all there.

        Raises:
            InputError: the question is at fault, or the recording is not in the index.
        """
        only = Filter(recordings=[recording])
        self._require_indexed(only)
        asked = self.encode(question)
        count = max(1, self.table.count_rows(only.to_sql()))
        windows = self._rankings.dense(asked.vector, count, only.to_sql(), exact=True)
        return sorted((window.start_s, window.end_s, window.score) for window in windows)

    def load_speech_encoder(self) -> SpeechEncoder:
        """The whole model, loaded at the first call."""
        if self._speech_encoder is None:
            from clsr import checkpoint

            self._speech_encoder = checkpoint.load_speech_encoder(self.model_path, self._device, self._precision)
        return self._speech_encoder

    def _require_indexed(self, only: Filter) -> None:
        for path in only.paths:
            if not self.table.count_rows(f"recording = {quote(path)}"):
                raise InputError(f"{path}: not in the index; see what clsr index --status lists")

    def _hits(self, asked: Asked, windows: Sequence[Window]) -> list[Hit]:
        """Hits of the windows, but for those that a writer has removed since."""
        said = self._rankings.words(windows)
        found = [(window, said[window.id]) for window in windows if window.id in said]
        heard = [Heard(window.start_s, window.end_s, *words) for window, words in found]
        moments = find_moments(self._passages, asked.vector, heard)
        return [
            Hit(
                rank=rank,
                recording=window.recording,
                start_s=moment.start_s,
                end_s=moment.end_s,
                window_start_s=window.start_s,
                window_end_s=window.end_s,
                score=window.score,
                text=moment.text,
                window_text=words.text,
                matches=moment.matches,
            )
            for rank, ((window, words), moment) in enumerate(zip(found, moments, strict=True), start=1)
        ]
