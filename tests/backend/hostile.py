"""Peers that do not keep to the protocol: raw TCP, raw ZMTP, an invited key that sends what it likes, and a fuzzer.

As a command it runs the fuzzer for longer than the tests do:

    python tests/backend/hostile.py --messages 5000000 --seed 7
"""

from __future__ import annotations

import argparse
import random
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import msgpack
import zmq
from diffedit_protocol.blobs import blob_id
from diffedit_protocol.connection import Connection
from diffedit_protocol.requests import new_job_id
from diffedit_protocol.schema import to_map

Frames = list[bytes]
ZMTP_GREETING = b"\xff" + bytes(8) + b"\x7f" + b"\x03\x01" + b"NULL".ljust(20, b"\0") + b"\0" + bytes(31)
ZMTP_READY = b"\x04\x26\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER\x08Identity\x00\x00\x00\x00"
ZMTP_MORE_LONG = b"\x03"  # flags of a frame with more to follow and a length of eight bytes


def raw_tcp(connection: Connection) -> socket.socket:
    host, _, port = connection.endpoint.removeprefix("tcp://").rpartition(":")
    return socket.create_connection((host, int(port)), timeout=10.0)


def seconds_until_closed(peer: socket.socket, limit: float = 10.0) -> float:
    """How long the other side leaves a silent connection open. Fails when it is longer than `limit`."""
    begun = time.monotonic()
    peer.settimeout(limit)
    try:
        while peer.recv(4096):
            pass
    except ConnectionError:
        pass
    return time.monotonic() - begun


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

    def hello(self, seconds: float = 5.0) -> dict[str, Any]:
        """Raises TimeoutError when it is not answered."""
        return self.ask("hello", seconds=seconds, versions=[1, 1], client="raw")

    def ask(self, type_: str, payload: bytes | None = None, seconds: float = 5.0, **fields: Any) -> dict[str, Any]:
        """The reply to one request. Raises TimeoutError when none comes."""
        self._number += 1
        frames = [msgpack.packb({"type": type_, "id": self._number, **fields})]
        return self.exchange(frames if payload is None else [*frames, payload], seconds)

    def exchange(self, frames: Frames, seconds: float = 5.0) -> dict[str, Any]:
        """The first reply after sending `frames`; events are passed over."""
        self.socket.send_multipart(frames)
        until = time.monotonic() + seconds
        while self.socket.poll(max(0, int((until - time.monotonic()) * 1000))):
            reply: dict[str, Any] = msgpack.unpackb(self.socket.recv_multipart()[0])
            if reply["type"] != "event":
                return reply
        raise TimeoutError("The server did not answer.")

    def drain(self) -> int:
        """Take every reply that is there; their number."""
        count = 0
        while self.socket.poll(0):
            self.socket.recv_multipart()
            count += 1
        return count


def error_code(reply: dict[str, Any]) -> str:
    """The code of an error reply; fails for any other."""
    assert reply["type"] == "error", reply
    code: str = reply["error"]["code"]
    return code


def well_formed(chance: random.Random) -> Frames:
    """A message that the protocol allows, of any type."""
    from backends import scripted_edit

    data = chance.randbytes(chance.randrange(1, 300))
    job = chance.choice([new_job_id(), "0" * 32])
    request, blobs = scripted_edit("steps=1")
    (picture,) = blobs
    header, payload = chance.choice(
        [
            ({"type": "hello", "versions": [1, 1], "client": "fuzz"}, None),
            ({"type": "have", "blobs": [picture, blob_id(data)]}, None),
            ({"type": "put", "blob": blob_id(data), "size": len(data), "offset": 0, "length": len(data)}, data),
            ({"type": "get", "blob": picture, "offset": 0, "length": 100, "encoding": "zlib"}, None),
            ({"type": "submit", "job": job, "request": to_map(request)}, None),
            ({"type": "subscribe", "job": job, "since": 0, "previews": "zlib"}, None),
            ({"type": "cancel", "job": job}, None),
            ({"type": "ack", "job": job}, None),
            ({"type": "ping"}, None),
            ({"type": "status"}, None),
            ({"type": "jobs"}, None),
        ]
    )
    frames = [msgpack.packb({"id": chance.randrange(2**20), **header})]
    return frames if payload is None else [*frames, payload]


def mutated(chance: random.Random) -> Iterator[Frames]:
    """Messages that were well-formed once, without end: the same ones for the same seed."""
    while True:
        frames = [bytearray(frame) for frame in well_formed(chance)]
        for _ in range(chance.randrange(1, 5)):
            frame = chance.choice(frames)
            spot = chance.randrange(len(frame) + 1)
            match chance.randrange(8):
                case 0 if frame:
                    frame[spot % len(frame)] ^= 1 << chance.randrange(8)
                case 1:
                    del frame[spot:]
                case 2:
                    frame[spot:spot] = chance.randbytes(chance.randrange(1, 9))
                case 3:
                    frame[spot:spot] = frame[: chance.randrange(len(frame) + 1)]
                case 4:
                    # msgpack's own marks: lengths that lie, nesting, extensions, binary strings, huge numbers
                    frame[spot:spot] = chance.choice(
                        [b"\xdd\xff\xff\xff\xff", b"\xdf\x7f\xff\xff\xff", b"\x91" * 300, b"\xc7\x08\x01", b"\xc6\xff"]
                    )
                case 5:
                    frames.append(bytearray(chance.randbytes(chance.randrange(20))))
                case 6 if len(frames) > 1:
                    frames.pop()
                case _:
                    chance.shuffle(frames)
        yield [bytes(frame) for frame in frames]


def fuzz(client: RawClient, seed: int, messages: int) -> int:
    """Send mutated messages as fast as the server takes them; how many replies came."""
    chance = random.Random(seed)
    replies = 0
    client.hello()
    for _, frames in zip(range(messages), mutated(chance), strict=False):
        client.socket.send_multipart(frames)
        replies += client.drain()
    return replies


def main() -> int:
    from backends import invited, resident_mib, scripted_backend

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=5_000_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        scripted_backend(Path(folder), listen=["local", "tcp://127.0.0.1:0"]) as backend,
    ):
        done, part = 0, 100_000
        while done < args.messages:
            with RawClient(invited(backend, new_job_id())) as client:
                replies = fuzz(client, args.seed + done, min(part, args.messages - done))
                client.hello()
            done += part
            print(f"{done} messages, {replies} replies to the last {part}, {resident_mib(backend.pid):.0f} MiB")
    return 0


if __name__ == "__main__":
    root = Path(__file__).parents[2]
    sys.path[:0] = [str(root / "protocol"), str(root / "backend")]
    sys.exit(main())
