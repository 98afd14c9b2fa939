"""The ROUTER sockets: frames of a link come in and go out, and nothing that a client does can block or bloat them.

Every TCP address has CURVE and the allow list (`gate`); the local socket lies in a folder that only its user may enter.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import zmq
from diffedit_protocol.connection import KeyPair
from diffedit_protocol.errors import BadInputError
from diffedit_protocol.frames import MAX_PAYLOAD_BYTES, Buffer
from diffedit_protocol.transport import IPC_BUFFER_BYTES, send
from zmq.utils.monitor import recv_monitor_message

from .addresses import Address
from .authenticator import ZAP_DOMAIN
from .flood_guard import FloodGuard, cut

SEND_HIGH_WATER = 16  # messages on their way to a link: twice the window of chunks
# Messages from a link, without a limit: libzmq aborts the process when a link is lost whose messages wait at one and
# a heartbeat is due, ours or the peer's (stream_engine_base.cpp:310, libzmq issues 3937, 4364 and 4767). The flood
# guard bounds what a link may send while its messages are not read.
RECEIVE_HIGH_WATER = 0
HANDSHAKE_MS = 3000
HEARTBEAT_MS, HEARTBEAT_TIMEOUT_MS = 15_000, 60_000
BURST = 64  # messages taken from one socket before the loop looks at anything else
BURST_SECONDS = 0.005  # after which no further message is taken either: some cost more than others
LINGER_MS = 500  # for the last messages to leave when the server stops
MAX_PARTS = 4  # of a message: routing id, header, payload, and one more that tells that there are too many
WATCHED_EVENTS = (
    zmq.EVENT_ACCEPTED
    | zmq.EVENT_DISCONNECTED
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
)
MAX_COPIED = 64 * 1024  # bytes: a frame up to this is copied out of libzmq's buffer


class SendResult(Enum):
    """What became of a message: handed over; the link is full at the moment; the link is gone."""

    YES = "yes"
    FULL = "full"
    GONE = "gone"


@dataclass(frozen=True)
class ConnectionId:
    """One link: the number of its socket and the routing id that libzmq gave it."""

    socket: int
    routing: bytes


@dataclass(frozen=True)
class Incoming:
    """One message of a link. `owner`: the client's public key. `descriptor`: of its connection, -1 where unknown."""

    link: ConnectionId
    owner: str
    address: str
    descriptor: int
    frames: list[Buffer]


@dataclass(frozen=True)
class BoundSocket:
    """One listening socket. `monitor` reports its connections. `file`: of the local socket, which is not encrypted."""

    endpoint: str
    socket: zmq.Socket[bytes]
    monitor: zmq.Socket[bytes]
    file: Path | None = None

    @property
    def encrypted(self) -> bool:
        return self.file is None


class Listener:
    """All sockets of the server."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], server_keys: KeyPair, local_owner: str) -> None:
        seed_routing_ids()
        self._context = context
        self._keys = server_keys
        self._local_owner = local_owner
        self.sockets: list[BoundSocket] = []
        self.flood_guard = FloodGuard()
        self.failed_handshakes = 0

    def open_local(self, path: Path) -> str:
        """Listen on a Unix socket at `path`, in a private folder; returns its endpoint."""
        socket = self._router()
        socket.sndbuf = IPC_BUFFER_BYTES
        return self._bind(socket, f"ipc://{path}", path)

    def open_tcp(self, address: Address) -> str:
        """Listen on a TCP address, encrypted; returns the endpoint with its real port.

        Raises BadInputError when this ZeroMQ cannot encrypt or the address cannot be had.
        """
        address.check()
        socket = self._router()
        socket.ipv6 = ":" in address.host
        socket.curve_server = True
        socket.curve_secretkey = self._keys.secret.encode()
        socket.zap_domain = ZAP_DOMAIN
        socket.handshake_ivl = HANDSHAKE_MS
        socket.heartbeat_ivl = HEARTBEAT_MS
        socket.heartbeat_timeout = HEARTBEAT_TIMEOUT_MS
        socket.backlog = 256
        return self._bind(socket, address.endpoint)

    def receive(self, number: int) -> Iterator[Incoming]:
        """The messages that wait at a socket: at most BURST of them, and none after BURST_SECONDS."""
        bound = self.sockets[number]
        until = time.monotonic() + BURST_SECONDS
        for taken in range(BURST):
            if taken and time.monotonic() > until:
                return
            try:
                parts, size, count = _receive(bound.socket)
            except zmq.Again:
                return
            last = parts[-1]
            descriptor = _descriptor(last)
            self.flood_guard.delivered(descriptor, size, count)
            routing = parts[0].bytes
            if not routing.startswith(b"\0") or count < 2:
                continue  # a name that a client chose for its link could be another's; libzmq's begin with a zero byte
            frames: list[Buffer] = [part.bytes if len(part) <= MAX_COPIED else part.buffer for part in parts[1:]]
            if bound.encrypted:
                owner, address = str(last.get("User-Id")), str(last.get("Peer-Address"))
            else:
                owner, address = self._local_owner, "local"
            yield Incoming(ConnectionId(number, routing), owner, address, descriptor, frames)

    def send(self, link: ConnectionId, frames: Sequence[Buffer]) -> SendResult:
        """Hand a message to libzmq, without waiting."""
        socket = self.sockets[link.socket].socket
        try:
            send(socket, (link.routing, *frames))
        except zmq.Again:
            return SendResult.FULL
        except zmq.ZMQError as error:
            if error.errno in (zmq.EHOSTUNREACH, zmq.ECONNRESET):
                return SendResult.GONE
            raise
        return SendResult.YES

    def watch(self, number: int) -> Iterator[int]:
        """Take note of the connections of a socket that came and went; the descriptors of those that went."""
        bound = self.sockets[number]
        while bound.monitor.poll(0):
            event = recv_monitor_message(bound.monitor, zmq.DONTWAIT)
            descriptor = int(event["value"])
            if event["event"] == zmq.EVENT_ACCEPTED:
                self.flood_guard.opened(descriptor, counted=bound.encrypted)
            elif event["event"] == zmq.EVENT_DISCONNECTED:
                self.flood_guard.closed(descriptor)
                yield descriptor
            else:
                self.failed_handshakes += 1

    def cut(self, descriptor: int) -> None:
        """End a link's TCP connection."""
        if descriptor >= 0:
            self.flood_guard.closed(descriptor)
            cut(descriptor)

    def status(self) -> dict[str, int]:
        return {"failed_handshakes": self.failed_handshakes, "floods_cut": self.flood_guard.cuts}

    def close(self) -> None:
        for bound in self.sockets:
            bound.socket.disable_monitor()
            bound.monitor.close()
            bound.socket.close(linger=LINGER_MS)
            if bound.file is not None:
                bound.file.unlink(missing_ok=True)
                with contextlib.suppress(OSError):  # another server's socket lies there, too
                    bound.file.parent.rmdir()

    def _bind(self, socket: zmq.Socket[bytes], endpoint: str, file: Path | None = None) -> str:
        monitor = socket.get_monitor_socket(WATCHED_EVENTS)
        monitor.linger = 0
        try:
            socket.bind(endpoint)
        except zmq.ZMQError as error:
            socket.disable_monitor()
            monitor.close()
            socket.close()
            raise BadInputError(f"The backend cannot listen on {endpoint}: {error.strerror}.") from error
        if file is None:
            endpoint = f"{endpoint.rpartition(':')[0]}:{_port(socket)}"
        self.sockets.append(BoundSocket(endpoint, socket, monitor, file))
        return endpoint

    def _router(self) -> zmq.Socket[bytes]:
        socket = self._context.socket(zmq.ROUTER)
        socket.linger = 0
        socket.router_mandatory = True  # a send says when the link is full or gone, instead of dropping the message
        socket.maxmsgsize = MAX_PAYLOAD_BYTES
        socket.sndhwm, socket.rcvhwm = SEND_HIGH_WATER, RECEIVE_HIGH_WATER
        return socket


def seed_routing_ids() -> None:
    """Begin the numbers that ROUTER sockets name their peers by at a place that nobody knows.

    libzmq counts up from the C library's rand(), which nothing seeds: the next number was known, and a client that took
    it as its own name (ZMQ_ROUTING_ID) made the next honest client end this process (socket_base.cpp:2113).
    """
    seed = int.from_bytes(os.urandom(4), "little")
    library = ctypes.cdll.LoadLibrary("ucrtbase") if sys.platform == "win32" else ctypes.CDLL(None)
    library.srand(ctypes.c_uint(seed))


def _descriptor(frame: zmq.Frame) -> int:
    """Of the connection that a frame came by; -1 where libzmq does not report it."""
    try:
        return int(frame.get(zmq.SRCFD))
    except (zmq.ZMQError, ValueError, TypeError):
        return -1


def _port(socket: zmq.Socket[bytes]) -> str:
    """The port that a socket is bound to."""
    endpoint = socket.getsockopt_string(zmq.LAST_ENDPOINT)
    return endpoint.rpartition(":")[2]


def _receive(socket: zmq.Socket[bytes]) -> tuple[list[zmq.Frame], int, int]:
    """One message: its first MAX_PARTS frames, the bytes and the number of all of them. Raises zmq.Again."""
    parts: list[zmq.Frame] = []
    size = count = 0
    more = True
    while more:
        part = socket.recv(zmq.DONTWAIT, copy=False)
        more = part.more
        size, count = size + len(part), count + 1
        if count <= MAX_PARTS:
            parts.append(part)
    return parts, size, count
