"""The client on real sockets: links that break and servers that restart or hang; nothing is lost."""

from __future__ import annotations

import os
import time
from dataclasses import replace

import pytest
from cutting_proxy import CuttingProxy
from diffedit_protocol.blobs import pack_picture
from diffedit_protocol.client import Client, Timeouts
from diffedit_protocol.errors import (
    LinkError,
)
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
    PLANE,
    QUICK,
    Edit,
    finish,
    told,
)


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
