"""Page and API in one process: put together, guarded and run."""

from __future__ import annotations

import atexit
import ipaddress
import os
import shutil
import socket
import tempfile

from clsr.errors import InputError
from clsr.extras import require
from clsr.web.config import ServeConfig, ServiceConfig
from clsr.web.guard import App, Guard, Rules
from clsr.web.service import SearchService

SHORTEST_TOKEN = 8


def serve(service: ServiceConfig, config: ServeConfig) -> None:
    """Serve until interrupted.

    Raises:
        InputError: other machines could search without a token, the index or model is at fault, or a package misses.
    """
    require_token(config)
    require_packages()
    import uvicorn

    served = SearchService(service)
    listening = _listen(config)
    app = make_app(served, config)
    print(f"http://{_printed(config.host)}:{config.port}/", flush=True)
    # No access log: the token may be in an address. No server header: it helps only attackers.
    settings = uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False,
        timeout_graceful_shutdown=2,  # an open page keeps a connection for as long as it is open
    )  # fmt: skip
    server = uvicorn.Server(settings)
    server.run([listening])


def _listen(config: ServeConfig) -> socket.socket:
    """The port, taken before anything slow is loaded."""
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    place = f"{_printed(config.host)}:{config.port}"
    try:
        # Its protocol is named, or asyncio does not switch off Nagle's algorithm: 40 ms an answer.
        listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((config.host.strip("[]"), config.port))
        listening.listen()
        return listening
    except OSError as error:
        raise InputError(f"{place}: {error.strerror}; give another --port, or --host") from error


def make_app(service: SearchService, config: ServeConfig) -> App:
    """The page and the API of a service, behind the guard, as an ASGI application."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # it would call a server elsewhere
    cache_dir = os.path.realpath(tempfile.mkdtemp(prefix="clsr-page-"))
    atexit.register(shutil.rmtree, cache_dir, ignore_errors=True)
    os.environ["GRADIO_TEMP_DIR"] = cache_dir  # a private one, or files of other programs would be within reach
    import gradio as gr

    from clsr.web.api import make_api
    from clsr.web.page import make_page, page_style

    app = gr.mount_gradio_app(
        make_api(service), make_page(service), path="", server_name=config.host, server_port=config.port,
        footer_links=[], run_history=False, show_error=True, max_file_size=config.upload_bytes, ssr_mode=False,
        enable_monitoring=False, pwa=False, mcp_server=False, allowed_paths=[], **page_style(),
    )  # fmt: skip
    return Guard(app, Rules(config.token, config.host, config.upload_bytes, cache_dir))


def require_token(config: ServeConfig) -> None:
    """Refuse to serve other machines without a token, unless that is wanted.

    Raises:
        InputError: they could, or the token is too short to be one.
    """
    if config.token is not None and (len(config.token) < SHORTEST_TOKEN or not config.token.isprintable()):
        raise InputError(f"the token has to have {SHORTEST_TOKEN} printable characters or more")
    if config.token is None and not config.without_token and not is_loopback(config.host):
        raise InputError(
            f"--host {config.host} lets other machines search: give a --token (or CLSR_TOKEN), or --without-token"
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address.

    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, True, True, False)
    """
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def require_packages() -> None:
    """Check that the packages of the page are installed.

    Raises:
        InputError: it is not.
    """
    require("fastapi", "gradio", "uvicorn")


def _printed(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host
