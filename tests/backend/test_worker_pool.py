"""The local pool, with workers whose faults are scripted: what each fault costs, and what comes after it."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from backends import failure, scripted_edit, wait_until
from diffedit_backend.executors.base import Job, Report
from diffedit_backend.executors.pool import LocalPool
from diffedit_backend.executors.worker_process import WorkerProcess, WorkerSetup
from diffedit_backend.executors.worker_slot import Timeouts
from diffedit_backend.worker.pipe import message_from_bytes, message_to_bytes
from diffedit_protocol.blobs import Pieces
from diffedit_protocol.messages import STAGES, Cancelled, Done, Failed, Progress

WORKER = (sys.executable, str(Path(__file__).with_name("scripted_worker.py")))
ROOT = Path(__file__).parents[2]
ENVIRONMENT = {"PYTHONPATH": os.pathsep.join((str(ROOT / "protocol"), str(ROOT / "backend")))}
PATIENT = Timeouts(loading=120.0, step=120.0, cancel=60.0, back_off=0.05, back_off_most=0.4)  # with sound workers
WATCHED = replace(PATIENT, step=4.0)
ENDLESS = "steps=100000 pause=0.02"


@contextmanager
def pool_of(workers: int = 1, timeouts: Timeouts = PATIENT, **script: Any) -> Iterator[LocalPool]:
    pool = LocalPool(WorkerSetup(WORKER, ENVIRONMENT, script), ["script"] * workers, timeouts)
    pool.start()
    try:
        yield pool
    finally:
        pool.close(2.0)


@pytest.fixture(scope="module")
def pool() -> Iterator[LocalPool]:
    with pool_of() as pool:
        yield pool


@pytest.fixture(scope="module")
def watched() -> Iterator[LocalPool]:
    """Whose workers are ended after four seconds without a step."""
    with pool_of(timeouts=WATCHED) as pool:
        yield pool


def submit(pool: LocalPool, job: Job) -> None:
    """To the worker that the pool names for it."""
    assignment = pool.assign([job.affinity])
    assert assignment is not None
    pool.submit(job, assignment[1])


def ready(pool: LocalPool, seconds: float = 60.0) -> None:
    collect(pool, lambda _: pool.free_slots() > 0, seconds)


def collect(pool: LocalPool, enough: Callable[[list[Report]], bool], seconds: float = 60.0) -> list[Report]:
    """The reports until there are enough; fails the test when that takes too long."""
    reports: list[Report] = []
    until = time.monotonic() + seconds
    while not enough(reports):
        assert time.monotonic() < until, f"Not enough within {seconds} s: {reports}, {pool.workers()}"
        reports += pool.poll(0.05)
    return reports


def run(pool: LocalPool, script: str, job: str = "job", after: Callable[[], None] = lambda: None) -> Report:
    """The last report of a job."""
    ready(pool)
    request, blobs = scripted_edit(script)
    submit(pool, Job(job, "anna", request, blobs))
    after()
    return collect(pool, lambda reports: bool(reports) and isinstance(reports[-1].event, (Done, Failed, Cancelled)))[-1]


def test_a_blob_in_pieces_reaches_a_worker_as_one() -> None:
    note = message_from_bytes(
        message_to_bytes("job", [Pieces([b"ab", bytearray(b"c"), memoryview(b"def")]), b"mask"], id="1")
    )
    assert note.payloads == (b"abcdef", b"mask")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell how much a pipe holds")
def test_the_pipes_to_a_worker_hold_a_mebibyte_so_that_neither_end_waits_at_every_64_kib() -> None:
    import fcntl

    worker = WorkerProcess("wide", WORKER, ENVIRONMENT, {}, lambda process, note: None)
    try:
        assert [fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ) for pipe in worker.pipes] == [1 << 20, 1 << 20]
    finally:
        worker.kill()
        assert worker.join(60.0)


def test_a_job_comes_back_with_its_manifest_and_every_blob_that_it_names(pool: LocalPool) -> None:
    report = run(pool, "")
    assert isinstance(report.event, Done)
    manifest = report.event.manifest
    assert set(report.blobs) == {manifest.mask.blob, manifest.edits[0].pixels.blob}


@pytest.mark.parametrize("stage", STAGES)
def test_a_worker_killed_at_any_stage_costs_one_job_an_error_and_the_next_job_works(
    pool: LocalPool, stage: str
) -> None:
    died = run(pool, f"die={stage if stage != 'editing' else 2}")
    assert failure(died.event) == "WORKER_DIED"
    assert died.event.error.retryable
    assert isinstance(run(pool, "").event, Done)


def test_a_lost_device_replaces_the_process(pool: LocalPool) -> None:
    ready(pool)
    before = pool.workers()[0].pid
    assert failure(run(pool, "lost=1").event) == "WORKER_DIED"
    ready(pool)
    assert pool.workers()[0].pid != before


@pytest.mark.parametrize(("script", "code"), [("oom", "OOM"), ("fault", "INTERNAL")])
def test_an_error_inside_a_job_leaves_the_worker_alive(pool: LocalPool, script: str, code: str) -> None:
    ready(pool)
    before = pool.workers()[0].pid
    assert failure(run(pool, script).event) == code
    assert isinstance(run(pool, "").event, Done)
    assert pool.workers()[0].pid == before


def test_a_cancel_ends_the_job_at_its_next_step_with_the_worker_alive(pool: LocalPool) -> None:
    ready(pool)
    before = pool.workers()[0].pid
    report = run(pool, ENDLESS, after=lambda: pool.cancel("job"))
    assert isinstance(report.event, Cancelled)
    assert pool.workers()[0].pid == before


def test_a_job_that_does_not_obey_its_cancel_is_ended_by_force_and_counts_as_cancelled() -> None:
    with pool_of(timeouts=replace(PATIENT, cancel=0.5)) as pool:
        ready(pool)
        before = pool.workers()[0].pid

        def cancel_when_it_hangs() -> None:
            collect(pool, lambda reports: any(getattr(report.event, "stage", "") == "inverting" for report in reports))
            pool.cancel("job")  # which only its next step would see

        report = run(pool, "hang=1", after=cancel_when_it_hangs)
        assert isinstance(report.event, Cancelled)
        ready(pool)
        assert pool.workers()[0].pid != before


def test_a_step_that_takes_too_long_is_ended_by_the_watchdog(watched: LocalPool) -> None:
    report = run(watched, "hang=2")
    assert failure(report.event) == "WORKER_DIED"
    assert "longer than 4 s" in report.event.error.sentence
    assert isinstance(run(watched, "").event, Done)


def test_steps_that_each_come_in_time_may_take_longer_than_the_watchdog_in_all(watched: LocalPool) -> None:
    assert isinstance(run(watched, "steps=20 pause=0.25").event, Done)


def test_a_stopped_worker_process_does_not_hold_up_the_pool(watched: LocalPool) -> None:
    ready(watched)
    worker = Path(f"/proc/{watched.workers()[0].pid}/stat")

    def is_stopped() -> bool:
        return worker.read_text().rpartition(")")[2].split()[0] == "T"

    os.kill(watched.workers()[0].pid, signal.SIGSTOP)  # it reads its pipe no more
    wait_until(is_stopped, what="the worker's stop, which another core carries out")
    request, blobs = scripted_edit(side=1024)  # 3 MiB: more than any pipe holds
    submit(watched, Job("job", "anna", request, blobs))  # for ever, did it wait for the worker
    assert is_stopped()
    reports = collect(watched, lambda reports: bool(reports) and isinstance(reports[-1].event, Failed))
    assert failure(reports[-1].event) == "WORKER_DIED"


def test_a_worker_that_dies_again_and_again_is_started_again_ever_more_slowly() -> None:
    waits = []
    with pool_of(timeouts=Timeouts(back_off=0.2, back_off_most=0.8)) as pool:
        for _ in range(4):
            ready(pool)
            alive = time.monotonic()  # before its death: the pool counts from when it saw that, which is before we do
            submit(pool, Job("job", "anna", *scripted_edit("die=1")))
            collect(pool, lambda reports: bool(reports) and isinstance(reports[-1].event, Failed))
            collect(pool, lambda _: pool.workers()[0].state != "waiting")
            waits.append(time.monotonic() - alive)
    for wait, least in zip(waits, (0.2, 0.4, 0.8, 0.8), strict=True):  # doubled at every death, up to the most
        assert wait >= least


def test_the_wait_before_a_worker_is_started_again_never_exceeds_its_bound() -> None:
    with pool_of(timeouts=Timeouts(back_off=3600.0, back_off_most=0.1)) as pool:
        ready(pool)
        submit(pool, Job("job", "anna", *scripted_edit("die=1")))
        collect(pool, lambda reports: bool(reports) and isinstance(reports[-1].event, Failed))
        ready(pool)  # after an hour, were the bound not heeded
        assert isinstance(run(pool, "").event, Done)


def test_a_worker_that_cannot_even_start_is_given_up_with_the_last_that_it_said() -> None:
    command = (sys.executable, "-c", "import sys; sys.exit('no such library: torch')")
    pool = LocalPool(WorkerSetup(command), ["script"], Timeouts(back_off=0.05))
    pool.start()
    try:
        collect(pool, lambda _: pool.trouble() is not None)
        trouble = pool.trouble()
        assert trouble is not None
        assert trouble.sentence == "No worker can be started here: no such library: torch"
        assert pool.workers()[0].restarts == 2
    finally:
        pool.close(1.0)


def test_a_worker_that_still_loads_does_not_hold_up_the_end() -> None:
    with pool_of(load_seconds=20.0) as pool:
        process = pool.slots[0]._process
        assert process is not None
        pool.close(60.0)
        assert process.exit_code() == -signal.SIGKILL  # had it been waited for, it would have ended by itself


def test_a_model_that_cannot_be_loaded_is_told_and_not_tried_again() -> None:
    with pool_of(unusable=True) as pool:
        collect(pool, lambda _: pool.trouble() is not None)
        trouble = pool.trouble()
        assert trouble is not None
        assert (trouble.code, trouble.sentence) == ("MODEL", "The scripted model cannot be loaded.")
        assert pool.workers()[0].state == "unusable"


def test_a_job_goes_to_the_worker_that_has_its_picture_in_its_cache() -> None:
    with pool_of(workers=2) as pool:
        collect(pool, lambda _: pool.free_slots() == 2)
        served: dict[int, set[str]] = {}
        for turn in range(6):
            shade = turn % 2
            request, blobs = scripted_edit(shade=shade)
            submit(pool, Job(f"job-{turn}", "anna", request, blobs))
            worker = next(worker for worker in pool.workers() if worker.job)
            served.setdefault(shade, set()).add(worker.name)
            collect(pool, lambda reports: any(isinstance(report.event, Done) for report in reports))
        assert len(served[0]) == len(served[1]) == 1
        assert served[0] != served[1]


def test_a_job_waits_for_the_busy_worker_that_has_its_picture_and_is_passed_by_another_meanwhile() -> None:
    with pool_of(workers=2) as pool:
        collect(pool, lambda _: pool.free_slots() == 2)
        request, blobs = scripted_edit(ENDLESS)
        first = Job("first", "anna", request, blobs)
        submit(pool, first)
        other = Job("other", "ben", *scripted_edit(shade=7))
        assert pool.assign([first.affinity]) is None
        assert pool.assign([first.affinity, other.affinity]) == (1, "worker-1")


def test_two_workers_run_two_jobs_at_once() -> None:
    with pool_of(workers=2) as pool:
        collect(pool, lambda _: pool.free_slots() == 2)
        for shade, name in enumerate(("a", "b")):
            submit(pool, Job(name, "anna", *scripted_edit(ENDLESS, shade=shade)))
        reports = collect(pool, lambda reports: {r.job for r in reports if isinstance(r.event, Progress)} == {"a", "b"})
        assert not any(isinstance(report.event, Done) for report in reports)


def test_a_pool_that_is_closed_in_the_middle_of_a_job_leaves_no_process_behind() -> None:
    with pool_of() as pool:
        ready(pool)
        pid = pool.workers()[0].pid
        submit(pool, Job("job", "anna", *scripted_edit("hang=1")))
        pool.poll(0.2)
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), what="the end of the worker")


def test_a_model_that_is_away_for_a_while_is_loaded_when_it_is_back(tmp_path: Path) -> None:
    away = tmp_path / "away"
    with pool_of(away=str(away)) as pool:
        ready(pool)
        away.write_text("")
        assert failure(run(pool, "die=1").event) == "WORKER_DIED"
        collect(pool, lambda _: pool.trouble() is not None)
        assert pool.workers()[0].state == "unusable"
        away.unlink()
        ready(pool)
        assert pool.trouble() is None
        assert isinstance(run(pool, "steps=1").event, Done)


def test_a_child_of_a_worker_that_holds_its_stderr_holds_up_nobody(tmp_path: Path) -> None:
    with pool_of() as pool:
        ready(pool)
        assert failure(run(pool, f"child={tmp_path / 'pid'} die=1").event) == "WORKER_DIED"
        ready(pool)
        assert isinstance(run(pool, "steps=1").event, Done)
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)  # it lives: nobody has waited for its end
