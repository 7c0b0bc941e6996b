"""Tests of the queue of searches: clients take turns."""

import threading

import pytest

from clsr.web.searches import Busy, SearchQueue


def test_clients_take_turns() -> None:
    go_on, order = threading.Event(), []
    queue = SearchQueue()
    first = queue.submit("a", lambda: go_on.wait(10))
    many = [queue.submit("a", lambda n=n: order.append(f"a{n}")) for n in range(3)]  # type: ignore[misc]
    other = queue.submit("b", lambda: order.append("b"))
    many[1].cancel()
    assert len(queue) == 4
    go_on.set()
    for future in (first, many[0], many[2], other):
        future.result(10)
    assert order in (["a0", "b", "a2"], ["b", "a0", "a2"])


def test_no_client_fills_the_queue() -> None:
    go_on, queue = threading.Event(), SearchQueue(most=4, most_per_client=2)
    queue.submit("a", lambda: go_on.wait(10))
    dropped = queue.submit("a", lambda: None)
    with pytest.raises(Busy, match="2 searches of yours are waiting"):
        queue.submit("a", lambda: None)
    dropped.cancel()
    kept = [queue.submit(client, lambda: None) for client in "abc"]
    with pytest.raises(Busy, match="4 searches are waiting"):
        queue.submit("d", lambda: None)
    go_on.set()
    assert [future.result(10) for future in kept] == [None] * 3


def test_faults_of_a_search_are_its_own() -> None:
    queue = SearchQueue()
    with pytest.raises(ZeroDivisionError):
        queue.submit("a", lambda: 1 / 0).result(10)
    assert queue.submit("a", lambda: 5).result(10) == 5 and queue.close(1.0)
