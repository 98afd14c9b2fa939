"""What the tests of the client on real sockets share: a result, and how it is brought about and read."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import pytest
from diffedit_protocol.blobs import pack_picture, pack_plane
from diffedit_protocol.client import Client, Timeouts
from diffedit_protocol.connection import Connection
from diffedit_protocol.errors import (
    DiffEditError,
)
from diffedit_protocol.messages import (
    Bounds,
    Done,
    EditRequest,
    EditResult,
    Event,
    Manifest,
    Preview,
    Progress,
    Started,
)
from reference_server import SocketServer

PATIENT = Timeouts(connect=60.0, answer=60.0, lost=120.0)  # no sound run comes near them


PLANE = bytes(range(200))


MASK, MASK_BLOB = pack_plane(PLANE, 20, 10)


RESULT, RESULT_BLOB = pack_picture(os.urandom(20 * 10 * 4), 20, 10, 4)


DONE = Done(Manifest(MASK, Bounds(0, 0, 20, 10), 0.5, edits=(EditResult(1, RESULT),)))


Edit = tuple[EditRequest, dict[str, bytes]]


def finish(server: SocketServer, job: str) -> None:
    """The worker does the job."""
    server.server.blobs[MASK.blob], server.server.blobs[RESULT.blob] = MASK_BLOB, RESULT_BLOB
    for event in (Started(), Progress("finding", 1, 1), Preview(1, 1, b"rgb"), DONE):
        server.send_event(job, event)


def wait_for(what: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.005)


def events_of(client: Client, job: str, since: int | None = None) -> list[Event]:
    """The job's events to its end, without previews."""
    return [e for e in client.events(job, since) if e is not None and not isinstance(e, Preview)]


def refusal(connection: Connection, timeouts: Timeouts = PATIENT) -> DiffEditError:
    with pytest.raises(DiffEditError) as caught, Client(connection, timeouts):
        pass
    return caught.value
