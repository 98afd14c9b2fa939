"""From served jobs to figures: a row of a run, the same run simulated, and how many artists some workers carry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from diffedit_backend.executors.routing import BEHIND

from .artists import FIRST, LoadScenario, Served, drive
from .simulation import Services, SimulatedFloor

FIGURES = ("wait_p50", "wait_p95", "answer_p50", "hit_rate", "per_minute")
DRAWS = 20  # simulated runs beside a measured one, which differ in the service times that they draw
BEARABLE = 5.0  # seconds of waiting, that 19 of 20 jobs are not to exceed
SIZING_JOBS = 30  # of each artist: enough that the quiet end of a run weighs little
MOST_ARTISTS = 512


@dataclass(frozen=True)
class Row:
    """One run. Seconds of waiting until a worker began; `hit_rate`: of the jobs on a picture that was edited before,
    those whose worker had its stages; `per_minute`: jobs ended; `failed`: those that ended with an error.

    `affinity`: None where it makes no difference, at one worker."""

    how: str
    workers: int
    affinity: bool | None
    jobs: int
    failed: int
    wait_p50: float
    wait_p95: float
    answer_p50: float
    hit_rate: float
    per_minute: float


def row_of(how: str, workers: int, affinity: bool, served: Sequence[Served]) -> Row:
    waits = [job.waited for job in served]
    known = [job.warm for job in served if job.ask.kind != FIRST]
    length = max(job.ended for job in served) - min(job.ask.time for job in served)
    return Row(
        how,
        workers,
        affinity if workers > 1 else None,
        len(served),
        sum(job.failed for job in served),
        float(np.percentile(waits, 50)),
        float(np.percentile(waits, 95)),
        float(np.percentile([job.ended - job.ask.time for job in served], 50)),
        sum(known) / len(known) if known else 0.0,
        60 * len(served) / length,
    )


def simulated(workers: int, affinity: bool, services: Services, scenario: LoadScenario, seed: int | None = None) -> Row:
    """One simulated run; `seed`: of the service times that are drawn, the scenario's when it is not given."""
    floor = SimulatedFloor(workers, services, BEHIND if affinity else 0, scenario.seed if seed is None else seed)
    return row_of("simulated", workers, affinity, drive(floor, scenario))


@dataclass(frozen=True)
class Spread:
    """A figure over simulated runs."""

    median: float
    least: float
    greatest: float


def beside(workers: int, affinity: bool, services: Services, scenario: LoadScenario) -> dict[str, Spread]:
    """Every figure of DRAWS simulated runs of the same artists with the same jobs and think times."""
    rows = [simulated(workers, affinity, services, scenario, seed) for seed in range(DRAWS)]
    spreads = {}
    for figure in FIGURES:
        values = [getattr(row, figure) for row in rows]
        spreads[figure] = Spread(float(np.median(values)), min(values), max(values))
    return spreads


def most_artists(workers: int, services: Services, think: float, seed: int = 0) -> int:
    """The most artists whose jobs wait no longer than BEARABLE in 19 of 20 cases, simulated; MOST_ARTISTS or more."""

    def carried(artists: int) -> bool:
        return simulated(workers, True, services, LoadScenario(artists, SIZING_JOBS, think, seed)).wait_p95 <= BEARABLE

    low, high = 0, 1
    while high < MOST_ARTISTS and carried(high):
        low, high = high, high + max(1, high // 2)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if carried(middle) else (low, middle)
    return low
