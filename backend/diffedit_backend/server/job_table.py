"""Jobs from their submission until their result was fetched: states, numbered events, owners, quotas, turns.

    queued -> running -> (its result is written) -> done | failed | cancelled -> (acknowledged or too old) forgotten
       ^----------- its worker was lost: run again

A job is known by its owner's key and its id: no client can see, cancel or fetch another's, not even by its id.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from diffedit_protocol.blobs import Pieces
from diffedit_protocol.errors import BusyError, DiffEditError, InternalError, UnknownJobError
from diffedit_protocol.messages import Cancelled, Done, EditRequest, Event, Failed, Preview, Queued, Started
from diffedit_protocol.replies import JobInfo, JobState, Limits

from ..executors.base import Executor, Job, Lost, Report, affinity_of
from .fair_queue import FairQueue
from .faults import redacted
from .results import JobRecord, Key, ResultStore
from .uploads import Uploads

log = logging.getLogger("diffedit.jobs")
FIRST_GUESS = 10.0  # seconds that a job takes, until one was seen
LISTED, LISTED_TEXT = 100, 60  # jobs, characters: a list of them fits into one header
FAULT = "The backend made a mistake; its log has the details."
MOST_RESULTLESS = 64  # jobs of a client that failed or were cancelled, of which is still known how they ended
MOST_LOSSES = 5  # workers that one job may outlive: after so many it is taken for their cause
SMOOTHING = 0.3  # weight of the newest job in that figure

# Told of every event: (job, its number, the event); a preview has the number of the event before it.
OnEvent = Callable[[Key, int, Event], None]


@dataclass
class JobEntry:
    """One job. `events` are numbered from 1, previews are not kept.

    `created` and `closed` are Unix time, for people; `started` and `closed_clock` are of the monotonic clock, for
    durations: the system's clock may be set meanwhile. 0 for what has not come.
    `request` and `blobs` (the pinned inputs) are there until the job has ended.
    """

    owner: str
    id: str
    source: str
    target: str
    request: EditRequest | None
    state: JobState = "queued"
    created: float = field(default_factory=time.time)
    started: float = 0.0
    closed: float = 0.0
    closed_clock: float = field(default_factory=time.monotonic)
    events: list[Event] = field(default_factory=list)
    blobs: Mapping[str, Pieces] = field(default_factory=dict, repr=False)
    position: int = -1
    losses: int = 0

    @property
    def key(self) -> Key:
        return self.owner, self.id

    @property
    def run_id(self) -> str:
        """The name that the executor knows it by: ids of two owners may be equal."""
        return owner_prefix(self.owner) + self.id

    @property
    def pixels(self) -> int:
        """Of the picture that it works on, until it has ended."""
        return _pixels(self.request) if self.request is not None else 0

    @property
    def ended(self) -> bool:
        return self.state in ("done", "failed", "cancelled")

    @property
    def resultless(self) -> bool:
        return self.state in ("failed", "cancelled")


class JobTable:
    """All jobs of this server. `total`: how many may wait; `limits`: what one client may have unfinished."""

    def __init__(
        self,
        executor: Executor,
        uploads: Uploads,
        results: ResultStore,
        on_event: OnEvent,
        *,
        total: int,
        limits: Limits,
        local_owner: str = "",
    ) -> None:
        self._executor = executor
        self._uploads = uploads
        self._results = results
        self._on_event = on_event
        self._total = total
        self._limits = limits
        self.local_owner = local_owner
        self._storing: dict[Key, tuple[JobEntry, Done]] = {}
        self._jobs: dict[Key, JobEntry] = {}
        self._queue: FairQueue[JobEntry] = FairQueue()
        self._running: dict[str, JobEntry] = {}
        self._seconds = FIRST_GUESS
        self.closing = False
        self.finished = 0

    def restore(self) -> None:
        """Know the finished jobs of an earlier server again."""
        oldest = self._limits.result_seconds / 2  # the clock may be wrong: each is kept for a while from now on
        for record in self._results.load():
            self._jobs[record.owner, record.job] = JobEntry(
                record.owner,
                record.job,
                record.source,
                record.target,
                request=None,
                state="done",
                created=record.created,
                closed=record.ended,
                closed_clock=time.monotonic() - min(max(0.0, time.time() - record.ended), oldest),
                events=list(record.events),
            )

    def submit(self, owner: str, job: str, request: EditRequest, blobs: tuple[str, ...]) -> bool:
        """Queue a job; False when it is known already and nothing was done.

        Raises NoBlobError when a blob is missing, BusyError when the queue or the client's share of it is full.
        """
        known = self._jobs.get((owner, job))
        if known is not None:
            return False
        self._check_limits(owner, _pixels(request))
        pinned = self._uploads.pin(owner, blobs)
        entry = JobEntry(owner, job, request.source, request.target, request, blobs=pinned)
        self._jobs[entry.key] = entry
        self._queue.add(owner, entry)
        log.info("queued", extra={"fields": {"job": job, "task": request.task, "quality": request.quality}})
        self.dispatch()
        self._report_positions()
        return True

    def events_of(self, key: Key) -> Sequence[Event]:
        """The numbered events of a job, the first with the number 1; none for a job that is forgotten."""
        entry = self._jobs.get(key)
        return entry.events if entry is not None else ()

    def find(self, owner: str, job: str) -> JobEntry:
        """Raises UnknownJobError when this owner has no such job."""
        entry = self._jobs.get((owner, job))
        if entry is None:
            raise UnknownJobError(f"The backend knows no job {job[:12]}…; its result was fetched or is too old.")
        return entry

    def cancel(self, owner: str, job: str) -> None:
        """Raises UnknownJobError."""
        entry = self.find(owner, job)
        if entry.state == "queued":
            self._queue.remove(owner, entry)
            self._end(entry, Cancelled())
            self._report_positions()
        elif entry.state == "running":
            self._executor.cancel(entry.run_id)

    def acknowledge(self, owner: str, job: str) -> None:
        """Forget a job that ended. Raises UnknownJobError, or BusyError for one that has not ended."""
        entry = self.find(owner, job)
        if not entry.ended:
            raise BusyError("The job has not ended yet; cancel it first.")
        self._forget(entry.key)

    def of(self, owner: str) -> tuple[JobInfo, ...]:
        """The newest LISTED jobs of a client, oldest first."""
        now = time.time()
        own = [entry for entry in self._jobs.values() if entry.owner == owner]
        return tuple(
            JobInfo(
                entry.id,
                entry.state,
                len(entry.events),
                entry.source[:LISTED_TEXT],
                entry.target[:LISTED_TEXT],
                now - entry.created,
            )
            for entry in own[-LISTED:]
        )

    def on_reports(self, reports: list[Report]) -> None:
        """Take what the executor tells, then give it what it has room for."""
        for report in reports:
            entry = self._running.get(report.job)
            if entry is None:
                continue  # of a job that was cancelled by force at closing
            try:
                self._on_report(entry, report)
            except Exception as error:  # costs this job, nobody else's
                log.exception("report", extra={"fields": {"job": entry.id}})
                self._running.pop(entry.run_id, None)
                if not entry.ended:
                    self._end(entry, Failed(InternalError(FAULT, detail=repr(error)[:500])))
        self.dispatch()

    def on_stored(self, keys: Iterable[Key]) -> None:
        """Results were written, or the disk did not take them: their clients may know now."""
        for key in keys:
            if key in self._storing:
                self._end(*self._storing.pop(key))

    def dispatch(self) -> None:
        """Give the executor the jobs that it would begin now, in turns."""
        moved = False
        while len(self._queue) and not self.closing:
            waiting = list(self._queue)
            assignment = self._executor.assign([affinity_of(entry.request) for entry in waiting if entry.request])
            if assignment is None:
                break
            entry = waiting[assignment[0]]
            assert entry.request is not None
            self._queue.take(entry.owner, entry)
            entry.state, entry.started = "running", time.monotonic()
            self._running[entry.run_id] = entry
            self._executor.submit(Job(entry.run_id, entry.owner, entry.request, entry.blobs), assignment[1])
            self._add(entry, Started())
            moved = True
        if moved:
            self._report_positions()

    def fail_queued(self, error: DiffEditError) -> None:
        """End every waiting job with `error`: no worker will ever run it."""
        while len(self._queue):
            self._end(self._queue.next(), Failed(error))

    def fail_running(self, error: DiffEditError) -> None:
        """End every running job with `error`, because the server stops."""
        for entry in list(self._running.values()):
            self._executor.cancel(entry.run_id)
            self._end(entry, Failed(error))
        self._running.clear()

    def sweep(self, seconds: float) -> None:
        """Forget jobs that ended too long ago, and results beyond the disk's share."""
        old = time.monotonic() - seconds
        keys = {entry.key for entry in self._jobs.values() if entry.ended and entry.closed_clock < old}
        for key in keys | set(self._results.beyond_share()):
            log.info("result expired", extra={"fields": {"job": key[1]}})
            self._forget(key)

    def drop_owner(self, owner: str) -> None:
        """A client was revoked: its jobs end and its results go, whether it is there or away."""
        for entry in [entry for entry in self._jobs.values() if entry.owner == owner]:
            if not entry.ended:
                self.cancel(owner, entry.id)
            else:
                self._forget(entry.key)

    @property
    def owners(self) -> set[str]:
        """Everyone who has a job or a result here."""
        return {entry.owner for entry in self._jobs.values()}

    @property
    def running(self) -> int:
        """Jobs that run, or whose result is being written."""
        return len(self._running) + len(self._storing)

    @property
    def waiting(self) -> int:
        return len(self._queue)

    @property
    def kept(self) -> int:
        """Jobs that ended and wait for their acknowledgement."""
        return sum(entry.ended for entry in self._jobs.values())

    def status(self) -> dict[str, Any]:
        return {
            "waiting": self.waiting,
            "running": self.running,
            "kept_results": sum(entry.state == "done" for entry in self._jobs.values()),
            "finished": self.finished,
        }

    def wait_seconds(self) -> float:
        """About when a slot of the queue becomes free."""
        return round(max(1.0, self._seconds / max(1, len(self._running))), 1)

    def _check_limits(self, owner: str, pixels: int) -> None:
        if self.closing:
            raise BusyError("The backend is being stopped; try again later.", retry_after=30.0)
        trouble = self._executor.trouble()
        if trouble is not None:
            raise trouble
        if self._results.strained:
            raise BusyError(
                "The backend's disk is full, so it takes no new jobs. Free some space there.", retry_after=30.0
            )
        if len(self._queue) >= self._total:
            raise BusyError(f"The backend's queue is full: {self._total} jobs wait.", retry_after=self.wait_seconds())
        own = [entry for entry in self._jobs.values() if entry.owner == owner and not entry.ended]
        if len(own) >= self._limits.jobs:
            raise BusyError(
                f"You have {len(own)} unfinished jobs here, which is the most that one client may have.",
                retry_after=self.wait_seconds(),
            )
        unfinished, most = sum(entry.pixels for entry in own), self._limits.job_pixels
        if own and unfinished + pixels > most:
            raise BusyError(
                f"Your unfinished jobs here have {unfinished / 1e6:.1f} megapixels, and {pixels / 1e6:.1f} more are "
                f"too many: one client may have {most / 1e6:.1f}. Wait for one to end, or cancel it.",
                retry_after=self.wait_seconds(),
            )

    def _report_positions(self) -> None:
        for position, entry in enumerate(self._queue, len(self._running)):
            if position != entry.position:
                entry.position = position
                self._add(entry, Queued(position))

    def _requeue(self, entry: JobEntry, error: DiffEditError) -> None:
        """Run a job again whose worker was lost: its client sees a delay."""
        del self._running[entry.run_id]
        entry.losses += 1
        if self.closing or entry.losses >= MOST_LOSSES:
            self._end(entry, Failed(error))
            return
        log.warning("run again", extra={"fields": {"job": entry.id, "losses": entry.losses, "why": error.detail[:500]}})
        entry.state, entry.position = "queued", -1
        self._queue.put_back(entry.owner, entry)
        self._report_positions()

    def _add(self, entry: JobEntry, event: Event) -> None:
        entry.events.append(event)
        self._on_event(entry.key, len(entry.events), event)

    def _on_report(self, entry: JobEntry, report: Report) -> None:
        event = report.event
        if isinstance(event, Preview):
            self._on_event(entry.key, len(entry.events), event)
        elif isinstance(event, Lost):
            self._requeue(entry, event.error)
        elif isinstance(event, Done):
            del self._running[report.job]
            self._store(entry, event, report.blobs)
        elif isinstance(event, (Failed, Cancelled)):
            del self._running[report.job]
            self._end(entry, event)
        elif not isinstance(event, Started):  # that was reported when it was dispatched
            self._add(entry, event)

    def _store(self, entry: JobEntry, event: Done, blobs: Mapping[str, bytes]) -> None:
        """Write a result; `on_stored` then ends the job. Edits outlive a power cut, a mask is quickly made again."""
        self._storing[entry.key] = entry, event
        events = (*entry.events, event)
        durable = entry.request is not None and entry.request.task == "edit"
        record = JobRecord(entry.owner, entry.id, entry.source, entry.target, entry.created, time.time(), events)
        self._results.add(record, blobs, durable=durable)

    def _end(self, entry: JobEntry, event: Done | Failed | Cancelled) -> None:
        entry.state = "done" if isinstance(event, Done) else "failed" if isinstance(event, Failed) else "cancelled"
        if isinstance(event, Failed) and entry.owner != self.local_owner:
            event = Failed(redacted(event.error))
        self._uploads.unpin(entry.owner, entry.blobs)
        entry.blobs, entry.request = {}, None
        entry.source, entry.target = entry.source[:LISTED_TEXT], entry.target[:LISTED_TEXT]
        entry.closed = time.time()
        entry.closed_clock = time.monotonic()
        seconds = entry.closed_clock - entry.started if entry.started else 0.0
        entry.events.append(event)
        if isinstance(event, Done):
            self._seconds += SMOOTHING * (seconds - self._seconds)
        self.finished += 1
        fields = {"job": entry.id, "state": entry.state, "seconds": round(seconds, 3)}
        if isinstance(event, Failed):
            fields.update(code=event.error.code, detail=event.error.detail[:500])
        log.info("ended", extra={"fields": fields})
        self._on_event(entry.key, len(entry.events), event)
        without = [other.key for other in self._jobs.values() if other.owner == entry.owner and other.resultless]
        for key in without[:-MOST_RESULTLESS]:
            self._forget(key)

    def _forget(self, key: Key) -> None:
        self._results.drop(*key)
        self._jobs.pop(key, None)


def owner_prefix(owner: str) -> str:
    """What the executor's names of an owner's jobs begin with."""
    return f"{hashlib.sha256(owner.encode()).hexdigest()[:8]}-"


def _pixels(request: EditRequest) -> int:
    """Width × height of the picture of a request; 0 for one without."""
    return request.picture.width * request.picture.height if request.picture is not None else 0
