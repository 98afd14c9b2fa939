"""A worker's life: load, then one job after the other, each of which may be cancelled between two steps.

to the worker    configure {...}                      first; what to load
                 job {id, request}  + blobs           one at a time
                 cancel {id}                          obeyed at the next step
                 stop                                 the end of the pipe means the same, at once
from the worker  ready {device, name}                 or  unusable {error}, and the process ends
                 started {id}
                 progress {id, stage, step, total, seconds_left},  preview {id, width, height} + rgb
                 done {id, manifest, blobs} + blobs,  failed {id, error},  cancelled {id}
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import psutil
from diffedit_protocol.errors import DiffEditError, InternalError
from diffedit_protocol.messages import EditRequest, Manifest, Preview, Progress

from ..method.steps import EditCancelled
from .pipe import Pipe, PipeMessage

log = logging.getLogger(__name__)
EXIT_DONE, EXIT_UNUSABLE, EXIT_DEVICE_LOST = 0, 3, 4
ReportStep = Callable[[Progress | Preview], None]


class DeviceLost(Exception):
    """The device can no longer be used by this process: only a new process helps. `__cause__` is what it said."""


@dataclass(frozen=True)
class Finished:
    """A job's result: its manifest and the blobs that the manifest names."""

    manifest: Manifest
    blobs: Mapping[str, bytes] = field(repr=False)


class Runner(Protocol):
    """What does the work. `load` and `run` raise DiffEditError for what an artist should read, DeviceLost as above."""

    def load(self) -> dict[str, Any]:
        """Make ready; returns what to tell of itself: {"device": str, "device_name": str}."""
        ...

    def usage(self) -> dict[str, Any]:
        """What changed of what load() told: {"device_memory": bytes in use}."""
        ...

    def run(self, request: EditRequest, blobs: Mapping[str, bytes], report: ReportStep) -> Finished:
        """Run one edit. `report` is called after every step and raises EditCancelled when the job is to end."""
        ...


class Inbox:
    """Reads the pipe in a thread of its own, so that a cancel is seen while the device computes.

    When the pipe ends (the server is gone) the process ends at once, whatever it is doing.
    """

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self._messages: queue.SimpleQueue[PipeMessage] = queue.SimpleQueue()
        self._cancelled: set[str] = set()
        threading.Thread(target=self._read, name="inbox", daemon=True).start()

    def next(self) -> PipeMessage:
        """The next message that is no cancel; waits for it."""
        return self._messages.get()

    def cancelled(self, job: str) -> bool:
        return job in self._cancelled

    def forget(self, job: str) -> None:
        """The job ended: a cancel that came for it means nothing any more."""
        self._cancelled.discard(job)

    def _read(self) -> None:
        while True:
            try:
                message = self._pipe.receive()
            except (EOFError, OSError, ValueError):
                os._exit(EXIT_DONE)  # no one is left to work for; a running computation cannot be asked to end
            if message.type == "cancel":
                self._cancelled.add(message.fields["id"])
            else:
                self._messages.put(message)


def work(pipe: Pipe, make_runner: Callable[[dict[str, Any]], Runner]) -> int:
    """Serve jobs until told to stop. Returns the process's exit code."""
    inbox = Inbox(pipe)
    runner = make_runner(inbox.next().fields)
    try:
        pipe.send("ready", **{**runner.load(), "memory": _memory()})
    except DiffEditError as error:
        pipe.send("unusable", error=error.to_wire())
        return EXIT_UNUSABLE
    while (message := inbox.next()).type == "job":
        try:
            _run(pipe, inbox, runner, message)
        except DeviceLost:
            log.error("device lost: %s", traceback.format_exc())
            return EXIT_DEVICE_LOST
    return EXIT_DONE


def _run(pipe: Pipe, inbox: Inbox, runner: Runner, message: PipeMessage) -> None:
    job = message.fields["id"]
    request = EditRequest.from_wire(message.fields["request"])
    blobs = dict(zip(message.fields["blobs"], message.payloads, strict=True))

    def report(event: Progress | Preview) -> None:
        if inbox.cancelled(job):
            raise EditCancelled
        if isinstance(event, Preview):
            pipe.send("preview", [event.rgb], id=job, width=event.width, height=event.height)
        else:
            pipe.send(
                "progress",
                id=job,
                stage=event.stage,
                step=event.step,
                total=event.total,
                seconds_left=event.seconds_left,
            )

    begun = time.monotonic()

    def usage() -> dict[str, Any]:
        return {**runner.usage(), "job_seconds": time.monotonic() - begun, "memory": _memory()}

    pipe.send("started", id=job)
    try:
        finished = runner.run(request, blobs, report)
        manifest, names = finished.manifest.to_wire(), list(finished.blobs)
        pipe.send("done", list(finished.blobs.values()), id=job, manifest=manifest, blobs=names, usage=usage())
    except EditCancelled:
        pipe.send("cancelled", id=job, usage=usage())
    except DiffEditError as error:
        pipe.send("failed", id=job, error=error.to_wire(), usage=usage())
    except DeviceLost:
        raise
    except Exception as error:  # a fault of ours costs this job, never the worker
        log.error("job %s failed: %s", job, traceback.format_exc())
        fault = InternalError("The backend made a mistake; its log has the details.", detail=f"{error!r:.500}")
        pipe.send("failed", id=job, error=fault.to_wire())
    finally:
        inbox.forget(job)


def _memory() -> int:
    """Bytes that this process holds; told, as the server may be on another box."""
    return int(psutil.Process().memory_info().rss)
