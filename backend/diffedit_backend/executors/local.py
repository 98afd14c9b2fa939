"""Workers on this machine: one spawned process per device."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from .pool import Pool
from .routing import Router
from .worker_process import WorkerProcess, WorkerSetup
from .worker_slot import Timeouts, WorkerSlot


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
