"""One DEALER socket and its monitor: messages out and in, and what becomes of the link, in an artist's words.

libzmq reports a failed handshake as a closed pipe for a wrong server key, and, by chance of timing, also for a peer
without encryption. The first 64 bytes that a ZeroMQ peer sends name its security mechanism in clear (ZMTP 3.0,
https://rfc.zeromq.org/spec/23/): signature 10, version 2, mechanism 20, as-server 1, filler 31.

| option | why |
|---|---|
| LINGER 0 | closing never waits for a peer: it would hang Krita at exit |
| IMMEDIATE 1 | nothing is queued for a peer that is not there |
| SNDHWM small | queues belong to the session, which knows what may wait |
| RCVHWM 0, no limit | at a limit, libzmq aborts the process, Krita's, when a link is lost and a heartbeat is due, |
| | ours or the server's (stream_engine_base.cpp:310; libzmq issues 3937, 4364, 4767) |
| MAXMSGSIZE | no frame beyond a chunk is ever taken into memory |
| HANDSHAKE_IVL 3 s | a peer that accepts and stays silent is given up |
| RECONNECT_IVL 200 ms to 5 s | a restarted server is found at once, an absent one not hammered |
| SNDBUF 1 MiB on ipc | 208 KiB let a chunk pass in pieces only, each with two threads to wake; TCP grows its own |
| HEARTBEAT | a link that died without a word is noticed; chunks are far shorter than the timeout on any usable link |
"""

from __future__ import annotations

import errno
import math
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass

import zmq
from zmq.error import Again
from zmq.utils.monitor import recv_monitor_message

from .connection import NO_BACKEND, Connection
from .errors import AuthError, DiffEditError, LinkError
from .frames import MAX_PAYLOAD_BYTES, Buffer, Frames

GREETING_BYTES = 64
SIGNATURE = b"\xff" + b"\x00" * 7 + b"\x01" + b"\x7f"
VERSION = b"\x03\x00"
MECHANISM = slice(12, 32)


def mechanism_behind(host: str, port: int, timeout: float) -> str | None:
    """The security mechanism ("CURVE", "NULL", ...) of the peer; "" for one that is no ZeroMQ; None for no answer.

    Blocks for at most about `timeout` seconds.
    """
    received = b""
    try:
        with socket.create_connection((host, port), timeout) as link:
            link.sendall(SIGNATURE + VERSION)  # no mechanism yet: the peer would hang up on one that is not its own
            while len(received) < GREETING_BYTES and (more := link.recv(GREETING_BYTES - len(received))):
                received += more
    except OSError:
        if not received:
            return None
    if not (received[:1] == b"\xff" and received[9:10] == b"\x7f"):
        return "" if received else None
    return received[MECHANISM].rstrip(b"\x00").decode("ascii", "replace")


HANDSHAKE_MS = 3000
RECONNECT_MS, RECONNECT_MAX_MS = 200, 5000
HEARTBEAT_MS, HEARTBEAT_TIMEOUT_MS = 2000, 15000
HIGH_WATER_MARK = 16  # messages
PROBE_SECONDS = 1.0
CLOSED_PIPES = 2  # in a row before they are taken for a refusal: a server that stops closes one too
REFUSED_SECONDS = 1.5  # within which a server closes that refuses; one that is busy lets the handshake time out
OPTIONS = (
    (zmq.LINGER, 0),
    (zmq.IMMEDIATE, 1),
    (zmq.SNDHWM, HIGH_WATER_MARK),
    (zmq.RCVHWM, 0),
    (zmq.MAXMSGSIZE, MAX_PAYLOAD_BYTES),
    (zmq.HANDSHAKE_IVL, HANDSHAKE_MS),
    (zmq.RECONNECT_IVL, RECONNECT_MS),
    (zmq.RECONNECT_IVL_MAX, RECONNECT_MAX_MS),
    (zmq.HEARTBEAT_IVL, HEARTBEAT_MS),
    (zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS),
    (zmq.IPV6, 1),
)


READABLE, READABLE_OR_WRITABLE = int(zmq.POLLIN), int(zmq.POLLIN | zmq.POLLOUT)
NOW, NOW_WITH_MORE = int(zmq.DONTWAIT), int(zmq.DONTWAIT | zmq.SNDMORE)
IPC_BUFFER_BYTES = 1 << 20  # of the kernel, as far as it allows (net.core.wmem_max)
COPIED_BYTES = 64 * 1024  # a frame up to this is copied into libzmq: that costs less than to share it


@dataclass(frozen=True)
class Up:
    """The transport is connected and its handshake done."""


@dataclass(frozen=True)
class Down:
    """The transport is not connected; it tries again by itself. `error` says what is known of the reason."""

    error: LinkError


@dataclass(frozen=True)
class Refused:
    """The peer is not the one, or will not have us; trying again would change nothing."""

    error: DiffEditError


LinkChange = Up | Down | Refused


class Transport:
    """A connected or connecting DEALER. Used by one thread; `close` never blocks."""

    def __init__(self, connection: Connection) -> None:
        """Begins to connect. Raises AuthError for an ipc folder that others may enter, LinkError for a missing one."""
        connection.check_folder()
        self._connection = connection
        self._context = zmq.Context()
        self._met_backend = False  # a look found a backend where handshakes failed: it may have come up just before
        self._open()

    def close(self) -> None:
        """Drops the link and everything queued."""
        self._close_sockets()
        self._context.destroy(linger=0)

    def send(self, frames: Frames) -> bool:
        """Hands a message to the socket; False when it can take none now. A chunk is not copied; small frames are."""
        try:
            send(self._socket, frames)
        except Again:
            return False
        return True

    def receive(self) -> Frames | None:
        """The next message that is there, or None. Frames are views into libzmq's memory: no chunk is copied here."""
        if not _readable(self._socket):  # an Again that is raised costs ten times as much
            return None
        frames = self._socket.recv_multipart(zmq.DONTWAIT, copy=False)
        return [frame.buffer for frame in frames]

    def wait(self, seconds: float, *, to_send: bool) -> None:
        """Sleeps until a message or a change of the link is there, or (`to_send`) the socket can take one."""
        self._poller.register(self._socket, READABLE_OR_WRITABLE if to_send else READABLE)
        self._poller.poll(math.ceil(max(0.0, seconds) * 1000))

    def changes(self) -> list[LinkChange]:
        """What became of the link since the last call, oldest first."""
        found: list[LinkChange] = []
        while _readable(self._monitor):
            event = recv_monitor_message(self._monitor)
            change = self._read(int(event["event"]), int(event["value"]))
            if change is not None:
                found.append(change)
        return found

    def _open(self) -> None:
        self._socket = self._context.socket(zmq.DEALER)
        for option, value in OPTIONS:
            self._socket.setsockopt(option, value)
        if self._connection.endpoint.startswith("ipc://"):
            self._socket.setsockopt(zmq.SNDBUF, IPC_BUFFER_BYTES)
        if self._connection.encrypted:
            self._socket.setsockopt(zmq.CURVE_SERVERKEY, self._connection.server_key.encode())
            self._socket.setsockopt(zmq.CURVE_PUBLICKEY, self._connection.client_public.encode())
            self._socket.setsockopt(zmq.CURVE_SECRETKEY, self._connection.client_secret.encode())
        self._monitor = self._socket.get_monitor_socket()
        self._poller = zmq.Poller()
        self._poller.register(self._monitor, zmq.POLLIN)
        self._shaken = False  # the handshake of the present connection is done
        self._explained = True  # what became of the present connection was told
        self._failed = False  # the last handshake failed, which says more than that it is tried again
        self._closed_pipes = 0  # handshakes in a row that ended so
        self._suspected = False  # as many have ended so before
        self._connected = 0.0  # when the present connection was made
        self._socket.connect(_reachable(self._connection))

    def _close_sockets(self) -> None:
        self._socket.disable_monitor()
        self._monitor.close(0)
        self._socket.close(0)

    def _read(self, event: int, value: int) -> LinkChange | None:
        """What a monitor event means (libzmq's zmq_socket_monitor(3)); None when it adds nothing."""
        if event == zmq.EVENT_CONNECTED:
            self._explained, self._connected = False, time.monotonic()
        elif event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self._shaken, self._failed, self._closed_pipes, self._suspected = True, False, 0, False
            self._met_backend = False
            return Up()
        elif event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            self._explained = True
            return Refused(AuthError(_unknown_key(self._connection)))
        elif event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL:
            return self._look()
        elif event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL:
            self._explained = self._failed = True
            late = time.monotonic() - self._connected > REFUSED_SECONDS
            if late or value not in (errno.EPIPE, errno.ECONNRESET):
                return Down(LinkError(f"{_address(self._connection)} accepts the link but does not answer."))
            self._closed_pipes += 1
            if self._closed_pipes < CLOSED_PIPES:
                return None
            if self._suspected:
                return self._look()
            self._suspected, self._closed_pipes = True, 0  # a cut line or a proxy closes pipes too: once more
        elif event == zmq.EVENT_DISCONNECTED and self._shaken:
            self._shaken = False
            return Down(LinkError(_lost(self._connection)))
        elif event == zmq.EVENT_DISCONNECTED and not self._explained:
            return self._look()
        elif event == zmq.EVENT_CLOSED or (event == zmq.EVENT_CONNECT_RETRIED and not self._failed):
            self._failed, self._closed_pipes, self._suspected = False, 0, False
            return Down(LinkError(_absent(self._connection)))
        return None

    def _look(self) -> LinkChange | None:
        """See for ourselves what answers there; libzmq has given up on it, or soon would.

        Handshakes that failed may be of a time when the backend was away and something before it, a tunnel's end,
        hung up in its place. So a backend that is there is tried once more, and refused if it hangs up then.
        """
        self._explained = True
        if self._connection.endpoint.startswith("ipc://"):
            return Refused(AuthError(f"{_address(self._connection)} is no backend of this user."))
        mechanism = mechanism_behind(*self._connection.address, timeout=PROBE_SECONDS)
        if mechanism is None:
            self._close_sockets()
            self._open()
            return Down(LinkError(_absent(self._connection)))
        if mechanism == "CURVE" and not self._met_backend:
            self._met_backend = True
            self._close_sockets()
            self._open()
            self._suspected = True
            return None
        return Refused(AuthError(_stranger(self._connection, mechanism)))


def send(link: zmq.Socket[bytes], frames: Sequence[Buffer]) -> None:
    """Hand a message to `link` without waiting. Raises zmq.Again when it can take none now."""
    for frame in frames[:-1]:
        link.send(frame, NOW_WITH_MORE)
    link.send(frames[-1], NOW, copy=len(frames[-1]) <= COPIED_BYTES)


def _reachable(connection: Connection) -> str:
    """The endpoint to connect to. Of a name with several addresses the first that answers: libzmq would take the first
    one only, which is IPv6 where the backend may listen on IPv4 alone. Blocks for about PROBE_SECONDS at most.
    """
    if connection.endpoint.startswith("ipc://"):
        return connection.endpoint
    host, port = connection.address
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        return connection.endpoint  # libzmq reports that nobody is there, and looks again
    if len(found) == 1:
        return connection.endpoint
    for address in dict.fromkeys(str(place[0]) for *_, place in found):
        try:
            with socket.create_connection((address, port), PROBE_SECONDS / len(found)):
                return f"tcp://{f'[{address}]' if ':' in address else address}:{port}"
        except OSError:
            continue
    return connection.endpoint


def _readable(link: zmq.Socket[bytes]) -> bool:
    """Whether a message waits."""
    return bool(int(link.get(zmq.EVENTS)) & READABLE)


def _address(connection: Connection) -> str:
    return connection.endpoint.partition("://")[2]


def _unknown_key(connection: Connection) -> str:
    if connection.own:
        return "The backend on this machine does not know this Krita. Stop it and start it again."
    return f"The box at {connection.host} does not know this Krita. Ask for a new invitation."


def _stranger(connection: Connection, mechanism: str) -> str:
    if mechanism == "CURVE":
        return (
            f"{connection.host.capitalize() if connection.own else connection.host} answers with another identity "
            "than the one you were invited to. Nothing was sent."
        )
    if mechanism:
        return f"{_address(connection)} answers without encryption, so it is not trusted. Nothing was sent."
    return f"Something else than a DiffEdit backend answers at {_address(connection)}. Check the address."


def _lost(connection: Connection) -> str:
    return f"The link to {connection.host} was lost. The job goes on there; its result will be fetched."


def _absent(connection: Connection) -> str:
    return NO_BACKEND if connection.own else f"No backend answers at {_address(connection)}. Is it running there?"
