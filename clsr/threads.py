"""Threads that compute at once, and share torch's processors among them."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import torch


def start_pool(threads: int) -> ThreadPoolExecutor:
    """Start threads that each have their part of the processors that torch would take for one."""
    of_all = torch.get_num_threads()

    def share() -> None:
        torch.set_num_threads(max(1, of_all // threads))
        torch.get_num_threads()  # a thread's first operation would take over what another has set meanwhile

    pool = ThreadPoolExecutor(threads, "computing", share)
    started = threading.Barrier(threads + 1)
    for _ in range(threads):
        pool.submit(started.wait)
    started.wait()
    torch.set_num_threads(of_all)  # of threads to come, too: who sets it last has set it for these
    return pool
