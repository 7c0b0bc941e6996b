"""Search at scale: time, memory and disk space to build an index of synthetic windows and to search it."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from clsr.bench.models import HEAD_WIDTH, RandomWeights, make_text_encoder
from clsr.bench.synthetic_windows import HOP_S, RECORDING_S, WINDOW_S, Language, Meanings, to_rows
from clsr.bench.timing import Run, peak_memory_mb, threads
from clsr.errors import InputError
from clsr.evaluation.measure import hardware
from clsr.index.approximate import LEAST_WINDOWS, build_approximate, nearest
from clsr.index.config import WINDOW_MODES, WindowMode
from clsr.index.filters import Filter
from clsr.index.index import Index
from clsr.index.location import IndexLocation
from clsr.index.ranking import RankedWindow, Ranker
from clsr.index.recordings import RecordingEntry
from clsr.index.tables import IndexTables
from clsr.index.windows import windows as cut
from clsr.index.writer import IndexWriter
from clsr.lance import TableReader
from clsr.model import Model
from clsr.models.precision import lower_text_encoder
from clsr.search.query import EncodedQuery
from clsr.search.retriever import Retriever

if TYPE_CHECKING:
    from lancedb.table import LanceTable


FOLDER_RECORDINGS = 100  # in each folder
COMMIT_RECORDINGS = 50  # in a transaction: 6,000 windows
TOP_K = 10
DISK_QUESTIONS = 20  # fewer, since a search from disk may take seconds
WARMUPS = 2  # searches of each kind before those timed: the second one loads the vector cache

Percentiles = dict[str, float]  # "p50" and "p95"
Modes = dict[WindowMode, dict[str, Percentiles]]  # by mode, then by output: windows, or windows with words


class Stage(NamedTuple):
    """Cost of one stage of building."""

    seconds: float
    peak_mb: float | None  # peak of the whole process during the stage


class SyntheticIndex(NamedTuple):
    """An index of synthetic windows, and what it cost to build."""

    model: Model
    table: LanceTable
    queries: list[EncodedQuery]
    stages: dict[str, Stage]
    sizes_mb: dict[str, float]


def measure(windows: int, width: int = 768, questions: int = 200, seed: int = 0, directory: Path | None = None) -> dict:
    """Build an index of synthetic windows with the writer of ``clsr index``, and time searches of it.

    Recordings last an hour and are cut into windows of 40 s every 30 s, the last one only in part. The rows have
    no true checksums, so ``clsr index --verify`` is not measured. The text encoder has random weights. Each
    kind of search runs twice before it is timed, and the text encoder has cached the words of the transcripts, as
    in a long-running process.

    Args:
        windows: number of windows, at least 256.
        width: of vectors, a multiple of 64; 768 is that of BERT-base.
        questions: queries of each kind of search, each about another window.
        seed: of all random numbers.
        directory: folder of the index, which is kept; ``None``: a temporary folder.

    Returns:
        Times, sizes and recall, as JSON can hold them; ``table`` shows them.

    Raises:
        InputError: there are too few windows, too few for so many questions, or the width is no multiple of 64.
    """
    if directory is None:
        with tempfile.TemporaryDirectory() as folder:
            return measure(windows, width, questions, seed, Path(folder))
    model, table, queries, stages, sizes_mb = make_index(directory, windows, width, questions, seed)
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
    stages["IVF-RQ"] = _stage(lambda: found.append(build_approximate(table)))
    sizes_mb["IVF-RQ"] = _size_mb(directory) - before_mb
    milliseconds["IVF-RQ"], peaks_mb["IVF-RQ"] = _searches(_index(directory, 0), queries, exact=False)
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


def make_index(directory: Path, windows: int, width: int, questions: int, seed: int = 0) -> SyntheticIndex:
    """Build an index of synthetic windows without an approximate index, and questions about some of them.

    Args:
        directory: folder of the index.
        windows, width, questions, seed: as for ``measure``.

    Raises:
        InputError: as ``measure``.
    """
    if windows < max(LEAST_WINDOWS, questions) or width % HEAD_WIDTH:
        raise InputError(
            f"{windows} windows of width {width}: give at least {max(LEAST_WINDOWS, questions)}, and a multiple of 64"
        )
    generator = np.random.default_rng(seed)
    text_encoder = lower_text_encoder(make_text_encoder(width), "auto")  # as in clsr search
    meanings, language = Meanings(width, generator), Language(text_encoder.tokenizer, generator)
    model = Model(RandomWeights(), text_encoder=text_encoder)
    stages, sizes_mb = _build(directory, windows, meanings, language, model)
    table = IndexTables(IndexLocation.of(directory)).windows
    assert table is not None  # it was just made
    queries = _queries(table, generator.choice(windows, questions, replace=False), meanings, language)
    return SyntheticIndex(model, table, queries, stages, sizes_mb)


def table(result: dict) -> str:
    """Return a measurement as Markdown tables."""
    of = f"{result['windows']:,} windows, vectors {result['width']} wide, {result['questions']} questions"
    versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    lines = [f"{of}; {result['hardware']}, {versions}", "", "| built | s | MB on disk | peak MB |"]
    lines.append("| --- | ---: | ---: | ---: |")
    for name, seconds in result["seconds"].items():
        lines.append(f"| {name} | {seconds:.1f} | {result['disk_mb'][name]:.0f} | {_whole(result['peak_mb'][name])} |")
    recall = result["recall_at_10"]
    lines += [
        "",
        f"Recall at 10 of the approximate index: {recall['questions']:.3f} for the questions, "
        f"{recall['windows']:.3f} for windows.",
        "",
        "| windows ranked for a query, ms | mode | p50 | p95 | with their words, p50 | p95 | peak MB |",
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
    """Milliseconds from a query's vector to windows, without and with their words, and the peak memory in MB."""
    times: Modes = {}

    def run() -> None:
        for mode in WINDOW_MODES:

            def rank(query: EncodedQuery, mode: WindowMode = mode) -> list[RankedWindow]:
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
    """Share of the ten nearest windows that IVF-RQ finds."""
    ranker = Ranker(TableReader.of(table), cache_bytes=0)
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


def _whole(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.0f}"
