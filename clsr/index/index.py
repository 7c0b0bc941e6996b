"""Recordings -> windows in the index: what is new or changed is decoded, cut, encoded and written."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from clsr.audio.decoding import Decoder
from clsr.index.config import IndexConfig
from clsr.index.files import find_recordings, size_bytes
from clsr.index.indexer import Indexer
from clsr.index.location import to_place
from clsr.index.progress import Progress, Watch
from clsr.index.recordings import RecordingStatus
from clsr.index.schema import claim, only_writer, read_description
from clsr.index.writer import IndexWriter

if TYPE_CHECKING:
    from clsr.models.speech_encoder import SpeechEncoder


def index_recordings(
    speech_encoder: SpeechEncoder,
    model_path: str | Path,
    index_dir: str | Path,
    recordings: Iterable[str | Path],
    settings: IndexConfig | None = None,
    watch: Watch | None = None,
) -> list[RecordingStatus]:
    """Bring an index up to date with recordings, making it if there is none, and say what it holds of each.

    Recordings that the index holds with the same content and cut are left alone; whether the content is the same is
    looked at where size or date of the file have changed. Windows are written in transactions of ten minutes of audio
    or ten seconds of time, those of a recording that has changed in place of all it had. A run that was cut off, by
    ``kill -9`` too, is gone on with by calling this again: windows that were written are not encoded again. What of a
    recording can be decoded is indexed; one that is damaged further on has failed all the same, and stops no other.

    Args:
        speech_encoder: the model, loaded from ``model_path``.
        model_path: its checkpoint folder; written down in the index for the searches to come.
        index_dir: folder of the index, or its address in an object store (``s3://bucket/index``).
        recordings: audio files, folders searched to any depth, and patterns (``clsr.index.files.find_recordings``).
        settings: windows and batches; ``None`` is the defaults.
        watch: called with each recording and the share of it that is encoded, 0 to 1, and in the end with its status.

    Returns:
        The status of each recording, files in the order given, those of a folder sorted.

    Raises:
        InputError: a path is missing, a folder holds no audio, the index was built by another model, is damaged, cannot
            be written, or is being written by another process.
    """
    settings = settings or IndexConfig()
    paths = find_recordings(recordings)
    place = to_place(index_dir)
    with only_writer(place):
        built_with = claim(place, Path(model_path).resolve(), settings.windows)
        writer = IndexWriter(place, settings.approximate_from)
        with Decoder() as decoder, Progress({path: size_bytes(path) for path in paths}, watch) as progress:
            indexer = Indexer(speech_encoder, built_with, writer, decoder, settings.batch_s, progress)
            for path in paths:
                indexer.take(path)
            indexer.flush()
        writer.finish()
    return [indexer.statuses[path] for path in paths]


def prune(index_dir: str | Path) -> list[str]:
    """Remove what the index holds of recordings whose files are gone, and return their paths.

    Raises:
        InputError: there is no index, it is damaged, cannot be written, or is being written by another process.
    """
    read_description(index_dir)
    with only_writer(place := to_place(index_dir)):
        writer = IndexWriter(place)
        gone = sorted(path for path in writer.known if not Path(path).exists())
        writer.prune(gone)
        writer.finish()
    return gone
