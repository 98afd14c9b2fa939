"""Workers on this machine: one spawned process per device."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import queue
import select
import socket
import time
from collections.abc import Sequence

from diffedit_protocol.errors import DiffEditError

from ..worker.pipe import Note
from .base import Executor, Job, Report, WorkerInfo
from .worker_process import WorkerProcess
from .worker_slot import Patience, WorkerSetup, WorkerSlot

log = logging.getLogger("diffedit.pool")


class LocalPool(Executor):
    """One worker per entry of `devices` ("cuda:0", "mps", "cpu", or "auto": the best that the worker finds)."""

    def __init__(
        self, setup: WorkerSetup, devices: Sequence[str] = ("auto",), patience: Patience | None = None
    ) -> None:
        self._notes: queue.SimpleQueue[tuple[WorkerProcess, Note | None]] = queue.SimpleQueue()
        self._readable, self._wake = socket.socketpair()  # a pair of sockets: what every platform can poll
        self._readable.setblocking(False)
        self._wake.setblocking(False)
        self._slots = [
            WorkerSlot(
                f"worker-{index}",
                dataclasses.replace(setup, configuration={**setup.configuration, "device": device}),
                patience or Patience(),
                self._on_note,
            )
            for index, device in enumerate(devices)
        ]

    def start(self) -> None:
        for slot in self._slots:
            slot.start()

    def room(self) -> int:
        return sum(slot.state == "idle" for slot in self._slots)

    def submit(self, job: Job) -> None:
        idle = [slot for slot in self._slots if slot.state == "idle"]
        if not idle:
            raise RuntimeError("No worker is idle; ask room() first.")
        # The worker that has the job's stages in its cache; else one that has nothing to lose.
        best = min(idle, key=lambda slot: (slot.affinity != job.affinity, slot.affinity != ""))
        best.submit(job)

    def cancel(self, job: str) -> None:
        for slot in self._slots:
            if slot.job is not None and slot.job.id == job:
                slot.cancel()

    def poll(self, timeout: float = 0.0) -> list[Report]:
        if timeout > 0:
            select.select([self._readable], [], [], timeout)
        with contextlib.suppress(BlockingIOError):
            while self._readable.recv(4096):
                pass
        reports: list[Report] = []
        while not self._notes.empty():
            process, note = self._notes.get()
            for slot in self._slots:
                reports += slot.hear(process, note)
        for slot in self._slots:
            slot.tick()
        return reports

    def fileno(self) -> int:
        return self._readable.fileno()

    def workers(self) -> tuple[WorkerInfo, ...]:
        return tuple(slot.info() for slot in self._slots)

    def trouble(self) -> DiffEditError | None:
        if all(slot.state == "unusable" for slot in self._slots):
            return next(slot.trouble for slot in self._slots)
        return None

    def close(self, grace: float) -> None:
        for slot in self._slots:
            slot.stop()
        until = time.monotonic() + grace
        for slot in self._slots:
            slot.end(max(0.0, until - time.monotonic()))
        self._readable.close()
        self._wake.close()

    def _on_note(self, process: WorkerProcess, note: Note | None) -> None:
        """Called from the workers' threads."""
        self._notes.put((process, note))
        with contextlib.suppress(BlockingIOError, OSError):  # full: a wake-up waits already; closed: no one listens
            self._wake.send(b".")
