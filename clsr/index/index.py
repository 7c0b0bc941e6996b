"""An index on disk: it takes recordings and finds windows that match a query. ``Index`` is ``clsr.Index``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from clsr.audio.files import find_recordings, printable, size_bytes
from clsr.audio.spelling import spellings
from clsr.config import DEFAULT_MODEL, WHOLE, Compression
from clsr.errors import InputError
from clsr.index.config import DESCRIPTION, IndexConfig, IndexDescription
from clsr.index.filters import Filter, is_recording
from clsr.index.location import IndexLocation
from clsr.index.ranking import RankedWindow, Ranker, RecognisedWindow, merge
from clsr.index.recordings import (
    UNKNOWN,
    MissingRecordings,
    RecordingEntry,
    RecordingsTable,
    RecordingStatus,
    find_missing,
    least_confidence,
    with_windows_found,
)
from clsr.index.tables import WINDOWS, IndexTables, only_writer, writing
from clsr.index.tokens.building import TokenBuilder
from clsr.index.tokens.maxsim import MatchedToken, MaxSim
from clsr.index.vector_cache import CACHE_BYTES
from clsr.index.windows import merge_words
from clsr.model import Model
from clsr.vocabulary import Word, join_words

if TYPE_CHECKING:
    import numpy as np

    from clsr.config import Precision
    from clsr.index.progress import Watch
    from clsr.index.verification import Verdict
    from clsr.lance import TableReader
    from clsr.text.encoder import TextTokens
    from clsr.transcribe import Transcript

RERANKED = 1000  # windows, the best by their vectors, that MaxSim ranks again


class Index:
    """A collection of recordings, cut into windows that can be searched; ``open`` or ``create`` makes the object.

    It shows the last write of any process. One process writes at a time; any number may read.

    Args:
        location: of the index.
        model: that builds it; ``None`` is the one that has built it, loaded when it is needed.
        config: how recordings are cut and encoded from now on; ``None`` is the defaults.
        cache_bytes: of vectors that may be kept in memory for searches.
    """

    def __init__(
        self,
        location: IndexLocation,
        model: Model | None = None,
        config: IndexConfig | None = None,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        if not isinstance(model, Model | None):
            raise InputError(f"the model of an index is a {type(model).__name__}; give what clsr.load returns")
        self.location = location
        self.tables = IndexTables(location)
        self.config = config or IndexConfig()
        self._model = model
        self._cache_bytes = cache_bytes
        self._recordings = RecordingsTable(self.tables)
        self._ranker: Ranker | None = None
        self._maxsim = MaxSim(self.tables, cache_bytes)
        self._flagged: tuple[Mapping[str, RecordingEntry], set[str]] | None = None  # of which entries

    @classmethod
    def open(cls, uri: str | Path, model: Model | None = None, config: IndexConfig | None = None) -> Index:
        """Open an index that is there.

        Args:
            uri: its folder, or its address in an object store (``s3://bucket/index``).
            model: the one that built it; ``None`` loads that from where it was then, when recordings are added.
            config: how recordings are cut and encoded from now on; ``None`` keeps the settings.

        Raises:
            InputError: there is no index, its description is damaged, or another model has built it.
        """
        index = cls(IndexLocation.of(uri), model, config)
        index.description  # noqa: B018  # raises
        if model is not None:
            index.require_model(model)
        return index

    @classmethod
    def create(cls, uri: str | Path, model: Model, config: IndexConfig | None = None) -> Index:
        """Open an index for a model; where there is none, the first recordings that are added make it.

        Args:
            uri: its folder, or its address in an object store (``s3://bucket/index``).
            model: that encodes the recordings.
            config: how they are cut and encoded; ``None`` is the defaults.

        Raises:
            InputError: there is one that another model has built, or its description is damaged.
        """
        index = cls(IndexLocation.of(uri), model, config)
        if index.exists:
            index.require_model(model)
        return index

    @classmethod
    def open_or_create(
        cls,
        uri: str | Path,
        model: str | Path | None = None,
        config: IndexConfig | None = None,
        device: str = "cpu",
        precision: Precision = "auto",
        text_encoder: str | None = None,
        compression: Compression = WHOLE,
    ) -> Index:
        """Open an index to add recordings to, by its model: ``open`` where it is there, ``create`` elsewhere.

        Args:
            uri: folder of the index, or its address in an object store.
            model: its reference, as for ``clsr.load``; ``None`` is the one that built the index, or the default.
            config: how recordings are cut and encoded from now on.
            device: that they are encoded on.
            precision: numbers that they are encoded in.
            text_encoder: reference of the text encoder; ``None`` is the one that built the index, or the model's own.
            compression: how sequences and vectors are made shorter; what is ``None`` is as in the index.

        Raises:
            InputError: the model is missing or another one, or the index is compressed in another way.
        """
        index = cls(IndexLocation.of(uri), config=config)
        if index.exists:
            index._require_compression(compression)
            index._model = index.load_model(model, device, precision, text_encoder)
        else:
            named = model or DEFAULT_MODEL
            index._model = Model(named, device, precision, text_encoder=text_encoder, compression=compression)
            index._model.fingerprint  # noqa: B018  # that it is a model is found out now
        return index

    @property
    def exists(self) -> bool:
        """Whether the index is there, if only its description."""
        try:
            return self.location.read_text(DESCRIPTION) is not None
        except UnicodeDecodeError:  # it is there and damaged, which opening it says
            return True

    @property
    def description(self) -> IndexDescription:
        """What the index was built with.

        Raises:
            InputError: there is no index, or its description is damaged.
        """
        return IndexDescription.read(self.location)

    @property
    def model(self) -> Model:
        """The model that builds the index.

        Raises:
            InputError: as ``load_model``, where none was given.
        """
        if self._model is None:
            self._model = self.load_model()
        return self._model

    def load_model(
        self,
        reference: str | Path | None = None,
        device: str = "cpu",
        precision: Precision = "auto",
        text_encoder: str | None = None,
        code_pooling: int | None = None,
    ) -> Model:
        """The model that has built the index.

        Args:
            reference: of the model, where its folder is no longer the one that built the index.
            device: to compute on.
            precision: numbers to compute in.
            text_encoder: its reference, where that is no longer the one that built the index.
            code_pooling: number of successive codes of a spoken query whose mean takes their place, where it is to be
                another than that of the index.

        Raises:
            InputError: the model is missing, or another one.
        """
        built_with = self.description
        named = str(reference or built_with.model)
        if Path(named).is_absolute() and not Path(named).is_dir():
            raise InputError(
                f"{self.location}: the model that built it is not at {named}; say where it is now (--model)"
            )
        compression = Compression(built_with.compression.dimensions, code_pooling or built_with.code_pooling)
        text_side = text_encoder or built_with.text_encoder or None
        model = Model(named, device, precision, text_encoder=text_side, compression=compression)
        try:
            self.require_model(model)
        except InputError:
            if reference is not None and text_encoder is None:
                self.require_model(Model(named))  # of another kind, for which the index's text encoder is no use
            raise
        return model

    def require_model(self, model: Model) -> None:
        """Refuse a model other than the one that built the index, by their fingerprints and dimensions.

        Raises:
            InputError: they differ; the message has both.
        """
        built_by = self.description
        if built_by.fingerprint != model.fingerprint:
            raise InputError(
                f"{self.location}: built by model {built_by.model} ({built_by.fingerprint}), but the model given is "
                f"{model.reference} ({model.fingerprint}); give the one that built it, or index into another folder"
            )
        if built_by.dimensions != (model.compression.dimensions or 0):
            self._require_compression(Compression(model.compression.dimensions or model.query_encoder.width))

    def _require_compression(self, wanted: Compression) -> None:
        """Refuse vectors of another size or another pooling than the index has; what is ``None`` may be any.

        Raises:
            InputError: one is wanted.
        """
        there = self.description.compression
        if wanted.dimensions is not None and wanted.dimensions != there.dimensions:
            raise InputError(f"{self.location}: keeps {there.dimensions or 'all'} dimensions, not {wanted.dimensions}; "
                             "index into another folder")  # fmt: skip
        if wanted.code_pooling is not None and wanted.code_pooling != there.code_pooling:
            raise InputError(f"{self.location}: made with a code pooling of {there.code_pooling}, not "
                             f"{wanted.code_pooling}; index into another folder")  # fmt: skip

    def add(self, recordings: str | Path | Iterable[str | Path], watch: Watch | None = None) -> list[RecordingStatus]:
        """Add new and changed recordings to the index, made if it does not exist, and return the status of each.

        Recordings that the index holds with the same content and cut are left alone; whether the content is the same is
        looked at where size or date of the file have changed. Windows are written in transactions of ten minutes of
        audio or ten seconds of time, those of a recording that has changed in place of all it had. A run that was cut
        off, by ``kill -9`` too, resumes when this is called again: windows that were written are not encoded again.
        What of a recording can be decoded is indexed; one that is damaged further on has failed all the same, and stops
        no other.

        Args:
            recordings: audio files, folders, which are searched to any depth, and patterns such as ``talks/**/*.mp3``;
                one or several.
            watch: called with each recording and the share of it that is encoded, 0 to 1, and in the end with its
                status.

        Returns:
            The status of each recording, files in the order given, those of a folder sorted.

        Raises:
            InputError: a path is missing, a folder holds no audio, the index was built by another model, is damaged,
                cannot be written, or is being written by another process.
        """
        from clsr.audio.decoding import Decoder
        from clsr.index.indexer import Indexer
        from clsr.index.progress import ProgressBar
        from clsr.index.writer import IndexWriter

        paths = find_recordings(recordings)
        self.model.speech_encoder  # noqa: B018  # loaded first, so that its faults are not reported for a recording
        with self.updating() as built_with:
            writer = IndexWriter(IndexTables(self.location), self.config.approximate_from)
            with (
                Decoder() as decoder,
                ProgressBar({path: size_bytes(path) for path in paths}, watch) as progress,
                Indexer(self.model, built_with.windows, writer, decoder, self.config.batch_s, progress) as indexer,
            ):
                for path in paths:
                    indexer.take(path)
                indexer.flush()
            writer.finish()
            self.update_token_vectors()
        return [indexer.statuses[path] for path in paths]

    @contextmanager
    def updating(self, token_vectors: bool | None = None) -> Iterator[IndexDescription]:
        """Lock out other writers, and write the description with this model and these settings.

        Args:
            token_vectors: whether the index keeps them from now on; ``None`` goes by ``config``.

        Raises:
            InputError: another model has built the index, it is damaged, cannot be written, or is being written; it has
                token vectors, and ``config`` wants none.
        """
        other = _absolute(self.model.other_text_encoder or "")
        wanted = self.config.token_vectors if token_vectors is None else token_vectors
        compression = self.model.compression
        ours = IndexDescription(
            self.model.reference, self.model.fingerprint, text_encoder=other, token_vectors=True,
            dimensions=compression.dimensions or 0, code_pooling=compression.code_pooling or 1,
        )  # fmt: skip
        with only_writer(self.location):
            if self.exists:
                self.require_model(self.model)
                self._require_compression(Compression(code_pooling=compression.code_pooling or 1))
                there = self.description
                has = there.token_vectors or self.has_token_vectors
                if has and wanted is False:
                    raise InputError(f"{self.location}: keeps token vectors already; leave out --no-token-vectors")
                ours = ours._replace(windows=there.windows, token_vectors=has)
            if self.config.windows is not None:
                ours = ours._replace(windows=self.config.windows)
            if wanted is not None:
                ours = ours._replace(token_vectors=wanted)
            with writing(self.location):
                ours.write(self.location)
            yield ours

    @property
    def has_token_vectors(self) -> bool:
        """Whether the vectors of tokens are there, for ``search`` with ``tokens``: once indexing has come to its end.

        Raises:
            InputError: their description is damaged.
        """
        return self._maxsim.is_there

    def add_token_vectors(self) -> int:
        """Store the vectors of the tokens of all windows that have none; from then on, ``add`` keeps them up to date.

        They are the text encoder's, of the words of each window in their context, and nothing is recognised again: for
        a CLSR model they are those of its transcripts. Where windows overlap, the token vectors of a second are stored
        once.

        Returns:
            The windows that were encoded.

        Raises:
            InputError: there is no index, it is damaged, cannot be written, or is being written by another process.
        """
        self.description  # noqa: B018  # raises
        self.model.speech_encoder  # noqa: B018  # its faults come before the lock
        with self.updating(token_vectors=True):
            return self.update_token_vectors()

    def update_token_vectors(self) -> int:
        """``add_token_vectors`` for whoever is writing already, if the index keeps them."""
        if not self.description.token_vectors:
            return 0
        model = self.model.speech_encoder
        return TokenBuilder(IndexTables(self.location), model.text_encoder, model.as_passages).update()

    def entries(self) -> Mapping[str, RecordingEntry]:
        """The entry of each recording by path; the same object as before while nothing has changed.

        Raises:
            InputError: the index is damaged.
        """
        return self._recordings.read()

    def status(self, recordings: str | Path | Iterable[str | Path] = ()) -> list[RecordingStatus]:
        """What the index holds of each recording; of one whose indexing was cut off, what is there of it so far.

        Args:
            recordings: files, folders and patterns; none is all that the index knows, by path. Those that it does not
                know have failed, with that as the reason.

        Raises:
            InputError: the index is damaged; a path is missing.
        """
        entries, least = self.entries(), least_confidence(self.description.model)
        paths = [str(path) for path in find_recordings(recordings)] or sorted(entries)
        return [
            with_windows_found(entries[path], self.tables.windows).to_status(least)
            if path in entries
            else RecordingStatus(printable(path), "failed", 0.0, reason=UNKNOWN)
            for path in paths
        ]

    def transcript(self, recording: str | Path) -> Transcript:
        """Return what was recognised in a recording, with the times of its words, without recognising it again.

        Raises:
            InputError: the recording is not in the index, or the index is damaged.
        """
        from clsr.transcribe import Transcript

        (path,) = Filter(recordings=[recording]).paths
        entry = next((entry for one in spellings(path) if (entry := self.entries().get(one))), None)
        if entry is None:
            raise InputError(f"{recording}: not in the index; see what clsr index --status lists")
        words: list[Word] = []
        if (table := self.tables.reader(WINDOWS)) is not None:
            rows = table.scan(["start_s", "end_s", "words"], is_recording(path)).to_pylist()
            words = merge_words((row["start_s"], row["end_s"], [Word(**w) for w in row["words"]]) for row in rows)
        text = join_words(word.text for word in words)
        partial = entry.state in ("begun", "partial", "failed")
        return Transcript(entry.recording, text, [], [], entry.duration_s, None, partial, entry.reason, words)

    def flagged(self) -> set[str]:
        """Recordings whose confidence is below the threshold: probably not speech in the model's language.

        Raises:
            InputError: the index is damaged.
        """
        entries = self.entries()
        if self._flagged is None or self._flagged[0] is not entries:
            least = least_confidence(self.description.model)
            self._flagged = entries, {path for path, entry in entries.items() if entry.is_flagged(least)}
        return self._flagged[1]

    def verify(self) -> Verdict:
        """Read all of the index and list what is damaged or out of date.

        Each window has to match its checksum, have a unit vector, be of the model that built the index and there once;
        each recording has to have the windows that it was entered with, of one content and cut, and its seconds have to
        add up. The full-text and approximate indices, which can be made again from the rows, are not looked at. Of the
        recordings, size and date have to be those that were indexed, and the seconds those that their headers or frames
        promise.

        Raises:
            InputError: there is no index.
        """
        from clsr.index.verification import verify_tables

        return verify_tables(IndexTables(self.location), self.description.fingerprint)

    def missing(self) -> MissingRecordings:
        """The recordings whose files are gone, which ``prune`` would remove.

        Raises:
            InputError: there is no index, or it is damaged.
        """
        self.description  # noqa: B018  # raises
        return find_missing(self.entries())

    def prune(self, yes: bool = False) -> MissingRecordings:
        """Delete recordings whose files are gone from the index, and return which they were.

        Args:
            yes: delete them even where they may just not be there now: a folder of recordings is missing or empty, or
                more than a tenth of the recordings would go.

        Raises:
            InputError: that is so, and ``yes`` is not given; there is no index, it is damaged, cannot be written, or is
                being written by another process.
        """
        from clsr.index.writer import IndexWriter

        self.description  # noqa: B018  # raises
        with only_writer(self.location):
            writer = IndexWriter(IndexTables(self.location))
            gone = find_missing(writer.known)
            if gone.doubt and not yes:
                raise InputError(
                    f"{self.location}: {gone} would be removed, and {gone.doubt}: nothing is removed; if a disk is not "
                    "mounted, mount it, else give --yes too (in Python, prune(yes=True))"
                )
            writer.prune(gone.paths)
            writer.finish()
        return gone

    def remove(self, recordings: Iterable[str | Path]) -> None:
        """Delete recordings from the index, whether their files are there or not; those not in it are ignored.

        Raises:
            InputError: there is no index, it is damaged, cannot be written, or is being written by another process.
        """
        from clsr.index.writer import IndexWriter

        self.description  # noqa: B018  # raises
        with only_writer(self.location):
            writer = IndexWriter(IndexTables(self.location))
            writer.prune([path for path in map(str, recordings) if path in writer.known])
            writer.finish()

    def search(
        self,
        vector: np.ndarray | None = None,
        words: str | None = None,
        top_k: int = 10,
        only: Filter | None = None,
        exact: bool = False,
        tokens: TextTokens | None = None,
    ) -> list[RankedWindow]:
        """The windows that match a query best, best first; of those that overlap, whatever their sizes, the best one.

        A vector alone ranks by cosine. Words alone rank by BM25 of the transcripts; only windows that share a word are
        found. Both together are fused by reciprocal ranks. Windows in which nothing was recognised are never found.
        With tokens, the thousand best by cosine are ranked again by MaxSim (Khattab and Zaharia, SIGIR 2020): of the
        query's tokens, the mean of the best cosine with a token of the window, rare tokens counting more.

        Args:
            vector: unit vector ``(E,)`` of the query (``Model.encode`` with side "question").
            words: the query as text.
            top_k: windows at most.
            only: recordings, folder and dates to look at; ``None`` is all.
            exact: compare every window, even if the index has an approximate index of vectors.
            tokens: of the query (``Model.query_encoder.encode_tokens``), to rank what the vector finds again.

        Raises:
            InputError: neither vector nor words are given, the vector has another width, ``top_k`` is below 1, nothing
                is indexed yet, a recording that is looked at is not in the index, or the index has no token vectors
                where the query has tokens.
        """
        if vector is None and words is None:
            raise InputError("nothing to search for: give a vector, words, or both")
        if top_k < 1:
            raise InputError(f"top_k is {top_k}: give 1 or more")
        ranker = self._open_ranker()
        if vector is not None and vector.shape != (width := ranker.width,):
            raise InputError(f"{self.location}: holds vectors of {width} numbers; the query's has shape {vector.shape}")
        where = self._condition(only)
        if tokens is None or vector is None:
            return ranker.search(vector, words, top_k, where, exact)
        windows = ranker.dense(vector, RERANKED, where, exact)
        if not windows:
            return []
        return merge(self._maxsim.rerank(windows, tokens), top_k)

    def matched_tokens(self, windows: Sequence[RankedWindow], tokens: TextTokens) -> list[list[MatchedToken]]:
        """Of each window, the best match of each token of a query, in the order of the query.

        Args:
            windows: as ``search`` found them.
            tokens: of the query.

        Raises:
            InputError: the index has no token vectors.
        """
        return self._maxsim.matches(windows, tokens)

    def recognised(self, windows: Sequence[RankedWindow]) -> list[tuple[RankedWindow, RecognisedWindow]]:
        """What was recognised in windows; without those that a writer has removed since."""
        found = self._open_ranker().recognised(windows)
        return [(window, found[window.id]) for window in windows if window.id in found]

    def profile(
        self, vector: np.ndarray, recording: str | Path, tokens: TextTokens | None = None
    ) -> list[tuple[float, float, float]]:
        """How well each window of a recording matches a query: start and end in seconds, and score, by start.

        Windows in which nothing was recognised have no score and are left out; windows of several sizes are all there.

        Args:
            vector: unit vector ``(E,)`` of the query.
            recording: its file.
            tokens: of the query; with them the score is that of MaxSim, else the cosine.

        Raises:
            InputError: the recording is not in the index.
        """
        ranker = self._open_ranker()
        where = self._condition(Filter(recordings=[recording]))
        windows = ranker.dense(vector, max(1, self.require_windows().count_rows(where)), where, exact=True)
        if windows and tokens is not None:
            windows = self._maxsim.rerank(windows, tokens)
        return sorted((window.start_s, window.end_s, window.score) for window in windows)

    def require_windows(self) -> TableReader:
        """The table of windows, for reading.

        Raises:
            InputError: nothing is indexed yet, or the table is damaged.
        """
        table = self.tables.reader(WINDOWS)
        if table is None:
            raise InputError(f"{self.location}: nothing is indexed yet; run clsr index")
        return table

    def _open_ranker(self) -> Ranker:
        table = self.require_windows()
        if self._ranker is None or self._ranker.table is not table:  # none yet, or the folder was made anew
            self._ranker = Ranker(table, self._cache_bytes)
        return self._ranker

    def _condition(self, only: Filter | None) -> str:
        """The filter in SQL.

        Raises:
            InputError: the index has no windows of a recording that is looked at.
        """
        if only is None:
            return ""
        for path in only.paths:
            if not self.require_windows().count_rows(is_recording(path)):
                raise InputError(f"{path}: not in the index; see what clsr index --status lists")
        return only.to_sql()


def _absolute(reference: str) -> str:
    """The reference of a text encoder, which stays right wherever the index is opened from."""
    return str(Path(reference).resolve()) if reference and Path(reference).is_dir() else reference
