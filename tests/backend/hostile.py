"""Peers that do not keep to the protocol: raw TCP, raw ZMTP, and an invited key that sends what it likes."""

from __future__ import annotations

import contextlib
import socket
import time
from types import TracebackType
from typing import Any

import msgpack
import zmq
from diffedit_protocol.connection import Connection

Frames = list[bytes]
ZMTP_GREETING = b"\xff" + bytes(8) + b"\x7f" + b"\x03\x01" + b"NULL".ljust(20, b"\0") + b"\0" + bytes(31)
ZMTP_READY = b"\x04\x26\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER\x08Identity\x00\x00\x00\x00"
OWN_HANDSHAKE_SECONDS = 30.0  # libzmq's HANDSHAKE_IVL where none is set
ZMTP_MORE_LONG = b"\x03"  # flags of a frame with more to follow and a length of eight bytes


def raw_tcp(connection: Connection) -> socket.socket:
    host, _, port = connection.endpoint.removeprefix("tcp://").rpartition(":")
    return socket.create_connection((host, int(port)), timeout=60.0)


def await_close(peer: socket.socket) -> None:
    """Wait for the other side to close a silent connection. Raises TimeoutError when libzmq's own limit would do it."""
    peer.settimeout(OWN_HANDSHAKE_SECONDS - 5.0)
    with contextlib.suppress(ConnectionError):
        while peer.recv(4096):
            pass


class RawClient:
    """A DEALER that sends any frames. Replies are unpacked headers. `name`: the routing id that it asks for."""

    def __init__(self, connection: Connection, *, encrypted: bool = True, name: bytes = b"") -> None:
        self._context = zmq.Context()
        self.socket = self._context.socket(zmq.DEALER)
        self.socket.linger = 0
        if name:
            self.socket.routing_id = name
        if encrypted and connection.encrypted:
            self.socket.curve_serverkey = connection.server_key.encode()
            self.socket.curve_publickey = connection.client_public.encode()
            self.socket.curve_secretkey = connection.client_secret.encode()
        self.socket.connect(connection.endpoint)
        self._number = 0

    def __enter__(self) -> RawClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()
        self._context.term()

    def hello(self, seconds: float = 60.0) -> dict[str, Any]:
        """Raises TimeoutError when it is not answered."""
        return self.ask("hello", seconds=seconds, versions=[1, 1], client="raw")

    def ask(self, type_: str, payload: bytes | None = None, seconds: float = 60.0, **fields: Any) -> dict[str, Any]:
        """The reply to one request. Raises TimeoutError when none comes."""
        self._number += 1
        frames = [msgpack.packb({"type": type_, "id": self._number, **fields})]
        return self.exchange(frames if payload is None else [*frames, payload], seconds)

    def exchange(self, frames: Frames, seconds: float = 60.0) -> dict[str, Any]:
        """The first reply after sending `frames`; events are passed over."""
        self.socket.send_multipart(frames)
        until = time.monotonic() + seconds
        while self.socket.poll(max(0, int((until - time.monotonic()) * 1000))):
            reply: dict[str, Any] = msgpack.unpackb(self.socket.recv_multipart()[0])
            if reply["type"] != "event":
                return reply
        raise TimeoutError("The server did not answer.")


def error_code(reply: dict[str, Any]) -> str:
    """The code of an error reply; fails for any other."""
    assert reply["type"] == "error", reply
    code: str = reply["error"]["code"]
    return code
