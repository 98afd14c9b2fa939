"""Faults of processes, links, disk and queue, each with what the client sees. Real server, real sockets, no model."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq
from backends import (
    PATIENT,
    TCP,
    client_of,
    events_of,
    failure,
    invited,
    last_event,
    numbered,
    resident_mib,
    run_edit,
    scripted_backend,
    scripted_edit,
    wait_until,
    worker_pid,
)
from cable import Cable
from diffedit_backend.server.private_backend import PrivateBackend
from diffedit_protocol import transport
from diffedit_protocol.client import Client
from diffedit_protocol.errors import BusyError, LinkError, TooLargeError
from diffedit_protocol.link_speed import LARGEST_CHUNK, LOOPBACK_WINDOW
from diffedit_protocol.messages import STAGES, Cancelled, Done, Failed, Preview, Progress, Queued, Started
from diffedit_protocol.requests import new_job_id

ENDLESS = "steps=100000 pause=0.02"  # until it is cancelled or killed
LARGE = 16 << 20  # bytes: from here on a result was written after its client had learnt of it
LIMITS = {"jobs": 3}
IN_FLIGHT = LOOPBACK_WINDOW * LARGEST_CHUNK  # bytes that may have to be sent again after a cut


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateBackend]:
    """One server for every fault that it must survive; at the end it must still be the same process."""
    settings = {"listen": ["local", TCP], "queue": 4, "limits": LIMITS, "timeouts": {"back_off": 0.05}}
    with scripted_backend(tmp_path_factory.mktemp("faults"), **settings) as backend:
        boot_id = _boot_id(backend)
        yield backend
        assert _boot_id(backend) == boot_id


def _boot_id(backend: PrivateBackend) -> str:
    with client_of(backend.connection) as client:
        run_edit(client, scripted_edit())
        return client.hello.boot_id


@pytest.fixture
def client(backend: PrivateBackend) -> Iterator[Client]:
    with client_of(backend.connection) as client:
        yield client


class TestWorker:
    @pytest.mark.parametrize("stage", STAGES)
    def test_killed_at_any_stage_the_job_fails_so_that_it_may_be_tried_again_and_the_next_works(
        self, client: Client, stage: str
    ) -> None:
        job = client.submit(*scripted_edit(f"die={stage if stage != 'editing' else 2}"))
        event = last_event(client, job)
        assert failure(event) == "WORKER_DIED"
        assert isinstance(event, Failed)
        assert event.error.retryable
        run_edit(client, scripted_edit())

    def test_killed_from_outside_in_the_middle_of_a_job(self, client: Client) -> None:
        before = worker_pid(client)
        job = client.submit(*scripted_edit(ENDLESS))
        for event in client.events(job):
            if isinstance(event, Progress) and event.stage == "editing":
                os.kill(before, signal.SIGKILL)
                break
        assert failure(last_event(client, job)) == "WORKER_DIED"
        run_edit(client, scripted_edit())
        assert worker_pid(client) != before

    def test_out_of_memory_is_an_error_of_the_job_and_the_worker_stays(self, client: Client) -> None:
        before = worker_pid(client)
        assert failure(last_event(client, client.submit(*scripted_edit("oom")))) == "OOM"
        run_edit(client, scripted_edit())
        assert worker_pid(client) == before


class TestServer:
    def test_killed_with_a_job_running_the_client_submits_it_again_by_itself(self, tmp_path: Path) -> None:
        with scripted_backend(tmp_path, listen=[TCP]) as backend:
            port = backend.connection.endpoint
            with client_of(backend.connection) as client:
                job = client.submit(*scripted_edit(f"hold={tmp_path / 'go'}"))
                boot_id = client.hello.boot_id
                for event in client.events(job):
                    if isinstance(event, Progress) and event.stage == "editing":
                        break
                backend.kill()
                (tmp_path / "go").touch()
                again = scripted_backend(tmp_path, listen=[port])
                with again:
                    assert isinstance(last_event(client, job), Done)
                    assert client.hello.boot_id != boot_id

    def test_killed_with_a_finished_result_the_next_one_still_has_it(self, tmp_path: Path) -> None:
        edit, job = scripted_edit(), new_job_id()
        with scripted_backend(tmp_path) as backend:
            with client_of(backend.connection) as client:
                done = run_edit(client, edit, job_id=job)
                pixels = client.fetch(done.manifest.edits[0].pixels)
                records = tmp_path / "server" / "results"
                wait_until(lambda: any(records.glob(f"*/{job}/record")), what="the writing of the result")
            backend.kill()
            backend.start()
            with client_of(backend.connection) as client:
                assert [(info.job, info.state) for info in client.jobs()] == [(job, "done")]
                events = events_of(client, job, since=0)
                assert isinstance(events[0], Started)
                assert events[-1] == done
                assert client.fetch(done.manifest.edits[0].pixels) == pixels
                client.ack(job)
                assert client.jobs() == ()
            wait_until(lambda: not any(records.glob("*/*")), what="the deletion of the result")

    def test_killed_at_the_moment_of_done_a_result_of_16_mib_is_there_for_the_client_that_saw_it(
        self, tmp_path: Path
    ) -> None:
        with scripted_backend(tmp_path, listen=[TCP]) as backend, client_of(backend.connection) as client:
            job = client.submit(*scripted_edit(f"bytes={LARGE}"))
            done = next(event for event in client.events(job) if isinstance(event, Done))
            backend.kill()
            pixels = done.manifest.edits[0].pixels
            assert pixels.size == LARGE
            with scripted_backend(tmp_path, listen=[backend.connection.endpoint]):
                assert len(client.fetch(pixels)) == LARGE  # and its hash is right
                client.ack(job)
                assert client.jobs() == ()

    def test_killed_before_done_a_result_of_16_mib_is_made_again_for_the_client_that_waits(
        self, tmp_path: Path
    ) -> None:
        """Written or not, nobody was told of it: the client submits the job again to the server that it finds."""
        with (
            scripted_backend(tmp_path, listen=[TCP]) as backend,
            Cable(backend.connection) as cable,
            client_of(cable.connection) as client,
        ):
            job = client.submit(*scripted_edit(f"bytes={LARGE} hold={tmp_path / 'go'}"))
            boot_id = client.hello.boot_id
            cable.unplug()  # so that it cannot be told, however slow it is here
            (tmp_path / "go").touch()
            folder = tmp_path / "server" / "results"
            wait_until(lambda: any(folder.glob(f"*/{job}*")), what="the beginning of the result's file")
            backend.kill()
            with scripted_backend(tmp_path, listen=[backend.connection.endpoint]):
                cable.plug()
                done = last_event(client, job)
                assert isinstance(done, Done)
                assert client.hello.boot_id != boot_id
                assert len(client.fetch(done.manifest.edits[0].pixels)) == LARGE

    def test_killed_it_leaves_no_worker_behind(self, tmp_path: Path) -> None:
        with scripted_backend(tmp_path) as backend:
            with client_of(backend.connection) as client:
                worker = worker_pid(client)
                client.submit(*scripted_edit("steps=10 pause=10"))
            backend.kill()
            wait_until(lambda: not _runs(worker), what="the end of the worker")

    def test_asked_to_stop_it_finishes_what_runs_and_refuses_what_is_new(self, tmp_path: Path) -> None:
        with scripted_backend(tmp_path, grace=600.0) as backend, client_of(backend.connection) as client:
            running = client.submit(*scripted_edit(f"hold={tmp_path / 'go'}"))
            waiting = client.submit(*scripted_edit())
            next(event for event in client.events(running) if isinstance(event, Progress))
            assert backend.process is not None
            backend.process.terminate()
            assert failure(last_event(client, waiting)) == "BUSY"
            with pytest.raises(BusyError, match="being stopped"):
                client.submit(*scripted_edit())
            (tmp_path / "go").touch()
            done = last_event(client, running)
            assert isinstance(done, Done)
            assert backend.process.wait(60) == 0
            assert not (tmp_path / "local.json").exists()
            backend.start()
            with client_of(backend.connection) as later:
                assert [(info.job, info.state) for info in later.jobs()] == [(running, "done")]
                assert last_event(later, running) == done
                later.fetch(done.manifest.edits[0].pixels)  # checks the hash

    def test_asked_to_stop_it_ends_a_job_that_takes_longer_than_its_grace(self, tmp_path: Path) -> None:
        with scripted_backend(tmp_path, grace=0.5) as backend, client_of(backend.connection) as client:
            job = client.submit(*scripted_edit(ENDLESS))
            next(event for event in client.events(job) if isinstance(event, Progress))
            assert backend.process is not None
            backend.process.terminate()
            event = last_event(client, job)
            assert isinstance(event, Failed)
            assert event.error.retryable
            assert backend.process.wait(60) == 0

    def test_a_model_that_cannot_be_loaded_ends_the_start_with_its_sentence(self, tmp_path: Path) -> None:
        backend = scripted_backend(tmp_path, script={"unusable": True})
        with pytest.raises(LinkError) as caught:
            backend.start()
        assert "The scripted model cannot be loaded." in caught.value.detail
        assert not (tmp_path / "local.json").exists()

    def test_an_address_that_is_taken_ends_the_start_with_what_is_wrong(
        self, backend: PrivateBackend, tmp_path: Path
    ) -> None:
        taken = next(word for word in backend.ready_line.split() if word.startswith("tcp://"))
        with pytest.raises(LinkError) as caught:
            scripted_backend(tmp_path, listen=[taken]).start()
        assert f"cannot listen on {taken}: Address already in use" in caught.value.detail

    def test_a_second_server_in_the_same_folder_is_refused_and_the_first_goes_on(
        self, backend: PrivateBackend, client: Client
    ) -> None:
        with pytest.raises(LinkError) as caught:
            scripted_backend(backend.folder).start()
        assert f"running already (process {backend.pid})" in caught.value.detail
        run_edit(client, scripted_edit())


def _runs(pid: int) -> bool:
    """Whether a process runs; one that ended and waits to be collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


class TestLink:
    def test_cut_in_the_upload_it_goes_on_where_it_was(self, backend: PrivateBackend) -> None:
        edit = scripted_edit(side=3072)  # 27 MiB
        size = len(next(iter(edit[1].values())))
        with Cable(invited(backend, new_job_id())) as cable, client_of(cable.connection) as client:
            cable.cut_after(size * 6 // 10, "up")
            run_edit(client, edit)
            assert cable.cuts == 1
            assert cable.carried["up"] < (size + IN_FLIGHT) * 1.01

    def test_cut_in_the_job_no_event_is_lost_or_told_twice(self, backend: PrivateBackend) -> None:
        with Cable(invited(backend, new_job_id())) as cable, client_of(cable.connection) as client:
            job = client.submit(*scripted_edit("steps=60 pause=0.02"))
            events = []
            for event in client.events(job):
                if isinstance(event, Progress) and event.stage == "editing" and event.step in (10, 30):
                    cable.cut()
                if event is not None:
                    events.append(event)
            steps = [event.step for event in events if isinstance(event, Progress) and event.stage == "editing"]
            assert steps == list(range(1, 61))
            assert isinstance(events[-1], Done)

    def test_cut_in_the_download_the_file_is_exact_and_nothing_comes_twice(self, backend: PrivateBackend) -> None:
        size = 32 << 20
        with Cable(invited(backend, new_job_id())) as cable, client_of(cable.connection) as client:
            done = run_edit(client, scripted_edit(f"bytes={size}"))
            before = cable.carried["down"]
            cable.cut_after(size * 6 // 10, "down")
            data = client.fetch(done.manifest.edits[0].pixels)  # checks the hash
            assert cable.cuts == 1
            assert len(data) == size
            assert cable.carried["down"] - before < (size + IN_FLIGHT) * 1.01

    def test_unplugged_while_the_job_ends_the_result_is_fetched_when_it_is_back(
        self, backend: PrivateBackend, client: Client, tmp_path: Path
    ) -> None:
        other = client
        with Cable(invited(backend, new_job_id())) as cable, client_of(cable.connection) as client:
            job = client.submit(*scripted_edit(f"hold={tmp_path / 'go'}"))
            next(event for event in client.events(job) if isinstance(event, Progress))
            cable.unplug()
            next(None for _ in client.events(job) if client.trouble is not None)
            (tmp_path / "go").touch()
            wait_until(lambda: other.status()["queue"]["running"] == 0, what="the end of the job")
            cable.plug()
            event = last_event(client, job)
            assert isinstance(event, Done)
            client.fetch(event.manifest.mask)

    def test_a_client_that_was_killed_is_resumed_under_the_same_id_by_another(self, backend: PrivateBackend) -> None:
        connection, edit, job = invited(backend, new_job_id()), scripted_edit("steps=30 pause=0.02"), new_job_id()
        with client_of(connection) as first:
            first.submit(*edit, job_id=job)
            next(event for event in first.events(job) if isinstance(event, Progress))
        with client_of(connection) as second:
            second.submit(*edit, job_id=job)
            events = numbered(events_of(second, job))
            assert isinstance(events[0], Started)
            assert isinstance(events[-1], Done)
            assert len([info for info in second.jobs() if info.job == job]) == 1

    def test_a_reader_that_is_slow_loses_previews_only_and_holds_up_no_one(
        self, backend: PrivateBackend, client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        connection = invited(backend, new_job_id())
        monkeypatch.setattr(  # the program that does not read takes no more into its own memory, as older clients do
            transport, "OPTIONS", [(name, 16 if name == zmq.RCVHWM else value) for name, value in transport.OPTIONS]
        )
        with Cable(connection) as cable, client_of(cable.connection) as slow:
            memory = resident_mib(backend.pid)
            job = slow.submit(*scripted_edit("steps=1500 pause=0.001"))  # previews of 12 KiB: 18 MiB in all
            next(event for event in slow.events(job) if isinstance(event, Progress))
            # From here on `slow` reads nothing; its job ends nevertheless.
            wait_until(lambda: client.status()["queue"]["running"] == 0, what="the end of the job")
            run_edit(client, scripted_edit())
            events = events_of(slow, job)
            steps = [event.step for event in events if isinstance(event, Progress) and event.stage == "editing"]
            assert steps[-1] == 1500
            assert steps == list(range(steps[0], 1501))
            assert sum(isinstance(event, Preview) for event in events) < 1400
            assert resident_mib(backend.pid) - memory < 40

    def test_a_link_that_asks_without_ever_reading_is_cut_off_and_costs_no_memory(
        self, backend: PrivateBackend, client: Client
    ) -> None:
        done = run_edit(client, scripted_edit("bytes=4194304"))
        memory = resident_mib(backend.pid)
        context = zmq.Context()
        greedy = context.socket(zmq.DEALER)
        greedy.linger = 0
        greedy.rcvhwm = 1
        greedy.sndhwm = 0  # a link that was cut off takes no more, and sending must not wait for it
        greedy.connect(backend.connection.endpoint)
        import msgpack

        greedy.send(msgpack.packb({"type": "hello", "id": 0, "versions": [1, 1], "client": "greedy"}))
        blob = done.manifest.edits[0].pixels.blob
        for number in range(1, 2000):
            greedy.send(msgpack.packb({"type": "get", "id": number, "blob": blob, "offset": 0, "length": 1 << 20}))
        run_edit(client, scripted_edit())
        assert resident_mib(backend.pid) - memory < 120
        greedy.close()
        context.term()


class TestQueue:
    def test_full_it_says_when_to_come_again_and_goes_on(self, backend: PrivateBackend) -> None:
        connections = [invited(backend, new_job_id()) for _ in range(3)]
        with client_of(connections[0]) as a, client_of(connections[1]) as b, client_of(connections[2]) as c:
            jobs = [(a, a.submit(*scripted_edit(ENDLESS)))]
            next(event for event in a.events(jobs[0][1]) if isinstance(event, Progress))
            jobs += [(who, who.submit(*scripted_edit(ENDLESS))) for who in (a, a, b, b)]  # one runs, four wait
            with pytest.raises(BusyError, match="queue is full: 4 jobs") as caught:
                c.submit(*scripted_edit())
            assert caught.value.retryable
            assert caught.value.retry_after
            for who, job in jobs:
                who.cancel(job)
            for who, job in jobs:
                assert isinstance(last_event(who, job), Cancelled)
            run_edit(c, scripted_edit())

    def test_one_client_cannot_take_more_than_its_share(self, backend: PrivateBackend) -> None:
        with client_of(invited(backend, new_job_id())) as client:
            jobs = [client.submit(*scripted_edit(ENDLESS)) for _ in range(LIMITS["jobs"])]
            with pytest.raises(BusyError, match="3 unfinished jobs"):
                client.submit(*scripted_edit())
            for job in jobs:
                client.cancel(job)
            for job in jobs:
                assert isinstance(last_event(client, job), Cancelled)

    def test_one_client_cannot_have_more_pixels_waiting_than_its_share_and_holds_up_no_other(
        self, tmp_path: Path
    ) -> None:
        with (
            scripted_backend(tmp_path, listen=["tcp://127.0.0.1:0"], limits={"job_pixels": 9000}) as backend,
            client_of(invited(backend, new_job_id())) as client,
            client_of(invited(backend, new_job_id())) as other,
        ):
            jobs = [client.submit(*scripted_edit(ENDLESS, side=64)) for _ in range(2)]  # 4096 pixels each
            with pytest.raises(BusyError, match=r"have 0\.0 megapixels.*one client may have 0\.0") as caught:
                client.submit(*scripted_edit(side=64))
            assert caught.value.retryable
            assert caught.value.retry_after
            waiting = other.submit(*scripted_edit(side=64))
            for job in jobs:
                client.cancel(job)
            for job in jobs:
                assert isinstance(last_event(client, job), Cancelled)
            assert isinstance(last_event(other, waiting), Done)
            run_edit(client, scripted_edit(side=64))

    def test_two_clients_take_turns(self, backend: PrivateBackend, tmp_path: Path) -> None:
        with client_of(invited(backend, new_job_id())) as many, client_of(invited(backend, new_job_id())) as one:
            jobs = [many.submit(*scripted_edit(script)) for script in (f"hold={tmp_path / 'go'}", "", ENDLESS)]
            single = one.submit(*scripted_edit())
            (tmp_path / "go").touch()
            assert isinstance(last_event(one, single), Done)
            # The third was asked for first; it never ends, and had it been begun first, this one would still wait.
            assert {info.job: info.state for info in many.jobs()}[jobs[2]] in ("queued", "running")
            many.cancel(jobs[2])
            ends = [numbered(events_of(many, job)) for job in jobs]
            assert [type(events[-1]) for events in ends] == [Done, Done, Cancelled]
            assert isinstance(ends[2][0], Queued)

    def test_two_clients_at_once_each_get_their_own_result(self, backend: PrivateBackend) -> None:
        with client_of(invited(backend, new_job_id())) as a, client_of(invited(backend, new_job_id())) as b:
            shades = {a: 10, b: 200}
            jobs = {who: who.submit(*scripted_edit("pause=0.01", shade=shade)) for who, shade in shades.items()}
            for who, shade in shades.items():
                event = last_event(who, jobs[who])
                assert isinstance(event, Done)
                assert set(who.fetch(event.manifest.mask)) == {shade}

    def test_a_picture_beyond_the_limit_is_refused_with_the_limit(self, tmp_path: Path) -> None:
        with (
            scripted_backend(tmp_path, limits={"pixels": 1000}) as backend,
            client_of(backend.connection) as client,
            pytest.raises(TooLargeError, match="64 × 64 px is too large"),
        ):
            client.submit(*scripted_edit(side=64))

    def test_five_hundred_jobs_in_a_row_leave_memory_flat(self, backend: PrivateBackend, client: Client) -> None:
        worker = worker_pid(client)
        memory = []
        for number in range(500):
            job = client.submit(*scripted_edit("steps=1", side=64, shade=number % 256))
            event = last_event(client, job)
            assert isinstance(event, Done)
            client.fetch(event.manifest.edits[0].pixels)
            client.ack(job)
            if number in (149, 499):
                memory.append((resident_mib(backend.pid), resident_mib(worker)))
        for server_and_worker in zip(*memory, strict=True):
            assert server_and_worker[1] - server_and_worker[0] < 8
        assert worker_pid(client) == worker
        queue = client.status()["queue"]
        assert queue["finished"] >= 500
        assert job not in [info.job for info in client.jobs()]


def test_a_disk_that_takes_no_more_keeps_results_fetchable_and_then_refuses_new_jobs(tmp_path: Path) -> None:
    # The system refuses files beyond 1 MiB, as a full disk refuses any; results are 2 MiB.
    settings = {"file_mib": 1, "result_bytes": 6 << 20, "listen": ["local"]}
    with scripted_backend(tmp_path, **settings) as backend, client_of(backend.connection, PATIENT) as client:
        done = [run_edit(client, scripted_edit("bytes=2097152")) for _ in range(2)]  # more than half of the memory
        wait_until(lambda: bool(client.status()["memory"]["disk_full"]), what="the disk's refusal")
        with pytest.raises(BusyError, match="disk is full") as caught:
            client.submit(*scripted_edit())
        assert caught.value.retry_after
        for event in done:
            assert len(client.fetch(event.manifest.edits[0].pixels)) == 2 << 20
        for info in client.jobs():
            client.ack(info.job)
        run_edit(client, scripted_edit())
