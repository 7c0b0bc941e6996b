"""The HTTP server under page and API: uvicorn, which does not wait for half-sent headers, and stops quietly."""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from clsr.web.guard import App

HEADERS_S = 15.0  # for a client to send the headers of a request
STOP_S = 0.3  # for open connections to end: an open page keeps one for as long as it is open


class ImpatientProtocol(H11Protocol):
    """HTTP/1.1 that closes a connection whose request has not arrived, headers and all, in ``HEADERS_S``."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request."""
        super().connection_made(transport)
        self._watch_headers()

    def data_received(self, data: bytes) -> None:
        """Take a part of a request."""
        super().data_received(data)
        self._watch_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        super().connection_lost(exc)
        self._stop_watching()

    def _watch_headers(self) -> None:
        if self.conn.their_state is not h11.IDLE:  # the headers are whole
            self._stop_watching()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(HEADERS_S, self.transport.close)

    def _stop_watching(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class QuietServer(uvicorn.Server):
    """A server whose end is no fault of the requests that it cuts off."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End all connections."""
        for name in ("uvicorn.error", "asyncio"):
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
        await super().shutdown(sockets)


def make_server(app: App, **settings: Any) -> QuietServer:
    """The server of an application; settings are uvicorn's.

    It has no access log, since the token may be in an address, and no server header, which helps only attackers.
    """
    given: dict[str, Any] = {"log_level": "warning", "timeout_graceful_shutdown": STOP_S} | settings
    return QuietServer(
        uvicorn.Config(app, http=ImpatientProtocol, ws="none", access_log=False, server_header=False, **given)
    )
