"""What the server asks of a place where jobs run, so that the server never sees which one it is.

    executor.start()
    while serving:
        while (assignment := executor.assign([job.affinity for job in queue])) is not None:
            executor.submit(queue.pop(assignment[0]), assignment[1])
        for report in executor.poll(): ...     # `executor` has a fileno() that is readable when poll() has something
    executor.close(grace=5.0)

Everything is called from one thread. An executor may have threads of its own; it tells what happened through poll().
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from diffedit_protocol.blobs import Pieces
from diffedit_protocol.errors import DiffEditError
from diffedit_protocol.messages import Cancelled, Done, EditRequest, Failed, Preview, Progress, Started


@dataclass(frozen=True)
class Lost:
    """The job's worker went away, through no fault of the job as far as is known: it is to be run again elsewhere."""

    error: DiffEditError


JobReport = Started | Progress | Preview | Done | Failed | Cancelled | Lost


def affinity_of(request: EditRequest) -> str:
    """Jobs of the same affinity share cached stages: they gain from the same worker."""
    return f"{request.model}:{request.picture.blob if request.picture else ''}"


@dataclass(frozen=True)
class Job:
    """One edit to run. `blobs`: the request's picture, selection and mask by their sha256, as they came."""

    id: str
    client: str
    request: EditRequest
    blobs: Mapping[str, bytes | Pieces] = field(repr=False)

    @property
    def affinity(self) -> str:
        return affinity_of(self.request)


@dataclass(frozen=True)
class Report:
    """What happened to `job`; the last is Done, Failed, Cancelled or Lost. `blobs`: a Done's results, by sha256."""

    job: str
    event: JobReport
    blobs: Mapping[str, bytes] = field(default_factory=dict, repr=False)


WorkerState = Literal["starting", "idle", "busy", "waiting", "unusable"]  # waiting: to be started (again)


@dataclass(frozen=True)
class WorkerInfo:
    """One worker, for people.

    `pid`: 0 on another box. `device_memory`: bytes in use on its device, 0 where that is not known. `memory`: bytes of
    its process when it was ready or ended its last job. `job_seconds`: what that job took in the worker alone, without
    its way there and back. `mattes`: whether it can make the edge of a mask an alpha matte; None before it was ready.
    """

    name: str
    state: WorkerState
    device: str = ""
    pid: int = 0
    restarts: int = 0
    device_memory: int = 0
    job: str = ""
    job_seconds: float = 0.0
    memory: int = 0
    mattes: bool | None = None


class Executor(ABC):
    """A place where jobs run."""

    @abstractmethod
    def start(self) -> None:
        """Begin to make workers ready. Returns at once."""

    @abstractmethod
    def free_slots(self) -> int:
        """How many jobs it would begin at once."""

    @abstractmethod
    def assign(self, waiting: Sequence[str]) -> tuple[int, str] | None:
        """Which of the waiting jobs to begin now, and on which worker; they are given in turn order by their affinity.

        None: all wait, though a worker may be idle, when another that has their pictures in its cache is soon free.
        """

    @abstractmethod
    def submit(self, job: Job, worker: str) -> None:
        """Run `job` on the worker that assign() named."""

    @abstractmethod
    def cancel(self, job: str) -> None:
        """End `job` at its next step, or by force after a while; without effect on a job that is not here."""

    @abstractmethod
    def poll(self, timeout: float = 0.0) -> list[Report]:
        """What happened since the last call, oldest first; waits up to `timeout` seconds for something to happen.

        Must be called at least about once a second: time limits are kept here.
        """

    @abstractmethod
    def fileno(self) -> int:
        """A descriptor that is readable when poll() has something to tell."""

    @abstractmethod
    def workers(self) -> tuple[WorkerInfo, ...]:
        """The workers, for people."""

    @abstractmethod
    def trouble(self) -> DiffEditError | None:
        """Why no job can ever run here (the model cannot be loaded), None while one can."""

    @abstractmethod
    def close(self, grace: float) -> None:
        """End everything: politely within `grace` seconds, then by force. Leaves no process behind."""
