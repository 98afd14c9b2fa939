"""What pools of workers have in common, wherever the workers are: slots, routing, and one queue of messages."""

from __future__ import annotations

import contextlib
import logging
import queue
import select
import socket
import time
from collections.abc import Iterable, Sequence
from functools import partial

from diffedit_protocol.errors import DiffEditError

from ..worker.pipe import PipeMessage
from .base import Executor, Job, Report, WorkerInfo
from .routing import Router
from .worker_process import WorkerProcess, WorkerSetup
from .worker_slot import Timeouts, Worker, WorkerSlot

log = logging.getLogger("diffedit.pool")


class Pool(Executor):
    """Keeps its slots' workers running and busy. A subclass makes `slots` and hands their messages to on_message."""

    slots: Sequence[WorkerSlot]

    def __init__(self, router: Router | None = None) -> None:
        self._messages: queue.SimpleQueue[tuple[Worker, PipeMessage | None]] = queue.SimpleQueue()
        self._readable, self._wake = socket.socketpair()  # a pair of sockets: what every platform can poll
        self._readable.setblocking(False)
        self._wake.setblocking(False)
        self._router = router or Router()

    def start(self) -> None:
        for slot in self.slots:
            slot.start()

    def free_slots(self) -> int:
        return sum(slot.state == "idle" for slot in self.slots)

    def assign(self, waiting: Sequence[str]) -> tuple[int, str] | None:
        loads = {slot.name: int(slot.state == "busy") for slot in self.slots if slot.state in ("idle", "busy")}
        return self._router.assign(waiting, loads)

    def submit(self, job: Job, worker: str) -> None:
        slot = next(slot for slot in self.slots if slot.name == worker)
        assert slot.state == "idle", f"{worker} is {slot.state}; assign() named no such worker."
        self._router.remember(worker, job.affinity)
        slot.submit(job)

    def cancel(self, job: str) -> None:
        for slot in self.slots:
            if slot.job is not None and slot.job.id == job:
                slot.cancel()

    def poll(self, timeout: float = 0.0) -> list[Report]:
        if timeout > 0:
            select.select([self._readable], [], [], timeout)
        with contextlib.suppress(BlockingIOError):
            while self._readable.recv(4096):
                pass
        reports: list[Report] = []
        for process, message in self.received():
            for slot in self.slots:
                try:
                    reports += slot.on_message(process, message)
                except Exception:  # a worker whose messages make no sense is replaced; its end is handled as any other
                    log.exception("worker's message", extra={"fields": {"worker": slot.name}})
                    process.kill()
                if slot.state in ("waiting", "unusable"):
                    self._router.forget(slot.name)
        self.tick()
        return reports

    def received(self) -> Iterable[tuple[Worker, PipeMessage | None]]:
        """What workers output since the last call, and their ends (None)."""
        while not self._messages.empty():
            yield self._messages.get()

    def tick(self) -> None:
        """Keep the time limits."""
        for slot in self.slots:
            slot.tick()

    def fileno(self) -> int:
        return self._readable.fileno()

    def workers(self) -> tuple[WorkerInfo, ...]:
        return tuple(slot.info() for slot in self.slots)

    def trouble(self) -> DiffEditError | None:
        if all(slot.state == "unusable" for slot in self.slots):
            return next(slot.trouble for slot in self.slots)
        return None

    def close(self, grace: float) -> None:
        for slot in self.slots:
            slot.stop()
        until = time.monotonic() + grace
        for slot in self.slots:
            slot.end(max(0.0, until - time.monotonic()))
        self._readable.close()
        self._wake.close()

    def on_message(self, process: Worker, message: PipeMessage | None) -> None:
        """Called from the workers' threads."""
        self._messages.put((process, message))
        self.wake()

    def wake(self) -> None:
        """Make fileno() readable; from any thread."""
        with contextlib.suppress(BlockingIOError, OSError):  # full: a wake-up waits already; closed: no one listens
            self._wake.send(b".")


class LocalPool(Pool):
    """One worker per entry of `devices` ("cuda:0", "mps", "cpu", or "auto": the best that the worker finds)."""

    def __init__(
        self,
        setup: WorkerSetup,
        devices: Sequence[str] = ("auto",),
        timeouts: Timeouts | None = None,
        router: Router | None = None,
    ) -> None:
        super().__init__(router)
        slots = []
        for index, device in enumerate(devices):
            name = f"worker-{index}"
            configuration = {**setup.configuration, "device": device}
            spawn = partial(WorkerProcess, name, setup.command, setup.environment, configuration, self.on_message)
            slots.append(WorkerSlot(name, spawn, timeouts or Timeouts()))
        self.slots = slots
