"""A hundred thousand mutated messages, the same in every run, and some more at a real socket."""

from __future__ import annotations

import gc

from diffedit_bench.fuzz.command import fuzz_client, fuzz_server
from diffedit_bench.fuzz.messages import INFO, fuzz_backend, mutated, valid_answers, valid_requests
from diffedit_protocol.client_session import ClientSession
from diffedit_protocol.frames import decode
from diffedit_protocol.replies import Limits
from diffedit_protocol.server_session import ServerSession
from reference_server import ReferenceServer, SocketServer

SEED = 20230523


def test_70_000_mutated_requests_are_each_read_or_refused() -> None:
    outcome = fuzz_server(SEED, 70_000)
    assert sum(outcome.values()) == 70_000
    assert outcome["SCHEMA"] > 30_000
    assert min(outcome[kind] for kind in ("put", "submit", "get", "subscribe", "welcome")) > 100


def test_30_000_mutated_answers_leave_the_client_standing() -> None:
    outcome = fuzz_client(SEED, 30_000)
    assert sum(outcome.values()) == 30_000
    assert outcome["ready"] > 20_000


def test_mutated_messages_are_the_same_for_the_same_seed() -> None:
    assert list(mutated(valid_requests(), 5, 300)) == list(mutated(valid_requests(), 5, 300))
    assert list(mutated(valid_requests(), 5, 300)) != list(mutated(valid_requests(), 6, 300))


def test_what_is_mutated_is_valid_to_begin_with() -> None:
    session = ServerSession(INFO)
    for frames in valid_requests():
        asked = session.receive(frames)
        assert asked.request is not None or decode(asked.replies[0]).type in ("welcome", "pong")
    client = ClientSession("test", loopback=True)
    client.link_up(0.0)
    client.receive(valid_answers()[0], 0.0)
    assert client.ready


def test_mutated_messages_do_not_make_a_session_grow() -> None:
    frames = list(mutated(valid_requests(), SEED, 2000))
    session = ServerSession(ReferenceServer().info)
    session.receive(valid_requests()[0])
    for message in frames:
        session.receive(message)
    gc.collect()
    before = len(gc.get_objects())
    for message in frames:
        session.receive(message)
    gc.collect()
    assert len(gc.get_objects()) - before < 100


def test_a_server_on_a_real_socket_goes_on_serving_while_it_is_fuzzed() -> None:
    server = SocketServer(ReferenceServer(Limits()))
    try:
        report = fuzz_backend(server.connection().to_line(), SEED, 3000)
    finally:
        server.stop()
    assert report["answers"] > 100
