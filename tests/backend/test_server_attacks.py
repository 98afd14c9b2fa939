"""Attacks: after each of them the same server process runs, its memory is bounded, and every other client is served."""

from __future__ import annotations

import dataclasses
import time
import zlib
from collections.abc import Iterator

import pytest
from backends import (
    PATIENT,
    TCP,
    client_of,
    failure,
    invited,
    last_event,
    resident_mib,
    run_edit,
    scripted_backend,
    scripted_edit,
    wait_until,
)
from cable import Cable
from diffedit_backend.server.allow_list import AllowList
from diffedit_backend.server.private_backend import PrivateBackend
from diffedit_backend.server.state_folder import StateFolder
from diffedit_bench.fuzz.messages import fuzz_backend
from diffedit_protocol.blobs import blob_id
from diffedit_protocol.connection import Connection, KeyPair
from diffedit_protocol.errors import AuthError
from diffedit_protocol.frames import MAX_HEADER_BYTES, MAX_PAYLOAD_BYTES
from diffedit_protocol.messages import Cancelled, Progress
from diffedit_protocol.requests import new_job_id
from hostile import (
    ZMTP_GREETING,
    ZMTP_MORE_LONG,
    ZMTP_READY,
    RawClient,
    await_close,
    error_code,
    raw_tcp,
)

MIB = 1 << 20
ENDLESS = "steps=100000 pause=0.02"  # until it is cancelled
FLOOD_RATE = 100 * MIB  # bytes per second: a server that is held up for a second is not drowned meanwhile
SMALL = {"blob_bytes": 8 * MIB, "stored_bytes": 16 * MIB}


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateBackend]:
    with scripted_backend(tmp_path_factory.mktemp("attacks"), listen=["local", TCP], limits=SMALL) as backend:
        yield backend


@pytest.fixture
def anna(backend: PrivateBackend) -> Connection:
    """An invited client's connection."""
    return invited(backend, f"anna-{new_job_id()}")


@pytest.fixture(autouse=True)
def unharmed(backend: PrivateBackend) -> Iterator[None]:
    """Around every attack: the same process, less than 100 MiB more of memory, and others are served."""
    with client_of(backend.connection) as other:
        run_edit(other, scripted_edit())
        before = resident_mib(backend.pid)
        yield
        assert backend.process is not None
        assert backend.process.poll() is None
        run_edit(other, scripted_edit(side=64))
        assert resident_mib(backend.pid) - before < 100


class TestKeys:
    def test_without_a_key_nothing_is_answered(self, anna: Connection) -> None:
        with RawClient(anna, encrypted=False) as naked, pytest.raises(TimeoutError):
            naked.hello(seconds=1.0)

    def test_an_unknown_key_is_refused_with_its_own_sentence(self, anna: Connection) -> None:
        keys = KeyPair.generate()
        stranger = dataclasses.replace(anna, client_public=keys.public, client_secret=keys.secret)
        with pytest.raises(AuthError, match="does not know this Krita"), client_of(stranger, PATIENT):
            pass

    def test_another_server_behind_the_address_is_told_apart(self, anna: Connection) -> None:
        impostor = dataclasses.replace(anna, server_key=KeyPair.generate().public)
        with pytest.raises(AuthError, match="another identity"), client_of(impostor, PATIENT):
            pass

    def test_a_revoked_key_loses_its_live_link_its_job_and_every_later_one(
        self, backend: PrivateBackend, anna: Connection
    ) -> None:
        folder = StateFolder(backend.state)
        with client_of(anna, PATIENT) as client, client_of(backend.connection) as admin:
            job = client.submit(*scripted_edit(ENDLESS))
            next(event for event in client.events(job) if isinstance(event, Progress))
            AllowList(folder.allow_list).revoke(anna.name)
            with pytest.raises(AuthError, match="does not know this Krita"):
                last_event(client, job)
            wait_until(lambda: admin.status()["queue"]["running"] == 0, what="the end of the revoked client's job")
        with pytest.raises(AuthError), client_of(anna, PATIENT):
            pass

    def test_a_link_that_chose_its_own_name_is_not_answered(self, anna: Connection) -> None:
        """It could be another link's name, and its events would go to the wrong client."""
        with RawClient(anna, name=b"somebody") as client, pytest.raises(TimeoutError):
            client.hello(seconds=1.0)


class TestStrangers:
    def test_http_on_the_port_is_closed(self, anna: Connection) -> None:
        with raw_tcp(anna) as browser:
            browser.sendall(b"GET / HTTP/1.1\r\nHost: gpu1\r\n\r\n")
            await_close(browser)

    def test_a_hundred_slow_handshakes_are_closed_while_others_are_served(
        self, backend: PrivateBackend, anna: Connection
    ) -> None:
        peers = [raw_tcp(anna) for _ in range(100)]
        for peer in peers:
            peer.sendall(ZMTP_GREETING[:10])
        with client_of(anna) as client:
            run_edit(client, scripted_edit())
        for peer in peers:
            await_close(peer)
            peer.close()

    def test_a_plain_zmtp_peer_with_an_endless_message_is_closed_after_its_greeting(self, anna: Connection) -> None:
        sent = 0
        with raw_tcp(anna) as peer:
            try:
                peer.sendall(ZMTP_GREETING + ZMTP_READY)
                while sent < 200 * MIB:
                    peer.sendall(ZMTP_MORE_LONG + MIB.to_bytes(8, "big") + bytes(MIB))
                    sent += MIB
            except OSError:
                pass
        assert sent < 32 * MIB  # what the kernel's buffers took


class TestInvitedButHostile:
    def test_an_endless_multipart_message_is_cut_off(self, backend: PrivateBackend, anna: Connection) -> None:
        before, peak = resident_mib(backend.pid), 0.0
        with (
            Cable(anna, FLOOD_RATE) as cable,
            RawClient(cable.connection) as flood,
            client_of(backend.connection) as admin,
        ):
            flood.hello()
            cuts = admin.status()["gate"]["floods_cut"]
            flood.socket.send_multipart([bytes(MIB)] * 600)  # 600 MiB in one message
            until = time.monotonic() + 60
            while admin.status()["gate"]["floods_cut"] == cuts:
                assert time.monotonic() < until
                peak = max(peak, resident_mib(backend.pid) - before)
                time.sleep(0.02)
        assert peak < 250
        wait_until(lambda: resident_mib(backend.pid) - before < 80, what="the return of the memory")

    def test_a_header_that_is_too_long_is_told(self, anna: Connection) -> None:
        with RawClient(anna) as client:
            client.hello()
            assert error_code(client.ask("have", blobs=["x" * MAX_HEADER_BYTES])) == "TOO_LARGE"

    def test_a_chunk_beyond_the_limit_is_told_and_one_beyond_the_frame_limit_ends_the_link(
        self, anna: Connection
    ) -> None:
        data = bytes(MIB + 1)
        fields = {"blob": blob_id(data), "size": len(data), "offset": 0, "length": len(data)}
        with RawClient(anna) as client:
            client.hello()
            assert error_code(client.ask("put", data, **fields)) == "TOO_LARGE"
            with pytest.raises(TimeoutError):
                client.exchange([b"\x80", bytes(MAX_PAYLOAD_BYTES + 1)], seconds=1.0)

    def test_a_blob_beyond_the_limit_is_refused_at_its_first_chunk(self, anna: Connection) -> None:
        with RawClient(anna) as client:
            client.hello()
            fields = {"blob": blob_id(b""), "size": 1 << 60, "offset": 0, "length": 1}
            assert error_code(client.ask("put", b"x", **fields)) == "TOO_LARGE"

    def test_a_blob_whose_hash_lies_is_not_stored(self, anna: Connection) -> None:
        with RawClient(anna) as client:
            client.hello()
            blob = blob_id(b"what it should be")
            assert error_code(client.ask("put", b"evil", blob=blob, size=4, offset=0, length=4)) == "SCHEMA"
            assert client.ask("have", blobs=[blob])["received"] == {blob: 0}

    def test_a_decompression_bomb_is_not_unpacked(self, backend: PrivateBackend, anna: Connection) -> None:
        bomb = zlib.compress(bytes(200 * MIB), 1)
        assert len(bomb) < MIB
        before = resident_mib(backend.pid)
        with RawClient(anna) as client:
            client.hello()
            fields = {"blob": blob_id(b""), "size": MIB, "offset": 0, "length": MIB, "encoding": "zlib"}
            for _ in range(5):
                assert error_code(client.ask("put", bomb, **fields)) == "SCHEMA"
        assert resident_mib(backend.pid) - before < 30

    def test_uploads_without_end_stay_within_the_clients_quota(self, backend: PrivateBackend, anna: Connection) -> None:
        with RawClient(anna) as client, client_of(backend.connection) as admin:
            client.hello()
            for number in range(60):
                data = number.to_bytes(4, "big") * (MIB // 4)
                fields = {"blob": blob_id(data), "size": MIB, "offset": 0, "length": MIB}
                assert client.ask("put", data, **fields)["type"] == "stored"
            assert admin.status()["memory"]["uploads"] <= 20 * MIB

    def test_another_clients_job_and_pixels_do_not_exist(self, backend: PrivateBackend, anna: Connection) -> None:
        edit, job = scripted_edit(shade=77), new_job_id()
        with client_of(anna) as owner, RawClient(invited(backend, new_job_id())) as thief:
            thief.hello()
            done = run_edit(owner, edit, job_id=job)
            blobs = [*edit[1], done.manifest.mask.blob, done.manifest.edits[0].pixels.blob]
            assert error_code(thief.ask("subscribe", job=job)) == "UNKNOWN_JOB"
            assert error_code(thief.ask("cancel", job=job)) == "UNKNOWN_JOB"
            assert error_code(thief.ask("ack", job=job)) == "UNKNOWN_JOB"
            assert thief.ask("jobs")["jobs"] == []
            assert set(thief.ask("have", blobs=blobs)["received"]) == set(blobs)
            for blob in blobs:
                assert error_code(thief.ask("get", blob=blob, offset=0, length=10)) == "NO_BLOB"
            report = thief.ask("status")["values"]
            assert "clients" not in report
            assert "endpoints" not in report
            assert owner.fetch(done.manifest.mask)

    def test_the_same_job_id_of_two_clients_is_two_jobs(self, backend: PrivateBackend, anna: Connection) -> None:
        job = new_job_id()
        with client_of(anna) as a, client_of(invited(backend, new_job_id())) as b:
            run_edit(a, scripted_edit(shade=10), job_id=job)
            done = run_edit(b, scripted_edit(shade=20), job_id=job)
            assert set(b.fetch(done.manifest.mask)) == {20}
            b.ack(job)
            assert [info.job for info in a.jobs()] == [job]

    @pytest.mark.parametrize("name", ["../../../etc/passwd", "/etc/passwd", "..\\x", "a/b", "\0"])
    def test_a_path_in_a_name_leads_nowhere(self, anna: Connection, name: str) -> None:
        request, _ = scripted_edit()
        with RawClient(anna) as client:
            client.hello()
            assert error_code(client.ask("subscribe", job=name)) == "SCHEMA"
            assert error_code(client.ask("get", blob=name, offset=0, length=1)) == "SCHEMA"
            with_model = {**request.to_wire(), "model": name}
            assert error_code(client.ask("submit", job=new_job_id(), request=with_model)) == "MODEL"
            with_adapter = {**request.to_wire(), "adapters": [{"name": name, "weight": 1.0}]}
            assert error_code(client.ask("submit", job=new_job_id(), request=with_adapter)) == "SCHEMA"

    def test_a_job_whose_picture_has_another_length_fails_alone(self, anna: Connection) -> None:
        request, blobs = scripted_edit(side=16)
        assert request.picture is not None
        lying = dataclasses.replace(request, picture=dataclasses.replace(request.picture, width=4000, height=4000))
        with client_of(anna) as client:
            assert failure(last_event(client, client.submit(lying, blobs))) == "SCHEMA"

    def test_a_hundred_thousand_mutated_messages_harm_no_one(self, backend: PrivateBackend, anna: Connection) -> None:
        before = resident_mib(backend.pid)
        found = fuzz_backend(anna.to_line(), seed=20_240_501, count=100_000)
        assert found["answers"] > 50_000  # they were read, not dropped at the listener
        assert found["pings"] == 101  # another client was served all the while
        assert resident_mib(backend.pid) - before < 60


def test_a_cancelled_flood_of_jobs_leaves_nothing_running(backend: PrivateBackend, anna: Connection) -> None:
    with client_of(anna) as client:
        jobs = [client.submit(*scripted_edit(ENDLESS)) for _ in range(10)]
        for job in jobs:
            client.cancel(job)
        assert all(isinstance(last_event(client, job), Cancelled) for job in jobs)
