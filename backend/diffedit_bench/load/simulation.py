"""A floor of workers in simulated time (discrete events): the real router, service times drawn from measured ones."""

from __future__ import annotations

import heapq
import random
from collections.abc import Mapping, Sequence

from diffedit_backend.executors.routing import BEHIND, Router

from .artists import Ask

Services = Mapping[tuple[str, bool], Sequence[float]]  # (kind, warm) to seconds of jobs that were measured


class SimulatedFloor:
    """`behind`: the router's; 0 is a floor without affinity."""

    def __init__(self, workers: int, services: Services, behind: int = BEHIND, seed: int = 0) -> None:
        self._services = services
        self._rng = random.Random(seed)
        self._router = Router(behind)
        self._loads = {f"worker-{index}": 0 for index in range(workers)}
        self._now = 0.0
        self._ends: list[tuple[float, str, Ask]] = []

    def now(self) -> float:
        return self._now

    def place(self, waiting: Sequence[Ask]) -> tuple[int, str] | None:
        if 0 not in self._loads.values():
            return None  # before the list is made: most calls come here when artists wait
        return self._router.place([ask.affinity for ask in waiting], self._loads)

    def begin(self, ask: Ask, worker: str) -> bool:
        assert self._loads[worker] == 0, f"{worker} is busy."
        warm = self._router.holds(worker, ask.affinity)
        self._router.remember(worker, ask.affinity)
        self._loads[worker] = 1
        seconds = self._rng.choice(self._services[ask.kind, warm])
        heapq.heappush(self._ends, (self._now + seconds, worker, ask))
        return warm

    def wait(self, until: float) -> list[tuple[Ask, bool]]:
        if not self._ends or self._ends[0][0] > until:
            assert until < float("inf"), "Jobs wait, none runs and none will come: the router left them all."
            self._now = until
            return []
        self._now, worker, ask = heapq.heappop(self._ends)
        self._loads[worker] = 0
        return [(ask, False)]
