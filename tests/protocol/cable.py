"""A TCP cable on loopback between a client and a server that a test can slow down, cut and pull out."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import threading
import time
from types import TracebackType

from diffedit_protocol.connection import Connection

BUFFER = 64 * 1024


class Cable:
    """`with Cable(connection) as cable: Client(cable.connection)`. `bytes_per_second` limits each direction.

    `carried`: bytes that came out at the other end, "up" to the server and "down" to the client. `cuts`: how often
    it was cut.
    """

    def __init__(self, connection: Connection, bytes_per_second: float | None = None) -> None:
        host, _, port = connection.endpoint.removeprefix("tcp://").rpartition(":")
        self._server = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._rate = bytes_per_second
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._sockets: list[socket.socket] = []
        self._plugged = threading.Event()
        self._plugged.set()
        self._ended = False
        self._lock = threading.Lock()
        self._cut_at: dict[str, int] = {}
        self.carried = {"up": 0, "down": 0}
        self.cuts = 0
        self.connection = dataclasses.replace(connection, endpoint=f"tcp://127.0.0.1:{self._listener.getsockname()[1]}")

    def __enter__(self) -> Cable:
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.unplug()
        self._ended = True
        self._plugged.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(5.0)
        for end in self._sockets:
            end.close()

    def cut(self) -> None:
        """End every connection; new ones are carried."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
        self.cuts += 1
        for pair in pairs:
            for end in pair:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def cut_after(self, size: int, direction: str) -> None:
        """Cut once, as soon as `size` more bytes were carried in `direction`."""
        self._cut_at[direction] = self.carried[direction] + size

    def unplug(self) -> None:
        """Cut, and carry nothing until `plug`: who connects meanwhile hears nothing."""
        self._plugged.clear()
        self.cut()

    def plug(self) -> None:
        self._plugged.set()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            self._plugged.wait()
            if self._ended:
                near.close()
                return
            try:
                far = socket.create_connection(self._server)
            except OSError:  # the server is away for now
                near.close()
                continue
            self._sockets += [near, far]
            with self._lock:
                if not self._plugged.is_set():  # just now
                    near.close()
                    far.close()
                    continue
                self._pairs.append((near, far))
            for thread in (
                threading.Thread(target=self._carry, args=(near, far, "up"), daemon=True),
                threading.Thread(target=self._carry, args=(far, near, "down"), daemon=True),
            ):
                self._threads.append(thread)
                thread.start()

    def _carry(self, source: socket.socket, sink: socket.socket, direction: str) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(BUFFER):
                if self._rate is not None:
                    time.sleep(len(data) / self._rate)
                sink.sendall(data)
                self.carried[direction] += len(data)
                if self.carried[direction] >= self._cut_at.get(direction, self.carried[direction] + 1):
                    self._cut_at.pop(direction, None)
                    self.cut()
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)
