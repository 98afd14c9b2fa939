"""ZeroMQ with CURVE beside the standard library's TLS, and both without encryption: what docs/decisions.md compares.

Each way is a process that sends every message back, and a client of it: ZeroMQ's messages of as many bytes as a chunk
of a layer has, and streams in which a message begins with its length. TLS is 1.3, both sides with a certificate of
their own that the other one knows and no other. The ways take turns; the best of the rounds counts beside the median,
since on a machine that does other things medians say more of those.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Any

import zmq
from diffedit_protocol.connection import KeyPair
from diffedit_protocol.errors import BadInputError
from diffedit_protocol.link_speed import LinkSpeed
from diffedit_protocol.replies import Limits

SMALL, LAYER = 16, 3 << 20  # bytes
_SIZE = struct.Struct("!Q")

_ZMQ_ECHO = """
import sys, zmq
socket = zmq.Context().socket(zmq.ROUTER)
if len(sys.argv) > 1:
    socket.curve_server, socket.curve_secretkey = True, sys.argv[1].encode()
print(socket.bind_to_random_port("tcp://127.0.0.1"), flush=True)
while True:
    socket.send_multipart(socket.recv_multipart(copy=False), copy=False)
"""

_STREAM_ECHO = """
import socket, ssl, struct, sys
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
context = None
if len(sys.argv) > 1:
    own, other = sys.argv[1:]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(own)
    context.load_verify_locations(other)
    context.verify_mode = ssl.CERT_REQUIRED
while True:
    link, _ = listener.accept()
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        link = context.wrap_socket(link, server_side=True) if context else link
        with link, link.makefile("rb") as reader:
            while head := reader.read(8):
                link.sendall(head + reader.read(struct.unpack("!Q", head)[0]))
    except OSError:
        pass
"""


class Way(ABC):
    """A process that sends back what it gets; `with` starts and ends it."""

    def __init__(self, program: str, arguments: list[str]) -> None:
        self._command = [sys.executable, "-c", program, *arguments]

    def __enter__(self) -> Way:
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self._port = int(self._process.stdout.readline())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def seconds(self, data: bytes) -> tuple[float, float]:
        """Seconds until a new connection has its first answer, and that `data` takes there and back."""
        begun = time.perf_counter()
        link = self._connect()
        try:
            self._exchange(link, bytes(SMALL))
            connected = time.perf_counter()
            self._exchange(link, data)
            return connected - begun, time.perf_counter() - connected
        finally:
            link.close()

    @abstractmethod
    def _connect(self) -> Any:
        """A link that has `close`."""

    @abstractmethod
    def _exchange(self, link: Any, data: bytes) -> None:
        """Send `data` and take all of it back."""


class ZmqWay(Way):
    def __init__(self, *, encrypted: bool) -> None:
        self._keys = KeyPair.generate() if encrypted else None
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        super().__init__(_ZMQ_ECHO, [] if self._keys is None else [self._keys.secret])

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        self._context.term()

    def _connect(self) -> zmq.Socket[bytes]:
        link = self._context.socket(zmq.DEALER)
        link.linger = 0
        if self._keys is not None:
            own = KeyPair.generate()
            link.curve_serverkey = self._keys.public.encode()
            link.curve_publickey, link.curve_secretkey = own.public.encode(), own.secret.encode()
        link.connect(f"tcp://127.0.0.1:{self._port}")
        return link

    def _exchange(self, link: zmq.Socket[bytes], data: bytes) -> None:
        length = LinkSpeed(loopback=True).chunk_bytes(Limits(), len(data))
        starts = range(0, len(data), length)
        view = memoryview(data)
        for start in starts:
            link.send(view[start : start + length], copy=False)
        back = bytearray(len(data))
        for start in starts:
            chunk = link.recv(copy=False)
            back[start : start + len(chunk)] = chunk.buffer


class StreamWay(Way):
    """TCP; TLS over it where there is a folder with the certificates of `certificates`."""

    def __init__(self, folder: Path | None = None) -> None:
        self._context: ssl.SSLContext | None = None
        arguments: list[str] = []
        if folder is not None:
            server, client = folder / "server.pem", folder / "client.pem"
            arguments = [str(server), str(client)]
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            self._context.minimum_version = ssl.TLSVersion.TLSv1_3
            self._context.check_hostname = False  # the certificate itself is known
            self._context.load_cert_chain(client)
            self._context.load_verify_locations(server)
        super().__init__(_STREAM_ECHO, arguments)

    def _connect(self) -> socket.socket:
        link = socket.create_connection(("127.0.0.1", self._port))
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return link if self._context is None else self._context.wrap_socket(link)

    def _exchange(self, link: socket.socket, data: bytes) -> None:
        link.sendall(_SIZE.pack(len(data)))
        link.sendall(data)  # the other end reads all of it before it answers
        view = memoryview(bytearray(_SIZE.size + len(data)))
        while view:
            view = view[link.recv_into(view) :]


def certificates(folder: Path) -> None:
    """Write server.pem and client.pem: a fresh key and its certificate each. Raises BadInputError without openssl."""
    for name in ("server", "client"):
        file = str(folder / f"{name}.pem")
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        command += ["-days", "2", "-subj", f"/CN={name}", "-keyout", file, "-out", f"{file}.crt"]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise BadInputError(f"The comparison with TLS needs the program openssl: {error}.") from error
        with open(file, "a") as key:
            key.write(Path(f"{file}.crt").read_text())


def compare(rounds: int) -> dict[str, dict[str, dict[str, float]]]:
    """Milliseconds by way and by what was done: {"best", "median"}."""
    with tempfile.TemporaryDirectory(prefix="diffedit-wire-") as folder:
        certificates(Path(folder))
        ways: dict[str, Way] = {
            "zeromq_curve": ZmqWay(encrypted=True),
            "zeromq_plain": ZmqWay(encrypted=False),
            "tls": StreamWay(Path(folder)),
            "tcp": StreamWay(),
        }
        found: dict[str, dict[str, list[float]]] = {name: {"connection": [], "small": [], "layer": []} for name in ways}
        with contextlib.ExitStack() as stack:
            for way in ways.values():
                stack.enter_context(way)
            for _ in range(rounds):
                for name, way in ways.items():
                    connection, layer = way.seconds(bytes(LAYER))
                    _, small = way.seconds(bytes(SMALL))
                    for what, seconds in (("connection", connection), ("small", small), ("layer", layer)):
                        found[name][what].append(seconds * 1000)
    return {
        name: {
            what: {"best": round(min(taken), 3), "median": round(statistics.median(taken), 3)}
            for what, taken in all_taken.items()
        }
        for name, all_taken in found.items()
    }
