"""Mutated messages at a running backend, from a client that it admits; another client must be served all the while."""

from __future__ import annotations

import time

from diffedit_protocol.client import Client, Timeouts
from diffedit_protocol.connection import Connection
from diffedit_protocol.errors import LinkError
from diffedit_protocol.transport import Transport, Up

from .messages import mutated, valid_requests

WITNESS_EVERY = 1000  # messages, after which the other client asks for a sign of life
CONNECT_SECONDS = 10.0
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
    with Client(connection, Timeouts(answer=ANSWER_SECONDS), software="fuzz witness") as witness:
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
