"""What is served, where and to whom; cheap to import, since these are options too."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from clsr.config import Precision
from clsr.index.config import IndexConfig


@dataclass(frozen=True)
class ServeConfig:
    """Where to serve, and to whom.

    Args:
        host: name or address to listen at; 127.0.0.1 is this machine only.
        port: port to listen at.
        token: secret that every request must bring; by default clsr serve takes that of the environment variable
            CLSR_TOKEN.
        without_token: let other machines search without a token.
        max_upload_mb: largest upload, in MB (1,048,576 bytes).
        max_upload_minutes: longest upload.
    """

    host: str = "127.0.0.1"
    port: int = 7860
    token: str | None = None
    without_token: bool = False
    max_upload_mb: int = 500
    max_upload_minutes: int = 180

    @property
    def upload_bytes(self) -> int:
        """Largest upload, in bytes."""
        return self.max_upload_mb << 20


@dataclass(frozen=True)
class ServiceConfig:
    """What is served.

    Args:
        index_dir: folder of the index; made by the first job if there is none.
        model: its reference, as for ``clsr.load``; ``None`` is the one that built the index, or the default.
        allowed: folders whose recordings may be indexed.
        upload_dir: folder for uploads; ``None`` is that of the index with ``-uploads`` behind its name.
        indexing: how to index; the windows are those of an index to be made, an existing one keeps its own.
        device: that recordings and spoken questions are encoded on.
        precision: numbers that they are encoded in.
        text_encoder: its reference; ``None`` is the one that built the index, or the model's own.
        longest_upload_s: uploads that last longer are refused.
        resumes_uploads: whether uploads that were accepted before the last stop are indexed.
    """

    index_dir: Path
    model: str | Path | None = None
    allowed: tuple[Path, ...] = ()
    upload_dir: Path | None = None
    indexing: IndexConfig = field(default_factory=IndexConfig)
    device: str = "cpu"
    precision: Precision = "auto"
    text_encoder: str | None = None
    longest_upload_s: float = 10_800.0
    resumes_uploads: bool = True
