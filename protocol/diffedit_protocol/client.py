"""A blocking client over a DEALER: the plugin's worker thread, the command line and the tests all use it.

    with Client(connection) as client:
        job = client.submit(request, blobs={sha256: bytes})
        for event in client.events(job):       # None whenever nothing came for `poll` seconds
            ...
        mask = client.fetch(done.manifest.mask)
        client.ack(job)

A thin shell: the ClientSession knows the protocol, the Transport the socket. All waiting is here, in `_turn`.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeVar

from . import __version__
from .blobs import unpack_picture, unpack_plane
from .client_session import ClientSession
from .connection import Connection
from .errors import BusyError, DiffEditError, LinkError, SchemaError, TooLargeError, UnknownJobError
from .job_run import JobRun
from .messages import EditRequest, Event, PictureRef, PlaneRef
from .operations import Call, Download, Operation
from .replies import JobInfo, JobList, Okay, Pong, Reply, ServerInfo, StatusReport
from .requests import Ack, Jobs, Ping, Request, Status, check_job_id, new_job_id
from .requests import Cancel as CancelRequest
from .transport import Down, LinkChange, Transport, Up

POLL_SECONDS = 0.05
ABSENT_SECONDS = 1.0  # of refused connections on this machine: nobody is there, a person need not wait longer
AWAY_SECONDS = 1.0  # between two turns: the caller was elsewhere, so silence in between is no fault of the server
MESSAGES_PER_TURN = 64
PLANE_OVERHEAD = 1024  # bytes that packing may add to a plane that does not shrink
R = TypeVar("R", bound=Reply)


@dataclass(frozen=True)
class Timeouts:
    """Seconds. `connect`: until the first hello is answered. `answer`: until any small request is. `lost`: how long a
    link or a server that went silent is waited for, before a submit, a fetch or a job's events end with a LinkError.
    `busy`: how long a server that refuses a job as BUSY is asked again, each time after the `retry_after` that it
    names; see `submit`.
    """

    connect: float = 5.0
    answer: float = 10.0
    lost: float = 300.0
    busy: float = 600.0


class Client:
    """One link to one backend, used by the thread that made it. Reconnects, says hello again and resumes by itself.

    Every method may raise AuthError (key refused or revoked, another server), VersionError, or LinkError (no answer in
    time); the next call then tries anew.
    """

    def __init__(
        self,
        connection: Connection,
        timeouts: Timeouts | None = None,
        software: str = f"krita-diffedit {__version__}",
        on_turn: Callable[[], None] | None = None,
    ) -> None:
        """`on_turn` is called at least every 50 ms while any method waits; what it raises ends that method."""
        self.connection = connection
        self._on_turn = on_turn
        self.timeouts = timeouts or Timeouts()
        self._session = ClientSession(software, loopback=connection.local)
        self._transport: Transport | None = None
        self._runs: dict[str, JobRun] = {}
        self._trouble: DiffEditError | None = None
        self._refusal: DiffEditError | None = None
        self._turned = 0.0
        self._patient_from = 0.0

    def __enter__(self) -> Client:
        self.connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def connect(self) -> ServerInfo:
        """Connects, if there is no link, and says hello; returns who answered."""
        try:
            self._until(lambda: self._session.ready, self.timeouts.connect)
        except BaseException:
            self.close()
            raise
        return self.hello

    def close(self) -> None:
        """Drops the link at once; jobs go on at the server."""
        self._session.link_down()
        if self._transport is not None:
            self._transport.close()
            self._transport = None

    @property
    def hello(self) -> ServerInfo:
        """What the server told of itself at the last hello. Raises LinkError before the first."""
        return self._session.server

    @property
    def trouble(self) -> DiffEditError | None:
        """What keeps the link down, or the server silent, at this moment; None when all is well."""
        since = self._session.unanswered_since
        if self._session.ready and since is not None:
            silent = time.monotonic() - max(since, self._session.last_message or since)
            if silent > self.timeouts.answer:
                return LinkError(_silent(self.connection, silent))
        return None if self._session.ready else self._trouble

    def submit(
        self,
        request: EditRequest,
        blobs: Mapping[str, bytes],
        job_id: str | None = None,
        on_upload: Callable[[int, int], None] | None = None,
        on_busy: Callable[[BusyError, float], None] | None = None,
    ) -> str:
        """Uploads what the server lacks of `blobs` and submits; returns the job's id.

        The same `job_id` is the same job. `on_upload(sent, total)` in bytes is called at least every 50 ms; what it
        raises ends the upload, and the job if the server has it by then. After a restart of the server, `events`
        uploads and submits again under the same id.
        A server that is full refuses with BusyError. With `on_busy` it is asked again when it said, for `Timeouts.busy`
        seconds in all; `on_busy(error, seconds)` is called meanwhile, at least every 50 ms, with the seconds left until
        then, and what it raises ends the waiting.
        Raises TooLargeError before anything is sent, SchemaError for a blob that the request needs and `blobs` lacks,
        BusyError (with `retry_after`), and what else the server refuses with.
        """
        self._check(request, blobs)
        run = JobRun(job_id or new_job_id(), request, blobs, accepted=False)
        run.busy_limit = 0.0 if on_busy is None else self.timeouts.busy

        def on_turn() -> None:
            if run.busy is None and on_upload is not None:
                on_upload(run.sent, run.total)
            elif run.busy is not None and on_busy is not None:
                self._patient_from = time.monotonic()  # the server is silent because it is not asked
                on_busy(run.busy, max(0.0, run.again_at - time.monotonic()))

        try:
            self._perform(run, self.timeouts.lost, until=lambda: run.accepted, on_turn=on_turn)
        except BaseException:
            if (run.submitting or run.accepted) and self._session.ready and self._transport is not None:
                self._session.start(Call(CancelRequest(run.job)), time.monotonic())  # nobody would fetch its result
                self._flush(self._transport)
            raise
        run.busy_limit = self.timeouts.busy  # should the server be restarted, nobody is there to decide
        self._runs[run.job] = run
        return run.job

    def events(self, job: str, since: int | None = None, poll: float = POLL_SECONDS) -> Iterator[Event | None]:
        """The job's events numbered above `since`, until the final one (Done, Failed, Cancelled) was given.

        `since` None goes on after the event that was given last, from the first one on for a job that is new here.
        Yields None when nothing came for `poll` seconds, so that the caller can cancel or look at `trouble`; a lost
        link is waited for. After a restart of the server the events of a job that this client submitted begin again.
        Raises UnknownJobError for a job that the server does not know and that this client cannot submit again.
        """
        run = self._watched(job, since)
        idle_from = time.monotonic()
        while True:
            if run.events:
                number, event = run.events.popleft()
                run.given = number
                yield event
                idle_from = time.monotonic()
            elif run.finished:
                self._runs.pop(job, None)
                if run.error is not None:
                    raise run.error
                return
            else:
                self._turn(poll - (time.monotonic() - idle_from))
                if run.busy is not None:
                    self._patient_from = time.monotonic()
                self._give_up(self.timeouts.lost)
                if not run.events and time.monotonic() - idle_from >= poll:
                    yield None
                    idle_from = time.monotonic()

    def fetch(self, ref: PictureRef | PlaneRef, on_bytes: Callable[[int, int], None] | None = None) -> bytes:
        """The raw pixels of `ref`: downloaded in chunks, hash checked, planes unpacked.

        `on_bytes(received, size)` is called at least every 50 ms; what it raises ends the download. Raises NoBlobError
        when the server holds the result no more.
        """
        download = Download(
            ref.blob,
            ref.size + PLANE_OVERHEAD,
            channels=ref.channels if isinstance(ref, PictureRef) else None,
            expected=ref.size if isinstance(ref, PictureRef) or not ref.packed else None,
        )
        self._perform(
            download,
            self.timeouts.lost,
            on_turn=None if on_bytes is None else lambda: on_bytes(download.received, download.size or ref.size),
        )
        if isinstance(ref, PictureRef):
            return unpack_picture(ref, download.data)
        return unpack_plane(ref, download.data)

    def cancel(self, job: str) -> None:
        """Asks to end the job at its next step. Its last event will be Cancelled, or Done when it was quicker.

        For a job of this client it returns at once, link or no link; it is asked for as soon as there is one.
        """
        check_job_id(job)
        run = self._runs.get(job)
        if run is not None and not run.finished:
            run.cancel(self._session)
            self._turn(0.0)
        else:
            self._call(CancelRequest(job), Okay)

    def ack(self, job: str) -> None:
        """Tells that the result was fetched: the server may forget the job.

        One that it has forgotten is no error: the answer to an ack may be lost with the link, and it is then repeated.
        """
        with contextlib.suppress(UnknownJobError):
            self._call(Ack(job), Okay)

    def idle(self, seconds: float) -> None:
        """Takes what comes for `seconds`: for a caller who has nothing to ask and will be back."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._turn(min(left, POLL_SECONDS))
            self._raise_refusal()

    def ping(self) -> float:
        """Seconds that the application took to answer."""
        begin = time.monotonic()
        self._call(Ping(), Pong)
        return time.monotonic() - begin

    def status(self) -> dict[str, Any]:
        """The server's state, for people."""
        return self._call(Status(), StatusReport).values

    def jobs(self) -> tuple[JobInfo, ...]:
        """The jobs of this client's key, oldest first."""
        return self._call(Jobs(), JobList).jobs

    def _check(self, request: EditRequest, blobs: Mapping[str, bytes]) -> None:
        """Tell before anything is sent what the server would refuse."""
        limits = (self.hello if self._session.greeted_before else self.connect()).limits
        refs = [ref for ref in (request.picture, request.selection, request.mask) if ref is not None]
        for ref in refs:
            if ref.width * ref.height > limits.pixels:
                raise TooLargeError(
                    f"{ref.width} × {ref.height} px is too large: this backend takes {limits.pixels / 1e6:.0f} "
                    "megapixels. Select a part, or scale the layer down."
                )
            if ref.blob not in blobs:
                raise SchemaError(f"The request names the blob {ref.blob[:12]}…, which is not among those given.")

    def _watched(self, job: str, since: int | None) -> JobRun:
        """The run of `job`, one that goes on if it gave the event `since` last, else one that watches from there."""
        check_job_id(job)
        run = self._runs.get(job)
        if run is not None and since in (None, run.given):
            return run
        if run is None:
            run = JobRun(job, None, {}, accepted=True, since=since or 0)
        else:
            self._session.abandon(run)
            run = run.again(since or 0)
        self._runs[job] = run
        self._session.start(run, time.monotonic())
        return run

    def _call(self, request: Request, kind: type[R]) -> R:
        call = Call(request)
        self._perform(call, self.timeouts.answer)
        if not isinstance(call.reply, kind):
            raise SchemaError(f"The backend answered {request.TYPE!r} with something else. Update it.")
        return call.reply

    def _perform(
        self,
        operation: Operation,
        limit: float,
        *,
        until: Callable[[], bool] = lambda: False,
        on_turn: Callable[[], None] | None = None,
    ) -> None:
        """Start `operation` and wait for its end, or for `until`; whatever interrupts takes it off the session."""
        self._patient_from = time.monotonic()
        self._session.start(operation, self._patient_from)
        try:
            while not (operation.finished or until()):
                self._turn(POLL_SECONDS)
                self._give_up(limit)
                if on_turn is not None:
                    on_turn()
        except BaseException:
            self._session.abandon(operation)
            raise
        if operation.error is not None:
            raise operation.error

    def _until(self, reached: Callable[[], bool], limit: float) -> None:
        """Turn until `reached`. Raises what keeps the link down after `limit` seconds; on this machine, after one."""
        begun = self._patient_from = time.monotonic()
        while not reached():
            self._turn(POLL_SECONDS)
            self._raise_refusal()
            absent = self.connection.local and isinstance(self._trouble, LinkError)
            if time.monotonic() - begun > (min(limit, ABSENT_SECONDS) if absent else limit):
                raise self._trouble or LinkError(f"The backend at {self.connection.host} does not answer.")

    def _give_up(self, limit: float) -> None:
        """Raise what refused us, or what keeps the link silent for more than `limit` seconds."""
        self._raise_refusal()
        silent = time.monotonic() - max(self._patient_from, self._session.last_message or 0.0)
        if silent > limit:
            raise self._trouble or LinkError(_silent(self.connection, silent))

    def _raise_refusal(self) -> None:
        """Raise what makes this link pointless; the next call opens a new one."""
        refusal = self._refusal or self._session.fatal
        if refusal is not None:
            self._refusal = self._session.fatal = None
            self.close()
            raise refusal

    def _turn(self, seconds: float) -> None:
        """Move everything on: send what is due, wait at most `seconds` for something to happen, take what came."""
        if self._on_turn is not None:
            self._on_turn()
        now = time.monotonic()
        if now - self._turned > AWAY_SECONDS:
            self._patient_from = now
        if self._transport is None:
            self._transport = Transport(self.connection)
        self._session.tick(now)
        blocked = not self._flush(self._transport)
        self._transport.wait(seconds, to_send=blocked)
        for change in self._transport.changes():
            self._apply(change)
        for _ in range(MESSAGES_PER_TURN):
            frames = self._transport.receive()
            if frames is None:
                break
            self._session.receive(frames, time.monotonic())
            self._flush(self._transport)
        self._turned = time.monotonic()

    def _flush(self, transport: Transport) -> bool:
        """Send what waits; False when the socket would not take all of it."""
        while (frames := self._session.outgoing()) is not None:
            if not transport.send(frames):
                return False
            self._session.sent()
        return True

    def _apply(self, change: LinkChange) -> None:
        if isinstance(change, Up):
            self._trouble = None
            self._session.link_up(time.monotonic())
        elif isinstance(change, Down):
            self._trouble = change.error
            self._session.link_down()
        else:
            self._refusal = change.error


def _silent(connection: Connection, seconds: float) -> str:
    return f"The backend at {connection.host} has not answered for {seconds:.0f} s."
