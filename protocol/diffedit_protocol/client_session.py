"""The client's side of one link, without a socket: frames in, operations move on; frames out.

    session = ClientSession("Krita plugin 0.1.0", loopback=True)
    session.link_up(now)                  # the transport is there: hello is said
    session.start(operation, now)         # Call, Download, JobRun
    while (frames := session.outgoing()) and send(frames): session.sent()
    session.receive(frames, now)          # whatever came
    session.tick(now)                     # a few times a second: repeats what was not answered
    session.link_down()                   # the transport went away; operations wait for the next link_up

The caller owns the clock (any that only rises, in seconds) and the transport. A link that the transport mended by
itself is noticed here: the server answers Again, and hello is said anew.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from .errors import DiffEditError, LinkError, SchemaError, TooLargeError, error_from_wire
from .events import EVENT, read_event
from .frames import Buffer, Frames, Message, decode, encode
from .link_speed import LinkSpeed
from .operations import Call, Operation
from .replies import NO_MASK, REPLIES, Again, Error, Reply, ServerInfo, Welcome
from .requests import Get, Hello, Put, Request
from .schema import from_map, layout, to_map
from .server_session import SUPPORTED_VERSIONS

REPEAT_SECONDS = 3.0  # without an answer, after which a request is sent again
LONGEST_REPEAT_SECONDS = 30.0  # each repetition waits twice as long, up to this: a slow link is not choked


@dataclass
class _Pending:
    """A request that has no answer yet."""

    operation: Operation
    request: Request
    frames: Frames
    asked: float
    due: float
    wait: float


class ClientSession:
    """Protocol state of one client; a RequestSender for its operations."""

    def __init__(self, client: str, *, loopback: bool, versions: tuple[int, int] = SUPPORTED_VERSIONS) -> None:
        """`client`: software and version, for the server's log. `loopback`: the server is on this machine."""
        self.speed = LinkSpeed(loopback)
        self.fatal: DiffEditError | None = None
        self._greeting = Call(Hello(versions, client, (NO_MASK,)))
        self._welcome: Welcome | None = None
        self._greeted = False
        self._operations: list[Operation] = []
        self._pending: dict[int, _Pending] = {}
        self._out: deque[tuple[int, Frames]] = deque()
        self._number = 0
        self._now = 0.0
        self.last_message: float | None = None

    @property
    def now(self) -> float:
        return self._now

    @property
    def ready(self) -> bool:
        """Whether hello was answered on the link that is up."""
        return self._greeted

    @property
    def greeted_before(self) -> bool:
        """Whether hello was ever answered."""
        return self._welcome is not None

    @property
    def server(self) -> ServerInfo:
        """Who answered the last hello. Raises LinkError before the first."""
        if self._welcome is None:
            raise LinkError("The backend has not answered yet.")
        return self._welcome.server

    @property
    def unanswered_since(self) -> float | None:
        """When the oldest request that waits for its answer was asked; None when nothing waits."""
        return min((pending.asked for pending in self._pending.values()), default=None)

    def link_up(self, now: float) -> None:
        """The transport is connected (anew): say hello; operations begin when it is answered."""
        self._now = now
        self._greet()

    def link_down(self) -> None:
        """The transport is gone, and with it all that was under way."""
        self._greeted = False
        self._pending.clear()
        self._out.clear()

    def start(self, operation: Operation, now: float) -> None:
        """Begin `operation` now, or as soon as hello is answered."""
        self._now = now
        self._operations.append(operation)
        if self._greeted:
            operation.begin(self)
            self._sweep()

    def abandon(self, operation: Operation) -> None:
        """Forget `operation`."""
        self.drop(operation)
        if operation in self._operations:
            self._operations.remove(operation)

    def receive(self, frames: Sequence[Buffer], now: float) -> None:
        """Take one message. What cannot be read and answers nothing is ignored: there is nobody to tell."""
        self._now = self.last_message = now
        try:
            message = decode(frames)
            event = read_event(message) if message.type == EVENT else None
        except (SchemaError, TooLargeError):
            return
        if event is None:
            self._answer(message)
        else:
            for operation in tuple(self._operations):
                operation.event(self, event)
        self._sweep()

    def tick(self, now: float) -> None:
        """Repeat requests that were not answered in time, and let operations look at the clock."""
        self._now = now
        queued = {number for number, _ in self._out}
        for number, pending in self._pending.items():
            if now >= pending.due and number not in queued:
                pending.wait = min(2 * pending.wait, LONGEST_REPEAT_SECONDS)
                pending.due = now + pending.wait
                self._out.append((number, pending.frames))
        if self._greeted:
            for operation in tuple(self._operations):
                operation.tick(self)
            self._sweep()

    def outgoing(self) -> Frames | None:
        """The next frames to send; they stay the next ones until `sent`. None when there are none."""
        return self._out[0][1] if self._out else None

    def sent(self) -> None:
        """The transport took what `outgoing` gave."""
        self._out.popleft()

    def ask(self, operation: Operation, request: Request) -> int:
        self._number += 1
        number = self._number
        payload = layout(type(request)).payload
        fields = {"id": number, **to_map(request)}
        try:
            frames = encode(Message(request.TYPE, fields, None if payload is None else getattr(request, payload)))
        except SchemaError as error:  # the operation's own fault: a text that is no Unicode, or too much of it
            operation.fail(self, error)
            return number
        self._pending[number] = _Pending(
            operation, request, frames, self._now, self._now + REPEAT_SECONDS, REPEAT_SECONDS
        )
        self._out.append((number, frames))
        return number

    def drop(self, operation: Operation) -> None:
        dropped = {number for number, pending in self._pending.items() if pending.operation is operation}
        for number in dropped:
            del self._pending[number]
        self._out = deque(item for item in self._out if item[0] not in dropped)

    def _greet(self) -> None:
        self._greeted = False
        self._pending.clear()
        self._out.clear()
        self._greeting.begin(self)

    def _answer(self, message: Message) -> None:
        number = message.fields.pop("re", None)
        pending = self._pending.pop(number, None) if type(number) is int else None
        if pending is None:
            return
        try:
            reply = _read_reply(message)
        except SchemaError as error:
            self._refused(number, pending, error)
            return
        if isinstance(reply, Error):
            self._refused(number, pending, error_from_wire(reply.error))
        elif isinstance(reply, Again):
            self._greet()
        else:
            if not isinstance(pending.request, (Put, Get)):  # those wait behind one another
                self.speed.saw_round_trip(self._now - pending.asked)
            if pending.operation is self._greeting:
                self._welcomed(reply)
            else:
                pending.operation.answer(self, number, pending.request, reply)

    def _welcomed(self, reply: Reply) -> None:
        if not isinstance(reply, Welcome):
            self.fatal = SchemaError(f"The backend answered hello with {reply.TYPE!r}. Update it.")
            return
        self._welcome = reply
        self._greeted = True
        self.fatal = None
        for operation in tuple(self._operations):
            operation.begin(self)

    def _refused(self, number: int, pending: _Pending, error: DiffEditError) -> None:
        if pending.operation is self._greeting:
            self.fatal = error
        else:
            pending.operation.refused(self, number, pending.request, error)

    def _sweep(self) -> None:
        self._operations = [operation for operation in self._operations if not operation.finished]


def _read_reply(message: Message) -> Reply:
    cls = REPLIES.get(message.type)
    if cls is None:
        raise SchemaError(f"The backend answered with a message of the type {message.type!r:.80}.")
    return from_map(cls, message.fields, lenient=True, payload=message.payload)
