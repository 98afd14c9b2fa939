"""Links: forgotten when their connection ends, bounded for each key, and never cut by a descriptor of another's."""

from __future__ import annotations

import os
import resource
from collections.abc import Sequence
from pathlib import Path

import pytest
from backends import TCP, client_of, invited, scripted_backend, wait_until
from diffedit_backend.server import client_connection, serving
from diffedit_backend.server.client_connection import ClientConnections
from diffedit_backend.server.listener import ConnectionId, Incoming, SendResult
from diffedit_protocol.frames import Buffer, Frames, decode
from diffedit_protocol.messages import Event, Progress
from diffedit_protocol.replies import ModelInfo, ServerInfo
from diffedit_protocol.requests import new_job_id
from diffedit_protocol.server_session import ServerSession
from hostile import RawClient

COMMANDS = 80  # more than the links that one key may have at a time
INFO = ServerInfo("0.1.0", "boot", (ModelInfo("script"),), "none")


class Wire:
    """A listener without sockets: keeps what is sent, and which descriptors are cut."""

    def __init__(self) -> None:
        self.cuts: list[int] = []
        self.sent: list[Sequence[Buffer]] = []

    def cut(self, descriptor: int) -> None:
        if descriptor >= 0:
            self.cuts.append(descriptor)

    def send(self, link: ConnectionId, frames: Frames) -> SendResult:
        self.sent.append(frames)
        return SendResult.YES


class World:
    def __init__(self) -> None:
        self.wire = Wire()
        self.events: list[Event] = []
        self.links = ClientConnections(self.wire, lambda key: self.events, lambda: ServerSession(INFO))

    def connect(
        self, number: int, owner: str = "anna", descriptor: int | None = None
    ) -> client_connection.ClientConnection:
        place = number if descriptor is None else descriptor
        return self.links.of(Incoming(ConnectionId(0, b"\0%4d" % number), owner, "10.0.0.1", place, []))


def test_a_link_whose_connection_ended_is_not_cut_by_a_descriptor_that_another_has_now() -> None:
    world = World()
    old = world.connect(1, descriptor=7)
    world.links.disconnected(7)
    new = world.connect(2, owner="ben", descriptor=7)
    world.links.cut(old)
    assert world.wire.cuts == []
    world.links.cut(new)
    assert world.wire.cuts == [7]


def test_links_whose_connection_ended_take_no_place_from_live_ones() -> None:
    world = World()
    live = world.connect(0)
    for number in range(1, COMMANDS):
        world.connect(number)
        world.links.disconnected(number)
    assert world.wire.cuts == []
    assert live.gone_since is None
    assert world.links.owners == {"anna": 1}


def test_a_key_has_so_many_links_at_most_and_loses_its_own_oldest_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_connection, "MAX_LINKS_PER_OWNER", 3)
    world = World()
    world.connect(9, owner="ben")
    for number in range(4):
        world.connect(number)
    assert world.wire.cuts == [0]
    assert world.links.owners == {"ben": 1, "anna": 3}


def test_a_link_whose_connection_ended_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.connect(1)
    world.links.disconnected(1)
    world.links.sweep()
    assert len(world.links) == 1  # its last messages may still be there to be handled
    monkeypatch.setattr(client_connection, "GONE_SECONDS", -1.0)
    world.links.sweep()
    assert len(world.links) == 0


def test_an_event_that_fits_into_no_message_reaches_its_client_as_an_error() -> None:
    world = World()
    link = world.connect(1)
    world.events.append(Progress("x" * 100_000, 1, 2))
    world.links.subscribe(link, new_job_id(), 0)
    (frames,) = world.wire.sent
    fields = decode(frames).fields
    assert (fields["kind"], fields["error"]["code"]) == ("failed", "INTERNAL")


def test_short_commands_of_one_client_cut_nobodys_link(tmp_path: Path) -> None:
    with scripted_backend(tmp_path, listen=["local", TCP]) as backend:
        anna, ben = invited(backend, "anna"), invited(backend, "ben")
        with RawClient(anna) as own, RawClient(ben) as other:
            own.hello()
            other.hello()
            for _ in range(COMMANDS):
                with RawClient(anna) as command:
                    command.hello()
            for client in (own, other):  # a link that was cut would be a new one to the server, which asks for hello
                assert client.ask("status")["type"] == "report"
            with client_of(backend.connection) as admin:

                def links() -> dict[str, int]:
                    return {client["name"]: client["links"] for client in admin.status()["clients"]}

                wait_until(lambda: links()["anna"] == 1, what="the end of the commands' links")
                assert links()["ben"] == 1


def test_the_server_takes_as_many_descriptors_as_the_system_allows() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, soft), hard))
        serving.raise_file_limit()
        allowed = serving.MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, serving.MOST_FILES)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == allowed
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert os.sysconf("SC_OPEN_MAX") == soft
