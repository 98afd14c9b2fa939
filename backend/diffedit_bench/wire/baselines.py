"""What the wire is compared with: a copy in memory, bare TCP to another process and back, and ZeroMQ alone.

ZeroMQ alone sends the same frames with no protocol, no hash and no server: whatever share of raw TCP it reaches is the
most that the protocol above it can reach. Two sockets, one plain and one with CURVE, in one process; chunks as
`link_speed` would have them, all of a layer sent without waiting.
"""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
import time
from types import TracebackType

import zmq
from diffedit_protocol.connection import KeyPair
from diffedit_protocol.link_speed import LinkSpeed
from diffedit_protocol.replies import Limits

_ZMQ_ECHO = """
import sys, zmq
context = zmq.Context()
socket = context.socket(zmq.PAIR)
if len(sys.argv) > 1:
    socket.curve_server, socket.curve_secretkey = True, sys.argv[1].encode()
print(socket.bind_to_random_port("tcp://127.0.0.1"), flush=True)
while True:
    count = int(socket.recv())
    chunks = [socket.recv(copy=False) for _ in range(count)]
    socket.send(b"+")
    socket.recv()
    for chunk in chunks:
        socket.send(chunk, copy=False)
"""


class BareZmq:
    """A process on loopback that takes frames, acknowledges them, and sends them back when asked."""

    def __init__(self, *, encrypted: bool) -> None:
        self._keys = KeyPair.generate() if encrypted else None

    def __enter__(self) -> BareZmq:
        secret = [self._keys.secret] if self._keys is not None else []
        self._process = subprocess.Popen([sys.executable, "-c", _ZMQ_ECHO, *secret], stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.PAIR)
        self._socket.linger = 0
        if self._keys is not None:
            own = KeyPair.generate()
            self._socket.curve_serverkey = self._keys.public.encode()
            self._socket.curve_publickey, self._socket.curve_secretkey = own.public.encode(), own.secret.encode()
        self._socket.connect(f"tcp://127.0.0.1:{int(self._process.stdout.readline())}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()
        self._context.term()
        self._process.kill()
        self._process.communicate()

    def seconds(self, data: bytes) -> tuple[float, float]:
        """Seconds until all of `data` is there, and until all of it is back."""
        length = LinkSpeed(loopback=True).chunk_bytes(Limits(), len(data))
        starts = range(0, len(data), length)
        view = memoryview(data)
        begun = time.perf_counter()
        self._socket.send(str(len(starts)).encode())
        for start in starts:
            self._socket.send(view[start : start + length], copy=False)
        self._socket.recv()
        between = time.perf_counter()
        self._socket.send(b"?")
        back = bytearray(len(data))
        for start in starts:
            chunk = self._socket.recv(copy=False)
            back[start : start + length] = chunk.buffer
        return between - begun, time.perf_counter() - between


_SIZE = struct.Struct("!Q")


_TCP_ECHO = """
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
        self._process = subprocess.Popen([sys.executable, "-c", _TCP_ECHO], stdout=subprocess.PIPE, text=True)
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
