"""One place for a worker: keeps a process in it, counts the time of its steps, replaces it when it dies or hangs."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from diffedit_protocol.errors import DiffEditError, InternalError, WorkerDiedError, error_from_wire
from diffedit_protocol.messages import Cancelled, Done, Failed, Manifest, Preview, Progress, Started

from ..worker.loop import EXIT_DEVICE_LOST, EXIT_UNUSABLE
from ..worker.pipe import Payload, PipeMessage
from .base import Job, Lost, Report, WorkerInfo, WorkerState

log = logging.getLogger("diffedit.pool")
EXIT_WAIT = 10.0  # seconds until a killed worker must have gone; only a stuck kernel call takes longer


@dataclass(frozen=True)
class Timeouts:
    """Seconds. `loading`: until a worker is ready. `step`: between two steps of a job. `cancel`: until a cancelled job
    ends, before its worker is killed. `back_off`: before a worker that died is started again, doubled at every death
    in a row up to `back_off_most`. `first_starts`: how often a worker that was never ready is started at all.
    `cluster`: that jobs wait for a cluster that is away."""

    loading: float = 900.0
    step: float = 300.0
    cancel: float = 20.0
    back_off: float = 0.5
    back_off_most: float = 60.0
    first_starts: int = 3
    cluster: float = 30.0


class Worker(Protocol):
    """A running worker, wherever it is; what it says and its end are handed to WorkerSlot.on_message by its owner."""

    last_lines: deque[str]

    @property
    def pid(self) -> int: ...
    def send(self, type_: str, payloads: Sequence[Payload] = (), **fields: Any) -> None: ...
    def kill(self) -> None: ...
    def join(self, seconds: float) -> bool: ...
    def discard(self) -> None: ...
    def exit_code(self) -> int | None: ...


class WorkerSlot:
    """State of one worker: starting, idle, busy, waiting (to start again) or unusable. Time is `time.monotonic`.

    `spawn` starts a worker. `lossless`: a job whose worker died is reported as Lost, to be run again, not as Failed.
    """

    def __init__(self, name: str, spawn: Callable[[], Worker], timeouts: Timeouts, *, lossless: bool = False) -> None:
        self.name = name
        self.state: WorkerState = "waiting"
        self.job: Job | None = None
        self.trouble: DiffEditError | None = None
        self._spawn = spawn
        self._timeouts = timeouts
        self._lossless = lossless
        self._process: Worker | None = None
        self._reported: dict[str, Any] = {}
        self._mattes: bool | None = (
            None  # of its installation: what the worker before it reported counts until it is ready
        )
        self._since = 0.0  # of the last sign of life, or of the death
        self._cancelled_at: float | None = None
        self._deaths_in_a_row = 0
        self._restarts = -1
        self._was_ready = False
        self._exit_reason: DiffEditError | None = None

    def start(self) -> None:
        self._restarts += 1
        self._reported = {}
        try:
            self._process = self._spawn()
        except OSError as error:  # no file descriptor or no memory left at the moment
            log.error("worker not started", extra={"fields": {"worker": self.name, "reason": str(error)}})
            self._restarts -= 1
            self._wait_to_start()
            return
        self.trouble = None
        self._enter("starting")

    def submit(self, job: Job) -> None:
        """Run `job`; only when idle."""
        assert self._process is not None
        self.job, self._cancelled_at = job, None
        self._process.send(
            "job", list(job.blobs.values()), id=job.id, request=job.request.to_wire(), blobs=list(job.blobs)
        )
        self._enter("busy")

    def cancel(self) -> None:
        """End the running job at its next step."""
        if self.job is not None and self._cancelled_at is None and self._process is not None:
            self._cancelled_at = time.monotonic()
            self._process.send("cancel", id=self.job.id)

    def tick(self) -> None:
        """Keep the time limits: kill what hangs (its end is told by on_message), start again what died."""
        now = time.monotonic()
        if self.state == "waiting" and self._process is None and now >= self._since:
            self.start()
        elif self.state == "unusable" and self._was_ready and now >= self._since:
            self.start()  # its model may be there again: a disk that was away, a folder that was moved
        elif self.state == "starting" and now - self._since > self._timeouts.loading:
            self._give_up(f"The model was not loaded within {self._timeouts.loading:.0f} s.")
        elif (
            self.state == "busy" and self._cancelled_at is not None and now - self._cancelled_at > self._timeouts.cancel
        ):
            self._give_up(f"The job did not end within {self._timeouts.cancel:.0f} s of its cancel.")
        elif self.state == "busy" and now - self._since > self._timeouts.step:
            self._give_up(f"The model took longer than {self._timeouts.step:.0f} s for one step.")

    def on_message(self, process: Worker, message: PipeMessage | None) -> list[Report]:
        """What a message (None: the end of its pipe) of `process` means for the job."""
        if process is not self._process:
            return []  # the last words of one that was replaced
        if message is None:
            return self._on_exit()
        self._since = time.monotonic()
        if message.type == "ready":
            self._reported = message.fields
            self._mattes = message.fields.get("mattes", self._mattes)
            self._was_ready = True
            self._enter("idle")
            return []
        if message.type == "unusable":
            self.trouble = error_from_wire(message.fields["error"])
            return []
        if self.job is None or message.fields["id"] != self.job.id:
            return []
        return self._on_job_message(message, self.job.id)

    def info(self) -> WorkerInfo:
        reported = self._reported
        return WorkerInfo(
            name=self.name,
            state=self.state,
            device=str(reported.get("device_name", "")),
            pid=self._process.pid if self._process else 0,
            restarts=max(self._restarts, 0),
            device_memory=int(reported.get("device_memory", 0)),
            job=self.job.id if self.job else "",
            job_seconds=float(reported.get("job_seconds", 0.0)),
            memory=int(reported.get("memory", 0)),
            mattes=self._mattes,
        )

    def stop(self) -> None:
        """Ask the worker to end after its job."""
        if self._process is not None:
            self._process.send("stop")

    def end(self, seconds: float) -> None:
        """Wait `seconds` for the process to end, then end it by force; at once while it loads, having no job to end."""
        if self._process is not None:
            if not self._process.join(0.0 if self.state == "starting" else seconds):
                self._process.kill()
                self._process.join(EXIT_WAIT)
            self._process = None

    def _on_job_message(self, message: PipeMessage, job: str) -> list[Report]:
        fields = message.fields
        if message.type == "started":
            return [Report(job, Started())]
        if message.type == "progress":
            return [Report(job, Progress(fields["stage"], fields["step"], fields["total"], fields["seconds_left"]))]
        if message.type == "preview":
            return [Report(job, Preview(fields["width"], fields["height"], message.payloads[0]))]
        self._reported.update(fields.get("usage", {}))
        self._deaths_in_a_row = 0
        self.job = None
        self._enter("idle")
        if message.type == "done":
            blobs = dict(zip(fields["blobs"], message.payloads, strict=True))
            return [Report(job, Done(Manifest.from_wire(fields["manifest"])), blobs)]
        if message.type == "failed":
            return [Report(job, Failed(error_from_wire(fields["error"])))]
        return [Report(job, Cancelled())]

    def _give_up(self, reason: str) -> None:
        assert self._process is not None
        log.error("worker hangs", extra={"fields": {"worker": self.name, "pid": self._process.pid, "reason": reason}})
        self._exit_reason = WorkerDiedError(f"{reason} The backend had to restart its model; try again.")
        self._since = time.monotonic()  # once: its end comes within moments
        self._process.kill()

    def _on_exit(self) -> list[Report]:
        assert self._process is not None
        code = self._process.exit_code()
        error = self._exit_reason or self._exit_error(code)
        log.error(
            "worker ended",
            extra={"fields": {"worker": self.name, "pid": self._process.pid, "exit": code, "state": self.state}},
        )
        self._process.discard()
        lines = list(self._process.last_lines)
        self._process, self._exit_reason = None, None
        job, self.job = self.job, None
        if code == EXIT_UNUSABLE and self.trouble is not None:
            self._enter("unusable")
            self._since += self._timeouts.back_off_most
        elif not self._was_ready and self._restarts + 1 >= self._timeouts.first_starts:
            last = lines[-1] if lines else error.detail
            self.trouble = InternalError(f"No worker can be started here: {last}", detail="\n".join(lines))
            self._enter("unusable")
        else:
            self._wait_to_start()
        if job is None:
            return []
        if self._cancelled_at is not None:
            return [Report(job.id, Cancelled())]
        return [Report(job.id, Lost(error) if self._lossless else Failed(error))]

    def _wait_to_start(self) -> None:
        """Start again, after a time that doubles with every death in a row."""
        self._enter("waiting")
        self._since += min(self._timeouts.back_off * 2 ** min(self._deaths_in_a_row, 30), self._timeouts.back_off_most)
        self._deaths_in_a_row += 1

    def _exit_error(self, code: int | None) -> WorkerDiedError:
        sentence = "The backend had to restart its model. Your picture is untouched."
        if code == EXIT_DEVICE_LOST:
            return WorkerDiedError(sentence, detail="The device reported an error that only a new process overcomes.")
        how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        return WorkerDiedError(sentence, detail=f"The worker process ended with {how}.")

    def _enter(self, state: WorkerState) -> None:
        self.state = state
        self._since = time.monotonic()
