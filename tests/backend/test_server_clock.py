"""The system's clock may be set while the server runs, or be wrong when it starts: durations do not follow it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from backends import OneWorker
from diffedit_backend.executors.base import Report
from diffedit_backend.server.job_table import JobTable
from diffedit_backend.server.results import JobRecord, ResultStore
from diffedit_backend.server.uploads import Uploads
from diffedit_protocol.messages import Bounds, Done, EditRequest, Manifest
from diffedit_protocol.replies import Limits
from diffedit_protocol.requests import new_job_id

ANNA = "anna's key"
DAY = 86_400.0
DONE = Done(Manifest(None, Bounds(0, 0, 1, 1), 0.5))


class Table:
    """A job table over one worker, with its results on the disk."""

    def __init__(self, folder: Path) -> None:
        self.results = ResultStore(folder, 1 << 20, 1 << 20)
        self._worker = OneWorker()
        uploads = Uploads(1 << 20, 1 << 20, 1 << 20)
        self.jobs = JobTable(self._worker, uploads, self.results, lambda *event: None, total=8, limits=Limits())

    def submit(self) -> None:
        self.jobs.submit(ANNA, new_job_id(), EditRequest("a horse", "", "suggest"), ())

    def end(self) -> None:
        """The worker is done with its job, and the result is written."""
        self.jobs.on_reports([Report(self._worker.jobs[-1].id, DONE)])
        until = time.monotonic() + 60
        while self.states() != ["done"]:
            assert time.monotonic() < until
            self.jobs.on_stored(self.results.tidy())

    def states(self) -> list[str]:
        return [info.state for info in self.jobs.of(ANNA)]


def test_a_clock_that_jumps_a_day_ahead_deletes_no_result_and_changes_no_waiting_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = Table(tmp_path / "results")
    table.submit()
    before = table.jobs.wait_seconds()
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + DAY)
    table.end()
    table.jobs.sweep(Limits().result_seconds)
    assert table.states() == ["done"]
    assert table.jobs.wait_seconds() <= before
    table.results.close()


@pytest.mark.parametrize("shift", [-DAY, DAY])
def test_a_server_that_starts_with_a_wrong_clock_keeps_the_results_of_the_one_before(
    tmp_path: Path, shift: float
) -> None:
    """A result that seems to have ended a day ago, or tomorrow, while one is kept for an hour."""
    first = ResultStore(tmp_path / "results", 0, 1 << 20)
    first.add(JobRecord(ANNA, new_job_id(), "a horse", "a zebra", 1.0, time.time() + shift, (DONE,)), {})
    first.close()
    table = Table(tmp_path / "results")
    table.jobs.restore()
    table.jobs.sweep(Limits().result_seconds)
    assert table.states() == ["done"]
    table.results.close()


def test_a_result_goes_when_its_time_is_over(tmp_path: Path) -> None:
    table = Table(tmp_path / "results")
    table.submit()
    table.end()
    table.jobs.sweep(3600.0)
    assert table.states() == ["done"]
    table.jobs.sweep(-1.0)
    assert table.states() == []
    table.results.close()
