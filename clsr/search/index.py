"""Recordings -> windows in the index, one transaction a recording."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from clsr import audio
from clsr.errors import InputError
from clsr.search.pauses import find_pauses, without_pauses
from clsr.search.table import TABLE, brief, claim, open_table, windows_schema, writing
from clsr.search.windows import covered_s, windows

if TYPE_CHECKING:
    import pyarrow
    from tqdm import tqdm

    from clsr.models.speech_encoder import SpeechEncoder

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3")

_log = logging.getLogger("clsr")


@dataclass
class IndexConfig:
    """How recordings are cut and encoded.

    Args:
        window_s: length of a window.
        hop_s: from the start of one window to the next; what it is less than ``window_s`` is the overlap.
        batch_windows: windows encoded at once; memory grows with it, not with the length of a recording.
    """

    window_s: float = 40.0
    hop_s: float = 30.0
    batch_windows: int = 8

    def __post_init__(self) -> None:
        if not 0 < self.hop_s <= self.window_s:
            raise InputError(f"hop_s is {self.hop_s}, window_s {self.window_s}: give 0 < hop_s <= window_s")
        if self.batch_windows < 1:
            raise InputError(f"batch_windows is {self.batch_windows}: give 1 or more")

    @property
    def cut(self) -> str:
        """How recordings are cut, as the table writes it down."""
        return f"{self.window_s:g}/{self.hop_s:g}"


@dataclass(frozen=True)
class RecordingStatus:
    """What the index holds of one recording, every second of it accounted for.

    Seconds inside some window with words are indexed, all others silent; a recording without a word is silent as a
    whole. One that failed has its reason, and the index keeps what it held of it before.
    """

    path: str
    status: Literal["indexed", "silent", "failed"]
    duration_s: float
    indexed_s: float = 0.0
    silent_s: float = 0.0
    windows: int = 0
    reason: str | None = None

    def to_json(self) -> str:
        """The status as one line of JSON."""
        return json.dumps(asdict(self), ensure_ascii=False)


Watch = Callable[[Path, "float | RecordingStatus"], None]
"""Told of a recording: the share of it that is encoded, 0 to 1, or what became of it."""


def index_recordings(
    speech_encoder: SpeechEncoder,
    model_path: str | Path,
    index_dir: str | Path,
    recordings: Iterable[str | Path],
    settings: IndexConfig | None = None,
    watch: Watch | None = None,
) -> list[RecordingStatus]:
    """Bring an index up to date with recordings, making it if there is none, and say what it holds of each.

    Recordings that the index holds with the same content and window settings are left alone. All windows of others are
    written in one transaction: whenever a run is cut off, a recording is in the index as it was before, or whole and
    new. A recording that fails does not stop the rest.

    Args:
        speech_encoder: the model, loaded from ``model_path``.
        model_path: its checkpoint folder; written down in the index for the searches to come.
        index_dir: folder of the index.
        recordings: audio files, and folders searched to any depth for wav, flac, ogg, opus and mp3.
        settings: windows and batch size; ``None`` is the defaults.
        watch: called with each recording and the share of it that is encoded, 0 to 1, and in the end with its status.

    Returns:
        The status of each recording, files in the order given, those of a folder sorted.

    Raises:
        InputError: a path is missing, a folder holds no audio, the index was built by another model, is damaged or
            cannot be written.
    """
    from tqdm import tqdm

    paths = find_recordings(recordings)
    index_dir = Path(index_dir)
    fingerprint = claim(index_dir, Path(model_path).resolve())
    with tqdm(total=len(paths), bar_format="index {percentage:3.0f}%|{bar}| {remaining} left{postfix}") as progress:
        watch = watch or (lambda path, state: None)
        writer = _Writer(speech_encoder, fingerprint, index_dir, settings or IndexConfig(), progress, watch)
        statuses = []
        for path in paths:
            watch(path, 0.0)
            statuses.append(writer.bring_up_to_date(path))
            watch(path, statuses[-1])
    writer.compact()
    return statuses


def find_recordings(paths: Iterable[str | Path]) -> list[Path]:
    """Absolute paths of the audio files named, and of those inside the folders named, each once.

    A file that is named itself is taken whatever its suffix; inside folders, hidden files are left out.

    Raises:
        InputError: a path is missing, or a folder holds no audio file.
    """
    found: dict[Path, None] = {}
    for path in map(Path, paths):
        if path.is_dir():
            files = sorted(file for file in path.rglob("[!.]*") if file.suffix.lower() in AUDIO_SUFFIXES)
            if not files:
                raise InputError(f"{path}: no audio file in this folder; looked for {' '.join(AUDIO_SUFFIXES)}")
        elif path.exists():
            files = [path]
        else:
            raise InputError(f"{path}: no such file or folder; check the path")
        found.update((file.resolve(), None) for file in files)
    return list(found)


class _Writer:
    """Writes recordings, one at a time, into the table of one index."""

    def __init__(
        self, speech_encoder: SpeechEncoder, fingerprint: str, index_dir: Path, settings: IndexConfig, progress: tqdm,
        watch: Watch,
    ) -> None:  # fmt: skip
        self.speech_encoder = speech_encoder
        self.fingerprint = fingerprint
        self.index_dir = index_dir
        self.settings = settings
        self.progress = progress
        self.watch = watch
        self.table = open_table(index_dir)  # None until a first recording tells how wide the vectors are
        self.encoded_s = 0.0

    def bring_up_to_date(self, recording: Path) -> RecordingStatus:
        done = self.progress.n + 1
        duration_s = 0.0
        try:
            content_hash = _content_hash(recording)
            unchanged = self._stored(recording, content_hash)
            if unchanged is not None:
                return _status(recording, unchanged)
            duration_s = audio.duration_s(recording)
            rows = self._encode(recording, content_hash, duration_s)
        except Exception as error:  # whatever one file does to the decoder or the model, the others go on
            _log.debug("%s", recording, exc_info=True)
            return RecordingStatus(str(recording), "failed", duration_s, reason=_reason(error))
        finally:
            self.progress.update(done - self.progress.n)
        self._replace(recording, rows)
        return _status(recording, rows)

    def compact(self) -> None:
        """Join the small files that transactions leave, so that a cold search stays quick."""
        if self.table is not None and self.encoded_s:
            with writing(self.index_dir):
                self.table.optimize()

    def _stored(self, recording: Path, content_hash: str) -> pyarrow.Table | None:
        """Times and texts of the recording's windows, where the index has them with this content and settings."""
        from lancedb import col, lit

        if self.table is None:
            return None
        query = self.table.search().where(
            (col("recording") == lit(str(recording)))
            & (col("content_hash") == lit(content_hash))
            & (col("cut") == lit(self.settings.cut))
        )
        rows = query.select(["start_s", "end_s", "text"]).to_arrow()
        return rows if len(rows) else None

    def _encode(self, recording: Path, content_hash: str, duration_s: float) -> pyarrow.Table:
        import pyarrow

        spans = windows(duration_s, self.settings.window_s, self.settings.hop_s)
        batches = []
        for first in range(0, len(spans), self.settings.batch_windows):
            batch = spans[first : first + self.settings.batch_windows]
            batches.append(self._encode_batch(recording, content_hash, batch))
            self.encoded_s += batch[-1][1] - (spans[first - 1][1] if first else 0.0)
            self.progress.set_postfix_str(f"{self.encoded_s / 3600:.2f} h encoded", refresh=False)
            self.progress.update(len(batch) / len(spans))
            self.watch(recording, (first + len(batch)) / len(spans))
        return pyarrow.Table.from_batches(batches)

    def _encode_batch(
        self, recording: Path, content_hash: str, batch: list[tuple[float, float]]
    ) -> pyarrow.RecordBatch:
        import pyarrow

        modified = datetime.fromtimestamp(recording.stat().st_mtime, timezone.utc)
        waveforms = [audio.read_waveform(recording, *span) for span in batch]
        encoding = self.speech_encoder.encode(waveforms)
        rows = [
            {
                "id": f"{recording}#t={start_s:.3f},{end_s:.3f}",
                "recording": str(recording),
                "content_hash": content_hash,
                "fingerprint": self.fingerprint,
                "modified": modified,
                "cut": self.settings.cut,
                "start_s": start_s,
                "end_s": end_s,
                "vector": vector,
                "text": text,
                "words": [
                    {"text": word.text, "start_s": start_s + word.start_s, "end_s": start_s + word.end_s}
                    for word in without_pauses(words, find_pauses(waveform))
                ],
            }
            for (start_s, end_s), waveform, vector, text, words in zip(
                batch, waveforms, encoding.vectors, encoding.transcripts, encoding.words, strict=True
            )
        ]
        return pyarrow.RecordBatch.from_pylist(rows, schema=windows_schema(encoding.vectors.shape[1]))

    def _replace(self, recording: Path, rows: pyarrow.Table) -> None:
        """Write the recording's windows in place of all it had, in one transaction."""
        import lancedb

        with writing(self.index_dir):
            if self.table is None:
                lancedb.connect(self.index_dir).create_table(TABLE, schema=rows.schema, exist_ok=True)
                self.table = open_table(self.index_dir)
            assert self.table is not None
            (
                self.table.merge_insert("id")
                .when_matched_update_all()
                .when_not_matched_insert_all()
                .when_not_matched_by_source_delete(lancedb.col("recording") == lancedb.lit(str(recording)))
                .execute(rows)
            )


def _status(recording: Path, rows: pyarrow.Table) -> RecordingStatus:
    spans = list(zip(rows["start_s"].to_pylist(), rows["end_s"].to_pylist(), strict=True))
    duration_s = max(end_s for _, end_s in spans)
    indexed_s = covered_s(span for span, text in zip(spans, rows["text"].to_pylist(), strict=True) if text)
    kind: Literal["indexed", "silent"] = "indexed" if indexed_s else "silent"
    return RecordingStatus(str(recording), kind, duration_s, indexed_s, duration_s - indexed_s, len(spans))


def _content_hash(path: Path) -> str:
    digest = hashlib.blake2b(digest_size=16)
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {brief(error)}"
