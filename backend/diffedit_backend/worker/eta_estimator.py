"""How long a job will still take, from how long its stages took before."""

from __future__ import annotations

import time
from collections.abc import Sequence

from diffedit_protocol.messages import Stage

SMOOTHING = 0.5  # weight of the newest job in what is remembered


class EtaEstimator:
    """Remembers seconds by kind of job and stage. A kind is what makes jobs take equally long: task, method, size."""

    def __init__(self) -> None:
        self._seconds: dict[tuple[str, str], float] = {}

    def watch(self, kind: str, stages: Sequence[str]) -> JobTimer:
        """Begin to time a job of `kind`, which goes through `stages` in this order."""
        return JobTimer(self._seconds, kind, stages)


class JobTimer:
    """Times one job."""

    def __init__(self, seconds: dict[tuple[str, str], float], kind: str, stages: Sequence[str]) -> None:
        self._seconds = seconds
        self._kind = kind
        self._stages = list(stages)
        self._stage = ""
        self._began = self._last = time.monotonic()  # of this stage; when the step before this one ended

    def step(self, stage: Stage, step: int, total: int) -> float | None:
        """Note a finished step, 0 for a stage that begins. Returns the seconds that are left; None while a stage, or
        a later one, was never seen."""
        now = time.monotonic()
        if stage != self._stage:
            self._stage, self._began = stage, self._last
        self._last = now
        elapsed = now - self._began
        if step >= total:
            before = self._seconds.get((self._kind, stage), elapsed)
            self._seconds[self._kind, stage] = before + SMOOTHING * (elapsed - before)
        later = self._stages[self._stages.index(stage) + 1 :] if stage in self._stages else []
        rest = [self._seconds.get((self._kind, name)) for name in later]
        if step == 0 or any(seconds is None for seconds in rest):
            return None
        return elapsed / step * (total - step) + sum(seconds for seconds in rest if seconds is not None)
