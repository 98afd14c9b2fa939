"""The blocking client on real sockets on loopback: an edit's way, refusals in the artist's words, broken links."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cutting_proxy import CuttingProxy
from diffedit_protocol import transport
from diffedit_protocol.blobs import blob_id, pack_picture, pack_plane
from diffedit_protocol.client import Client, Timeouts
from diffedit_protocol.connection import Connection, KeyPair
from diffedit_protocol.errors import (
    AuthError,
    BusyError,
    DiffEditError,
    LinkError,
    NoBlobError,
    SchemaError,
    TooLargeError,
    UnknownJobError,
    VersionError,
)
from diffedit_protocol.messages import (
    Bounds,
    Cancelled,
    Done,
    EditRequest,
    EditResult,
    Event,
    Manifest,
    PictureRef,
    PlaneRef,
    Preview,
    Progress,
    Queued,
    Started,
)
from diffedit_protocol.probe import mechanism_behind
from diffedit_protocol.replies import Limits, Okay
from diffedit_protocol.requests import new_job_id
from reference_server import ReferenceLink, ReferenceServer, SocketServer

QUICK = Timeouts(connect=10.0, answer=10.0, lost=30.0)
PLANE = bytes(range(200))
MASK, MASK_BLOB = pack_plane(PLANE, 20, 10)
RESULT, RESULT_BLOB = pack_picture(os.urandom(20 * 10 * 4), 20, 10, 4)
DONE = Done(Manifest(MASK, Bounds(0, 0, 20, 10), 0.5, edits=(EditResult(1, RESULT),)))
Edit = tuple[EditRequest, dict[str, bytes]]


@pytest.fixture
def server() -> Iterator[SocketServer]:
    running = SocketServer(ReferenceServer(Limits()))
    yield running
    running.stop()


def finish(server: SocketServer, job: str) -> None:
    """The worker does the job."""
    server.server.blobs[MASK.blob], server.server.blobs[RESULT.blob] = MASK_BLOB, RESULT_BLOB
    for event in (Started(), Progress("finding", 1, 1), Preview(1, 1, b"rgb"), DONE):
        server.tell(job, event)


def wait_for(what: Callable[[], bool], seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.005)


def told(client: Client, job: str, since: int | None = None) -> list[Event]:
    """The job's events to its end, without previews."""
    return [e for e in client.events(job, since) if e is not None and not isinstance(e, Preview)]


def refusal(connection: Connection, timeouts: Timeouts = QUICK) -> DiffEditError:
    with pytest.raises(DiffEditError) as caught, Client(connection, timeouts):
        pass
    return caught.value


def test_an_edit_goes_there_and_back(server: SocketServer, edit: Edit) -> None:
    with Client(server.connection()) as client:
        assert client.hello == server.server.info
        job = client.submit(*edit)
        events = client.events(job)
        assert next(e for e in events if e is not None) == Queued(0)
        finish(server, job)
        rest = [event for event in events if event is not None]
        assert rest == [Started(), Progress("finding", 1, 1), Preview(1, 1, b"rgb"), DONE]
        assert client.fetch(MASK) == PLANE
        assert client.fetch(RESULT) == RESULT_BLOB
        assert [info.job for info in client.jobs()] == [job]
        assert client.status() == {"queue": 1}
        client.ack(job)
        assert client.jobs() == ()
        assert 0 < client.ping() < 10
        assert client.trouble is None


def test_nothing_new_is_told_by_none_within_the_poll_time(server: SocketServer, edit: Edit) -> None:
    with Client(server.connection()) as client:
        events = client.events(client.submit(*edit), poll=0.02)
        next(events)
        begin = time.monotonic()
        assert [next(events) for _ in range(5)] == [None] * 5
        assert time.monotonic() - begin >= 0.09


def test_cancel_while_reading_events(server: SocketServer, edit: Edit) -> None:
    with Client(server.connection()) as client:
        job = client.submit(*edit)
        seen: list[Event] = []
        for event in client.events(job):
            if event is None:
                client.cancel(job)
            else:
                seen.append(event)
        assert seen == [Queued(0), Cancelled()]


def test_a_job_of_another_session_can_be_cancelled(server: SocketServer, edit: Edit) -> None:
    connection = server.connection()
    with Client(connection) as client:
        job = client.submit(*edit)
    with Client(connection) as client:
        client.cancel(job)
        assert told(client, job) == [Queued(0), Cancelled()]
        with pytest.raises(UnknownJobError):
            client.cancel(new_job_id())


def test_a_killed_client_is_resumed_by_another_under_the_same_id(server: SocketServer, edit: Edit) -> None:
    connection = server.connection()
    job = new_job_id()
    client = Client(connection)
    client.submit(*edit, job_id=job)
    client.close()
    finish(server, job)
    with Client(connection) as other:
        assert other.submit(*edit, job_id=job) == job
        assert told(other, job)[-1] == DONE
        assert other.fetch(MASK) == PLANE
    assert server.server.jobs[job].submissions == 2
    assert server.server.bytes_put == sum(len(blob) for blob in edit[1].values())


def test_events_can_be_read_again_from_any_number(server: SocketServer, edit: Edit) -> None:
    with Client(server.connection()) as client:
        job = client.submit(*edit)
        events = client.events(job)
        assert next(e for e in events if e is not None) == Queued(0)
        events.close()
        assert next(e for e in client.events(job, since=0) if e is not None) == Queued(0)
        finish(server, job)
        assert told(client, job) == [Started(), Progress("finding", 1, 1), DONE]
        assert told(client, job, since=2) == [Progress("finding", 1, 1), DONE]


def test_a_job_that_nobody_knows_is_told(server: SocketServer) -> None:
    with Client(server.connection()) as client, pytest.raises(UnknownJobError):
        list(client.events(new_job_id()))


def test_names_with_a_path_are_refused_before_they_are_sent(server: SocketServer) -> None:
    with Client(server.connection()) as client:
        for call in (client.cancel, client.ack, lambda job: next(client.events(job))):
            with pytest.raises(SchemaError):
                call("../../etc/passwd")


def test_a_picture_beyond_the_limit_is_refused_before_it_is_sent(server: SocketServer) -> None:
    picture = PictureRef(blob_id(b"x"), 10_000, 10_000, 3)
    with Client(server.connection()) as client, pytest.raises(TooLargeError) as caught:
        client.submit(EditRequest("a", "b", picture=picture), {picture.blob: b"x"})
    assert "10000 × 10000 px is too large: this backend takes 67 megapixels" in caught.value.sentence
    assert server.server.bytes_put == 0


def test_a_request_whose_blob_was_not_given_is_refused(server: SocketServer, edit: Edit) -> None:
    with Client(server.connection()) as client, pytest.raises(SchemaError, match="not among those given"):
        client.submit(edit[0], {})


def test_a_full_queue_is_told_and_can_be_tried_again(server: SocketServer, edit: Edit) -> None:
    with Client(server.connection()) as client:
        server.server.refuse_next = BusyError("Four jobs wait already.", retry_after=1.5)
        with pytest.raises(BusyError) as caught:
            client.submit(*edit)
        assert caught.value.retry_after == 1.5
        finish(server, job := client.submit(*edit))
        assert told(client, job)[-1] == DONE


def test_a_result_that_is_gone_is_told(server: SocketServer) -> None:
    with Client(server.connection()) as client, pytest.raises(NoBlobError):
        client.fetch(MASK)


def test_a_large_layer_goes_up_and_down_in_chunks_with_its_progress(server: SocketServer) -> None:
    pixels = os.urandom(1500 * 1000 * 4)
    picture, blob = pack_picture(pixels, 1500, 1000, 4)
    up: list[tuple[int, int]] = []
    down: list[tuple[int, int]] = []
    with Client(server.connection()) as client:
        client.submit(EditRequest("a", "b", picture=picture), {picture.blob: blob}, on_upload=lambda *at: up.append(at))
        assert client.fetch(picture, on_bytes=lambda *at: down.append(at)) == pixels
    for progress in (up, down):
        assert progress[-1] == (len(pixels), len(pixels))
        assert [sent for sent, _ in progress] == sorted(sent for sent, _ in progress)
    assert server.server.bytes_got == len(pixels)


class Stop(Exception):
    pass


def test_an_answer_of_the_wrong_kind_is_told(server: SocketServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ReferenceLink, "_reply", lambda self, asked: Okay())
    with Client(server.connection()) as client, pytest.raises(SchemaError, match="with something else"):
        client.jobs()


def test_an_upload_that_the_caller_ends_submits_nothing_and_is_taken_up_again(server: SocketServer) -> None:
    picture, blob = pack_picture(os.urandom(3000 * 2000 * 3), 3000, 2000, 3)
    request = EditRequest("a", "b", picture=picture)

    def stop(sent: int, total: int) -> None:
        if sent > total // 4:
            raise Stop

    with Client(server.connection()) as client:
        with pytest.raises(Stop):
            client.submit(request, {picture.blob: blob}, on_upload=stop)
        client.ping()
        assert not server.server.jobs
        client.submit(request, {picture.blob: blob})
    assert server.server.bytes_put == len(blob)


def test_an_unknown_key_is_told(server: SocketServer) -> None:
    connection = Connection.invite(server.endpoint, server.keys.public, "stranger")
    error = refusal(connection)
    assert isinstance(error, AuthError)
    assert error.sentence == "The backend on this machine does not know this Krita. Stop it and start it again."


def test_an_unknown_key_of_a_remote_box_is_told_with_its_name(
    server: SocketServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Connection, "local", property(lambda self: False))
    monkeypatch.setattr(Connection, "host", property(lambda self: "gpu1"))
    error = refusal(Connection.invite(server.endpoint, server.keys.public, "stranger"))
    assert error.sentence == "The box at gpu1 does not know this Krita. Ask for a new invitation."


def test_another_server_behind_the_address_is_told_and_nothing_was_sent(server: SocketServer) -> None:
    error = refusal(replace(server.connection(), server_key=KeyPair.generate().public))
    assert isinstance(error, AuthError)
    assert error.sentence == (
        "This machine answers with another identity than the one you were invited to. Nothing was sent."
    )
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


def say_http(link: socket.socket) -> None:
    with link:
        link.recv(10)
        link.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")


def test_something_else_behind_the_address_is_told() -> None:
    with listening(say_http) as endpoint:
        error = refusal(Connection.invite(endpoint, KeyPair.generate().public, "x"))
    assert isinstance(error, AuthError)
    assert error.sentence.startswith("Something else than a DiffEdit backend answers at 127.0.0.1:")


def test_a_peer_that_is_gone_when_it_is_looked_at_is_tried_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[str | None] = []

    def gone_at_first(host: str, port: int, timeout: float) -> str | None:
        looks.append(mechanism_behind(host, port, timeout) if looks else None)
        return looks[-1]

    monkeypatch.setattr(transport, "mechanism_behind", gone_at_first)
    with listening(say_http) as endpoint:
        error = refusal(Connection.invite(endpoint, KeyPair.generate().public, "x"))
    assert looks == [None, ""]
    assert isinstance(error, AuthError)


def test_an_address_that_accepts_and_stays_silent_is_told() -> None:
    kept: list[socket.socket] = []
    with listening(kept.append) as endpoint:
        error = refusal(Connection.invite(endpoint, KeyPair.generate().public, "x"), Timeouts(connect=10.0))
    for link in kept:
        link.close()
    assert isinstance(error, LinkError)
    assert "accepts the link but does not answer" in error.sentence


@pytest.fixture
def closed_endpoint() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"


def test_no_backend_on_this_machine_is_told_soon(closed_endpoint: str) -> None:
    begin = time.monotonic()
    error = refusal(Connection.invite(closed_endpoint, KeyPair.generate().public, "x"), Timeouts(connect=60.0))
    assert isinstance(error, LinkError)
    assert error.sentence == "No backend is running. Start it here, or paste a connection line in Settings."
    assert time.monotonic() - begin < 30.0


def test_no_backend_at_a_remote_address_is_told_with_the_address(
    closed_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Connection, "local", property(lambda self: False))
    error = refusal(Connection.invite(closed_endpoint, KeyPair.generate().public, "x"), Timeouts(connect=0.5))
    assert error.sentence == f"No backend answers at {closed_endpoint[6:]}. Is it running there?"


def test_the_probe_tells_what_is_behind_an_address(server: SocketServer, closed_endpoint: str) -> None:
    port = int(server.endpoint.rpartition(":")[2])
    assert mechanism_behind("127.0.0.1", port, 1.0) == "CURVE"
    assert mechanism_behind("127.0.0.1", int(closed_endpoint.rpartition(":")[2]), 1.0) is None
    with listening(say_http) as endpoint:
        assert mechanism_behind("127.0.0.1", int(endpoint.rpartition(":")[2]), 1.0) == ""
    with listening(lambda link: link.close()) as endpoint:
        assert mechanism_behind("127.0.0.1", int(endpoint.rpartition(":")[2]), 1.0) is None


def test_versions_that_do_not_meet_are_told() -> None:
    future = SocketServer(ReferenceServer(versions=(2, 2)))
    try:
        error = refusal(future.connection())
    finally:
        future.stop()
    assert isinstance(error, VersionError)
    assert error.sentence == "The backend speaks version 2, this plugin 1. Update the plugin."


def test_a_revoked_key_ends_what_is_running_with_its_sentence(server: SocketServer, edit: Edit) -> None:
    connection = server.connection()
    with Client(connection, QUICK) as client:
        events = client.events(client.submit(*edit))
        next(events)
        server.stop()
        server.allowed.clear()
        server.start()
        with pytest.raises(AuthError, match="does not know this Krita"):
            list(events)
        server.allowed.add(connection.client_public)
        client.ping()  # the next call tries anew


def test_a_restarted_server_is_given_the_running_job_again(server: SocketServer, edit: Edit) -> None:
    with Client(server.connection(), QUICK) as client:
        job = client.submit(*edit)
        events = client.events(job)
        assert next(e for e in events if e is not None) == Queued(0)
        boot_id = client.hello.boot_id
        server.stop()
        server.server.boot()
        server.start()
        assert next(e for e in events if e is not None) == Queued(0)
        assert client.hello.boot_id != boot_id
        finish(server, job)
        assert [e for e in events if e is not None][-1] == DONE


def test_a_finished_result_is_fetched_from_a_restarted_server(server: SocketServer, edit: Edit) -> None:
    with Client(server.connection(), QUICK) as client:
        job = client.submit(*edit)
        server.stop()
        server.server.links.clear()
        finish(server, job)
        server.server.boot(keep=True)
        server.start()
        assert told(client, job)[-1] == DONE
        assert client.fetch(MASK) == PLANE
    assert server.server.jobs[job].submissions == 2


def test_a_lost_link_is_told_while_it_lasts_and_then_nothing_was_lost(server: SocketServer, edit: Edit) -> None:
    proxy = CuttingProxy(int(server.endpoint.rpartition(":")[2]))
    connection = replace(server.connection(), endpoint=f"tcp://127.0.0.1:{proxy.port}")
    try:
        with Client(connection, QUICK) as client:
            job = client.submit(*edit)
            events = client.events(job)
            assert next(e for e in events if e is not None) == Queued(0)
            proxy.cut()
            for event in events:
                assert event is None
                if client.trouble is not None:
                    break
            assert isinstance(client.trouble, LinkError)
            finish(server, job)
            proxy.mend()
            assert [e for e in events if e is not None] == [Started(), Progress("finding", 1, 1), DONE]
            assert client.trouble is None
    finally:
        proxy.close()


def test_a_link_cut_in_upload_and_download_costs_only_what_was_in_flight(server: SocketServer) -> None:
    proxy = CuttingProxy(int(server.endpoint.rpartition(":")[2]))
    connection = replace(server.connection(), endpoint=f"tcp://127.0.0.1:{proxy.port}")
    picture, blob = pack_picture(os.urandom(4000 * 2000 * 3), 4000, 2000, 3)
    cuts = 0

    def cut_once(done: int, total: int) -> None:
        nonlocal cuts
        if done > total * 0.6 and cuts < limit:
            cuts += 1
            proxy.cut()
            proxy.mend()

    try:
        with Client(connection, QUICK) as client:
            limit = 1
            client.submit(EditRequest("a", "b", picture=picture), {picture.blob: blob}, on_upload=cut_once)
            limit = 2
            assert client.fetch(picture, on_bytes=cut_once) == blob
    finally:
        proxy.close()
    assert cuts == 2
    assert server.server.bytes_put == len(blob)
    assert server.server.bytes_got <= len(blob) + 5 * (1 << 20)
    assert proxy.to_target < len(blob) * 1.3


def test_a_link_that_stays_lost_ends_in_a_link_error(server: SocketServer, edit: Edit) -> None:
    with Client(server.connection(), Timeouts(lost=0.7)) as client:
        events = client.events(client.submit(*edit))
        next(events)
        server.stop()
        with pytest.raises(LinkError):
            list(events)
        server.start()


def test_a_server_that_hangs_is_told_apart_from_a_lost_link(server: SocketServer, edit: Edit) -> None:
    with Client(server.connection(), Timeouts(answer=0.5, lost=60.0)) as client:
        job = client.submit(*edit)
        events = client.events(job)
        next(events)
        with server.lock:  # the application answers nobody; libzmq's thread still keeps the link alive
            with pytest.raises(LinkError, match="has not answered for"):
                client.ping()
            while client.trouble is None:
                next(events)
            assert "has not answered for" in client.trouble.sentence
        finish(server, job)
        assert [e for e in events if e is not None][-1] == DONE
        assert client.trouble is None


def test_a_reader_who_was_elsewhere_does_not_take_his_own_absence_for_silence(server: SocketServer, edit: Edit) -> None:
    with Client(server.connection(), Timeouts(lost=1.1)) as client:
        job = client.submit(*edit)
        events = client.events(job)
        next(events)
        finish(server, job)
        time.sleep(1.5)
        assert [e for e in events if e is not None][-1] == DONE


def test_two_jobs_can_be_read_in_turns(server: SocketServer, edit: Edit) -> None:
    with Client(server.connection()) as client:
        jobs = [client.submit(*edit) for _ in range(2)]
        streams = [client.events(job) for job in jobs]
        for job in jobs:
            finish(server, job)
        ends = [[e for e in stream if e is not None][-1] for stream in reversed(streams)]
        assert ends == [DONE, DONE]


def test_closing_is_quick_with_and_without_a_server(server: SocketServer, edit: Edit, closed_endpoint: str) -> None:
    client = Client(server.connection())
    client.submit(*edit)
    begin = time.monotonic()
    client.close()
    client.close()
    assert time.monotonic() - begin < 5.0
    absent = Client(Connection.invite(closed_endpoint, KeyPair.generate().public, "x"), Timeouts(answer=0.1))
    with pytest.raises(LinkError):
        absent.ping()
    begin = time.monotonic()
    absent.close()
    assert time.monotonic() - begin < 5.0


@pytest.mark.skipif(os.name != "posix", reason="ipc:// is POSIX's")
def test_ipc_in_a_private_folder_needs_no_encryption(tmp_path: Path, edit: Edit) -> None:
    tmp_path.chmod(0o700)
    server = SocketServer(ReferenceServer(Limits()), f"ipc://{tmp_path}/socket", encrypted=False)
    try:
        with Client(server.connection()) as client:
            finish(server, job := client.submit(*edit))
            assert told(client, job)[-1] == DONE
        tmp_path.chmod(0o755)
        assert isinstance(refusal(server.connection()), AuthError)
        tmp_path.chmod(0o700)
        encrypting = Connection.invite(server.endpoint, KeyPair.generate().public, "x")
        assert isinstance(refusal(encrypting), AuthError)
    finally:
        server.stop()


def test_a_slow_link_packs_pixels_and_previews(server: SocketServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Connection, "local", property(lambda self: False))
    smooth = bytes((x + y) % 256 for y in range(600) for x in range(800) for _ in range(3))
    picture, blob = pack_picture(smooth, 800, 600, 3)
    proxy = CuttingProxy(int(server.endpoint.rpartition(":")[2]))
    connection = replace(server.connection(), endpoint=f"tcp://127.0.0.1:{proxy.port}")
    try:
        client = Client(connection)
        client._session.speed.saw_round_trip = lambda seconds: None  # type: ignore[method-assign]  # stays unknown: slow
        with client:
            job = client.submit(EditRequest("a", "b", picture=picture), {picture.blob: blob})
            events = client.events(job)
            next(events)
            server.tell(job, Preview(100, 100, bytes(30_000)))
            assert next(e for e in events if isinstance(e, Preview)) == Preview(100, 100, bytes(30_000))
            assert client.fetch(picture) == smooth
    finally:
        proxy.close()
    assert server.server.blobs[picture.blob] == smooth
    assert proxy.to_target < len(smooth) / 10
    assert proxy.to_client < len(smooth) / 10


def test_a_plane_that_does_not_hold_what_its_reference_says_is_refused(server: SocketServer) -> None:
    server.server.blobs[MASK.blob] = MASK_BLOB
    with Client(server.connection()) as client, pytest.raises(SchemaError):
        client.fetch(PlaneRef(MASK.blob, 20, 11))
