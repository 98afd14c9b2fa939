"""What the protocol's tests share: an edit with its blobs."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator

import pytest
from diffedit_protocol import client_session
from diffedit_protocol.blobs import pack_picture, pack_plane
from diffedit_protocol.messages import EditRequest
from diffedit_protocol.replies import Limits
from reference_server import ReferenceServer, SocketServer


@pytest.fixture
def edit() -> tuple[EditRequest, dict[str, bytes]]:
    """A request of 20 × 10 px with a selection, and its blobs: 600 and some 200 bytes, ten chunks of 64."""
    noise = random.Random(5)
    picture, pixels = pack_picture(noise.randbytes(600), 20, 10, 3)
    selection, plane = pack_plane(noise.randbytes(200), 20, 10)
    request = EditRequest("a horse", "a zebra", picture=picture, selection=selection)
    return request, {picture.blob: pixels, selection.blob: plane}


@pytest.fixture
def server() -> Iterator[SocketServer]:
    running = SocketServer(ReferenceServer(Limits()))
    yield running
    running.stop()


@pytest.fixture
def nothing_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that count: no request is sent again because a busy machine answers late."""
    monkeypatch.setattr(client_session, "REPEAT_SECONDS", 600.0)


@pytest.fixture
def closed_endpoint() -> Iterator[str]:
    """Nobody listens there, and nobody else can take it meanwhile."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"tcp://127.0.0.1:{held.getsockname()[1]}"
