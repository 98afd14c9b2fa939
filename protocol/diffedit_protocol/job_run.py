"""One job from the client's side: upload what the server lacks, submit, watch to the end; again after a restart.

    asking -> uploading -> submitting -> watching -> ended

The submit follows the last chunk without waiting for its answer, since the server takes both in order; should a chunk
get lost, the submit is refused and sent again once all is there. A link that was cut goes on where it was. A server
that was restarted (its boot id changed) is asked and given everything anew under the same id: events then begin at 1
again, and a result that the server had kept comes at once.

A server that is full refuses with BUSY and says when it may be asked again (`retry_after`): a run with a `busy_limit`
waits so long and brings the job again, which is the same job however often it is brought.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from .encodings import encode_chunk
from .errors import BusyError, DiffEditError, NoBlobError, SchemaError, UnknownJobError
from .events import JobEvent
from .link_speed import TransferMeter
from .messages import FINAL_EVENTS, Cancelled, EditRequest, Event, Preview
from .operations import Operation, RequestSender
from .replies import Accepted, Lacking, Okay, Reply, Stored, Subscribed
from .requests import Cancel, Have, Put, Request, Submit, Subscribe

REFRESH_SECONDS = (
    2.0  # of silence, after which the job's events are asked for again: a sign of life, and mends a lost one
)
SHORTEST_WAIT = 1.0  # seconds before a server that was full is asked again, whatever it says
MOST_ROUNDS = 3  # of upload and submit, should the server drop a blob between the two


class Upload:
    """One blob on its way up: chunks in order, several in flight; it goes back to a gap that the server reports."""

    def __init__(self, blob: str, data: bytes, offset: int, channels: int | None, meter: TransferMeter) -> None:
        """Raises SchemaError for an `offset` (where the server wants it from) that does not lie in `data`."""
        if not 0 <= offset < len(data):
            raise SchemaError(f"The backend lacks a blob of {len(data)} bytes, but wants it from {offset} on.")
        self.blob = blob
        self.size = len(data)
        self.stored = offset
        self.complete = False
        self._data = memoryview(data)
        self._channels = channels
        self._meter = meter
        self._next = offset
        self._in_flight: dict[int, tuple[int, int]] = {}

    @property
    def all_sent(self) -> bool:
        """Whether no chunk is left to send; some may still be unanswered."""
        return self._next >= self.size

    def pump(self, run: Operation, sender: RequestSender) -> None:
        """Send chunks while the window has room."""
        limits = sender.server.limits
        while self._next < self.size and len(self._in_flight) < sender.speed.window(limits):
            offset = self._next
            plain = self._data[offset : offset + sender.speed.chunk_bytes(limits, self.size)]
            encoding, data = encode_chunk(plain, sender.speed.encoding(self._channels))
            number = sender.ask(run, Put(self.blob, self.size, offset, len(plain), encoding, data))
            self._next = offset + len(plain)
            self._in_flight[number] = (self._next, len(data))

    def answer(self, run: Operation, sender: RequestSender, number: int, reply: Stored) -> bool:
        """The server tells how much it holds; whether everything else that `run` had asked was dropped for that.

        Raises SchemaError for what cannot be.
        """
        if not 0 <= reply.received <= self.size or reply.complete != (reply.received == self.size):
            raise SchemaError(f"The backend says that it holds {reply.received} of {self.size} bytes of a blob.")
        end, size = self._in_flight.pop(number)
        self._meter.answered(sender.speed, size, sender.now)
        self.stored = reply.received
        self.complete = reply.complete
        useless = bool(self._in_flight) if self.complete else reply.received < end
        if useless:
            sender.drop(run)
            self._in_flight.clear()
            self._next = reply.received
        return useless


class JobRun(Operation):
    """A job that is being brought to the server, or watched there. `events` fills while the session is fed.

    `request` None: the job is there already, and only watched; it cannot be submitted again. `submitting`: the submit
    has no answer yet. `last` is the number of the last event that came, `given` that of the last that the reader took
    from `events`: (number, event) pairs. `busy_limit`: seconds for which refusals as BUSY are waited out; `busy` is the
    refusal that is waited out at the moment, until `again_at` on the session's clock.
    """

    def __init__(
        self, job: str, request: EditRequest | None, blobs: Mapping[str, bytes], *, accepted: bool, since: int = 0
    ) -> None:
        super().__init__()
        self.job = job
        self.last = since
        self.given = since
        self.accepted = accepted
        self.cancelling = False
        self.events: deque[tuple[int, Event]] = deque()
        self.total = sum(len(data) for data in blobs.values())
        self._request = request
        self._blobs = dict(blobs)
        self._boot_id: str | None = None
        self._upload: Upload | None = None
        self._waiting: deque[tuple[str, int]] = deque()
        self._meter = TransferMeter()
        self._rounds = 0
        self.submitting = False
        self._subscribing = False
        self._last_answer = 0.0
        self.busy_limit = 0.0
        self.busy: BusyError | None = None
        self.again_at = 0.0
        self._busy_since: float | None = None

    @property
    def sent(self) -> int:
        """Bytes of the blobs that need not be sent any more."""
        left = sum(len(self._blobs[blob]) - offset for blob, offset in self._waiting)
        if self._upload is not None:
            left += self._upload.size - self._upload.stored
        return self.total - left

    def begin(self, sender: RequestSender) -> None:
        restarted = self._boot_id not in (None, sender.server.boot_id)
        self._boot_id = sender.server.boot_id
        self._last_answer = sender.now
        self._rounds = 0
        self.busy = None
        if restarted:
            self.last = self.given = 0
            self.accepted = self.accepted and self._request is None
        if self.accepted:
            self._watch(sender)
        else:
            self._bring(sender)

    def again(self, since: int) -> JobRun:
        """A run of the same job that is given its events above `since`."""
        run = JobRun(self.job, self._request, self._blobs, accepted=self.accepted, since=since)
        run.busy_limit = self.busy_limit
        return run

    def cancel(self, sender: RequestSender) -> None:
        """Ask to end the job at its next step, now or as soon as the link is back; its last event tells the end."""
        self.cancelling = True
        if self.accepted and sender.ready:
            sender.ask(self, Cancel(self.job))
        elif self.busy is not None or (self._upload is not None and not self.submitting):
            self._end_unsubmitted(sender)

    def answer(self, sender: RequestSender, number: int, request: Request, reply: Reply) -> None:
        self._last_answer = sender.now
        try:
            self._take(sender, number, request, reply)
        except SchemaError as error:
            self.fail(sender, error)

    def _take(self, sender: RequestSender, number: int, request: Request, reply: Reply) -> None:
        if isinstance(reply, Lacking):
            self._waiting = deque((blob, reply.received[blob]) for blob in self._blobs if blob in reply.received)
            self._next_upload(sender)
        elif isinstance(reply, Stored) and self._upload is not None:
            if self._upload.answer(self, sender, number, reply):
                self.submitting = False
            if self._upload.complete:
                self._next_upload(sender)
            else:
                self._go_on(sender, self._upload)
        elif isinstance(reply, Accepted):
            sender.drop(self)  # chunks whose answers got lost
            self._upload, self.submitting, self.accepted = None, False, True
            self._busy_since = None
            self._watch(sender)
        elif isinstance(reply, Subscribed):
            self._subscribing = False
        elif not isinstance(reply, Okay):
            raise SchemaError(f"The backend answered {request.TYPE!r} with {reply.TYPE!r}.")

    def refused(self, sender: RequestSender, number: int, request: Request, error: DiffEditError) -> None:
        lost = isinstance(request, Submit) and isinstance(error, NoBlobError)
        forgotten = isinstance(request, (Subscribe, Cancel)) and isinstance(error, UnknownJobError)
        if isinstance(request, Submit):
            self.submitting = False
        if self.cancelling and (lost or forgotten):
            self._end_unsubmitted(sender)
        elif lost and self._upload is not None:
            pass  # a chunk got lost: it will be asked for or repeated, and the submit follows it
        elif (lost or forgotten) and self._request is not None and self._rounds < MOST_ROUNDS:
            self.accepted = False
            self.last = 0
            self._bring(sender)
        elif isinstance(error, BusyError) and self._waits_for(sender, error):
            pass
        else:
            self.fail(sender, error)

    def event(self, sender: RequestSender, event: JobEvent) -> None:
        if event.job != self.job or not self.accepted:
            return
        self._last_answer = sender.now
        if isinstance(event.event, Preview):
            if event.seq >= self.last:
                self._add_preview(event.event)
        elif event.seq == self.last + 1:
            self.last = event.seq
            self.events.append((event.seq, event.event))
            if isinstance(event.event, FINAL_EVENTS):
                sender.drop(self)
                self.finished = True
        elif event.seq > self.last and not self._subscribing:
            self._subscribe(sender)

    def tick(self, sender: RequestSender) -> None:
        if self.busy is not None and sender.now >= self.again_at:
            self.busy, self._rounds = None, 0
            self._bring(sender)
        elif self.accepted and not self._subscribing and sender.now - self._last_answer >= REFRESH_SECONDS:
            self._subscribe(sender)

    def _add_preview(self, preview: Preview) -> None:
        """Only the newest preview waits: a reader that is slow must not make the queue grow."""
        if self.events and isinstance(self.events[-1][1], Preview):
            self.events.pop()
        self.events.append((self.last, preview))

    def _bring(self, sender: RequestSender) -> None:
        """Ask what is missing, then upload it and submit."""
        sender.drop(self)
        self._rounds += 1
        self.submitting = self._subscribing = False
        self._upload = None
        self._waiting.clear()
        self._meter = TransferMeter()
        if self.cancelling:
            self._end_unsubmitted(sender)
        elif self._blobs:
            sender.ask(self, Have(tuple(self._blobs)))
        else:
            self._next_upload(sender)

    def _waits_for(self, sender: RequestSender, error: BusyError) -> bool:
        """Whether the job is brought again later because a server that is full said when."""
        if self.accepted or self._request is None or error.retry_after is None:
            return False
        since = sender.now if self._busy_since is None else self._busy_since
        again_at = sender.now + max(SHORTEST_WAIT, error.retry_after)
        if again_at > since + self.busy_limit:
            return False
        sender.drop(self)
        self.submitting = self._subscribing = False
        self._upload = None
        self._waiting.clear()
        self.busy, self.again_at, self._busy_since = error, again_at, since
        return True

    def _next_upload(self, sender: RequestSender) -> None:
        self._upload = None
        if self._waiting:
            blob, offset = self._waiting.popleft()
            self._upload = Upload(blob, self._blobs[blob], offset, self._channels(blob), self._meter)
            self._go_on(sender, self._upload)
        elif self.submitting:
            pass  # its answer tells
        elif self.cancelling:
            self._end_unsubmitted(sender)
        else:
            self._submit(sender)

    def _go_on(self, sender: RequestSender, upload: Upload) -> None:
        """Send what there is room for; behind the last chunk of all, the submit."""
        upload.pump(self, sender)
        if upload.all_sent and not (self._waiting or self.submitting or self.cancelling):
            self._submit(sender)

    def _submit(self, sender: RequestSender) -> None:
        assert self._request is not None  # a job that is only watched is never brought
        self.submitting = True
        sender.ask(self, Submit(self.job, self._request))

    def _end_unsubmitted(self, sender: RequestSender) -> None:
        """Cancelled before the server had the job, or after it forgot it: nobody else will tell so."""
        sender.drop(self)
        self.events.append((self.last + 1, Cancelled()))
        self.finished = True

    def _watch(self, sender: RequestSender) -> None:
        self._subscribe(sender)
        if self.cancelling:
            sender.ask(self, Cancel(self.job))

    def _channels(self, blob: str) -> int | None:
        picture = self._request.picture if self._request is not None else None
        return picture.channels if picture is not None and picture.blob == blob else None

    def _subscribe(self, sender: RequestSender) -> None:
        self._subscribing = True
        sender.ask(self, Subscribe(self.job, self.last, sender.speed.previews))
