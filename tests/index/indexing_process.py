"""A process that indexes, to be killed: prints each window when its transaction is done.

Usage: python indexing_process.py INDEX RECORDINGS SECONDS_A_TRANSACTION [WINDOWS]

With ``WINDOWS`` it is the command ``clsr index``, which gets Ctrl-C as soon as so many windows are written.
"""

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "fixtures"))

import pyarrow
from loudness import LoudnessSource, LoudnessSpeechEncoder

import clsr.cli.main
import clsr.systems.sources
from clsr.index import indexer, writer
from clsr.index.config import IndexConfig
from clsr.index.index import Index
from clsr.index.recordings import RecordingEntry
from clsr.model import Model


def main(index_dir: str, recordings: str, seconds: str, interrupted_after: str = "") -> int:
    """Index the recordings, telling of each window that was written."""
    commit = writer.IndexWriter.commit
    told: list[str] = []

    def tell(
        self: writer.IndexWriter,
        begun: Sequence[RecordingEntry],
        rows: pyarrow.Table | None,
        done: Sequence[RecordingEntry],
    ) -> None:
        commit(self, begun, rows, done)
        for row in rows.select(["id", "checksum"]).to_pylist() if rows is not None else ():
            print(row["id"], row["checksum"], flush=True)
            told.append(row["id"])
        if interrupted_after and len(told) >= int(interrupted_after):
            os.kill(os.getpid(), signal.SIGINT)

    LoudnessSource.fingerprint = lambda self, text_encoder: "model-1"  # type: ignore[method-assign]
    clsr.systems.sources.open_source = LoudnessSource  # type: ignore[assignment]
    writer.IndexWriter.commit = tell  # type: ignore[method-assign]
    indexer.COMMIT_AUDIO_S = float(seconds)
    print("ready", flush=True)
    if interrupted_after:
        sys.argv[1:] = ["index", "--model", recordings, "--index", index_dir, "--windows", "4/3", recordings]
        return clsr.cli.main.main()
    model = Model(Path(recordings), recogniser=LoudnessSpeechEncoder())  # type: ignore[arg-type]
    Index.create(index_dir, model, IndexConfig("4/3", batch_s=4.0)).add([recordings])
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
