"""Access: checks before the page and the API, and headers of every answer."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import html
import ipaddress
import json
import logging
import os
import re
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from clsr.errors import printable_line

_log = logging.getLogger("clsr")

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

SMALL_BODY = 1 << 20  # of requests that carry no audio
SPOKEN_BODY = 16 << 20  # of a spoken question, or one of text and speech in turn
UPLOAD_MARGIN = 1 << 16  # of a form around its files
WRONG_TOKEN_WAIT_S = 0.5  # before the next token of a client is looked at, however it comes
WAITING_TOKENS = 16  # of a client
BODY_WAIT_S = 60.0  # for the next part of a body
# What the page needs of Gradio. Its other routes (functions by name, proxying, fetching, monitoring) are not served.
PAGE_GET = re.compile(
    r"/(|config|theme\.css|favicon\.ico|manifest\.json|robots\.txt|(assets|static|svelte)/[\w./@+~-]+"
    r"|gradio_api/(heartbeat/\w+|queue/data|upload_progress|startup-events))/?"
)
QUEUE = "/gradio_api/queue/join"  # where functions of the page are called
NO_CALL = "no request of the page"
FAILED_CALL = "the page's request failed; try again in a moment"
STALLED = f"no more of the request came for {BODY_WAIT_S:g} s"
TOO_MANY = "too many tokens were tried; wait, and send the right one"
PAGE_POST = re.compile(r"/gradio_api/(queue/join|upload|cancel|reset)/?")
HEADERS = {
    "content-security-policy": (
        "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; "
        "connect-src 'self' blob: data:; worker-src 'self' blob:; object-src 'none'; "
        "base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
    ),
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "same-origin",  # no-referrer would make browsers send "Origin: null" with our own form
    "x-content-type-options": "nosniff",
}
LOGIN = """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>clsr</title><style>:root{{color-scheme:light dark;font:1rem/1.5 system-ui,sans-serif}}
main{{max-width:22rem;margin:18vh auto;padding:0 1rem}}input,button{{font:inherit;box-sizing:border-box;width:100%;
padding:.6rem .8rem;margin:.3rem 0 .9rem;border-radius:.5rem;border:1px solid GrayText}}
button{{background:#1d4ed8;color:#fff;border:0}}</style>
<main><h1>clsr</h1><form method="post" action="/login"><label for="token">Token</label>
<input id="token" name="token" type="password" autocomplete="current-password" required autofocus>
<p role="alert">{message}</p><button>Open</button></form></main></html>"""


@dataclass(frozen=True)
class Rules:
    """Who is let in.

    Attributes:
        token: every client must send it; ``None`` admits each request whose host name is this machine's.
        host: name or address that the server listens at.
        upload_bytes: largest upload.
        cache_dir: where Gradio keeps what it was given; the only files it serves.
        assistant: path of the server for assistants; empty where there is none.
    """

    token: str | None
    host: str
    upload_bytes: int
    cache_dir: str
    assistant: str = ""


class Guard:
    """ASGI middleware before the page and the API."""

    def __init__(self, app: App, rules: Rules) -> None:
        self.app = app
        self.rules = rules
        # Slow to compute, so that tokens cannot be tried as cookies. The name differs between servers of one host:
        # browsers keep no cookies apart by port.
        digest = hashlib.scrypt((rules.token or "").encode(), salt=b"clsr session", n=1 << 14, r=8, p=1, dklen=36).hex()
        self._cookie, self._session = f"clsr-{digest[:8]}", digest[8:]
        self._turns: dict[str, deque[asyncio.Event]] = {}

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Let a request through, or answer it here."""
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":  # nothing here speaks WebSocket
            return await send({"type": "websocket.close", "code": 1008})
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        send = _with_headers(send)
        refusal = self._refusal(scope, headers)
        if refusal:
            return await _answer(send, refusal[0], _detail(refusal[1]), "application/json")
        if self.rules.token is not None and await self._login(scope, headers, receive, send):
            return None
        if scope["path"].rstrip("/") == QUEUE:
            body = _without_foreign_paths(await _read(receive, SMALL_BODY), self.rules.cache_dir)
            if body is None:
                return await _answer(send, 422, _detail(NO_CALL), "application/json")
            scope, receive = _with_body(scope, receive, body)
        await self._limited(scope, headers, receive, send)

    def _refusal(self, scope: MutableMapping[str, Any], headers: dict[str, str]) -> tuple[int, str] | None:
        """Status and reason of a request that no token allows."""
        path, method = scope["path"], scope["method"]
        if self.rules.token is None and not _is_ours(headers.get("host", ""), self.rules.host):
            return 421, "this server does not answer to that host name; use localhost or its address"  # DNS rebinding
        if _bearer(headers) is None and _is_foreign(path, method, headers):
            return 403, "pages of other sites may not send requests"
        length = headers.get("content-length", "0")
        if not length.isascii() or not length.isdigit():
            return 400, "content-length is no number"
        if len(length) > 15 or int(length) > self._limit(path):
            return 413, f"larger than {self._limit(path)} bytes"
        known = {"/openapi.json", "/login", *filter(None, [self.rules.assistant])}
        if not path.startswith(("/api/", "/docs")) and path not in known:
            return None if self._is_of_page(path, method) else (404, "not found")
        return None

    def _is_of_page(self, path: str, method: str) -> bool:
        if ".." in path:
            return False
        if method not in ("GET", "HEAD"):
            return method == "POST" and bool(PAGE_POST.fullmatch(path))
        return bool(PAGE_GET.fullmatch(path)) or path.startswith(f"/gradio_api/file={self.rules.cache_dir}/")

    def _limit(self, path: str) -> int:
        if path.rstrip("/") == "/gradio_api/upload":
            return max(self.rules.upload_bytes, SPOKEN_BODY) + UPLOAD_MARGIN
        if path.startswith("/api/recordings/"):
            return self.rules.upload_bytes
        return SPOKEN_BODY if path in ("/api/search/spoken", "/api/search/parts") else SMALL_BODY

    async def _login(
        self, scope: MutableMapping[str, Any], headers: dict[str, str], receive: Receive, send: Send
    ) -> bool:
        """Answer a login, or a request that needs one; whether a response was sent."""
        path, method = scope["path"], scope["method"]
        if path == "/login" and method == "POST":
            body = await _read(receive, SMALL_BODY)
            await self._check(parse_qs(body.decode("latin-1")).get("token", [""])[0], "/", _client(scope), send)
            return True
        query = parse_qs(scope["query_string"].decode("latin-1"))
        if path == "/" and method == "GET" and "token" in query:
            given = query.pop("token")[0]
            await self._check(given, f"/?{urlencode(query, doseq=True)}" if query else "/", _client(scope), send)
            return True
        if path == "/api/health" or self._has_cookie(headers):
            return False
        given = _bearer(headers)
        if given is not None:
            admitted = await self._admits(given, _client(scope))
            if admitted is None:
                await _answer(send, 429, _detail(TOO_MANY), "application/json")
            if admitted is not False:
                return admitted is None
        if path == "/":
            await _answer(send, 401, LOGIN.format(message="").encode(), "text/html; charset=utf-8")
        else:
            await _answer(send, 401, _detail("a token is needed: Authorization: Bearer TOKEN"), "application/json",
                          {"www-authenticate": "Bearer"})  # fmt: skip
        return True

    async def _check(self, given: str, place: str, client: str, send: Send) -> None:
        admitted = await self._admits(given, client)
        if admitted:
            cookie = f"{self._cookie}={self._session}; HttpOnly; SameSite=Strict; Path=/"
            await _answer(send, 303, b"", "text/plain", {"location": place, "set-cookie": cookie})
            return
        status, message = (429, TOO_MANY) if admitted is None else (401, "This is not the token.")
        await _answer(send, status, LOGIN.format(message=html.escape(message)).encode(), "text/html; charset=utf-8")

    async def _admits(self, given: str, client: str) -> bool | None:
        """Whether this is the token; ``None``: not looked at, since too many of the client wait.

        After a wrong one, the next of the client is looked at only when the wait is over, however it comes, so that
        many connections try no more tokens than one.
        """
        turns = self._turns.setdefault(client, deque())
        if len(turns) >= WAITING_TOKENS:
            return None
        turn = asyncio.Event()
        turns.append(turn)
        try:
            if turns[0] is not turn:
                await turn.wait()
            if self._same(given, self.rules.token or ""):
                return True
            _log.warning("wrong token from %s", client)
            await asyncio.sleep(WRONG_TOKEN_WAIT_S)
            return False
        finally:
            turns.remove(turn)
            if turns:
                turns[0].set()
            else:
                self._turns.pop(client, None)

    def _has_cookie(self, headers: dict[str, str]) -> bool:
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(self._cookie)
        except CookieError:
            cookie = None
        return cookie is not None and self._same(cookie.value, self._session)

    @staticmethod
    def _same(given: str, known: str) -> bool:
        """Compare in a time that does not depend on where they differ."""
        return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), known.encode("utf-8", "surrogateescape"))

    async def _limited(
        self, scope: MutableMapping[str, Any], headers: dict[str, str], receive: Receive, send: Send
    ) -> None:
        """Let a request through, and stop its body where it grows too long or stalls; its length need not be declared.

        A client that leaves ends its request; that is a line in the log.
        """
        limit, received, stopped, whole, left = self._limit(scope["path"]), 0, False, False, False

        async def counted() -> Message:
            nonlocal received, stopped, whole, left
            try:
                message = await asyncio.wait_for(receive(), None if whole else BODY_WAIT_S)
            except asyncio.TimeoutError:
                stopped, message = True, {"type": "http.disconnect"}
                _log.info("%s stalled: %s %s", _client(scope), scope["method"], printable_line(scope["path"]))
                await _answer(send, 408, _detail(STALLED), "application/json", {"connection": "close"})
            whole = not message.get("more_body")
            left = left or message["type"] == "http.disconnect"
            received += len(message.get("body", b""))
            if received > limit and not stopped:
                stopped = True
                await _answer(send, 413, _detail(f"larger than {limit} bytes"), "application/json")
            return {"type": "http.disconnect"} if stopped else message

        of_app = _with_own_faults(send) if scope["path"].startswith("/gradio_api/") else send

        async def unless_stopped(message: Message) -> None:
            if not stopped:
                await of_app(message)

        try:
            await self.app(scope, counted, unless_stopped)
        except Exception as error:
            if left:
                _log.info("%s left: %s %s", _client(scope), scope["method"], printable_line(scope["path"]))
                _log.debug("%s", type(error).__name__, exc_info=error)
            elif not stopped:
                raise


def _bearer(headers: dict[str, str]) -> str | None:
    """The token of an authorization header; ``None`` where it carries none."""
    kind, _, given = headers.get("authorization", "").partition(" ")
    return given.strip() if kind.lower() == "bearer" and given.strip() else None


def _client(scope: MutableMapping[str, Any]) -> str:
    """The address that a request comes from."""
    return (scope.get("client") or ("",))[0]


def _is_ours(host: str, served: str) -> bool:
    """Whether a Host header names this machine itself: by address, as localhost, or by the name given.

    A name of anyone else's could be made to lead here, so that their page would read ours.
    """
    name = (urlsplit(f"//{host}").hostname or "") if re.fullmatch(r"[\w.:\[\]-]+", host) else ""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name in ("localhost", served.lower())
    return True


def _is_foreign(path: str, method: str, headers: dict[str, str]) -> bool:
    """Whether a browser sends the request for another site's page; following a link to the page does not count."""
    if method in ("GET", "HEAD") and path in ("/", "/docs"):
        return False
    site = headers.get("sec-fetch-site")
    if site is not None and site not in ("same-origin", "none"):
        return True
    origin = headers.get("origin")
    if origin == "null" and site == "same-origin":  # a referrer policy, of a proxy say, hides where our own form is
        return False
    return origin is not None and urlsplit(origin).netloc != headers.get("host")


def _without_foreign_paths(body: bytes, cache_dir: str) -> bytes | None:
    """The body of a call of a function, if all files that it names were uploaded before; else ``None``.

    Gradio, mounted in another application, copies any file of this machine that a call names into its cache, from which
    it is served, and fetches any address.
    """
    try:
        call = json.loads(body)
        left = [call]
        while left:
            part = left.pop()
            if isinstance(part, dict):
                path = part.get("path")
                if path is not None and not (
                    isinstance(path, str) and os.path.normpath(path).startswith(f"{cache_dir}/")
                ):
                    return None
            left += part.values() if isinstance(part, dict) else part if isinstance(part, list) else []
        return json.dumps(call).encode()  # exactly what was checked
    except (ValueError, RecursionError):
        return None


def _with_body(
    scope: MutableMapping[str, Any], receive: Receive, body: bytes
) -> tuple[MutableMapping[str, Any], Receive]:
    """A request with another body, already received."""
    kept = [(name, value) for name, value in scope["headers"] if name not in (b"content-length", b"transfer-encoding")]
    parts = [{"type": "http.request", "body": body, "more_body": False}]

    async def received() -> Message:
        return parts.pop() if parts else await receive()

    return {**scope, "headers": [*kept, (b"content-length", str(len(body)).encode())]}, received


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            given = {name.lower() for name, _ in message.get("headers", [])}
            added = [(n.encode(), v.encode()) for n, v in HEADERS.items() if n.encode() not in given]
            message = {**message, "headers": [*message.get("headers", []), *added]}
        await send(message)

    return sending


def _with_own_faults(send: Send) -> Send:
    """Faults of Gradio in the server's words: its own quote parts of the program."""
    status = 0

    async def sending(message: Message) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
        if status < 400:
            await send(message)
        elif message["type"] == "http.response.start":
            await _answer(send, status, _detail(NO_CALL if status < 500 else FAILED_CALL), "application/json")

    return sending


async def _answer(send: Send, status: int, body: bytes, media_type: str, headers: dict[str, str] | None = None) -> None:
    given = {"content-type": media_type, "content-length": str(len(body)), "cache-control": "no-store"} | (
        headers or {}
    )
    start = {
        "type": "http.response.start",
        "status": status,
        "headers": [(n.encode(), v.encode()) for n, v in given.items()],
    }
    await send(start)
    await send({"type": "http.response.body", "body": body})


async def _read(receive: Receive, limit: int) -> bytes:
    body = b""
    while len(body) <= limit:
        try:
            message = await asyncio.wait_for(receive(), BODY_WAIT_S)
        except asyncio.TimeoutError:  # what has come is none of the requests that are read here
            return b""
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    return body[:limit]


def _detail(text: str) -> bytes:
    return json.dumps({"detail": text}).encode()
