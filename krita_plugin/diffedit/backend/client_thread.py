"""The thread that speaks to the backend: connects, keeps connecting, carries several jobs side by side.

Krita's main thread puts orders in and receives signals. A lost link, a restarted backend or a new address costs
nothing: every payload is kept until the last event of its job and submitted again under the job's own id, which the
backend knows.
"""

from __future__ import annotations

import dataclasses
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from diffedit_protocol.blobs import pack_picture, pack_plane
from diffedit_protocol.client import Client, Timeouts
from diffedit_protocol.connection import Connection
from diffedit_protocol.errors import (
    AuthError,
    BadInputError,
    BusyError,
    CancelledError,
    DiffEditError,
    LinkError,
    VersionError,
)
from diffedit_protocol.job_run import SHORTEST_WAIT
from diffedit_protocol.messages import Cancelled, Done, EditRequest, Failed
from diffedit_protocol.replies import AUTOMATIC_GROW, OPTIONAL_FIELDS

from ..model.payload import JobPayload, JobResult, LinkKind, LinkState
from ..qt import QtCore, Signal

Order = tuple[str, Any]

STOP_MILLISECONDS = 3000
POLL_SECONDS = 0.04  # how long one look at a job's events may take
PING_SECONDS = 2.0  # between two looks at a link that has nothing to do
RETRY_LOCAL_SECONDS = 1.0  # no more than a look at a file
RETRY_SECONDS = (2.0, 4.0, 8.0, 15.0)
RETRY_REFUSED_SECONDS = 60.0
MOVED_SECONDS = 1.5  # how long a local backend may be silent before its address is looked up anew
REFUSALS = (AuthError, VersionError, BadInputError)


class _Reconnect(Exception):
    """Leave this link and connect anew."""


class _Stop(Exception):
    """Leave the thread."""


class ClientThread(QtCore.QThread):
    """Signals, received on the thread that made it: `state_changed(LinkState)`; `uploaded(job, sent, total)` in bytes;
    `delayed(job, seconds)`: the backend is full, it will be asked again then;
    `job_event(job, Event)` for every event but Done; `job_finished(job, JobResult)` in place of Done.

    Methods without an underscore belong to the main thread, all others to the thread itself.
    """

    state_changed = Signal(object)
    uploaded = Signal(str, object, object)  # object: an int of Qt has 32 bits
    delayed = Signal(str, float)
    job_event = Signal(str, object)
    job_finished = Signal(str, object)

    def __init__(
        self,
        find_connection: Callable[[], Connection],
        parent: QtCore.QObject | None = None,
        timeouts: Timeouts | None = None,
    ) -> None:
        """`find_connection` is called on the thread before every attempt; it raises a DiffEditError that says why
        there is nothing to connect to."""
        super().__init__(parent)
        self.state = LinkState("connecting")
        self._find = find_connection
        self._timeouts = timeouts or Timeouts()
        self._orders: queue.SimpleQueue[Order] = queue.SimpleQueue()
        self._leave = threading.Event()
        self._last_state: LinkState | None = None
        self._payloads: dict[str, JobPayload] = {}
        self._runs: dict[str, Iterator[None]] = {}
        self._cancelled: set[str] = set()
        self._ended = 0  # how many jobs have
        self._followed: set[str] = set()
        self._settled: set[str] = set()
        self._client: Client | None = None
        self._connection: Connection | None = None
        self._down_since: float | None = None
        self._pinging = False
        self.state_changed.connect(self._remember)

    # -- called on the main thread ----------------------------------------------------------------------------------

    def open(self) -> None:
        """Connects, and keeps connecting."""
        if not self.isRunning():
            self._leave.clear()
            self.start()

    def close(self) -> bool:
        """Ends the thread; jobs at the backend go on there. False when it had not ended after three seconds."""
        self._leave.set()
        self._orders.put(("stop", None))  # wakes a thread that waits for an order
        return bool(self.wait(STOP_MILLISECONDS))

    def submit(self, payload: JobPayload) -> None:
        """Does the job as soon as there is a link; events and result come as signals."""
        self._orders.put(("submit", payload))

    def cancel(self, job: str) -> None:
        """Asks to end the job; `job_event(job, Cancelled)` follows, at once while there is no link."""
        self._orders.put(("cancel", job))

    def follow(self, job: str) -> None:
        """Events and result of a job that an earlier Krita submitted; `Failed` where the backend does not know it."""
        self._orders.put(("follow", job))

    def settle(self, job: str) -> None:
        """Nobody will ask for the job's result again: the backend may forget it, which it also does after a while."""
        self._orders.put(("settle", job))

    def reconnect(self) -> None:
        """Drops the link and connects anew: the settings changed, or the artist does not want to wait."""
        self._orders.put(("reconnect", None))

    def _remember(self, state: LinkState) -> None:
        self.state = state

    # -- the thread -------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Serves orders until `close`."""
        self._last_state = None
        failures = 0
        while True:
            try:
                connected = self._serve()
                failures = 0 if connected else failures + 1
                self._idle(self._retry_seconds(failures))
            except _Reconnect:
                failures = 0
                self._last_state = None  # so that the artist sees that it is tried
            except _Stop:
                return

    # -- one link ---------------------------------------------------------------------------------------------------

    def _serve(self) -> bool:
        """Connects and works until the link fails. Returns whether it had been up."""
        was_up = False
        try:
            self._connection = self._find()
            if self._last_state is None or self._last_state.kind != "down":
                self._report("connecting")
            with Client(self._connection, self._timeouts, on_turn=self._check_leave) as self._client:
                was_up = True
                self._report("ready")
                self._work(self._client)
        except DiffEditError as error:
            refused = isinstance(error, REFUSALS)
            self._report("refused" if refused else "lost" if was_up else "down", error)
        finally:
            self._client = None
            self._runs.clear()
        return was_up

    def _work(self, client: Client) -> None:
        self._runs = {job: self._carry(client, payload) for job, payload in self._payloads.items()}
        self._runs |= {job: self._guarded(job, self._events(client, job)) for job in self._followed}
        last_ping = time.monotonic()
        while True:
            if not self._runs:
                self._take_order(timeout=PING_SECONDS)
            self._take_orders()
            while self._settled:
                client.ack(self._settled.pop())
            for job, run in list(self._runs.items()):
                if next(run, self) is self:  # exhausted
                    self._runs.pop(job, None)
            self._watch(client)
            if not self._runs and time.monotonic() - last_ping > PING_SECONDS:
                self._ping(client)
                last_ping = time.monotonic()

    def _ping(self, client: Client) -> None:
        """Raises what is wrong as soon as it is known; the link itself would wait for it to come back."""
        self._pinging = True
        try:
            client.ping()
        finally:
            self._pinging = False

    def _watch(self, client: Client) -> None:
        """Reports a link that is down at the moment; checks whether a local backend moved to another address."""
        if client.trouble is None:
            self._report("ready")
            self._down_since = None
            return
        self._report("lost", client.trouble)
        if isinstance(client.trouble, REFUSALS):
            raise client.trouble
        now = time.monotonic()
        self._down_since = self._down_since or now
        if (
            self._connection is not None
            and self._connection.local
            and now - self._down_since > MOVED_SECONDS
            and self._find() != self._connection
        ):
            raise _Reconnect

    # -- one job ------------------------------------------------------------------------------------------------------

    def _carry(self, client: Client, payload: JobPayload) -> Iterator[None]:
        """Submits and follows one job to its end; yields whenever there is nothing to do for a moment."""
        return self._guarded(payload.job, self._submitted(client, payload))

    def _submitted(self, client: Client, payload: JobPayload) -> Iterator[None]:
        packing = _Packing(payload)
        while packing.is_alive():
            client.idle(POLL_SECONDS)  # other jobs' events are read, and a lost link is noticed
            yield
        request, blobs = packing.result()
        able = client.hello.capabilities
        left_out = tuple(name for name in OPTIONAL_FIELDS if getattr(request, name) and name not in able)
        unable = left_out if AUTOMATIC_GROW in able else (*left_out, AUTOMATIC_GROW)
        request = request.without(unable)
        yield
        yield from self._submit(client, payload, request, blobs)
        yield from self._events(client, payload.job, left_out, keeps=request.task == "edit")

    def _events(
        self, client: Client, job: str, left_out: tuple[str, ...] = (), *, keeps: bool = True
    ) -> Iterator[None]:
        """Follows a job that the backend has. `keeps`: it keeps the result until `settle`."""
        for event in client.events(job, poll=POLL_SECONDS / max(1, len(self._runs))):
            if event is None:
                yield
            elif isinstance(event, Done):
                result = dataclasses.replace(self._fetch(client, event), left_out=left_out)
                self._end(job)
                self.job_finished.emit(job, result)
                if not keeps:
                    client.ack(job)
            else:
                if isinstance(event, (Failed, Cancelled)):
                    self._end(job)
                self.job_event.emit(job, event)
                yield

    def _guarded(self, job: str, run: Iterator[None]) -> Iterator[None]:
        """What goes wrong with one job ends that job; a lost link keeps it for the next one."""
        try:
            yield from run
        except LinkError:
            raise
        except CancelledError:
            self._end(job)
            self.job_event.emit(job, Cancelled())
        except DiffEditError as error:
            self._end(job)
            self.job_event.emit(job, Failed(error))

    def _submit(
        self, client: Client, payload: JobPayload, request: EditRequest, blobs: dict[str, bytes]
    ) -> Iterator[None]:
        """A full backend is asked again when it said, or when a job of ours ended; other jobs go on meanwhile."""
        until = time.monotonic() + self._timeouts.busy
        while True:
            ended = self._ended
            try:
                client.submit(
                    request, blobs, payload.job, on_upload=lambda sent, total: self._upload(payload, sent, total)
                )
                return
            except BusyError as error:
                if error.retry_after is None:
                    raise
                again_at = time.monotonic() + max(SHORTEST_WAIT, error.retry_after)
                if again_at > until:
                    raise
            shown = -1
            while (left := again_at - time.monotonic()) > 0 and self._ended == ended:
                if int(left) != shown:
                    shown = int(left)
                    self.delayed.emit(payload.job, left)
                client.idle(min(left, POLL_SECONDS))
                yield

    def _upload(self, payload: JobPayload, sent: int, total: int) -> None:
        self.uploaded.emit(payload.job, sent, total)
        self._take_orders()
        if payload.job in self._cancelled:
            raise CancelledError("Cancelled while the picture was being sent.")

    def _fetch(self, client: Client, done: Done) -> JobResult:
        manifest = done.manifest
        soft_map = client.fetch(manifest.soft_map) if manifest.soft_map is not None else None
        edits = tuple(client.fetch(edit.pixels) for edit in manifest.edits)
        mask = client.fetch(manifest.mask) if manifest.mask is not None else b""
        return JobResult(manifest, mask, soft_map, edits)

    def _end(self, job: str) -> None:
        self._ended += 1
        self._payloads.pop(job, None)
        self._followed.discard(job)
        self._cancelled.discard(job)

    # -- orders -----------------------------------------------------------------------------------------------------

    def _take_orders(self) -> None:
        while self._take_order(timeout=0):
            pass

    def _take_order(self, timeout: float) -> bool:
        """Waits up to `timeout` s for one order and obeys it. False when none came."""
        try:
            kind, value = self._orders.get(timeout=timeout) if timeout else self._orders.get_nowait()
        except queue.Empty:
            return False
        self._check_leave()
        if kind == "reconnect":
            raise _Reconnect
        if kind == "submit":
            self._payloads[value.job] = value
            if self._client is not None:
                self._runs[value.job] = self._carry(self._client, value)
        elif kind == "follow" and value not in self._followed:
            self._followed.add(value)
            if self._client is not None:
                self._runs[value] = self._guarded(value, self._events(self._client, value))
        elif kind == "settle":
            self._settled.add(value)
        elif kind == "cancel" and value in self._payloads:
            self._cancel(value)
        return True

    def _check_leave(self) -> None:
        """Called by the client at least every 50 ms."""
        if self._leave.is_set():
            raise _Stop
        if self._pinging and self._client is not None and self._client.trouble is not None:
            raise self._client.trouble

    def _cancel(self, job: str) -> None:
        self._cancelled.add(job)
        if self._client is None or self._client.trouble is not None:
            # Nobody can be asked now. The backend ends the job when its time is over; its result is not fetched.
            self._end(job)
            self._runs.pop(job, None)
            self.job_event.emit(job, Cancelled())
        elif job in self._runs:
            try:
                self._client.cancel(job)
            except LinkError:
                raise
            except DiffEditError as error:  # it was not submitted yet, or ended in this moment
                self._end(job)
                self._runs.pop(job, None)
                self.job_event.emit(job, Cancelled() if error.code == "UNKNOWN_JOB" else Failed(error))

    def _idle(self, seconds: float) -> None:
        """Between two attempts: obeys orders for `seconds`."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._take_order(timeout=left)

    def _retry_seconds(self, failures: int) -> float:
        if self._last_state is not None and self._last_state.kind == "refused":
            return RETRY_REFUSED_SECONDS
        if self._connection is None or self._connection.local:
            return RETRY_LOCAL_SECONDS
        return RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)]

    def _report(self, kind: LinkKind, error: DiffEditError | None = None) -> None:
        connection = self._connection
        info = self._client.hello if kind == "ready" and self._client is not None else None
        state = LinkState(kind, connection.host if connection else "", not connection or connection.own, info, error)
        if self._last_state is None or not state.reads_like(self._last_state):
            self._last_state = state
            self.state_changed.emit(state)


class _Packing(threading.Thread):
    """Packs a payload: seconds for a layer of 8192 px, in which the link goes on."""

    def __init__(self, payload: JobPayload) -> None:
        super().__init__(name="packing", daemon=True)
        self._payload = payload
        self._packed: tuple[EditRequest, dict[str, bytes]] | None = None
        self._error: Exception | None = None
        self.start()

    def run(self) -> None:
        try:
            self._packed = _packed(self._payload)
        except Exception as error:
            self._error = error

    def result(self) -> tuple[EditRequest, dict[str, bytes]]:
        """Raises what packing failed with: SchemaError, MemoryError."""
        if self._error is not None or self._packed is None:
            raise self._error or RuntimeError("packing has not ended")
        return self._packed


def _packed(payload: JobPayload) -> tuple[EditRequest, dict[str, bytes]]:
    """The request that names the payload's pixels, and the pixels by name."""
    if payload.picture is None:
        return payload.request, {}
    width, height = payload.width, payload.height
    picture, data = pack_picture(payload.picture, width, height, payload.channels)
    blobs = {picture.blob: data}
    planes: dict[str, Any] = {}
    for name in ("selection", "mask"):
        plane = getattr(payload, name)
        if plane is not None:
            planes[name], packed = pack_plane(plane, width, height)
            blobs[planes[name].blob] = packed
    return dataclasses.replace(payload.request, picture=picture, **planes), blobs
