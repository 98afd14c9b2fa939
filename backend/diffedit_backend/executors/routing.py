"""Which worker a job goes to: the one whose cache holds the job's picture, unless that one is too far behind.

Nothing is handed out before a worker is idle, so a waiting job can still be cancelled, passed by or sent elsewhere; the
plan is made anew at every turn. The pools and the load simulator use this one router.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence

BEHIND = 2  # jobs more than the least busy worker has: from there on a cold start elsewhere is quicker than waiting
REMEMBERED = 64  # pictures of a worker; their stages take a few MiB each, so more would hardly fit into its cache


class Router:
    """Remembers which worker had which affinity. `behind` 0: no affinity at all, always the least busy worker."""

    def __init__(self, behind: int = BEHIND) -> None:
        self._behind = behind
        self._held: dict[str, OrderedDict[str, None]] = {}

    def assign(self, waiting: Sequence[str], loads: Mapping[str, int]) -> tuple[int, str] | None:
        """The first of the `waiting` affinities, in turn order, that an idle worker should begin now, and that worker.

        `loads`: jobs of each worker that can be used, 0 when it is idle. None when all that wait should go on waiting.
        """
        if 0 not in loads.values():
            return None
        planned = dict(loads)
        for index, affinity in enumerate(waiting):
            worker = self._choose(affinity, planned)
            if planned[worker] == 0:
                return index, worker
            planned[worker] += 1  # it waits for this worker, and those after it take that into account
        return None

    def holds(self, worker: str, affinity: str) -> bool:
        """Whether the worker ran a job of this affinity and is taken to have its stages still."""
        return affinity in self._held.get(worker, ())

    def remember(self, worker: str, affinity: str) -> None:
        """The worker begins a job of this affinity."""
        held = self._held.setdefault(worker, OrderedDict())
        held[affinity] = None
        held.move_to_end(affinity)
        if len(held) > REMEMBERED:
            held.popitem(last=False)

    def forget(self, worker: str) -> None:
        """The worker ended: its cache is gone."""
        self._held.pop(worker, None)

    def _choose(self, affinity: str, loads: Mapping[str, int]) -> str:
        least = min(loads.values())
        holders = [name for name in loads if self.holds(name, affinity) and loads[name] - least < self._behind]
        if holders:
            return min(holders, key=lambda name: loads[name])
        return min(loads, key=lambda name: (loads[name], len(self._held.get(name, ()))))
