"""Searches in the background: clients take turns, and none may fill the queue."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from clsr.errors import InputError

WAITING_SEARCHES = 512
WAITING_PER_CLIENT = 64
BUSY_SEARCHES = 20  # waiting: a new one takes about a second longer than usual

T = TypeVar("T")


class Busy(InputError):
    """Too much is waiting already."""


class SearchQueue:
    """Runs searches in one thread: tokenizers may not be shared, and torch takes all cores for one text anyway.

    Clients take turns, each with its oldest search. One whose future is cancelled before its turn is dropped.

    Args:
        most: searches that may wait, the running one included.
        most_per_client: those of one client.
    """

    def __init__(self, most: int = WAITING_SEARCHES, most_per_client: int = WAITING_PER_CLIENT) -> None:
        self.most = most
        self.most_per_client = most_per_client
        self._waiting: dict[str, deque[tuple[Future[Any], Callable[[], Any]]]] = {}  # by client, the next one first
        self._running: str | None = None  # client
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def __len__(self) -> int:
        """Searches that wait, the running one included."""
        with self._changed:
            return self._count()

    def submit(self, client: str, search: Callable[[], T]) -> Future[T]:
        """Run a search when it is the client's turn.

        Raises:
            Busy: too many are waiting, of this client or in all.
        """
        future: Future[T] = Future()
        with self._changed:
            self._drop_cancelled()
            if len(self._waiting.get(client, ())) + (self._running == client) >= self.most_per_client:
                raise Busy(f"{self.most_per_client} searches of yours are waiting; try again in a moment")
            if self._count() >= self.most:
                raise Busy(f"{self.most} searches are waiting; try again in a moment")
            self._waiting.setdefault(client, deque()).append((future, search))
            self._changed.notify()
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="search", daemon=True)
                self._thread.start()
        return future

    def close(self, within_s: float) -> bool:
        """Drop what waits, and wait for the running search; whether it ended in time."""
        with self._changed:
            for searches in self._waiting.values():
                for future, _ in searches:
                    future.cancel()
            self._drop_cancelled()
            return self._changed.wait_for(lambda: self._running is None, within_s)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._running = None
                self._changed.notify_all()
                self._changed.wait_for(lambda: bool(self._waiting))
                client = self._running = next(iter(self._waiting))
                searches = self._waiting.pop(client)
                future, search = searches.popleft()
                if searches:
                    self._waiting[client] = searches  # behind the other clients
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(search())
                except BaseException as error:  # whoever waits gets it
                    future.set_exception(error)

    def _count(self) -> int:
        waiting = sum(not future.cancelled() for searches in self._waiting.values() for future, _ in searches)
        return waiting + (self._running is not None)

    def _drop_cancelled(self) -> None:
        for client, searches in list(self._waiting.items()):
            left = deque(one for one in searches if not one[0].cancelled())
            if left:
                self._waiting[client] = left
            else:
                del self._waiting[client]
