"""A blocking client over a DEALER: the plugin's worker thread, the command line and the tests all use it.

    with Client(connection) as client:
        job = client.submit(request, blobs={sha256: bytes})
        for event in client.events(job):       # None whenever nothing came for `poll` seconds
            ...
        mask = client.fetch(done.manifest.mask)
        client.ack(job)

SKELETON: the signatures stand; the bodies follow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from .connection import Connection
from .errors import DiffEditError
from .messages import EditRequest, Event, PictureRef, PlaneRef
from .replies import JobInfo, ServerInfo


@dataclass(frozen=True)
class Timeouts:
    """Seconds. `connect`: until hello is answered. `answer`: until any other request is. `lost`: how long a link that
    went away is waited for before the call gives up with a LinkError."""

    connect: float = 5.0
    answer: float = 10.0
    lost: float = 300.0


class Client:
    """One link to one backend, used by the thread that made it. Reconnects, says hello again and resumes by itself."""

    def __init__(self, connection: Connection, timeouts: Timeouts | None = None, software: str = "plugin") -> None: ...

    def __enter__(self) -> Client:
        """Connects and says hello. Raises AuthError, VersionError or LinkError with the sentence for the artist."""
        raise NotImplementedError

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    @property
    def hello(self) -> ServerInfo:
        """What the server told of itself at the last hello."""
        raise NotImplementedError

    @property
    def trouble(self) -> DiffEditError | None:
        """What keeps the link down at this moment, None while it is up."""
        raise NotImplementedError

    def submit(
        self,
        request: EditRequest,
        blobs: Mapping[str, bytes],
        job_id: str | None = None,
        on_upload: Callable[[int, int], None] | None = None,
    ) -> str:
        """Uploads what the server lacks of `blobs` and submits; returns the job's id.

        `on_upload(sent, total)` in bytes is called at least every 50 ms; what it raises ends the upload. After a
        restart of the server, `events` uploads and submits again under the same id.
        """
        raise NotImplementedError

    def events(self, job: str, since: int = 0, poll: float = 0.05) -> Iterator[Event | None]:
        """The job's events numbered above `since`, until the final one (Done, Failed, Cancelled) was given.

        Yields None when nothing came for `poll` seconds. A lost link is waited for (see `trouble`). Raises
        UnknownJobError for a job that the server does not know and that this client did not submit.
        """
        raise NotImplementedError

    def fetch(self, ref: PictureRef | PlaneRef, on_bytes: Callable[[int, int], None] | None = None) -> bytes:
        """The raw pixels of `ref`: downloaded in chunks, hash checked, planes unpacked."""
        raise NotImplementedError

    def cancel(self, job: str) -> None:
        """Asks to end the job at its next step; its last event will be Cancelled (or Done, when it was quicker)."""
        raise NotImplementedError

    def ack(self, job: str) -> None:
        """Tells that the result was fetched."""
        raise NotImplementedError

    def ping(self) -> float:
        """Seconds that the application took to answer."""
        raise NotImplementedError

    def status(self) -> dict[str, Any]:
        """The server's state, for people."""
        raise NotImplementedError

    def jobs(self) -> tuple[JobInfo, ...]:
        """The jobs of this client's key."""
        raise NotImplementedError
