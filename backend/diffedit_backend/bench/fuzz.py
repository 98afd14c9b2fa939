"""Mutated messages by the million, from a seed: what reads them must neither fall nor grow.

Each message begins as one that the protocol allows and is then bent: bits, bytes, cuts, repetitions, foreign pieces,
and, one level up, fields that are missing, swapped or absurd in value. `diffedit bench fuzz` feeds them to the server's
and the client's session in this process, or, with `--connect`, to a running backend beside a client that must stay
served.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgpack
from diffedit_protocol import replies, requests
from diffedit_protocol.blobs import blob_id, pack_plane
from diffedit_protocol.client_session import ClientSession
from diffedit_protocol.events import event_message
from diffedit_protocol.frames import Frames, Message, decode, encode
from diffedit_protocol.job_run import JobRun
from diffedit_protocol.messages import Bounds, Done, EditRequest, Manifest, PictureRef, Preview, Progress
from diffedit_protocol.operations import Call, Download
from diffedit_protocol.schema import layout, to_map
from diffedit_protocol.server_session import ServerSession, reply_message

HELP = "feed mutated messages to the protocol, or to a running backend, and see that it stands"
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


def fuzz_server(seed: int, count: int) -> Counter[str]:
    """Feed `count` mutated requests to a server's session; what each came to, counted.

    Raises SchemaError or TooLargeError for an answer that no client could read; what else is raised is a fault found.
    """
    outcome: Counter[str] = Counter()
    hello = valid_requests()[0]
    session = ServerSession(INFO)
    session.receive(hello)
    for frames in mutated(valid_requests(), seed, count):
        asked = session.receive(frames)
        if asked.request is not None:
            outcome[asked.request.TYPE] += 1
            assert asked.id is not None
        for reply in asked.replies:
            message = decode(reply)
            error = message.fields.get("error")
            outcome[error["code"] if isinstance(error, dict) else message.type] += 1
    return outcome


def fuzz_client(seed: int, count: int) -> Counter[str]:
    """Feed `count` mutated answers to a client's session that always waits for something; its states, counted."""
    outcome: Counter[str] = Counter()
    now = 0.0
    session = ClientSession("fuzz", loopback=True)
    for number, frames in enumerate(mutated(valid_answers(), seed, count)):
        if number % 16 == 0:  # numbers begin at 1 again, so that mutated answers meet what waits for them
            session = ClientSession("fuzz", loopback=True)
            session.link_up(now)
            session.receive(valid_answers()[0], now)
            for operation in (
                Download(BLOB, 4096, 4),
                JobRun(JOB, EditRequest("a", "b"), {BLOB: DATA}, accepted=False),
                JobRun(JOB, None, {}, accepted=True),
                Call(requests.Ping()),
            ):
                session.start(operation, now)
        now += 0.1
        session.receive(frames, now)
        session.tick(now)
        while session.outgoing() is not None:
            session.sent()
        outcome["ready" if session.ready else "refused" if session.fatal else "greeting"] += 1
    return outcome


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--frames", type=int, default=1_000_000, help="how many messages (default: 1000000)")
    parser.add_argument("--seed", type=int, default=0, help="the same seed makes the same messages (default: 0)")
    parser.add_argument("--connect", metavar="LINE", help="fuzz the backend behind this diffedit:// line instead")


def run(args: argparse.Namespace) -> int:
    begin = time.monotonic()
    if args.connect:
        from .fuzz_link import fuzz_backend

        print(f"backend: {fuzz_backend(args.connect, args.seed, args.frames)}")
    else:
        print(f"server session: {dict(fuzz_server(args.seed, args.frames).most_common())}")
        print(f"client session: {dict(fuzz_client(args.seed, args.frames).most_common())}")
    print(f"{args.frames} messages, seed {args.seed}: stood, in {time.monotonic() - begin:.1f} s", file=sys.stderr)
    return 0
