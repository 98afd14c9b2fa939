"""The blocking client on real sockets on loopback: an edit's way, its events, its limits."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
from cable import Cable
from diffedit_protocol import client as client_module
from diffedit_protocol import job_run
from diffedit_protocol.blobs import blob_id, pack_picture
from diffedit_protocol.client import Client, Timeouts
from diffedit_protocol.connection import Connection, KeyPair
from diffedit_protocol.errors import (
    AuthError,
    BusyError,
    LinkError,
    NoBlobError,
    SchemaError,
    TooLargeError,
    UnknownJobError,
)
from diffedit_protocol.messages import (
    Cancelled,
    EditRequest,
    Event,
    PictureRef,
    PlaneRef,
    Preview,
    Progress,
    Queued,
    Started,
)
from diffedit_protocol.replies import Limits, Okay
from diffedit_protocol.requests import new_job_id
from reference_server import ReferenceLink, ReferenceServer, SocketServer
from socket_client import (
    DONE,
    MASK,
    MASK_BLOB,
    PATIENT,
    PLANE,
    RESULT,
    RESULT_BLOB,
    Edit,
    events_of,
    finish,
    refusal,
    wait_for,
)


def test_an_edit_goes_there_and_back(server: SocketServer, edit: Edit) -> None:
    with Client(server.connection(), PATIENT) as client:
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
        assert client.ping() > 0
        assert client.trouble is None


def test_nothing_new_is_told_by_none_within_the_poll_time(server: SocketServer, edit: Edit) -> None:
    with Client(server.connection(), PATIENT) as client:
        events = client.events(client.submit(*edit), poll=0.02)
        assert next(e for e in events if e is not None) == Queued(0)
        begin = time.monotonic()
        assert [next(events) for _ in range(5)] == [None] * 5
        assert time.monotonic() - begin >= 0.09


def test_a_job_cancelled_while_its_events_are_read_ends_with_that_event(server: SocketServer, edit: Edit) -> None:
    with Client(server.connection(), PATIENT) as client:
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
    with Client(connection, PATIENT) as client:
        job = client.submit(*edit)
    with Client(connection, PATIENT) as client:
        client.cancel(job)
        assert events_of(client, job) == [Queued(0), Cancelled()]
        with pytest.raises(UnknownJobError):
            client.cancel(new_job_id())


@pytest.mark.usefixtures("nothing_repeated")
def test_a_killed_client_is_resumed_by_another_under_the_same_id(server: SocketServer, edit: Edit) -> None:
    connection = server.connection()
    job = new_job_id()
    client = Client(connection, PATIENT)
    client.submit(*edit, job_id=job)
    client.close()
    finish(server, job)
    with Client(connection, PATIENT) as other:
        assert other.submit(*edit, job_id=job) == job
        assert events_of(other, job)[-1] == DONE
        assert other.fetch(MASK) == PLANE
    assert server.server.jobs[job].submissions == 2
    assert server.server.bytes_put == sum(len(blob) for blob in edit[1].values())


def test_events_can_be_read_again_from_any_number(server: SocketServer, edit: Edit) -> None:
    with Client(server.connection(), PATIENT) as client:
        job = client.submit(*edit)
        events = client.events(job)
        assert next(e for e in events if e is not None) == Queued(0)
        events.close()
        assert next(e for e in client.events(job, since=0) if e is not None) == Queued(0)
        finish(server, job)
        assert events_of(client, job) == [Started(), Progress("finding", 1, 1), DONE]
        assert events_of(client, job, since=2) == [Progress("finding", 1, 1), DONE]


def test_a_job_that_nobody_knows_is_reported(server: SocketServer) -> None:
    with Client(server.connection(), PATIENT) as client, pytest.raises(UnknownJobError):
        list(client.events(new_job_id()))


def test_an_ack_that_is_repeated_since_its_answer_was_lost_is_no_error(server: SocketServer) -> None:
    with Client(server.connection(), PATIENT) as client:
        client.ack(new_job_id())
        client.ping()


def test_names_with_a_path_are_refused_before_they_are_sent(server: SocketServer) -> None:
    with Client(server.connection(), PATIENT) as client:
        for call in (client.cancel, client.ack, lambda job: next(client.events(job))):
            with pytest.raises(SchemaError):
                call("../../etc/passwd")


def test_a_picture_beyond_the_limit_is_refused_before_it_is_sent(server: SocketServer) -> None:
    picture = PictureRef(blob_id(b"x"), 10_000, 10_000, 3)
    with Client(server.connection(), PATIENT) as client, pytest.raises(TooLargeError) as caught:
        client.submit(EditRequest("a", "b", picture=picture), {picture.blob: b"x"})
    assert "10000 × 10000 px is too large: this backend takes 67 megapixels" in caught.value.sentence
    assert server.server.bytes_put == 0


def test_a_request_whose_blob_was_not_given_is_refused(server: SocketServer, edit: Edit) -> None:
    with Client(server.connection(), PATIENT) as client, pytest.raises(SchemaError, match="not among those given"):
        client.submit(edit[0], {})


def test_a_full_queue_is_told_and_can_be_tried_again(server: SocketServer, edit: Edit) -> None:
    with Client(server.connection(), PATIENT) as client:
        server.server.refuse_next = BusyError("Four jobs wait already.", retry_after=1.5)
        with pytest.raises(BusyError) as caught:
            client.submit(*edit)
        assert caught.value.retry_after == 1.5
        finish(server, job := client.submit(*edit))
        assert events_of(client, job)[-1] == DONE


def test_a_full_queue_is_waited_for_as_long_as_it_says_and_the_caller_learns_of_it(
    server: SocketServer, edit: Edit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_run, "SHORTEST_WAIT", 0.0)
    with Client(server.connection(), PATIENT) as client:
        server.server.refuse_next = BusyError("Four jobs wait already.", retry_after=0.4)
        recorded: list[tuple[str, float]] = []
        begun = time.monotonic()
        job = client.submit(*edit, on_busy=lambda error, seconds: recorded.append((error.sentence, seconds)))
        assert time.monotonic() - begun >= 0.4
        assert {sentence for sentence, _ in recorded} == {"Four jobs wait already."}
        assert all(0 <= seconds <= 0.4 for _, seconds in recorded)
        finish(server, job)
        assert events_of(client, job)[-1] == DONE
    assert list(server.server.jobs) == [job]


def test_what_a_caller_raises_ends_the_waiting_for_a_full_queue(server: SocketServer, edit: Edit) -> None:
    def on_busy(error: BusyError, seconds: float) -> None:
        raise KeyboardInterrupt

    with Client(server.connection(), PATIENT) as client:
        server.server.refuse_next = BusyError("Four jobs wait already.", retry_after=60.0)
        with pytest.raises(KeyboardInterrupt):
            client.submit(*edit, on_busy=on_busy)
        client.ping()
    assert not server.server.jobs


@pytest.mark.parametrize("retry_after", [None, 61.0])
def test_a_full_queue_that_names_no_time_or_one_too_long_is_told_at_once(
    server: SocketServer, edit: Edit, retry_after: float | None
) -> None:
    with Client(server.connection(), replace(PATIENT, busy=60.0)) as client:
        server.server.refuse_next = BusyError("Four jobs wait already.", retry_after=retry_after)
        with pytest.raises(BusyError):
            client.submit(*edit, on_busy=lambda error, seconds: None)


def test_a_result_that_is_gone_is_reported(server: SocketServer) -> None:
    with Client(server.connection(), PATIENT) as client, pytest.raises(NoBlobError):
        client.fetch(MASK)


@pytest.mark.usefixtures("nothing_repeated")
def test_a_large_layer_goes_up_and_down_in_chunks_with_its_progress(server: SocketServer) -> None:
    pixels = os.urandom(1500 * 1000 * 4)
    picture, blob = pack_picture(pixels, 1500, 1000, 4)
    up: list[tuple[int, int]] = []
    down: list[tuple[int, int]] = []
    with Client(server.connection(), PATIENT) as client:
        client.submit(EditRequest("a", "b", picture=picture), {picture.blob: blob}, on_upload=lambda *at: up.append(at))
        assert client.fetch(picture, on_bytes=lambda *at: down.append(at)) == pixels
    for progress in (up, down):
        assert progress[-1] == (len(pixels), len(pixels))
        assert [sent for sent, _ in progress] == sorted(sent for sent, _ in progress)
    assert server.server.bytes_got == len(pixels)


class Stop(Exception):
    pass


def _stop(sent: int, total: int) -> None:
    raise Stop


def test_an_answer_of_the_wrong_kind_is_reported(server: SocketServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ReferenceLink, "_reply", lambda self, asked: Okay())
    with Client(server.connection(), PATIENT) as client, pytest.raises(SchemaError, match="with something else"):
        client.jobs()


def test_an_upload_that_the_caller_ends_submits_nothing_and_is_taken_up_again(
    server: SocketServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "MESSAGES_PER_TURN", 1)  # the caller is asked between any two answers
    picture, blob = pack_picture(os.urandom(3000 * 2000 * 3), 3000, 2000, 3)
    request = EditRequest("a", "b", picture=picture)

    def stop(sent: int, total: int) -> None:
        if sent > total // 4:
            raise Stop

    with Client(server.connection(), PATIENT) as client:
        with pytest.raises(Stop):
            client.submit(request, {picture.blob: blob}, on_upload=stop)
        client.ping()
        assert not server.server.jobs
        client.submit(request, {picture.blob: blob})
    assert server.server.bytes_put == len(blob)


def test_two_jobs_can_be_read_in_turns(server: SocketServer, edit: Edit) -> None:
    with Client(server.connection(), PATIENT) as client:
        jobs = [client.submit(*edit) for _ in range(2)]
        streams = [client.events(job) for job in jobs]
        for job in jobs:
            finish(server, job)
        ends = [[e for e in stream if e is not None][-1] for stream in reversed(streams)]
        assert ends == [DONE, DONE]


def test_closing_waits_for_nobody_with_or_without_a_server(
    server: SocketServer, edit: Edit, closed_endpoint: str
) -> None:
    """A close that waits would wait for ever: until pytest's timeout."""
    client = Client(server.connection(), PATIENT)
    client.submit(*edit)
    with server.lock:  # the server answers nobody
        with pytest.raises(Stop):
            client.submit(*edit, on_upload=_stop)
        client.close()
        client.close()
    absent = Client(Connection.invite(closed_endpoint, KeyPair.generate().public, "x"), Timeouts(answer=0.1))
    with pytest.raises(LinkError):
        absent.ping()
    absent.close()


@pytest.mark.skipif(os.name != "posix", reason="ipc:// is POSIX's")
def test_ipc_in_a_private_folder_needs_no_encryption(tmp_path: Path, edit: Edit) -> None:
    tmp_path.chmod(0o700)
    server = SocketServer(ReferenceServer(Limits()), f"ipc://{tmp_path}/socket", encrypted=False)
    try:
        with Client(server.connection(), PATIENT) as client:
            finish(server, job := client.submit(*edit))
            assert events_of(client, job)[-1] == DONE
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
    with Cable(server.connection()) as cable:
        client = Client(cable.connection, PATIENT)
        client._session.speed.saw_round_trip = lambda seconds: None  # type: ignore[method-assign]  # stays unknown: slow
        with client:
            job = client.submit(EditRequest("a", "b", picture=picture), {picture.blob: blob})
            events = client.events(job)
            next(events)
            server.send_event(job, Preview(100, 100, bytes(30_000)))
            assert next(e for e in events if isinstance(e, Preview)) == Preview(100, 100, bytes(30_000))
            assert client.fetch(picture) == smooth
    assert server.server.blobs[picture.blob] == smooth
    assert cable.carried["up"] < len(smooth) / 10
    assert cable.carried["down"] < len(smooth) / 10


def test_a_plane_that_does_not_hold_what_its_reference_says_is_refused(server: SocketServer) -> None:
    server.server.blobs[MASK.blob] = MASK_BLOB
    with Client(server.connection(), PATIENT) as client, pytest.raises(SchemaError):
        client.fetch(PlaneRef(MASK.blob, 20, 11))


def test_a_job_that_the_server_has_when_the_caller_ends_its_upload_is_cancelled(
    server: SocketServer, edit: Edit
) -> None:
    def stop(sent: int, total: int) -> None:
        if server.server.jobs:
            raise Stop

    job = new_job_id()
    with Client(server.connection(), PATIENT) as client:
        with pytest.raises(Stop):
            client.submit(*edit, job_id=job, on_upload=stop)
        wait_for(lambda: server.server.jobs[job].cancels == 1)
        client.ping()
