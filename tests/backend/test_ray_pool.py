"""Workers on a real Ray cluster of CPU actors: the same jobs, and what the loss of an actor or of the head costs."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from backends import client_of, events_of, failure, last_event, run_edit, scripted_backend, scripted_edit, wait_until
from diffedit_backend.executors.base import Job, Lost, Report
from diffedit_backend.executors.ray_pool import RayPool, RaySetup
from diffedit_backend.executors.worker_slot import Timeouts
from diffedit_backend.server.job_table import MOST_LOSSES
from diffedit_backend.server.private_backend import PrivateBackend
from diffedit_protocol.client import Client
from diffedit_protocol.messages import Cancelled, Done, Failed, Progress, Started
from ray_clusters import OWN, PATHS, ray_processes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]  # Ray's start alone takes minutes on a busy machine
TIMEOUTS = {"loading": 300.0, "step": 120.0, "cancel": 60.0, "back_off": 0.05, "back_off_most": 0.2}


def collect(pool: RayPool, enough: Callable[[list[Report]], bool], seconds: float = 240.0) -> list[Report]:
    """The reports until there are enough; fails the test when that takes too long."""
    reports: list[Report] = []
    until = time.monotonic() + seconds
    while not enough(reports):
        assert time.monotonic() < until, f"{reports[-3:]}, {pool.workers()}, {pool.trouble()}"
        reports += pool.poll(0.05)
    return reports


def test_a_pool_runs_a_job_cancels_one_reports_a_lost_actor_and_leaves_no_process_when_it_is_closed() -> None:
    before = ray_processes()
    pool = RayPool(
        RaySetup(gpus=0, environment={"PYTHONPATH": PATHS}, runner="scripted_worker:ScriptedRunner", **OWN),
        2,
        Timeouts(**TIMEOUTS),
    )

    def run(script: str, until: type) -> Report:
        collect(pool, lambda _: pool.free_slots() == 2)
        request, blobs = scripted_edit(script)
        job = Job("job", "anna", request, blobs)
        assignment = pool.assign([job.affinity])
        assert assignment is not None
        pool.submit(job, assignment[1])
        if until is Cancelled:
            collect(pool, lambda reports: any(isinstance(report.event, Progress) for report in reports))
            pool.cancel("job")
        return collect(pool, lambda reports: bool(reports) and isinstance(reports[-1].event, until))[-1]

    pool.start()
    try:
        done = run("", Done)
        assert isinstance(done.event, Done)
        assert set(done.blobs) == {done.event.manifest.mask.blob, done.event.manifest.edits[0].pixels.blob}
        pids = {worker.pid for worker in pool.workers()}
        run("steps=100000 pause=0.02", Cancelled)
        assert {worker.pid for worker in pool.workers()} == pids  # cancelled at a step, with the actor alive
        lost = run("die=2", Lost)
        assert isinstance(lost.event, Lost)
        assert lost.event.error.code == "WORKER_DIED"
        assert isinstance(run("", Done).event, Done)
        assert len({worker.pid for worker in pool.workers()} & pids) == 1  # the other went on
        assert ray_processes() - before
    finally:
        pool.close(5.0)
    wait_until(lambda: not ray_processes() - before, what="the end of Ray's processes")


@pytest.mark.parametrize("victim", ["driver", "head"])
def test_a_cluster_of_its_own_that_ends_by_force_leaves_no_process(victim: str) -> None:
    before = ray_processes()
    setup = RaySetup(gpus=0, environment={"PYTHONPATH": PATHS}, runner="scripted_worker:ScriptedRunner", **OWN)
    pool = RayPool(setup, 1, Timeouts(**TIMEOUTS))
    pool.start()
    try:
        collect(pool, lambda _: pool.free_slots() == 1, 240.0)
        own: dict[str, psutil.Process] = {}

        def all_are_named() -> bool:
            """Ray's processes take their names a while after their start."""
            own.clear()
            for pid in ray_processes() - before:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process = psutil.Process(pid)
                    own[process.name()] = process
            return {"gcs_server", "raylet", "ray::DashboardAgent", "ray::RuntimeEnvAgent"} <= own.keys()

        wait_until(all_are_named, what="the start of Ray's own processes")
        assert pool._driver is not None
        victims = {"driver": psutil.Process(pool._driver.pid), "head": own["gcs_server"]}
        victims[victim].kill()
        collect(pool, lambda _: pool._driver is None)
        gone, left = psutil.wait_procs(own.values(), 60)
        assert gone
        assert not [process for process in left if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
    finally:
        pool.close(5.0)


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateBackend]:
    with scripted_backend(tmp_path_factory.mktemp("ray"), ray=OWN, workers=2, timeouts=TIMEOUTS) as backend:
        yield backend


@pytest.fixture
def client(backend: PrivateBackend) -> Iterator[Client]:
    with client_of(backend.connection) as client:
        yield client


def test_an_actor_killed_in_the_middle_of_a_job_costs_a_delay_and_no_error(client: Client, tmp_path: Path) -> None:
    job = client.submit(*scripted_edit(f"hold={tmp_path / 'go'}"))
    killed = False
    for event in client.events(job):
        if isinstance(event, Progress) and event.stage == "editing" and not killed:
            busy = next(worker for worker in client.status()["workers"] if worker["job"])
            os.kill(busy["pid"], signal.SIGKILL)
            killed = True
            (tmp_path / "go").touch()
        if isinstance(event, (Done, Failed, Cancelled)):
            break
    assert isinstance(event, Done)
    started = sum(isinstance(event, Started) for event in events_of(client, job, since=0))
    assert started == 2


def test_a_job_that_kills_every_actor_that_runs_it_is_ended_and_the_next_job_works(client: Client) -> None:
    before = sum(worker["restarts"] for worker in client.status()["workers"])
    job = client.submit(*scripted_edit("die=2"))
    assert failure(last_event(client, job, 240)) == "WORKER_DIED"
    started = sum(isinstance(event, Started) for event in events_of(client, job, since=0))
    assert started == MOST_LOSSES
    run_edit(client, scripted_edit())
    assert sum(worker["restarts"] for worker in client.status()["workers"]) >= before + MOST_LOSSES - 1


def test_a_job_whose_actor_was_lost_can_still_be_cancelled(client: Client) -> None:
    job = client.submit(*scripted_edit("steps=100000 pause=0.02"))
    for event in client.events(job):
        if isinstance(event, Progress) and event.stage == "editing":
            os.kill(next(worker for worker in client.status()["workers"] if worker["job"])["pid"], signal.SIGKILL)
            break
    client.cancel(job)
    assert isinstance(last_event(client, job), Cancelled)
