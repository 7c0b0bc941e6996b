"""``clsr serve``; its modules are imported when it runs."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path

from clsr.cli.indexing import add_hardware

Add = Callable[[argparse._SubParsersAction, str, str, Callable], argparse.ArgumentParser]

TOKEN = "CLSR_TOKEN"


def add_serve(commands: argparse._SubParsersAction, add: Add) -> None:
    """Add ``clsr serve``."""
    serve = add(commands, "serve", "search and index in a web page, with a JSON API", _serve)
    serve.add_argument("--index", type=Path, required=True, metavar="DIR", dest="index_dir", help="its folder")
    serve.add_argument(
        "--model", type=Path, metavar="DIR", help="checkpoint folder; needed where there is no index yet"
    )
    serve.add_argument("--host", default="127.0.0.1", help="address to listen at (127.0.0.1: this machine only)")
    serve.add_argument("--port", type=int, default=7860, help="(7860)")
    serve.add_argument("--token", help=f"what everyone has to know ({TOKEN} of the environment)")
    serve.add_argument("--without-token", action="store_true", help="let other machines ask without one")
    serve.add_argument(
        "--allow", nargs="+", action="extend", type=Path, default=[], metavar="FOLDER",
        help="folders of this machine whose recordings may be indexed from the page",
    )  # fmt: skip
    serve.add_argument(
        "--upload-dir", type=Path, metavar="DIR", help="folder for uploads (that of the index, -uploads)"
    )
    serve.add_argument("--max-upload-mb", type=int, default=500, metavar="N", help="largest upload (500)")
    add_hardware(serve, "auto")
    serve.add_argument("--windows", metavar="CUT", help="of an index to be made, as clsr index has them (40)")


def _serve(options: argparse.Namespace) -> None:
    from clsr.errors import InputError
    from clsr.index.config import IndexConfig
    from clsr.web.config import ServeConfig, ServiceConfig
    from clsr.web.serve import require_packages, require_token, serve

    if options.max_upload_mb < 1:
        raise InputError(f"--max-upload-mb is {options.max_upload_mb}: give 1 or more")
    if not 1 <= options.port <= 65535:
        raise InputError(f"--port is {options.port}: give 1 to 65535")
    config = ServeConfig(
        options.host, options.port, options.token or os.environ.get(TOKEN) or None, options.without_token,
        options.max_upload_mb,
    )  # fmt: skip
    require_token(config)
    require_packages()
    service = ServiceConfig(
        options.index_dir, options.model, tuple(options.allow), options.upload_dir, IndexConfig(options.windows),
        device=options.device, precision=options.precision,
    )  # fmt: skip
    serve(service, config)
