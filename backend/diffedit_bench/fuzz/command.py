"""Mutated messages by the million, from a seed: what reads them must neither fall nor grow.

`diffedit bench fuzz` feeds bent messages (`fuzz_messages`) to the server's and the client's session in this process,
or, with `--connect`, to a running backend beside a client that must stay served (`fuzz_link`).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

from diffedit_backend.cli.arguments import add_connect_argument, connection_of
from diffedit_protocol import requests
from diffedit_protocol.client_session import ClientSession
from diffedit_protocol.frames import decode
from diffedit_protocol.job_run import JobRun
from diffedit_protocol.messages import EditRequest
from diffedit_protocol.operations import Call, Download
from diffedit_protocol.server_session import ServerSession

from .messages import BLOB, DATA, INFO, JOB, mutated, valid_answers, valid_requests

HELP = "feed mutated messages to the protocol, or to a running backend, and see that it stands"


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
    add_connect_argument(parser, "fuzz a running backend instead")


def run(args: argparse.Namespace) -> int:
    begin = time.monotonic()
    if args.connect is not None:
        from .messages import fuzz_backend

        print(f"backend: {fuzz_backend(connection_of(args.connect).to_line(), args.seed, args.frames)}")
    else:
        print(f"server session: {dict(fuzz_server(args.seed, args.frames).most_common())}")
        print(f"client session: {dict(fuzz_client(args.seed, args.frames).most_common())}")
    print(f"{args.frames} messages, seed {args.seed}: stood, in {time.monotonic() - begin:.1f} s", file=sys.stderr)
    return 0
