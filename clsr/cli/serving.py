"""``clsr serve`` and ``clsr mcp``."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from clsr.cli.options import Folder, Hardware, Ref, options_of, repeated
from clsr.errors import InputError
from clsr.index.config import IndexConfig
from clsr.web.config import ServeConfig, ServiceConfig

TOKEN = "CLSR_TOKEN"


@dataclass(kw_only=True)
class Serve:
    """Search and index in a web page, with a JSON API.

    Args:
        index: folder of the index; made if there is none.
        model: checkpoint folder, or released recogniser such as whisper:FOLDER; by default the one that built the
            index, and for a new index Whisper tiny.en.
        text_encoder: text encoder for the transcripts of a released recogniser, by default MiniLM; or one that replaces
            that of a CLSR model.
        allow: folders of this machine whose recordings may be indexed from the page.
        upload_dir: folder for uploads; by default that of the index, with -uploads behind its name.
    """

    index: Folder
    model: Ref | None = None
    text_encoder: Ref | None = None
    serving: ServeConfig = options_of(ServeConfig)
    allow: tuple[Folder, ...] = repeated("extend")
    upload_dir: Folder | None = None
    hardware: Hardware = options_of(Hardware)
    indexing: IndexConfig = options_of(IndexConfig, without=["batch_s", "approximate_from"])

    def run(self) -> int:
        """Serve until interrupted; the status is that of an interrupted command."""
        from clsr.web.serve import require_packages, require_token, serve

        config = replace(self.serving, token=self.serving.token or os.environ.get(TOKEN) or None)
        if config.max_upload_mb < 1:
            raise InputError(f"--max-upload-mb is {config.max_upload_mb}: give 1 or more")
        if config.max_upload_minutes < 1:
            raise InputError(f"--max-upload-minutes is {config.max_upload_minutes}: give 1 or more")
        if not 1 <= config.port <= 65535:
            raise InputError(f"--port is {config.port}: give 1 to 65535")
        require_token(config)
        require_packages()
        service = ServiceConfig(
            self.index, self.model, self.allow, self.upload_dir, self.indexing,
            device=self.hardware.device, precision=self.hardware.precision, text_encoder=self.text_encoder,
            longest_upload_s=60.0 * config.max_upload_minutes,
        )  # fmt: skip
        serve(service, config)
        return 130


@dataclass(kw_only=True)
class ServeAssistants:
    """Let an assistant search an index, over the Model Context Protocol: by standard input and output, or by HTTP.

    Args:
        index: folder of the index.
        allow_indexing: folders of this machine whose recordings the assistant may index; by default it indexes nothing.
        http: serve http://HOST:PORT/mcp.
        port: port of --http.
        host: name or address of --http; 127.0.0.1 is this machine only.
        token: secret that every request of --http must bring; by default that of the environment variable CLSR_TOKEN.
        without_token: let other machines search without a token.
    """

    index: Folder
    allow_indexing: tuple[Folder, ...] = repeated("extend")
    http: bool = False
    host: str = "127.0.0.1"
    port: int = 7861
    token: str | None = None
    without_token: bool = False
    hardware: Hardware = options_of(Hardware)

    def run(self) -> int:
        """Serve until the assistant closes the input, or until interrupted."""
        from clsr.web.serve import require_token, serve_assistants

        token = self.token or os.environ.get(TOKEN) or None
        serving = ServeConfig(self.host, self.port, token, self.without_token) if self.http else None
        if serving:
            require_token(serving)
        if not self.allow_indexing and not (self.index / "index.json").is_file():
            raise InputError(f"{self.index}: holds no index: make one with clsr index, or give --allow-indexing FOLDER")
        service = ServiceConfig(
            self.index, None, self.allow_indexing, device=self.hardware.device, precision=self.hardware.precision,
            resumes_uploads=False,
        )  # fmt: skip
        serve_assistants(service, serving, bool(self.allow_indexing))
        return 130 if serving else 0
