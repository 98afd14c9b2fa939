"""Takes the messages of each link in their order; threads do what keeps the processor busy or waits for the disk.

Packing or unpacking a chunk of pixels takes some ten milliseconds: with eight links that do so, the pings of all others
waited for a third of a second. Raw chunks, and everything else, take less time than a thread needs to wake up.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from diffedit_protocol.errors import NoBlobError
from diffedit_protocol.frames import Buffer, Frames
from diffedit_protocol.replies import Chunk
from diffedit_protocol.requests import Get
from diffedit_protocol.server_session import Received

from .client_connection import ClientConnection, ClientConnections
from .service import Service, StoredChunk

T = TypeVar("T")
THREADS = 2
MAX_WAITING = 1024  # messages of a link behind one that a thread works on
RAW = b"\xa8encoding\xa3raw"  # as msgpack writes a put's field "encoding" of the value "raw"


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


class Dispatcher:
    """Between the listener and the service."""

    def __init__(self, service: Service, links: ClientConnections, offload: Offload) -> None:
        self._service = service
        self._links = links
        self._offload = offload

    def receive(self, link: ClientConnection, frames: Sequence[Buffer]) -> None:
        """Handle one message of a link, after those that came before it."""
        if not link.busy:
            self._take(link, frames)
            return
        link.inbox.append(frames)
        if len(link.inbox) > MAX_WAITING:
            self._links.cut(link)

    def _take(self, link: ClientConnection, frames: Sequence[Buffer]) -> None:
        if len(frames) == 2 and RAW not in bytes(frames[0][:1024]):  # a small payload may be a megabyte unpacked
            self._run(link, partial(link.session.receive, frames), partial(self._answer, link))
        else:
            self._answer(link, link.session.receive(frames))

    def _answer(self, link: ClientConnection, received: Received) -> None:
        chunk = self._service.handle(link, received)
        if chunk is None:
            return
        packed = isinstance(received.request, Get) and received.request.encoding != "raw"
        if packed or isinstance(chunk, StoredChunk):
            self._run(link, partial(_frames_of, link, received, chunk), partial(self._links.reply, link))
        else:
            self._links.reply(link, link.session.reply(received, chunk))

    def _run(self, link: ClientConnection, work: Callable[[], T], then: Callable[[T], None]) -> None:
        link.busy = True
        self._offload.run(work, partial(self._go_on, link, then))

    def _go_on(self, link: ClientConnection, then: Callable[[T], None], outcome: Future[T]) -> None:
        link.busy = False
        try:
            then(outcome.result())
        finally:
            while link.inbox and not link.busy:
                self._take(link, link.inbox.popleft())


def _frames_of(link: ClientConnection, received: Received, chunk: Chunk | StoredChunk) -> Frames:
    """In a thread: the chunk, read and packed; an error in its place when its file is gone."""
    try:
        return link.session.reply(received, chunk.read() if isinstance(chunk, StoredChunk) else chunk)
    except NoBlobError as error:
        return link.session.refuse(received, error)
