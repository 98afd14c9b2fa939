"""Threads for what takes the processor for long: the server's loop goes on meanwhile, and takes the outcomes.

Packing and unpacking a chunk of pixels takes some ten milliseconds; eight links that do so would leave the pings of all
others waiting for a third of a second.
"""

from __future__ import annotations

import queue
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")
THREADS = 2


class Offload:
    """`wake` is called from a thread when `finish` has something to do; everything else belongs to one thread."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="offload")
        self._finished: queue.SimpleQueue[tuple[Callable[[Future[Any]], None], Future[Any]]] = queue.SimpleQueue()

    def run(self, work: Callable[[], T], then: Callable[[Future[T]], None]) -> None:
        """Do `work` in a thread; `then` is given its outcome by a later `finish`."""

        def done(future: Future[T]) -> None:
            self._finished.put((then, future))
            self._wake()

        self._pool.submit(work).add_done_callback(done)

    def finish(self) -> list[Callable[[], None]]:
        """What is to be done now with what the threads have finished."""
        steps: list[Callable[[], None]] = []
        while not self._finished.empty():
            then, future = self._finished.get()
            steps.append(partial(then, future))
        return steps

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
