"""The load benchmark's artists, its queue, and its report."""

from __future__ import annotations

import argparse
import heapq
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from diffedit_bench.load import command as load
from diffedit_bench.load.artists import FIRST, MASK, TARGET, Artist, Ask, JobKind, LoadScenario, Served, drive
from diffedit_bench.load.parts import Part, Parts, served_from_json, served_to_json
from diffedit_bench.load.report import artists_carried, mean_job_seconds, row_of, write_report
from diffedit_bench.load.workers import ServiceTimes, services_from_json, services_to_json
from diffedit_protocol.errors import BadInputError

SECONDS: dict[JobKind, float] = {FIRST: 2.0, TARGET: 2.0, MASK: 1.0}
# Cold work takes ten times as long as warm, as on a GPU with large pictures.
SERVICES: ServiceTimes = {
    (kind, warm): [seconds / 10 if warm else seconds] for kind, seconds in SECONDS.items() for warm in (True, False)
}
SCENARIO = LoadScenario(artists=10, jobs=60, think=4.0, seed=3)


class PretendedWorkers:
    """Workers that take the first waiting job, on a clock of their own; every job takes SECONDS of its kind."""

    def __init__(self, count: int) -> None:
        self._free = [f"worker-{index}" for index in range(count)]
        self._now = 0.0
        self._ends: list[tuple[float, str, Ask]] = []

    def now(self) -> float:
        return self._now

    def assign(self, waiting: Sequence[Ask]) -> tuple[int, str] | None:
        return (0, self._free[0]) if self._free else None

    def begin(self, ask: Ask, worker: str) -> bool:
        self._free.remove(worker)
        heapq.heappush(self._ends, (self._now + SECONDS[ask.kind], worker, ask))
        return ask.kind == MASK

    def wait(self, until: float) -> list[tuple[Ask, bool]]:
        if not self._ends or self._ends[0][0] > until:
            self._now = until
            return []
        self._now, worker, ask = heapq.heappop(self._ends)
        self._free.append(worker)
        return [(ask, False)]


def served_by(workers: int, scenario: LoadScenario = SCENARIO) -> list[Served]:
    return drive(PretendedWorkers(workers), scenario)


@pytest.mark.parametrize("workers", [1, 2, 8])
def test_every_job_is_served_once_and_no_worker_does_two_at_a_time(workers: int) -> None:
    served = served_by(workers)
    counted = Counter((job.ask.artist, job.ask.number) for job in served)
    assert len(counted) == SCENARIO.artists * SCENARIO.jobs
    assert set(counted.values()) == {1}
    for worker in {job.worker for job in served}:
        own = sorted((job.began, job.ended) for job in served if job.worker == worker)
        assert all(after[0] >= before[1] for before, after in pairwise(own))


def test_a_job_takes_its_time_and_never_begins_before_it_is_asked_for() -> None:
    for job in served_by(2):
        assert job.seconds == pytest.approx(SECONDS[job.ask.kind])
        assert job.waited >= 0


def test_more_workers_wait_less() -> None:
    waits = [row_of(workers, True, served_by(workers)).wait_p95 for workers in (1, 2, 4)]
    assert waits == sorted(set(waits), reverse=True)


def test_the_row_of_a_run_counts_its_jobs_and_the_pictures_that_were_warm() -> None:
    asks = [Ask("anna", number, kind, 1, float(number)) for number, kind in enumerate((FIRST, TARGET, MASK))]
    served = [
        Served(ask, "worker-0", warm=ask.kind == MASK, began=ask.time + wait, ended=ask.time + wait + 1)
        for ask, wait in zip(asks, (0.0, 1.0, 2.0), strict=True)
    ]
    row = row_of(2, False, served)
    assert (row.jobs, row.failed, row.affinity) == (3, 0, False)
    assert row.wait_p50 == pytest.approx(1.0)
    assert row.answer_p50 == pytest.approx(2.0)
    assert row.hit_rate == 0.5  # of the two jobs on a picture that was edited before
    assert row.per_minute == pytest.approx(60 * 3 / 5)
    assert row_of(1, True, served).affinity is None


def test_workers_carry_artists_in_proportion_to_their_number_and_to_think_time() -> None:
    assert mean_job_seconds(SERVICES) == pytest.approx(0.3 * 2.0 + 0.4 * 0.2 + 0.3 * 0.1)
    assert [artists_carried(workers, think=15.0, job=0.6) for workers in (1, 2, 4)] == [13, 26, 52]
    assert artists_carried(1, think=0.0, job=10.0) == 1


def test_the_same_artists_ask_for_the_same_jobs_whatever_the_workers() -> None:
    asked = [
        [(job.ask.kind, job.ask.picture) for job in sorted(served_by(workers), key=lambda job: job.ask.number)
         if job.ask.artist == "artist-4"]
        for workers in (1, 8)
    ]  # fmt: skip
    assert asked[0] == asked[1]


def test_an_artist_begins_with_a_first_edit_and_ends_after_the_last_job() -> None:
    artist = Artist("anna", LoadScenario(artists=1, jobs=3, think=1.0))
    first = artist.next(10.0)
    assert first is not None
    assert (first.kind, first.picture) == (FIRST, 1)
    assert first.time > 10.0
    assert artist.next(20.0) is not None
    assert artist.next(30.0) is not None
    assert artist.next(40.0) is None


def part(name: str, result: Any, **settings: Any) -> Part:
    return Part(name, settings, (0.5, 1.5), 2, 1_700_000_000.0, 60.0, result)


def test_the_report_shows_what_was_measured_and_the_formula_and_its_service_times_can_be_read_again(
    tmp_path: Path,
) -> None:
    scenario = LoadScenario(artists=4, jobs=10, think=4.0)
    real = part("real-1", served_to_json(served_by(1, scenario)), **asdict(scenario), workers=1, affinity=True)
    parts = [part("overhead-direct", [0.010]), part("overhead-local", [0.012, 0.013, 0.014]), real]
    text = write_report(tmp_path, scenario, (1, 2), SERVICES, parts)
    assert "| 1 | no difference | 40 |" in text
    assert "with 4 s of think time and 0.71 s for a job" in text
    assert "| 1 | 3 |\n| 2 | 6 |" in text
    assert "| local | 13.0 | 3.0 |" in text
    assert "Not measured: ray." in text
    assert "| real-1 | 2023-11-14" in text
    assert "| 60 | 0.5 | 1.5 | 2 |" in text
    report = json.loads((tmp_path / "report.json").read_text())
    assert services_from_json(report["services"]) == SERVICES
    assert [row["jobs"] for row in report["rows"]] == [40]


def test_a_part_is_kept_as_soon_as_it_is_measured_and_measured_anew_for_other_settings(tmp_path: Path) -> None:
    parts = Parts(tmp_path / "parts")
    assert parts.find("services", {"samples": 2}) is None
    measured = parts.measure("services", {"samples": 2}, lambda: {"first edit, cold": [1.0]})
    assert Parts(tmp_path / "parts").find("services", {"samples": 2}) == measured
    assert parts.find("services", {"samples": 3}) is None


def test_served_jobs_are_the_same_when_they_are_read_again() -> None:
    served = served_by(2)
    assert served_from_json(json.loads(json.dumps(served_to_json(served)))) == served


class Measured:
    """The command with its measuring replaced: what was measured, in order. `broken`: parts that fail."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: list[str] = []
        self.broken: set[str] = set()
        self._folder = folder
        self._monkeypatch = monkeypatch

    def run(self, *arguments: str) -> int:
        parser = argparse.ArgumentParser()
        load.add_arguments(parser)
        plan = load._plan

        def replaced(args: argparse.Namespace) -> dict[str, tuple[dict[str, Any], Any]]:
            return {name: (settings, partial(self._measure, name)) for name, (settings, _) in plan(args).items()}

        with self._monkeypatch.context() as patch:
            patch.setattr(load, "_plan", replaced)
            words = ("--out", str(self._folder), "--artists", "3", "--jobs", "5", "--workers", "1,2", *arguments)
            return load.run(parser.parse_args(words))

    def _measure(self, name: str) -> Any:
        self.names.append(name)
        if name in self.broken:
            raise TimeoutError("The workers were not ready within 300 s.")
        if name == "services":
            return services_to_json(SERVICES)
        if name.startswith("overhead"):
            return [0.001]
        return served_to_json(served_by(int(name.split("-")[1]), LoadScenario(3, 6, 15.0)))


@pytest.fixture
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Measured:
    return Measured(tmp_path, monkeypatch)


def test_the_command_goes_on_where_it_was_ended_and_after_a_part_that_failed(
    measured: Measured, capsys: pytest.CaptureFixture[str]
) -> None:
    measured.broken = {"overhead-ray"}
    assert measured.run("--only", "services", "--only", "overhead") == 1
    assert measured.names == ["services", "overhead-direct", "overhead-local", "overhead-ray"]
    shown = capsys.readouterr()
    assert "overhead-ray failed: The workers were not ready within 300 s." in shown.err
    assert "not measured yet: overhead-ray, real-1, real-2-with, real-2-without" in shown.err
    assert "Not measured: ray." in shown.out

    measured.broken = set()
    measured.names.clear()
    assert measured.run() == 0
    assert measured.names == ["overhead-ray", "real-1", "real-2-with", "real-2-without"]
    assert "| 2 | without | 18 |" in capsys.readouterr().out

    measured.names.clear()
    assert measured.run("--only", "real-2", "--again") == 0
    assert measured.names == ["real-2-with", "real-2-without"]


def test_a_part_that_there_is_not_is_refused_with_those_that_there_are(measured: Measured) -> None:
    with pytest.raises(BadInputError, match=r"--only reel names no part\. There are: services, overhead-direct"):
        measured.run("--only", "reel")
