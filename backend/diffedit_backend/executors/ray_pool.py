"""Workers on a Ray cluster: one actor per GPU, behind a driver process. See docs/several-gpus.md.

A worker that is lost costs its job a delay: the server runs it again. While the cluster itself is away, jobs wait for
`Timeouts.cluster`; after that they are refused with a sentence that says so, until it is back.
"""

from __future__ import annotations

import itertools
import logging
import os
import secrets
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from diffedit_protocol.errors import BusyError, DiffEditError

from ..worker.pipe import Payload, PipeMessage, message_from_bytes, message_to_bytes
from .pool import Pool
from .ray_driver import end_left
from .worker_process import WorkerProcess
from .worker_slot import EXIT_WAIT, Timeouts, Worker, WorkerSlot

log = logging.getLogger("diffedit.ray")
DRIVER = (sys.executable, "-m", "diffedit_backend.executors.ray_driver")
RUNNER = "diffedit_backend.worker.edit_runner:EditRunner.from_configuration"
REJOIN = 5.0  # seconds between two attempts to join it
# Ray reads these when it starts: no statistics sent, nobody without the token, workers as important as other processes
# (it would run them at niceness 15, where anything else on the box starves them).
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_worker_niceness": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
# Seconds, unless the environment says otherwise: a head that is gone is noticed soon.
TIMES = {"RAY_gcs_rpc_server_reconnect_timeout_s": "15"}
OWN_STARTS = 3  # Ray gives up starting a cluster after 30 s, which no setting changes; a busy machine may need longer


def ray_times() -> dict[str, str]:
    """Ray's time limits as this process's environment has them, else ours."""
    return {name: os.environ.get(name, seconds) for name, seconds in TIMES.items()}


@dataclass(frozen=True)
class RaySetup:
    """`address`: HOST:PORT of the head, "" for a cluster of our own on this machine, on `node_ip`. `gpus`, `cpus`: of
    one actor. `configuration`, `environment`, `runner`: what each worker is told. `options`: more for ray.init."""

    address: str = ""
    node_ip: str = ""
    gpus: float = 1
    cpus: float = 1
    configuration: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    runner: str = RUNNER


class RayActor:
    """An actor as WorkerSlot sees a worker. Only the driver's messages change it."""

    def __init__(self, name: str, driver: WorkerProcess, configuration: Mapping[str, Any]) -> None:
        self.name = name
        self.pid = 0
        self.last_lines: deque[str] = deque(maxlen=20)
        self.gone = threading.Event()
        self._code: int | None = None
        self._driver = driver
        driver.send("start", actor=name)
        self.send("configure", **configuration)

    def send(self, type_: str, payloads: Sequence[Payload] = (), **fields: Any) -> None:
        self._driver.send("deliver", [message_to_bytes(type_, payloads, **fields)], actor=self.name)

    def kill(self) -> None:
        self._driver.send("kill", actor=self.name)

    def join(self, seconds: float) -> bool:
        return self.gone.wait(seconds)

    def discard(self) -> None:
        """Nothing is left of an actor that has ended."""

    def exit_code(self) -> int | None:
        return self._code

    def end(self, code: int, reason: str) -> None:
        self._code = code
        self.last_lines.extend(reason.splitlines())
        self.gone.set()


class RayPool(Pool):
    """`workers` actors on a Ray cluster."""

    def __init__(self, setup: RaySetup, workers: int, timeouts: Timeouts) -> None:
        super().__init__()
        self._setup = setup
        self._timeouts = timeouts
        self._actors: dict[str, RayActor] = {}
        self._numbers = itertools.count()
        self._driver: WorkerProcess | None = None
        self._joined = self._ever_joined = False
        self._starts_left = 1 if setup.address else OWN_STARTS
        self._away_since = self._start_again = time.monotonic()
        self._reason = ""
        self._own_processes: list[tuple[int, float]] = []  # of a cluster of our own: numbers, and when created
        self.slots = [
            WorkerSlot(f"ray-{index}", partial(self._spawn, f"ray-{index}"), timeouts, lossless=True)
            for index in range(workers)
        ]

    def start(self) -> None:
        self._start_driver()

    def trouble(self) -> DiffEditError | None:
        if self._ever_joined:
            given_up = not self._joined and time.monotonic() - self._away_since > self._timeouts.cluster
        else:
            given_up = self._driver is None and self._starts_left <= 0
        if self._reason and given_up:
            where = self._setup.address or "on this machine"
            return BusyError(
                f"The Ray cluster {where} does not answer, so no edit can run now. "
                "Results that are ready can still be fetched.",
                detail=self._reason,
                retry_after=REJOIN,
            )
        return super().trouble()

    def received(self) -> Iterable[tuple[Worker, PipeMessage | None]]:
        for process, message in super().received():
            if process is self._driver:
                yield from self._on_driver_message(message)

    def tick(self) -> None:
        may_start = self._ever_joined or self._starts_left > 0
        if self._driver is None and may_start and time.monotonic() >= self._start_again:
            self._start_driver()
        if self._joined:
            super().tick()

    def close(self, grace: float) -> None:
        super().close(grace)
        driver, self._driver = self._driver, None
        if driver is not None:
            driver.send("stop")
            if not driver.join(EXIT_WAIT):
                driver.kill()
                driver.join(EXIT_WAIT)
        end_left(self._own_processes)

    def on_message(self, process: Worker, message: PipeMessage | None) -> None:
        if message is not None and message.type == "gone" and (actor := self._actors.get(message.fields["actor"])):
            actor.end(message.fields["code"], message.fields["reason"])  # here, as close() waits for it without polling
        super().on_message(process, message)

    def _start_driver(self) -> None:
        setup = self._setup
        self._starts_left -= 1
        # A cluster of our own has a token of its own; another's is where Ray looks for it (docs/several-gpus.md).
        token = {} if setup.address else {"RAY_AUTH_TOKEN": secrets.token_hex(32)}
        self._driver = WorkerProcess(
            "ray-driver",
            DRIVER,
            {**ray_times(), **ENVIRONMENT, **token, **setup.environment},
            {
                "address": setup.address,
                "node_ip": setup.node_ip,
                "options": dict(setup.options),
                "runner": setup.runner,
                "environment": dict(setup.environment),
                "gpus": setup.gpus,
                "cpus": setup.cpus,
            },
            self.on_message,
        )

    def _spawn(self, slot: str) -> RayActor:
        assert self._driver is not None
        actor = RayActor(f"{slot}.{next(self._numbers)}", self._driver, self._setup.configuration)
        self._actors[actor.name] = actor
        return actor

    def _on_driver_message(self, message: PipeMessage | None) -> Iterable[tuple[Worker, PipeMessage | None]]:
        if message is None:
            yield from self._on_driver_exit()
        elif message.type == "joined":
            log.info("joined", extra={"fields": message.fields})
            self._joined = self._ever_joined = True
            self._reason = ""
        elif message.type == "processes":
            self._own_processes = [(pid, created) for pid, created in message.fields["of"]]
        elif message.type == "refused":
            self._reason = message.fields["reason"]
        elif (actor := self._actors.get(message.fields["actor"])) is not None:
            if message.type == "gone":
                del self._actors[actor.name]
                yield actor, None
                return
            output = message_from_bytes(message.payloads[0])
            if output.type == "born":
                if not self._setup.address:  # elsewhere, the number means another process here
                    actor.pid = output.fields["pid"]
            else:
                yield actor, output

    def _on_driver_exit(self) -> Iterable[tuple[Worker, PipeMessage | None]]:
        assert self._driver is not None
        self._driver.discard()
        # Ray ends a driver whose head is gone, and what watched over its other processes with it: two agents stay then.
        ended = end_left(self._own_processes)
        if ended:
            log.warning("ended what its cluster left", extra={"fields": {"processes": ended}})
        self._own_processes = []
        if self._joined:
            self._joined, self._away_since = False, time.monotonic()
        self._reason = self._reason or "\n".join(self._driver.last_lines) or "The driver's process ended."
        log.error("cluster lost", extra={"fields": {"why": self._reason[-500:]}})
        self._driver, self._start_again = None, time.monotonic() + REJOIN
        for actor in self._actors.values():
            actor.end(-1, "The Ray cluster went away.")
            yield actor, None
        self._actors.clear()
