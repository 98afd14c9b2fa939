"""A job whose worker was lost is run again by the server, before everyone else's; a job that loses too many ends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from backends import OneWorker, client_of, last_event, wait_until
from diffedit_backend.cli.self_test import sample_edit
from diffedit_backend.executors.base import Lost, Report
from diffedit_backend.server.job_table import MOST_LOSSES, JobTable
from diffedit_backend.server.private_backend import PrivateBackend
from diffedit_backend.server.results import Key, ResultStore
from diffedit_backend.server.uploads import Uploads
from diffedit_protocol.errors import WorkerDiedError
from diffedit_protocol.messages import Cancelled, Done, EditRequest, Event, Failed, Queued, Started
from diffedit_protocol.replies import Limits

LOST = Lost(WorkerDiedError("The backend had to restart its model."))


class Table:
    """A job table over one worker, and what it reported of each job."""

    def __init__(self, folder: Path) -> None:
        self.worker = OneWorker()
        self.events: dict[str, list[Event]] = {}
        self.results = ResultStore(folder, 1 << 20, 1 << 20)
        uploads = Uploads(1 << 20, 1 << 20, 1 << 20)
        self.jobs = JobTable(self.worker, uploads, self.results, self._record, total=8, limits=Limits(jobs=8))

    def submit(self, owner: str, job: str) -> None:
        self.jobs.submit(owner, job, EditRequest("a horse", "a zebra"), ())

    def lose(self) -> None:
        """The worker dies with its job, and another takes its place."""
        self.worker.idle = True
        self.jobs.on_reports([Report(self.worker.jobs[-1].id, LOST)])

    def _record(self, key: Key, number: int, event: Event) -> None:
        self.events.setdefault(key[1], []).append(event)


@pytest.fixture
def table(tmp_path: Path) -> Iterator[Table]:
    table = Table(tmp_path / "results")
    yield table
    table.results.close()


def test_a_lost_job_is_run_again_before_the_jobs_that_wait_and_its_client_sees_a_delay(table: Table) -> None:
    table.submit("anna", "a")
    table.submit("ben", "b")
    table.lose()
    assert [job.id.partition("-")[2] for job in table.worker.jobs] == ["a", "a"]
    assert [type(event) for event in table.events["a"]] == [Started, Queued, Started]
    assert (table.jobs.running, table.jobs.waiting) == (1, 1)


def test_a_job_that_loses_worker_after_worker_is_taken_for_their_cause_and_ends(table: Table) -> None:
    table.submit("anna", "a")
    for _ in range(MOST_LOSSES - 1):
        table.lose()
        assert not any(isinstance(event, Failed) for event in table.events["a"])
    table.lose()
    assert isinstance(table.events["a"][-1], Failed)
    assert len(table.worker.jobs) == MOST_LOSSES
    table.submit("ben", "b")
    assert table.jobs.find("ben", "b").state == "running"


def test_a_lost_job_that_waits_for_another_worker_can_be_cancelled(table: Table) -> None:
    table.submit("anna", "a")
    table.worker.idle = False
    table.jobs.on_reports([Report(table.worker.jobs[-1].id, LOST)])
    assert table.jobs.find("anna", "a").state == "queued"
    table.jobs.cancel("anna", "a")
    assert isinstance(table.events["a"][-1], Cancelled)
    assert (table.jobs.running, table.jobs.waiting) == (0, 0)


@pytest.mark.slow
def test_serve_with_two_workers_runs_an_edit_on_either(tmp_path: Path) -> None:
    with (
        PrivateBackend(tmp_path, ["--device", "cpu", "--workers", "2", "--threads", "1"]) as backend,
        client_of(backend.connection) as client,
    ):
        wait_until(
            lambda: [worker["state"] for worker in client.status()["workers"]] == ["idle", "idle"], 240, "two workers"
        )
        assert len({worker["pid"] for worker in client.status()["workers"]}) == 2
        for shade in (50, 200):
            assert isinstance(last_event(client, client.submit(*sample_edit(64, shade)), 120), Done)
        assert all(worker["job_seconds"] > 0 for worker in client.status()["workers"])
