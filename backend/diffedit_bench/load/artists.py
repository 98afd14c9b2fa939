"""Artists at one backend: what they ask for and when, and the queue that a server keeps for them.

Times are seconds on the clock of the workers, which may begin anywhere.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from diffedit_backend.server.fair_queue import FairQueue

JobKind = Literal["first edit", "second target", "mask move"]
FIRST: JobKind = "first edit"
TARGET: JobKind = "second target"
MASK: JobKind = "mask move"
KINDS: tuple[JobKind, ...] = (FIRST, TARGET, MASK)
NEW_PICTURE, NEW_TARGET = 0.3, 0.4  # shares of an artist's jobs; the rest are mask moves


@dataclass(frozen=True)
class Ask:
    """One job: the artist's `number`-th, at `time`, on the artist's `picture`-th picture."""

    artist: str
    number: int
    kind: JobKind
    picture: int
    time: float

    @property
    def affinity(self) -> str:
        return f"{self.artist}:{self.picture}"


@dataclass(frozen=True)
class Served:
    """A job that ended. `warm`: its worker had the picture's stages. `began`, `ended`: seconds."""

    ask: Ask
    worker: str
    warm: bool
    began: float
    ended: float
    failed: bool = False

    @property
    def waited(self) -> float:
        return self.began - self.ask.time

    @property
    def seconds(self) -> float:
        return self.ended - self.began


@dataclass(frozen=True)
class LoadScenario:
    """How many artists, how many jobs of each, and the mean of their think time (exponential), in seconds."""

    artists: int
    jobs: int
    think: float
    seed: int = 0


class Workers(Protocol):
    """A pool of workers and a clock."""

    def now(self) -> float: ...

    def assign(self, waiting: Sequence[Ask]) -> tuple[int, str] | None:
        """Which waiting job to begin now, and on which worker; None when all should wait."""

    def begin(self, ask: Ask, worker: str) -> bool:
        """Begin it. Whether that worker is taken to have the picture's stages."""

    def wait(self, until: float) -> list[tuple[Ask, bool]]:
        """Wait until jobs end, or until that time: those that ended, each with whether it failed."""


class Artist:
    """Draws jobs and think times from a seed, whatever the workers: a comparison has the same jobs on both sides."""

    def __init__(self, name: str, scenario: LoadScenario) -> None:
        self.name = name
        self._scenario = scenario
        self._rng = random.Random(f"{scenario.seed}:{name}")
        self._number = self._picture = 0

    def next(self, now: float) -> Ask | None:
        """The next job, after a think time; None after the scenario's last."""
        if self._number == self._scenario.jobs:
            return None
        time = now + self._rng.expovariate(1 / self._scenario.think)
        draw = self._rng.random()
        if self._number == 0 or draw < NEW_PICTURE:
            self._picture += 1
            kind = FIRST
        else:
            kind = TARGET if draw < NEW_PICTURE + NEW_TARGET else MASK
        self._number += 1
        return Ask(self.name, self._number, kind, self._picture, time)


def drive(workers: Workers, scenario: LoadScenario) -> list[Served]:
    """Let every artist work through their jobs; each asks again a think time after the last answer."""
    artists = {name: Artist(name, scenario) for name in (f"artist-{index}" for index in range(scenario.artists))}
    coming = [(ask.time, ask.artist, ask) for artist in artists.values() if (ask := artist.next(workers.now()))]
    heapq.heapify(coming)
    turns: FairQueue[Ask] = FairQueue()
    running: dict[Ask, tuple[str, bool, float]] = {}
    served: list[Served] = []
    while coming or len(turns) or running:
        while coming and coming[0][0] <= workers.now():
            ask = heapq.heappop(coming)[2]
            turns.add(ask.artist, ask)
        waiting = list(turns)
        while waiting and (assigned := workers.assign(waiting)) is not None:
            ask = waiting[assigned[0]]
            turns.take(ask.artist, ask)
            began = workers.now()
            running[ask] = (assigned[1], workers.begin(ask, assigned[1]), began)
            waiting = list(turns)
        for ask, failed in workers.wait(coming[0][0] if coming else float("inf")):
            served.append(Served(ask, *running.pop(ask), workers.now(), failed))
            if following := artists[ask.artist].next(workers.now()):
                heapq.heappush(coming, (following.time, following.artist, following))
    return served
