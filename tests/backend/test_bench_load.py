"""The load benchmark's artists, its simulated floor, and its report."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from dataclasses import asdict
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from diffedit_backend.executors.routing import BEHIND
from diffedit_bench.load import command as load
from diffedit_bench.load.artists import FIRST, MASK, TARGET, Artist, LoadScenario, Served, drive
from diffedit_bench.load.parts import Part, Parts, served_from_json, served_to_json
from diffedit_bench.load.report import write_report
from diffedit_bench.load.rows import BEARABLE, FIGURES, SIZING_JOBS, beside, most_artists, row_of
from diffedit_bench.load.services import as_lists, services_from, services_seen
from diffedit_bench.load.simulation import SimulatedFloor
from diffedit_protocol.errors import BadInputError

# Cold work takes ten times as long as warm, as on a GPU with large pictures.
SERVICES = {
    (kind, warm): [seconds / 10 if warm else seconds]
    for kind, seconds in ((FIRST, 2.0), (TARGET, 2.0), (MASK, 1.0))
    for warm in (True, False)
}
STUDIO = LoadScenario(artists=10, jobs=60, think=4.0, seed=3)


def simulated(workers: int, behind: int = BEHIND, studio: LoadScenario = STUDIO) -> list[Served]:
    return drive(SimulatedFloor(workers, SERVICES, behind), studio)


@pytest.mark.parametrize("workers", [1, 2, 4, 8])
@pytest.mark.parametrize("behind", [0, BEHIND])
def test_every_job_is_served_once_and_no_worker_does_two_at_a_time(workers: int, behind: int) -> None:
    served = simulated(workers, behind)
    counted = Counter((job.ask.artist, job.ask.number) for job in served)
    assert len(counted) == STUDIO.artists * STUDIO.jobs
    assert set(counted.values()) == {1}
    for worker in {job.worker for job in served}:
        own = sorted((job.began, job.ended) for job in served if job.worker == worker)
        assert all(after[0] >= before[1] for before, after in pairwise(own))


def test_a_job_takes_its_measured_time_and_never_begins_before_it_is_asked_for() -> None:
    for job in simulated(2):
        assert job.seconds == pytest.approx(SERVICES[job.ask.kind, job.warm][0])
        assert job.waited >= 0


def test_affinity_finds_more_pictures_in_caches_and_serves_more_jobs() -> None:
    with_affinity = row_of("simulated", 4, True, simulated(4))
    without = row_of("simulated", 4, False, simulated(4, behind=0))
    assert with_affinity.hit_rate > without.hit_rate + 0.2
    assert with_affinity.per_minute > without.per_minute


def test_more_workers_wait_less_and_one_worker_has_every_known_picture() -> None:
    rows = [row_of("simulated", workers, True, simulated(workers)) for workers in (1, 2, 4, 8)]
    waits = [row.wait_p95 for row in rows]
    assert waits == sorted(waits, reverse=True)
    assert rows[0].hit_rate == 1.0


def test_the_same_artists_ask_for_the_same_jobs_on_every_floor() -> None:
    asked = [
        [(job.ask.kind, job.ask.picture) for job in sorted(simulated(workers), key=lambda job: job.ask.number)
         if job.ask.artist == "artist-4"]
        for workers in (1, 8)
    ]  # fmt: skip
    assert asked[0] == asked[1]


def test_an_artist_begins_with_a_first_edit_and_goes_home_after_the_last_job() -> None:
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


def test_the_report_says_what_is_measured_and_what_simulated_and_its_service_times_can_be_read_again(
    tmp_path: Path,
) -> None:
    studio = LoadScenario(artists=4, jobs=10, think=4.0)
    real = part("real-1", served_to_json(simulated(1, studio=studio)), **asdict(studio), workers=1, affinity=True)
    parts = [part("overhead-direct", [0.010]), part("overhead-local", [0.012, 0.013, 0.014]), real]
    text = write_report(tmp_path, studio, (1, 2), SERVICES, parts)
    assert "| 1 | no difference | **measured** | 40 |" in text
    assert "simulated, its own service times" in text
    assert "| 2 | with |" in text
    assert "| 2 | without |" in text
    assert "| local | 13.0 | 3.0 |" in text
    assert "Not measured: ray." in text
    assert "| real-1 | 2023-11-14" in text
    assert "| 60 | 0.5 | 1.5 | 2 |" in text
    report = json.loads((tmp_path / "report.json").read_text())
    assert services_from(report["services"]) == SERVICES
    assert [row["how"] for row in report["rows"]] == ["measured", "simulated", "simulated", "simulated"]
    assert (tmp_path / "load.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_simulated_with_its_own_service_times_gives_its_own_figures() -> None:
    served = simulated(2)
    spreads = beside(2, True, services_seen(served, SERVICES), STUDIO)
    row = row_of("measured", 2, True, served)
    for figure in FIGURES:
        assert spreads[figure].least == pytest.approx(getattr(row, figure))
        assert spreads[figure].greatest == pytest.approx(getattr(row, figure))


def test_more_workers_carry_more_artists_and_one_artist_more_would_wait_too_long() -> None:
    carried = [most_artists(workers, SERVICES, think=4.0) for workers in (1, 2, 4)]
    assert carried == sorted(set(carried))
    for artists, bearable in ((carried[1], True), (carried[1] + 1, False)):
        studio = LoadScenario(artists, SIZING_JOBS, think=4.0)
        row = row_of("simulated", 2, True, simulated(2, studio=studio))
        assert (row.wait_p95 <= BEARABLE) == bearable


def test_a_part_is_kept_as_soon_as_it_is_measured_and_measured_anew_for_other_settings(tmp_path: Path) -> None:
    parts = Parts(tmp_path / "parts")
    assert parts.find("services", {"samples": 2}) is None
    measured = parts.measure("services", {"samples": 2}, lambda: {"first edit, cold": [1.0]})
    assert Parts(tmp_path / "parts").find("services", {"samples": 2}) == measured
    assert parts.find("services", {"samples": 3}) is None


def test_served_jobs_are_the_same_when_they_are_read_again() -> None:
    served = simulated(2)
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
            return as_lists(SERVICES)
        if name.startswith("overhead"):
            return [0.001]
        return served_to_json(simulated(int(name.split("-")[1]), studio=LoadScenario(3, 6, 15.0)))


@pytest.fixture
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Measured:
    return Measured(tmp_path, monkeypatch)


def test_the_command_goes_on_where_it_was_ended_and_after_a_part_that_failed(
    measured: Measured, capsys: pytest.CaptureFixture[str]
) -> None:
    measured.broken = {"overhead-ray"}
    assert measured.run("--only", "services", "--only", "overhead") == 1
    assert measured.names == ["services", "overhead-direct", "overhead-local", "overhead-ray"]
    said = capsys.readouterr()
    assert "overhead-ray failed: The workers were not ready within 300 s." in said.err
    assert "not measured yet: overhead-ray, real-1, real-2-with, real-2-without" in said.err
    assert "Not measured: ray." in said.out

    measured.broken = set()
    measured.names.clear()
    assert measured.run() == 0
    assert measured.names == ["overhead-ray", "real-1", "real-2-with", "real-2-without"]
    assert "| 2 | without | **measured** |" in capsys.readouterr().out

    measured.names.clear()
    assert measured.run("--only", "real-2", "--again") == 0
    assert measured.names == ["real-2-with", "real-2-without"]

    measured.names.clear()
    assert measured.run("--only", "simulate") == 0
    assert measured.names == []


def test_a_part_that_there_is_not_is_refused_with_those_that_there_are(measured: Measured) -> None:
    with pytest.raises(BadInputError, match=r"--only reel names no part\. There are: services, overhead-direct"):
        measured.run("--only", "reel")


def test_the_report_of_another_machine_is_simulated_without_measuring(tmp_path: Path, measured: Measured) -> None:
    other = tmp_path / "other"
    write_report(other, STUDIO, (1,), SERVICES, [])
    assert measured.run("--services", str(other / "report.json")) == 0
    assert measured.names == []
    assert "every row below is simulated" in (tmp_path / "report.md").read_text()
