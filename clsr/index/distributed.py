"""Indexing by many processes or machines: Ray Data actors encode recordings, lance-ray writes the tables. Internal."""

from __future__ import annotations

import json
import logging
import os
import pickle
import socket
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from clsr.audio.decoding import Decoder
from clsr.audio.files import find_recordings, size_bytes
from clsr.errors import InputError
from clsr.extras import require
from clsr.index.config import RayConfig
from clsr.index.filters import quote
from clsr.index.index import Index, IndexDescription
from clsr.index.indexer import Indexer, refuse_name, unchanged
from clsr.index.progress import ProgressBar, Watch
from clsr.index.recordings import RecordingEntry, RecordingStatus, WindowSummary, least_confidence
from clsr.index.tables import WINDOWS, IndexTables, windows_schema, writing
from clsr.index.writer import IndexWriter

if TYPE_CHECKING:
    import pyarrow
    from lancedb.table import LanceTable

COMMIT_S = 10.0  # between transactions
PORTIONS = 8  # for each worker at least, so that all end at about the same time
PORTION_FILES = 64  # at most


def add_with_ray(
    index: Index,
    recordings: Iterable[str | Path],
    cluster: RayConfig | None = None,
    watch: Watch | None = None,
) -> list[RecordingStatus]:
    """Bring an index up to date with recordings as ``Index.add`` does, encoding on a Ray cluster.

    Workers encode recordings as a whole, and write their windows into files of the table, which this process enters in
    one transaction every ten seconds. Where a worker or its machine dies, Ray lets another encode what was not entered;
    files that never are entered are no part of the table. Recordings, model and index have to be at the same paths on
    all machines.

    Raises:
        InputError: as ``Index.add``; Ray is not installed, or there is no cluster at the address.
    """
    paths = find_recordings(recordings)
    _start(cluster := cluster or RayConfig())
    statuses: dict[Path, RecordingStatus] = {}
    with index.updating() as built_with:
        writer = _RayWriter(IndexTables(index.location), index.config.approximate_from)
        with ProgressBar({path: size_bytes(path) for path in paths}, watch) as progress:
            to_do = []
            for path in paths:
                progress.begin(path)
                status = refuse_name(path) or _up_to_date(path, writer, built_with)
                if status is None:
                    to_do.append(path)
                else:
                    statuses[path] = status
                    progress.end(path, status)
            writer.make_table(_width(built_with))
            for entry in _enter(_encode(to_do, built_with, writer.uri, index.config.batch_s, cluster), writer):
                path = Path(entry.recording)
                statuses[path] = entry.to_status(least_confidence(built_with.model))
                progress.encoded(path, 1.0, entry.duration_s)
                progress.end(path, statuses[path])
        writer.finish()
        index.update_token_vectors()
    return [statuses[path] for path in paths]


class WrittenFragments(NamedTuple):
    """Windows in files that the table does not list yet."""

    num_rows: int
    fragments: list[Any]  # lance.fragment.FragmentMetadata


class _RayWriter(IndexWriter):
    """Adds the workers' files to the tables; a recording comes whole and replaces its earlier windows."""

    @property
    def uri(self) -> str:
        """Where the table of windows is."""
        return f"{self.location}/{WINDOWS}.lance"

    def make_table(self, width: int) -> None:
        """Make the table of windows, with vectors of this width, unless it exists."""
        with writing(self.location):
            self._table = self.tables.make_windows(windows_schema(width))

    def _has_others(self, entry: RecordingEntry) -> bool:
        if entry.recording not in self.known or self._table is None:
            return False
        return self._table.count_rows(f"recording = {quote(entry.recording)}") > 0

    def _write(self, table: LanceTable, stale: Sequence[str], rows: Any) -> None:
        """Delete the windows of stale recordings, then add the new ones; a kill in between leaves them "begun"."""
        import lance

        if stale:
            table.delete(f"recording IN ({', '.join(map(quote, stale))})")
        if isinstance(rows, WrittenFragments) and rows.fragments:
            append = lance.LanceOperation.Append(rows.fragments)
            lance.LanceDataset.commit(self.uri, append, read_version=lance.dataset(self.uri).version)
            table.checkout_latest()


class _WindowCollector:
    """Collects what the indexer of a worker writes."""

    def __init__(self) -> None:
        self.known: dict[str, RecordingEntry] = {}
        self.tables: list[pyarrow.Table] = []
        self.entries: list[RecordingEntry] = []

    def there(self, entry: RecordingEntry) -> dict[str, WindowSummary]:
        """No windows: a worker encodes whole recordings."""
        return {}

    def commit(
        self, begun: Sequence[RecordingEntry], rows: pyarrow.Table | None, done: Sequence[RecordingEntry] = ()
    ) -> None:
        """Store windows, and complete recordings."""
        self.tables += [rows] if rows is not None else []
        self.entries += done

    def note(self, entry: RecordingEntry) -> None:
        """Store the entry of a recording."""
        self.entries.append(entry)


class EncodeRecordings:
    """A Ray Data actor: portions of recordings -> files of windows, and the entry of each recording.

    Args:
        built_with: the index's model, and how recordings are cut.
        table_uri: where the table of windows is.
        batch_s: seconds of audio encoded at once.
        cluster: threads of torch, and the numbers to compute in.
    """

    def __init__(self, built_with: IndexDescription, table_uri: str, batch_s: float, cluster: RayConfig) -> None:
        import torch

        torch.set_num_threads(cluster.cpus)
        self.built_with = built_with
        self.table_uri = table_uri
        self.batch_s = batch_s
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = built_with.open_model(device, cluster.precision)
        self.model.speech_encoder  # noqa: B018  # loaded first, so that its faults are not reported for a recording
        self.decoder = Decoder()

    def __call__(self, portions: pyarrow.Table) -> pyarrow.Table:
        """Encode a portion: a row of ``paths`` (JSON) to one of ``entries`` (JSON), ``fragments`` and ``windows``."""
        import pyarrow

        gathered = _WindowCollector()
        (portion,) = portions["paths"].to_pylist()
        paths = [Path(path) for path in json.loads(portion)]
        built_with, decoder = self.built_with, self.decoder
        with (
            ProgressBar(dict.fromkeys(paths, 1), shown=False) as progress,
            Indexer(self.model, built_with.windows, gathered, decoder, self.batch_s, progress) as indexer,
        ):
            for path in paths:
                indexer.take(path)
            indexer.flush()
        fragments = self._write(pyarrow.concat_tables(gathered.tables)) if gathered.tables else []
        return pyarrow.table(
            {
                "entries": [json.dumps(gathered.entries)],
                "fragments": pyarrow.array([fragments], pyarrow.list_(pyarrow.binary())),
                "windows": [sum(map(len, gathered.tables))],
            }
        )

    def _write(self, rows: pyarrow.Table) -> list[bytes]:
        import lance
        import lance_ray

        version = lance.dataset(self.table_uri).data_storage_version
        write = lance_ray.LanceFragmentWriter(self.table_uri, schema=rows.schema, data_storage_version=version)
        return write(rows)["fragment"].to_pylist()


def _start(cluster: RayConfig) -> None:
    """Connect to a cluster, or start one, without the log lines of Ray and lance."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    warnings.filterwarnings("ignore", message="lance is not fork-safe")
    require("ray", "lance_ray")
    import ray

    if not ray.is_initialized():
        try:
            _require_answer(cluster.address)
            ray.init(
                cluster.address or "local",
                log_to_driver=False,
                logging_level=logging.ERROR,
                include_dashboard=False if cluster.address is None else None,
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise InputError(f"no Ray cluster at {cluster.address or 'this machine'} ({error})") from error
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars, context.print_on_execution_start = False, False
    for name in ("ray.data", "ray.data.dataset"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _require_answer(address: str | None) -> None:
    """Refuse an address without a listener at once; Ray would wait for minutes.

    Raises:
        OSError: nobody does.
    """
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=10).close()


def _width(built_with: IndexDescription) -> int:
    return built_with.open_model().text_encoder.width


def _up_to_date(path: Path, writer: IndexWriter, built_with: IndexDescription) -> RecordingStatus | None:
    """The status of an unchanged recording; ``None`` for one that a worker must read."""
    known = writer.known.get(str(path))
    try:
        entry = unchanged(path, known, built_with.windows)
    except OSError:
        return None
    if entry is not None and entry != known:
        writer.note(entry)
    return entry.to_status(least_confidence(built_with.model)) if entry is not None else None


def _encode(
    paths: Sequence[Path], built_with: IndexDescription, table_uri: str, batch_s: float, cluster: RayConfig
) -> Iterator[tuple[list[RecordingEntry], WrittenFragments]]:
    """The workers' results, in the order of completion."""
    import ray

    if not paths:
        return
    gpus = int(ray.cluster_resources().get("GPU", 0))
    processors = int(ray.cluster_resources().get("CPU", 1))
    workers = min(len(paths), cluster.workers or gpus or max(1, processors // cluster.cpus))
    rows = [{"paths": json.dumps(list(map(str, portion)))} for portion in _portions(paths, PORTIONS * workers)]
    found = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
        EncodeRecordings,
        fn_constructor_args=(built_with, table_uri, batch_s, cluster),
        batch_size=1,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=workers),
        num_cpus=cluster.cpus,
        num_gpus=1 if gpus else 0,
    )
    for row in found.iter_rows():
        fragments = [pickle.loads(fragment) for fragment in row["fragments"]]  # of our own workers
        yield (
            [RecordingEntry(*entry) for entry in json.loads(row["entries"])],
            WrittenFragments(int(row["windows"]), fragments),
        )


def _portions(paths: Sequence[Path], least: int) -> Iterator[list[Path]]:
    """Recordings in portions of about as many bytes each, at least so many portions if there are as many recordings."""
    sizes = {path: size_bytes(path) for path in paths}
    most_bytes = sum(sizes.values()) / least
    most_files = min(PORTION_FILES, max(1, len(paths) // least))
    portion: list[Path] = []
    for path in paths:
        if portion and (len(portion) == most_files or sum(map(sizes.__getitem__, portion)) + sizes[path] > most_bytes):
            yield portion
            portion = []
        portion.append(path)
    if portion:
        yield portion


def _enter(
    found: Iterable[tuple[list[RecordingEntry], WrittenFragments]], writer: _RayWriter
) -> Iterator[RecordingEntry]:
    """Add the workers' files to the tables, and yield each entry once it is on the disk."""
    entries: list[RecordingEntry] = []
    fragments: list[Any] = []
    windows, entered_at = 0, time.monotonic()
    seen: set[str] = set()
    for portion, written in found:
        if portion[0].recording in seen:  # Ray may deliver a portion twice
            continue
        seen.update(entry.recording for entry in portion)
        entries += portion
        fragments += written.fragments
        windows += written.num_rows
        if time.monotonic() - entered_at >= COMMIT_S:
            yield from _commit(entries, WrittenFragments(windows, fragments), writer)
            entries, fragments, windows, entered_at = [], [], 0, time.monotonic()
    if entries:
        yield from _commit(entries, WrittenFragments(windows, fragments), writer)


def _commit(entries: Sequence[RecordingEntry], written: WrittenFragments, writer: _RayWriter) -> list[RecordingEntry]:
    decoded = [entry for entry in entries if entry.duration_s]
    unread = [
        writer.known.get(entry.recording, entry)._replace(state="failed", reason=entry.reason)
        for entry in entries
        if not entry.duration_s
    ]
    begun = [entry._replace(state="begun", reason="") for entry in decoded]
    writer.commit(begun, written if written.num_rows else None, decoded + unread)
    return decoded + unread
