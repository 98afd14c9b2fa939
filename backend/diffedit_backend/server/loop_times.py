"""How long the server's loop is away from its sockets: every turn's time, and which step took the longest.

Only a turn that is over lets the next message in, so the longest turn is the longest that a client may have waited
because of another. A turn's processor time is less than its time where other programs, or other threads of this one,
had the processor meanwhile.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from dataclasses import dataclass
from typing import Any

BOUNDS = (0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0)  # seconds: upper ends of the histogram's buckets
AIM_SECONDS = 0.02  # that nothing should hold up the loop for; one of BOUNDS


@dataclass(frozen=True)
class Turn:
    """One turn. `seconds`: of the clock; `processor_seconds`: of this thread; `step`: which took most of it."""

    seconds: float
    processor_seconds: float
    step: str


class LoopTimes:
    """A histogram of the turns, and the longest of them by the clock and by processor time."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.total = 0.0
        self.longest = self.busiest = Turn(0.0, 0.0, "")
        self._begun = self._processor = 0.0
        self._step, self._step_seconds, self._in_steps = "", 0.0, 0.0

    def begin(self) -> None:
        """The poll has returned."""
        self._begun, self._processor = time.perf_counter(), time.thread_time()
        self._step, self._step_seconds, self._in_steps = "", 0.0, 0.0

    def step(self, name: str, seconds: float) -> None:
        """A step of this turn took so long."""
        self._in_steps += seconds
        if seconds > self._step_seconds:
            self._step, self._step_seconds = name, seconds

    def end(self) -> None:
        """Everything that waited is done."""
        seconds = time.perf_counter() - self._begun
        self.step("taking messages", seconds - self._in_steps)  # what no step was told of
        turn = Turn(seconds, time.thread_time() - self._processor, self._step)
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.total += seconds
        if seconds > self.longest.seconds:
            self.longest = turn
        if turn.processor_seconds > self.busiest.processor_seconds:
            self.busiest = turn

    def status(self) -> dict[str, Any]:
        """For `diffedit status` and /metrics. `buckets`: (upper end in seconds, turns up to it), cumulative."""
        so_far, buckets = 0, []
        for bound, count in zip((*BOUNDS, float("inf")), self.counts, strict=True):
            so_far += count
            buckets.append((bound, so_far))
        return {
            "turns": so_far,
            "seconds": round(self.total, 3),
            "beyond_aim": so_far - buckets[BOUNDS.index(AIM_SECONDS)][1],
            "longest_ms": round(self.longest.seconds * 1000, 1),
            "longest_step": self.longest.step,
            "longest_processor_ms": round(self.busiest.processor_seconds * 1000, 1),
            "longest_processor_step": self.busiest.step,
            "buckets": [("+Inf" if bound == float("inf") else str(bound), count) for bound, count in buckets],
        }
