"""What the wire is compared with: a copy in memory, and bare TCP to another process and back."""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
import time
from types import TracebackType

_SIZE = struct.Struct("!Q")
_ECHO = """
import socket, struct
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
link, _ = listener.accept()
link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
kept = bytearray()
while head := link.recv(8, socket.MSG_WAITALL):
    (size,) = struct.unpack("!Q", head)
    kept = bytearray(size)
    view = memoryview(kept)
    while view:
        view = view[link.recv_into(view):]
    link.sendall(b"+")
    link.recv(1)
    link.sendall(kept)
"""


def copy_seconds(data: bytes) -> tuple[float, float]:
    """Seconds of two copies in memory: there and back."""
    begun = time.perf_counter()
    there = bytearray(data)
    between = time.perf_counter()
    bytes(there)
    return between - begun, time.perf_counter() - between


class RawTcp:
    """A process on loopback that takes bytes, acknowledges them, and sends them back when asked."""

    def __enter__(self) -> RawTcp:
        self._process = subprocess.Popen([sys.executable, "-c", _ECHO], stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self._link = socket.create_connection(("127.0.0.1", int(self._process.stdout.readline())))
        self._link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._link.close()
        self._process.communicate()

    def seconds(self, data: bytes) -> tuple[float, float]:
        """Seconds until all of `data` is there, and until all of it is back."""
        begun = time.perf_counter()
        self._link.sendall(_SIZE.pack(len(data)))
        self._link.sendall(data)
        self._link.recv(1)
        between = time.perf_counter()
        self._link.sendall(b"?")
        back = bytearray(len(data))
        view = memoryview(back)
        while view:
            view = view[self._link.recv_into(view) :]
        return between - begun, time.perf_counter() - between
