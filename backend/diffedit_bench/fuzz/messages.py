"""Messages that the protocol allows, and the same bent from a seed: bits, bytes, cuts, repetitions, foreign pieces,
and, one level up, fields that are missing, swapped or absurd in value; and the bent ones at a running backend, from a
client that it admits, while another client must be served."""

from __future__ import annotations

import random
import time
import zlib
from collections.abc import Iterator
from typing import Any

import msgpack
from diffedit_protocol import replies, requests
from diffedit_protocol.blobs import blob_id, pack_plane
from diffedit_protocol.client import Client, Timeouts
from diffedit_protocol.connection import Connection
from diffedit_protocol.errors import LinkError
from diffedit_protocol.events import event_message
from diffedit_protocol.frames import Frames, Message, encode
from diffedit_protocol.messages import Bounds, Done, EditRequest, Manifest, PictureRef, Preview, Progress
from diffedit_protocol.schema import layout, to_map
from diffedit_protocol.server_session import reply_message
from diffedit_protocol.transport import Transport, Up

JOB = "0123456789abcdef" * 2
DATA = bytes(range(256)) * 4
BLOB = blob_id(DATA)
INFO = replies.ServerInfo("0.1.0", "boot", limits=replies.Limits(chunk_bytes=4096, blob_bytes=65536))
MASK, _ = pack_plane(bytes(64), 8, 8)
ABSURD: tuple[Any, ...] = (
    None, True, -1, 0, 2**63 - 1, -(2**63), 2**64 - 1, 1e308, float("nan"), float("inf"), "", "x" * 300,
    "../../etc/passwd", "\x00", "ü\u202e", [], [[]], {}, {"a": 1}, [0] * 300, {str(i): i for i in range(300)},
    b"bytes", msgpack.Timestamp(1),
)  # fmt: skip


def valid_requests() -> list[Frames]:
    """One message of every kind that a client sends."""
    edit = EditRequest("a horse", "a zebra", picture=PictureRef(BLOB, 16, 16, 4), selection=MASK)
    found: list[requests.Request] = [
        requests.Hello((1, 1), "fuzz"),
        requests.Have((BLOB, MASK.blob)),
        requests.Put(BLOB, len(DATA), 0, len(DATA), "raw", DATA),
        requests.Put(BLOB, len(DATA), 0, len(DATA), "zlib", zlib.compress(DATA)),
        requests.Put(BLOB, len(DATA), 0, len(DATA), "delta4", zlib.compress(DATA)),
        requests.Get(BLOB, 0, 512, "delta3"),
        requests.Submit(JOB, edit),
        requests.Subscribe(JOB, 3, "zlib"),
        requests.Cancel(JOB),
        requests.Ack(JOB),
        requests.Ping(),
        requests.Status(),
        requests.Jobs(),
    ]
    messages = []
    for number, request in enumerate(found, 1):
        payload = layout(type(request)).payload
        data = None if payload is None else getattr(request, payload)
        messages.append(encode(Message(request.TYPE, {"id": number, **to_map(request)}, data)))
    return messages


def valid_answers() -> list[Frames]:
    """One message of every kind that a server sends."""
    found: list[replies.Reply] = [
        replies.Welcome(1, INFO),
        replies.Lacking({BLOB: 0}),
        replies.Stored(BLOB, 512, False),
        replies.Chunk(len(DATA), 0, 512, "raw", DATA[:512]),
        replies.Accepted(JOB),
        replies.Subscribed(JOB, 3),
        replies.Okay(),
        replies.Pong("boot"),
        replies.JobList((replies.JobInfo(JOB, "done", 9),)),
        replies.Again(),
    ]
    answers = [encode(reply_message(number, reply)) for number, reply in enumerate(found, 1)]
    for event in (Progress("finding", 1, 2), Preview(4, 4, bytes(48)), Done(Manifest(MASK, Bounds(0, 0, 8, 8), 0.5))):
        answers.append(encode(event_message(JOB, 1, event)))
    return answers


def mutated(valid: list[Frames], seed: int, count: int) -> Iterator[Frames]:
    """`count` messages bent from those in `valid`; the same for the same seed."""
    chance = random.Random(seed)
    for _ in range(count):
        frames = [bytes(frame) for frame in chance.choice(valid)]
        if chance.random() < 0.6:
            frames[0] = _bent_fields(frames[0], chance)
        if chance.random() < 0.6:
            which = chance.randrange(len(frames))
            frames[which] = _bent_bytes(frames[which], bytes(chance.choice(valid)[0]), chance)
        if chance.random() < 0.05:
            frames = chance.choice(([], frames * 2, [*frames, b""], frames[1:], frames[:1], frames[::-1]))
        yield list(frames)


def _bent_fields(header: bytes, chance: random.Random) -> bytes:
    """A well-formed header with a field that is missing, strange, new or swapped with another's value."""
    fields: dict[str, Any] = msgpack.unpackb(header)
    target = fields
    if isinstance(fields.get("request"), dict) and chance.random() < 0.7:
        target = fields["request"]
    name = chance.choice(list(target))
    kind = chance.randrange(4)
    if kind == 0:
        del target[name]
    elif kind == 1:
        target[chance.choice(("extra", "__class__", "id", "type"))] = chance.choice(ABSURD)
    elif kind == 2:
        target[name] = chance.choice(list(target.values()))
    else:
        target[name] = chance.choice(ABSURD)
    packed: bytes = msgpack.packb(fields)
    return packed


def _bent_bytes(data: bytes, other: bytes, chance: random.Random) -> bytes:
    """Bytes with some changed, cut, repeated, or grown from another message."""
    if not data:
        return other
    at, to = sorted(chance.choices(range(len(data) + 1), k=2))
    kind = chance.randrange(6)
    if kind == 0:
        bent = bytearray(data)
        for _ in range(chance.choice((1, 1, 2, 8))):
            bent[chance.randrange(len(bent))] ^= 1 << chance.randrange(8)
        return bytes(bent)
    if kind == 1:
        return data[:at]
    if kind == 2:
        return data[:at] + data[to:]
    if kind == 3:
        return data[:to] + data[at:to] * chance.choice((1, 2, 50)) + data[to:]
    if kind == 4:
        return data[:at] + chance.randbytes(chance.choice((1, 4, 64))) + data[to:]
    return data[:at] + other[min(at, len(other)) :]


WITNESS_EVERY = 1000  # messages, after which the other client asks for a sign of life
CONNECT_SECONDS = 60.0
ANSWER_SECONDS = 10.0
CATCH_UP_EVERY = 50  # messages, after which answers are read: a link with more than 64 unread ones is cut
ANSWER_PAUSE_SECONDS, LAST_ANSWER_SECONDS = 0.01, 0.5  # without one, after which none is taken to be under way


def fuzz_backend(line: str, seed: int, count: int) -> dict[str, float]:
    """Send `count` mutated requests to the backend behind `line`.

    Returns the messages sent, the answers received, and how often the witness was served and what its longest wait was
    in seconds.
    Raises LinkError when the witness is not served.
    """
    connection = Connection.from_line(line)
    answers = 0
    waits: list[float] = []
    timeouts = Timeouts(connect=CONNECT_SECONDS, answer=ANSWER_SECONDS)
    with Client(connection, timeouts, software="fuzz witness") as witness:
        transport = Transport(connection)
        try:
            _until_up(transport)
            _send(transport, valid_requests()[0])
            for number, frames in enumerate(mutated(valid_requests(), seed, count), 1):
                if frames:
                    answers += _send(transport, frames)
                if number % CATCH_UP_EVERY == 0:
                    answers += _catch_up(transport, ANSWER_PAUSE_SECONDS)
                if number % WITNESS_EVERY == 0 or number == count:
                    waits.append(witness.ping())
            answers += _catch_up(transport, LAST_ANSWER_SECONDS)
        finally:
            transport.close()
        waits.append(witness.ping())
    return {"sent": count, "answers": answers, "pings": len(waits), "longest_ping_seconds": round(max(waits), 4)}


def _until_up(transport: Transport) -> None:
    end = time.monotonic() + CONNECT_SECONDS
    while not any(isinstance(change, Up) for change in transport.changes()):
        if time.monotonic() > end:
            raise LinkError("The backend did not let the fuzzer in.")
        transport.wait(0.05, to_send=False)


def _catch_up(transport: Transport, seconds: float) -> int:
    """Read answers until none comes for `seconds`; how many there were. The backend takes messages as fast as they
    come, and answers as fast as it can."""
    answers = 0
    while True:
        transport.changes()
        if transport.receive() is not None:
            answers += 1
            continue
        transport.wait(seconds, to_send=False)
        transport.changes()
        if transport.receive() is None:
            return answers
        answers += 1


def _send(transport: Transport, frames: list[bytes | memoryview]) -> int:
    """Send as soon as the socket takes it; returns how many answers were read meanwhile.

    A backend may hang up on a client that floods it with nonsense: the transport reconnects by itself.
    """
    answers = 0
    while True:
        sent = transport.send(frames)
        transport.changes()
        while transport.receive() is not None:
            answers += 1
        if sent:
            return answers
        transport.wait(0.05, to_send=True)
