"""The links of this moment: a protocol session, an owner, and how far each subscription has been sent.

A link's events are no queue of its own: a subscription is a position in its job's list of events, so a reader that is
slow costs no memory. Previews go out when the link has room and are dropped when it has not.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from diffedit_protocol.errors import DiffEditError, InternalError
from diffedit_protocol.frames import Buffer, Frames
from diffedit_protocol.messages import Event, Failed, Preview
from diffedit_protocol.server_session import ServerSession

from .listener import ConnectionId, Incoming, Listener, SendResult
from .results import Key

log = logging.getLogger("diffedit.connections")
MAX_LINKS = 512
MAX_LINKS_PER_OWNER = 64
MAX_UNSENT = 64  # replies that a link has not taken; a client that asks on without reading is cut off
IDLE_SECONDS = 900.0  # without a message
GONE_SECONDS = 5.0  # after a connection ended, for its last messages to be handled

EventsOf = Callable[[Key], Sequence[Event]]


@dataclass
class ClientConnection:
    """One link. `sent`: the number of the last event sent, by job. `unsent`: replies that wait for room.

    `busy`: a thread works on one of its messages; those that came after it wait in `inbox`, so that their order stays.
    """

    id: ConnectionId
    owner: str
    address: str
    descriptor: int
    session: ServerSession
    sent: dict[str, int] = field(default_factory=dict)
    unsent: deque[Frames] = field(default_factory=deque)
    last_message: float = field(default_factory=time.monotonic)
    gone_since: float | None = None
    busy: bool = False
    inbox: deque[Sequence[Buffer]] = field(default_factory=deque)

    @property
    def stalled(self) -> bool:
        return bool(self.unsent)


class ClientConnections:
    """All links. `events_of` gives the numbered events of a job, an empty list for one that is forgotten."""

    def __init__(self, listener: Listener, events_of: EventsOf, new_session: Callable[[], ServerSession]) -> None:
        self._listener = listener
        self._events_of = events_of
        self._new_session = new_session
        self._links: OrderedDict[ConnectionId, ClientConnection] = (
            OrderedDict()
        )  # the one that was silent for longest is first
        self._behind: set[ConnectionId] = set()

    def __len__(self) -> int:
        return len(self._links)

    @property
    def owners(self) -> dict[str, int]:
        """How many links each owner has."""
        counts: dict[str, int] = {}
        for link in self._links.values():
            if link.gone_since is None:
                counts[link.owner] = counts.get(link.owner, 0) + 1
        return counts

    @property
    def behind(self) -> bool:
        """Whether some link has not taken everything; flush() tries again."""
        return bool(self._behind)

    def of(self, incoming: Incoming) -> ClientConnection:
        """The link that a message came by; a new one when it is the first."""
        link = self._links.get(incoming.link)
        if link is None or link.owner != incoming.owner:
            self._make_room(incoming.owner)
            link = ClientConnection(
                incoming.link, incoming.owner, incoming.address, incoming.descriptor, self._new_session()
            )
            self._links[link.id] = link
        self._links.move_to_end(link.id)
        link.last_message = time.monotonic()
        return link

    def disconnected(self, descriptor: int) -> None:
        """A connection ended: its descriptor may belong to another from now on, and nothing is sent to it any more."""
        for link in self._links.values():
            if link.descriptor == descriptor and link.gone_since is None:
                link.descriptor, link.gone_since = -1, time.monotonic()
                link.unsent.clear()
                link.sent.clear()
                self._behind.discard(link.id)

    def reply(self, link: ClientConnection, frames: Frames) -> None:
        """Send a reply, now or as soon as the link has room."""
        link.unsent.append(frames)
        self._flush(link)
        if len(link.unsent) > MAX_UNSENT:
            self.cut(link)

    def subscribe(self, link: ClientConnection, job: str, since: int) -> None:
        """Tell the events of `job` numbered above `since`, from now on."""
        link.sent[job] = since
        self._flush(link)

    def announce(self, key: Key, seq: int, event: Event) -> None:
        """An event happened: tell it to the links that subscribed to its job."""
        owner, job = key
        for link in [link for link in self._links.values() if link.owner == owner and job in link.sent]:
            if not isinstance(event, Preview):
                self._flush(link)
            elif not link.stalled and link.sent[job] == seq:
                frames = self._frames_of(link, job, seq, event)
                if frames is not None and self._listener.send(link.id, frames) is SendResult.GONE:
                    self.forget(link)

    def flush(self) -> None:
        """Try again to send what links had no room for."""
        for link_id in list(self._behind):
            link = self._links.get(link_id)
            if link is None:
                self._behind.discard(link_id)
            else:
                self._flush(link)

    def cut(self, link: ClientConnection) -> None:
        """End a link and its connection; an honest client connects again and goes on."""
        self.forget(link)
        self._listener.cut(link.descriptor)

    def cut_owner(self, owner: str) -> int:
        """End every link of an owner; how many there were."""
        links = [link for link in self._links.values() if link.owner == owner]
        for link in links:
            self.cut(link)
        return len(links)

    def forget(self, link: ClientConnection) -> None:
        self._links.pop(link.id, None)
        self._behind.discard(link.id)

    def sweep(self) -> None:
        """Forget links that have been silent for long, and the subscriptions to jobs that are forgotten."""
        now = time.monotonic()
        old, gone = now - IDLE_SECONDS, now - GONE_SECONDS
        for link in list(self._links.values()):
            if link.last_message < old or (link.gone_since is not None and link.gone_since < gone):
                self.forget(link)
            for job in [job for job in link.sent if not self._events_of((link.owner, job))]:
                del link.sent[job]

    def _flush(self, link: ClientConnection) -> None:
        """Send replies first, then events, until the link is full."""
        while link.unsent:
            sent = self._listener.send(link.id, link.unsent[0])
            if sent is not SendResult.YES:
                return self._unsent(link, sent)
            link.unsent.popleft()
        for job, last in link.sent.items():
            events = self._events_of((link.owner, job))
            for seq in range(last + 1, len(events) + 1):
                frames = self._frames_of(link, job, seq, events[seq - 1])
                sent = self._listener.send(link.id, frames) if frames is not None else SendResult.YES
                if sent is not SendResult.YES:
                    return self._unsent(link, sent)
                link.sent[job] = seq
        self._behind.discard(link.id)
        return None

    def _unsent(self, link: ClientConnection, sent: SendResult) -> None:
        if sent is SendResult.GONE:
            self.forget(link)
        else:
            self._behind.add(link.id)

    def _make_room(self, owner: str) -> None:
        own = [link for link in self._links.values() if link.owner == owner and link.gone_since is None]
        if len(own) >= MAX_LINKS_PER_OWNER:
            self.cut(own[0])
        elif len(self._links) >= MAX_LINKS:
            self.cut(next(iter(self._links.values())))

    def _frames_of(self, link: ClientConnection, job: str, seq: int, event: Event) -> Frames | None:
        """The frames of an event; of an error in its place should it not fit into a message."""
        try:
            return link.session.event(job, seq, event)
        except (DiffEditError, ValueError) as error:
            log.error("event not sent", extra={"fields": {"job": job, "seq": seq, "why": str(error)[:500]}})
            sentence = "The backend made a result that fits into no message; its log has the details."
            return link.session.event(job, seq, Failed(InternalError(sentence)))
