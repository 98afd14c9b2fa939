"""The load benchmark's artists, its simulated floor, and its report."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from diffedit_backend.bench.load_artists import FIRST, MASK, TARGET, Artist, Served, Studio, drive
from diffedit_backend.bench.load_report import row_of, services_of, write_report
from diffedit_backend.bench.load_simulation import SimulatedFloor
from diffedit_backend.executors.routing import BEHIND

# Cold work takes ten times as long as warm, as on a GPU with large pictures.
SERVICES = {
    (kind, warm): [seconds / 10 if warm else seconds]
    for kind, seconds in ((FIRST, 2.0), (TARGET, 2.0), (MASK, 1.0))
    for warm in (True, False)
}
STUDIO = Studio(artists=10, jobs=60, think=4.0, seed=3)


def simulated(workers: int, behind: int = BEHIND, studio: Studio = STUDIO) -> list[Served]:
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
    artist = Artist("anna", Studio(artists=1, jobs=3, think=1.0))
    first = artist.next(10.0)
    assert first is not None
    assert (first.kind, first.picture) == (FIRST, 1)
    assert first.time > 10.0
    assert artist.next(20.0) is not None
    assert artist.next(30.0) is not None
    assert artist.next(40.0) is None


def test_the_report_says_what_is_measured_and_what_simulated_and_its_service_times_can_be_read_again(
    tmp_path: Path,
) -> None:
    served = simulated(1)
    rows = [row_of(how, 1, True, served) for how in ("measured", "simulated")]
    overhead = {"direct": {"seconds": 0.01}, "local": {"seconds": 0.012, "overhead": 0.002}}
    text = write_report(tmp_path, STUDIO, 5, SERVICES, rows, overhead)
    assert "| measured | 1 | yes |" in text
    assert "| simulated | 1 | yes |" in text
    assert "Ray is not installed here" in text
    assert services_of(json.loads((tmp_path / "report.json").read_text())) == SERVICES
    assert (tmp_path / "load.png").read_bytes().startswith(b"\x89PNG")
