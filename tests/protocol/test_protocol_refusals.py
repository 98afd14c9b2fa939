"""The client on real sockets: everything that keeps it out or finds nobody, each in the artist's words."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from diffedit_protocol import client as client_module
from diffedit_protocol import transport
from diffedit_protocol.client import Client, Timeouts
from diffedit_protocol.connection import Connection, KeyPair
from diffedit_protocol.errors import (
    AuthError,
    LinkError,
    VersionError,
)
from diffedit_protocol.transport import mechanism_behind
from reference_server import ReferenceServer, SocketServer
from socket_client import (
    PATIENT,
    Edit,
    refusal,
)


@pytest.fixture(autouse=True)
def unhurried_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """What answers behind an address is given the time that it may need on a busy machine."""
    monkeypatch.setattr(transport, "PROBE_SECONDS", 20.0)


def test_an_unknown_key_is_reported(server: SocketServer) -> None:
    connection = Connection.invite(server.endpoint, server.keys.public, "local")
    error = refusal(connection)
    assert isinstance(error, AuthError)
    assert error.sentence == "The backend on this machine does not know this Krita. Stop it and start it again."


def test_an_unknown_key_at_the_near_end_of_a_tunnel_is_not_taken_for_this_machines_own(server: SocketServer) -> None:
    error = refusal(Connection.invite(server.endpoint, server.keys.public, "anna"))
    assert error.sentence == "The box at 127.0.0.1 does not know this Krita. Ask for a new invitation."


def test_an_unknown_key_of_a_remote_box_is_told_with_its_name(
    server: SocketServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Connection, "local", property(lambda self: False))
    monkeypatch.setattr(Connection, "host", property(lambda self: "gpu1"))
    error = refusal(Connection.invite(server.endpoint, server.keys.public, "stranger"))
    assert error.sentence == "The box at gpu1 does not know this Krita. Ask for a new invitation."


def test_another_server_behind_the_address_is_told_and_nothing_was_sent(
    server: SocketServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "REFUSED_SECONDS", 60.0)  # a server on a busy machine may hang up late
    sentence = "{} answers with another identity than the one you were invited to. Nothing was sent."
    stranger = replace(server.connection(), server_key=KeyPair.generate().public)
    for name, host in (("anna", "127.0.0.1"), ("local", "This machine")):
        error = refusal(replace(stranger, name=name))
        assert isinstance(error, AuthError)
        assert error.sentence == sentence.format(host)
    assert not server.server.links


def test_a_server_without_encryption_is_not_trusted() -> None:
    plain = SocketServer(ReferenceServer(), encrypted=False)
    try:
        error = refusal(Connection.invite(plain.endpoint, KeyPair.generate().public, "x"))
        assert isinstance(error, AuthError)
        assert "answers without encryption, so it is not trusted. Nothing was sent." in error.sentence
        assert not plain.server.links
    finally:
        plain.stop()


@contextlib.contextmanager
def listening(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """An address where something else than a backend answers."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                answer(listener.accept()[0])

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"tcp://127.0.0.1:{listener.getsockname()[1]}"
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


def answer_http(link: socket.socket) -> None:
    with link:
        link.recv(10)
        link.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")


def test_something_else_behind_the_address_is_reported() -> None:
    with listening(answer_http) as endpoint:
        error = refusal(Connection.invite(endpoint, KeyPair.generate().public, "x"))
    assert isinstance(error, AuthError)
    assert error.sentence.startswith("Something else than a DiffEdit backend answers at 127.0.0.1:")


def test_a_peer_that_is_gone_when_it_is_looked_at_is_tried_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "ABSENT_SECONDS", 60.0)  # which the two looks may take on a busy machine
    looks: list[str | None] = []

    def gone_at_first(host: str, port: int, timeout: float) -> str | None:
        looks.append(mechanism_behind(host, port, timeout) if looks else None)
        return looks[-1]

    monkeypatch.setattr(transport, "mechanism_behind", gone_at_first)
    with listening(answer_http) as endpoint:
        error = refusal(Connection.invite(endpoint, KeyPair.generate().public, "x"))
    assert looks == [None, ""]
    assert isinstance(error, AuthError)


def test_a_backend_that_comes_up_while_its_tunnel_is_looked_at_is_not_taken_for_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A tunnel whose far end is away accepts and hangs up, as a backend does that has another key."""
    tunnel = socket.create_server(("127.0.0.1", 0))
    endpoint = f"tcp://127.0.0.1:{tunnel.getsockname()[1]}"
    servers: list[SocketServer] = []

    def hang_up() -> None:
        with contextlib.suppress(OSError):
            while True:
                tunnel.accept()[0].close()

    def come_up(host: str, port: int, timeout: float) -> str | None:
        if not servers:
            tunnel.shutdown(socket.SHUT_RDWR)
            thread.join()
            tunnel.close()
            servers.append(SocketServer(ReferenceServer(), endpoint, keys=keys))
            servers[0].allowed.add(connection.client_public)
        return mechanism_behind(host, port, timeout)

    keys = KeyPair.generate()
    connection = Connection.invite(endpoint, keys.public, "anna")
    monkeypatch.setattr(transport, "mechanism_behind", come_up)
    thread = threading.Thread(target=hang_up, daemon=True)
    thread.start()
    try:
        with Client(connection, PATIENT) as client:
            assert client.ping() > 0
        assert servers
    finally:
        servers[0].stop()


def test_an_address_that_accepts_and_stays_silent_is_reported() -> None:
    kept: list[socket.socket] = []
    with listening(kept.append) as endpoint:
        error = refusal(Connection.invite(endpoint, KeyPair.generate().public, "x"), PATIENT)
    for link in kept:
        link.close()
    assert isinstance(error, LinkError)
    assert "accepts the link but does not answer" in error.sentence


def test_no_backend_on_this_machine_is_told_soon(closed_endpoint: str) -> None:
    # "Soon" is before `connect`, which pytest's timeout would not wait for.
    error = refusal(Connection.invite(closed_endpoint, KeyPair.generate().public, "local"), Timeouts(connect=3600.0))
    assert isinstance(error, LinkError)
    assert error.sentence == "No backend is running. Start it here, or paste a connection line in Settings."


def test_no_backend_at_a_remote_address_is_told_with_the_address(
    closed_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Connection, "local", property(lambda self: False))
    error = refusal(Connection.invite(closed_endpoint, KeyPair.generate().public, "x"), Timeouts(connect=5.0))
    assert error.sentence == f"No backend answers at {closed_endpoint[6:]}. Is it running there?"


def test_the_probe_tells_what_is_behind_an_address(server: SocketServer, closed_endpoint: str) -> None:
    port = int(server.endpoint.rpartition(":")[2])
    assert mechanism_behind("127.0.0.1", port, 20.0) == "CURVE"
    assert mechanism_behind("127.0.0.1", int(closed_endpoint.rpartition(":")[2]), 20.0) is None
    with listening(answer_http) as endpoint:
        assert mechanism_behind("127.0.0.1", int(endpoint.rpartition(":")[2]), 20.0) == ""
    with listening(lambda link: link.close()) as endpoint:
        assert mechanism_behind("127.0.0.1", int(endpoint.rpartition(":")[2]), 20.0) is None


def test_versions_that_do_not_meet_are_reported() -> None:
    future = SocketServer(ReferenceServer(versions=(2, 2)))
    try:
        error = refusal(future.connection())
    finally:
        future.stop()
    assert isinstance(error, VersionError)
    assert error.sentence == "The backend speaks version 2, this plugin 1. Update the plugin."


def test_a_revoked_key_ends_what_is_running_with_its_sentence(server: SocketServer, edit: Edit) -> None:
    connection = server.connection()
    with Client(connection, PATIENT) as client:
        events = client.events(client.submit(*edit))
        next(events)
        server.stop()
        server.allowed.clear()
        server.start()
        with pytest.raises(AuthError, match="does not know this Krita"):
            list(events)
        server.allowed.add(connection.client_public)
        client.ping()  # the next call tries anew
