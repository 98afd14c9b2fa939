"""One client session and the reference server, joined by a link in memory that loses, repeats, delays and is cut.

Time is a number that `run` moves on; every choice comes from one seeded generator, so each failure can be repeated.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass

from diffedit_protocol.client_session import ClientSession
from diffedit_protocol.frames import Frames
from reference_server import ReferenceLink, ReferenceServer

STEP = 0.05  # seconds of one turn


@dataclass(frozen=True)
class Faults:
    """Chances per message, and the longest delay in seconds; messages may overtake one another."""

    drop: float = 0.0
    duplicate: float = 0.0
    delay: float = 0.0
    cut: float = 0.0  # chance per turn that the link is cut and comes back half a second later
    restart: float = 0.0  # chance per turn that the server starts anew and has forgotten everything


class World:
    """`run` until something is true; `client.outgoing` goes to the server and the server's outbox to the client."""

    def __init__(self, seed: int = 0, faults: Faults = Faults(), *, loopback: bool = True) -> None:  # noqa: B008
        self.random = random.Random(seed)
        self.faults = faults
        self.now = 100.0
        self.server = ReferenceServer()
        self.client = ClientSession("test", loopback=loopback)
        self.link: ReferenceLink | None = None
        self.cuts = self.restarts = self.lost = 0
        self._back_at = self.now
        self._order = itertools.count()
        self._flying: list[tuple[float, int, bool, Frames]] = []

    def cut(self) -> None:
        """The link breaks with everything on it."""
        self.cuts += 1
        self.link = None
        self._flying.clear()
        self._back_at = self.now + 0.5
        self.client.link_down()

    def restart(self, *, keep: bool = False) -> None:
        """The server's process is replaced by another."""
        self.restarts += 1
        self.server.boot(keep=keep)
        self.cut()

    def turn(self) -> None:
        self.now += STEP
        if self.random.random() < self.faults.cut:
            self.cut()
        if self.random.random() < self.faults.restart:
            self.restart()
        if self.link is None and self.now >= self._back_at:
            self.link = self.server.connect()
            self.client.link_up(self.now)
        self.client.tick(self.now)
        self._move()

    def run(self, until: Callable[[], bool], seconds: float = 600.0, each: Callable[[], None] = lambda: None) -> None:
        """Turn until `until()`; fails after `seconds` of simulated time. `each` is called every turn."""
        end = self.now + seconds
        while not until():
            assert self.now < end, f"nothing came of it within {seconds} simulated seconds"
            self.turn()
            each()

    def _move(self) -> None:
        """Bring everything that is due to its end, and what is answered to it, until nothing moves in this instant."""
        while self.link is not None:
            while (frames := self.client.outgoing()) is not None:
                self._launch(frames, to_server=True)
                self.client.sent()
            outbox, self.link.outbox = self.link.outbox, []
            for frames in outbox:
                self._launch(frames, to_server=False)
            if not self._flying or self._flying[0][0] > self.now:
                return
            _, _, to_server, frames = heapq.heappop(self._flying)
            if to_server:
                self.link.receive(frames)
            else:
                self.client.receive(frames, self.now)

    def _launch(self, frames: Frames, *, to_server: bool) -> None:
        copies = 1
        if self.random.random() < self.faults.drop:
            copies = 0
            self.lost += 1
        elif self.random.random() < self.faults.duplicate:
            copies = 2
        for _ in range(copies):
            arrival = self.now + self.random.random() * self.faults.delay
            whole = [bytes(frame) for frame in frames]
            heapq.heappush(self._flying, (arrival, next(self._order), to_server, whole))
