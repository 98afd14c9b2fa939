"""The client on real sockets: links that break and servers that restart or hang; nothing is lost."""

from __future__ import annotations

import os
import time
from dataclasses import replace

import pytest
from cable import Cable
from diffedit_protocol.blobs import pack_picture
from diffedit_protocol.client import Client, Timeouts
from diffedit_protocol.errors import (
    LinkError,
)
from diffedit_protocol.link_speed import LARGEST_CHUNK, LOOPBACK_WINDOW
from diffedit_protocol.messages import (
    EditRequest,
    Progress,
    Queued,
    Started,
)
from reference_server import SocketServer
from socket_client import (
    DONE,
    MASK,
    PATIENT,
    PLANE,
    Edit,
    events_of,
    finish,
)


def test_a_restarted_server_is_given_the_running_job_again(server: SocketServer, edit: Edit) -> None:
    with Client(server.connection(), PATIENT) as client:
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


@pytest.mark.usefixtures("nothing_repeated")
def test_a_finished_result_is_fetched_from_a_restarted_server(server: SocketServer, edit: Edit) -> None:
    with Client(server.connection(), PATIENT) as client:
        job = client.submit(*edit)
        server.stop()
        server.server.links.clear()
        finish(server, job)
        server.server.boot(keep=True)
        server.start()
        assert events_of(client, job)[-1] == DONE
        assert client.fetch(MASK) == PLANE
    assert server.server.jobs[job].submissions == 2


def test_a_lost_link_is_told_while_it_lasts_and_then_nothing_was_lost(server: SocketServer, edit: Edit) -> None:
    with Cable(server.connection()) as cable, Client(cable.connection, PATIENT) as client:
        job = client.submit(*edit)
        events = client.events(job)
        assert next(e for e in events if e is not None) == Queued(0)
        cable.unplug()
        for event in events:
            assert event is None
            if client.trouble is not None:
                break
        assert isinstance(client.trouble, LinkError)
        finish(server, job)
        cable.plug()
        assert [e for e in events if e is not None] == [Started(), Progress("finding", 1, 1), DONE]
        assert client.trouble is None


@pytest.mark.usefixtures("nothing_repeated")
def test_a_link_cut_in_upload_and_download_costs_only_what_was_in_flight(server: SocketServer) -> None:
    picture, blob = pack_picture(os.urandom(4000 * 2000 * 3), 4000, 2000, 3)
    in_flight = LOOPBACK_WINDOW * LARGEST_CHUNK  # lost at most: a cut takes what libzmq's queues hold with it, too
    with Cable(server.connection()) as cable, Client(cable.connection, PATIENT) as client:
        cable.cut_after(len(blob) * 6 // 10, "up")
        client.submit(EditRequest("a", "b", picture=picture), {picture.blob: blob})
        assert cable.cuts == 1
        cable.cut_after(len(blob) * 6 // 10, "down")
        assert client.fetch(picture) == blob
        assert cable.cuts == 2
    assert server.server.bytes_put == len(blob)
    assert server.server.bytes_got <= len(blob) + in_flight
    for carried in cable.carried.values():
        assert carried < (len(blob) + in_flight) * 1.01  # headers, encryption and small requests


def test_a_link_that_stays_lost_ends_in_a_link_error(server: SocketServer, edit: Edit) -> None:
    with Client(server.connection(), PATIENT) as client:
        events = client.events(client.submit(*edit))
        next(events)
        server.stop()
        client.timeouts = Timeouts(lost=0.5)
        with pytest.raises(LinkError):
            list(events)
        server.start()


def test_a_server_that_hangs_is_told_apart_from_a_lost_link(server: SocketServer, edit: Edit) -> None:
    with Client(server.connection(), PATIENT) as client:
        job = client.submit(*edit)
        events = client.events(job)
        next(events)
        client.timeouts = replace(PATIENT, answer=0.5)
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
    with Client(server.connection(), PATIENT) as client:
        job = client.submit(*edit)
        events = client.events(job)
        next(events)
        finish(server, job)
        client.timeouts = Timeouts(lost=2.0)
        time.sleep(2.5)
        assert [e for e in events if e is not None][-1] == DONE
