"""Page and API in one process: put together, guarded and run."""

from __future__ import annotations

import atexit
import ipaddress
import os
import secrets
import shutil
import socket
import tempfile
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from clsr.errors import InputError
from clsr.extras import require
from clsr.web.config import ServeConfig, ServiceConfig
from clsr.web.guard import App, Guard, Rules
from clsr.web.service import SearchService

if TYPE_CHECKING:
    from mcp.server import MCPServer

SHORTEST_TOKEN = 12
ASSISTANT = "/mcp"  # path of the server for assistants
STOP_S = 0.3  # for what is being indexed and a search to end


def serve(service: ServiceConfig, config: ServeConfig) -> None:
    """Serve until interrupted.

    Raises:
        InputError: other machines could search without a token, the index or model is at fault, or a package misses.
    """
    require_token(config)
    require_packages()

    from clsr.web.connections import make_server

    served = SearchService(service)
    listening = _listen(config)
    app = make_app(served, config)
    for link in links(config):
        print(link, flush=True)
    with suppress(KeyboardInterrupt):
        make_server(app).run([listening])
    if not served.close(STOP_S):  # what still computes would crash while Python ends; the index survives any kill
        shutil.rmtree(os.environ["GRADIO_TEMP_DIR"], ignore_errors=True)
        os._exit(130)


def serve_assistants(service: ServiceConfig, config: ServeConfig | None, indexing: bool) -> None:
    """Serve assistants until interrupted, or on standard input and output until the input ends.

    Args:
        service: what is served.
        config: where; ``None`` is standard input and output.
        indexing: whether they may index recordings.

    Raises:
        InputError: other machines could search without a token, the index or model is at fault, or a package misses.
    """
    require("mcp")
    from clsr.web.assistant import make_assistant

    served = SearchService(service)
    assistant = make_assistant(served, indexing)
    with suppress(KeyboardInterrupt):
        if config is None:
            assistant.run("stdio")
        else:
            from clsr.web.connections import make_server

            listening = _listen(config)
            print(f"http://{_printed(config.host)}:{config.port}{ASSISTANT}", flush=True)
            make_server(assistant_app(assistant, config)).run([listening])
    if not served.close(STOP_S):
        os._exit(130 if config else 0)


def assistant_app(assistant: MCPServer[Any], config: ServeConfig) -> App:
    """An MCP server behind the guard, as an ASGI application."""
    from mcp.server.transport_security import TransportSecuritySettings

    unguarded = TransportSecuritySettings(enable_dns_rebinding_protection=False)  # the guard looks at host and origin
    app = assistant.streamable_http_app(
        streamable_http_path=ASSISTANT, json_response=True, stateless_http=True, transport_security=unguarded
    )
    return Guard(app, Rules(config.token, config.host, 0, "", ASSISTANT))


def links(config: ServeConfig) -> list[str]:
    """Where a browser opens the page: on this machine, and if others may connect, on those."""
    host = config.host.strip("[]")
    if host not in ("0.0.0.0", "::"):
        return [f"http://{_printed(config.host)}:{config.port}/"]
    here = [f"http://127.0.0.1:{config.port}/"]
    other = _own_address()
    return [*here, f"http://{other}:{config.port}/ from other machines"] if other else here


def _own_address() -> str | None:
    """The address that other machines reach this one by; ``None`` without a network."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(("192.0.2.1", 9))  # of no machine; nothing is sent
            return probe.getsockname()[0]
    except OSError:
        return None


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
        footer_links=[], run_history=False, show_error=False, max_file_size=config.upload_bytes, ssr_mode=False,
        enable_monitoring=False, pwa=False, mcp_server=False, allowed_paths=[], **page_style(),
    )  # fmt: skip
    return Guard(app, Rules(config.token, config.host, config.upload_bytes, cache_dir))


def require_token(config: ServeConfig) -> None:
    """Refuse to serve other machines without a token, unless that is wanted.

    Raises:
        InputError: they could, or the token is too short to be one.
    """
    if config.token is not None and (len(config.token) < SHORTEST_TOKEN or not config.token.isprintable()):
        raise InputError(
            f"the token has to have {SHORTEST_TOKEN} printable characters or more, such as {secrets.token_urlsafe(16)}"
        )
    if config.token is None and not config.without_token and not is_loopback(config.host):
        raise InputError(
            f"--host {config.host} lets other machines search: give a --token (or CLSR_TOKEN), "
            f"such as {secrets.token_urlsafe(16)}, or --without-token"
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
