"""What a client is in the middle of: one question, or one download. Without a socket; `job_run` has the third kind.

An operation asks through the sender, gets every answer, and begins again after every new hello; what it had by
then it keeps. Every request may be repeated, so an operation never has to know what got lost.
"""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections import deque
from typing import Protocol

from .blobs import BackgroundHash
from .encodings import decode_chunk
from .errors import DiffEditError, SchemaError, TooLargeError
from .events import JobEvent
from .link_speed import LinkSpeed, TransferMeter
from .replies import Chunk, Reply, ServerInfo
from .requests import Get, Request

HASHED_AS_THEY_CAME = 4  # chunks that may wait for the hash in ZeroMQ's memory; others are hashed at their place


class RequestSender(Protocol):
    """Where operations ask; the ClientSession is one."""

    speed: LinkSpeed

    @property
    def ready(self) -> bool:
        """Whether hello was answered on the link that is up."""

    @property
    def now(self) -> float:
        """Seconds on the caller's clock."""

    @property
    def server(self) -> ServerInfo:
        """Who answered hello."""

    def ask(self, operation: Operation, request: Request) -> int:
        """Send `request`; its answer goes to `operation`. Returns the request's number."""

    def drop(self, operation: Operation) -> None:
        """Forget what `operation` asked and has no answer yet: a late one is ignored."""


class Operation(ABC):
    """Something that needs answers until it is finished; `error` tells why it failed, if it did."""

    def __init__(self) -> None:
        self.finished = False
        self.error: DiffEditError | None = None

    @abstractmethod
    def begin(self, sender: RequestSender) -> None:
        """Hello was said: ask for everything that is still wanted."""

    @abstractmethod
    def answer(self, sender: RequestSender, number: int, request: Request, reply: Reply) -> None:
        """`request` was answered by `reply`."""

    def refused(self, sender: RequestSender, number: int, request: Request, error: DiffEditError) -> None:
        """`request` was answered by an error, or by something unreadable."""
        self.fail(sender, error)

    def event(self, sender: RequestSender, event: JobEvent) -> None:  # noqa: B027  (only a job run has events)
        """The server told something of a job."""

    def tick(self, sender: RequestSender) -> None:  # noqa: B027  (only a job run waits)
        """Time went by."""

    def fail(self, sender: RequestSender, error: DiffEditError) -> None:
        """End with `error`."""
        sender.drop(self)
        self.finished, self.error = True, error


class Call(Operation):
    """One request and its reply."""

    def __init__(self, request: Request) -> None:
        super().__init__()
        self.request = request
        self.reply: Reply | None = None

    def begin(self, sender: RequestSender) -> None:
        sender.ask(self, self.request)

    def answer(self, sender: RequestSender, number: int, request: Request, reply: Reply) -> None:
        self.reply, self.finished = reply, True


class Download(Operation):
    """Fetches one blob in chunks, several in flight, and checks its hash.

    `limit`: most bytes that it may have. `channels`: 3 or 4 where it holds such pixels, so that slow links pack it.
    `expected`: bytes that it has if all is well, where that is known; the whole window is then asked for at once,
    which saves the round trip that would tell the size. Another size than that is refused by whoever reads the blob.
    """

    def __init__(self, blob: str, limit: int, channels: int | None = None, expected: int | None = None) -> None:
        super().__init__()
        self.blob = blob
        self.limit = limit
        self._expected = expected
        self.size: int | None = None
        self.received = 0
        self._channels = channels
        self._data = io.BytesIO()  # gives its bytes away without copying them, unlike a bytearray
        self._view = memoryview(b"")
        self._ahead: dict[int, int] = {}  # lengths by offset of what is at its place and not hashed yet
        self._asked: dict[int, tuple[int, int]] = {}
        self._holes: deque[tuple[int, int]] = deque()
        self._next = 0
        self._meter = TransferMeter()
        self._hash = BackgroundHash()
        self._hashed = 0

    @property
    def data(self) -> bytes:
        """The blob, once finished without an error."""
        return self._data.getvalue()

    def begin(self, sender: RequestSender) -> None:
        self._holes.extend(self._asked.values())
        self._asked.clear()
        self._meter = TransferMeter()
        self._pump(sender)

    def answer(self, sender: RequestSender, number: int, request: Request, reply: Reply) -> None:
        offset, length = self._asked.pop(number)
        try:
            self._take(sender, reply, offset, length)
        except DiffEditError as error:
            self.fail(sender, error)
            return
        self.finished = self.received == self.size
        self._pump(sender)

    def _take(self, sender: RequestSender, reply: Reply, offset: int, length: int) -> None:
        if not isinstance(reply, Chunk) or reply.offset != offset:
            raise SchemaError("The backend answered with another chunk than the one that was asked for.")
        if self.size is None:
            if not 1 <= reply.size <= self.limit:
                raise TooLargeError(
                    f"The backend offers a blob of {reply.size} bytes; at most {self.limit} were expected."
                )
            self.size = reply.size
            self._data = io.BytesIO(bytes(reply.size))
            self._view = self._data.getbuffer()
        if reply.size != self.size or reply.length != min(length, self.size - offset):
            raise SchemaError(
                f"The backend answered {reply.length} bytes at {offset} of {reply.size}; {length} were asked."
            )
        self._meter.answered(sender.speed, len(reply.data), sender.now)
        self._keep(offset, memoryview(decode_chunk(reply.data, reply.encoding, reply.length)))
        self.received += reply.length
        self._hash_on()

    def _keep(self, offset: int, data: memoryview) -> None:
        """Copy a chunk to its place; where it comes next, it is hashed meanwhile."""
        if offset == self._hashed and self._hash.waiting < HASHED_AS_THEY_CAME:
            self._hash.update(data)
            self._hashed += len(data)
        else:
            self._ahead[offset] = len(data)
        self._view[offset : offset + len(data)] = data

    def _hash_on(self) -> None:
        """Hash what follows without a gap; of the whole blob, compare the hash."""
        while self._hashed in self._ahead:
            end = self._hashed + self._ahead.pop(self._hashed)
            self._hash.update(self._view[self._hashed : end])
            self._hashed = end
        if self._hashed == self.size:
            if self._hash.hexdigest() != self.blob:
                raise SchemaError(f"The bytes that came as blob {self.blob[:12]}… have another hash.")
            self._view = memoryview(b"")  # while something looks into them, the bytes would be copied

    def _pump(self, sender: RequestSender) -> None:
        """Ask for more while the window has room; of a blob of unknown size at first one chunk, which tells it."""
        limits = sender.server.limits
        size = self._expected if self.size is None else self.size
        window = sender.speed.window(limits) if size is not None else 1
        while not self.finished and len(self._asked) < window:
            if self._holes:
                offset, length = self._holes.popleft()
            elif size is None or self._next < size:
                offset, length = self._next, sender.speed.chunk_bytes(limits, size)
                if size is not None:
                    length = min(length, size - offset)
                self._next += length
            else:
                return
            number = sender.ask(self, Get(self.blob, offset, length, sender.speed.encoding(self._channels)))
            self._asked[number] = (offset, length)
