"""What a server answers, and the values that its answers hold.

A reply repeats its request's number as `re`. A client ignores fields that it does not know, so a server may add some.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from .schema import PAYLOAD

KIB, MIB = 1024, 1024 * 1024
DESCRIBE = "describe"  # a capability: jobs of the task "describe" are taken


@dataclass(frozen=True)
class Limits:
    """What the server takes from one client. Beyond any of them the answer is TOO_LARGE, or BUSY for the queue.

    `chunk_bytes`: of one put or get, before encoding. `blob_bytes`: of one blob. `stored_bytes`: of all blobs of a key.
    `pixels`: width × height of a picture. `jobs`: waiting and running jobs of a key. `window`: chunks in flight.
    `result_seconds`: how long a result waits for its acknowledgement.
    """

    chunk_bytes: int = MIB
    blob_bytes: int = 256 * MIB
    stored_bytes: int = 1024 * MIB
    pixels: int = 64 * MIB
    jobs: int = 16
    window: int = 8
    result_seconds: float = 3600.0


@dataclass(frozen=True)
class ModelInfo:
    """A model that the server can load. `size`: side in px that it was trained at, 0 where that is not known."""

    name: str
    family: str = ""
    size: int = 0


@dataclass(frozen=True)
class ServerInfo:
    """Who answers. `version` is the application's; a `boot_id` that changed means that running jobs are lost.

    `models`: the first is the default. `capabilities` names optional features of this protocol version.
    """

    version: str
    boot_id: str
    models: tuple[ModelInfo, ...] = ()
    device: str = ""
    limits: Limits = field(default_factory=Limits)
    capabilities: tuple[str, ...] = ()
    adapters: tuple[str, ...] = ()


@dataclass(frozen=True)
class Welcome:
    """Answers hello: the protocol version that both will speak on this link, and who the server is."""

    TYPE: ClassVar[str] = "welcome"
    protocol: int
    server: ServerInfo


@dataclass(frozen=True)
class Lacking:
    """Answers have: the blobs that the server lacks, each with the bytes that it holds of an upload that was cut."""

    TYPE: ClassVar[str] = "lacking"
    received: dict[str, int]


@dataclass(frozen=True)
class Stored:
    """Answers put: the server holds the first `received` bytes of `blob`; `complete` when that is all, hash checked."""

    TYPE: ClassVar[str] = "stored"
    blob: str
    received: int
    complete: bool


@dataclass(frozen=True)
class Chunk:
    """Answers get: bytes `offset` to `offset + length` of a blob of `size` bytes; `data` is encoded by `encoding`."""

    TYPE: ClassVar[str] = "chunk"
    size: int
    offset: int
    length: int
    encoding: str = "raw"
    data: bytes | memoryview = field(default=b"", repr=False, metadata=PAYLOAD)


@dataclass(frozen=True)
class Accepted:
    """Answers submit; `known` when the job was there already."""

    TYPE: ClassVar[str] = "accepted"
    job: str
    known: bool = False


@dataclass(frozen=True)
class Subscribed:
    """Answers subscribe: the job's last event has the number `last`; those above `since` follow."""

    TYPE: ClassVar[str] = "subscribed"
    job: str
    last: int


@dataclass(frozen=True)
class Okay:
    """Answers cancel and ack."""

    TYPE: ClassVar[str] = "okay"


@dataclass(frozen=True)
class Pong:
    """Answers ping."""

    TYPE: ClassVar[str] = "pong"
    boot_id: str


@dataclass(frozen=True)
class StatusReport:
    """Answers status: names and values for people, free of secrets."""

    TYPE: ClassVar[str] = "report"
    values: dict[str, Any]


@dataclass(frozen=True)
class JobInfo:
    """A job of this key. `state`: queued, running, done, failed, cancelled. `last`: number of its last event."""

    job: str
    state: str
    last: int
    source: str = ""
    target: str = ""
    age_seconds: float = 0.0


@dataclass(frozen=True)
class JobList:
    """Answers jobs, oldest first."""

    TYPE: ClassVar[str] = "joblist"
    jobs: tuple[JobInfo, ...]


@dataclass(frozen=True)
class Error:
    """Answers any request that could not be fulfilled; `errors.error_from_wire` makes the exception of `error`."""

    TYPE: ClassVar[str] = "error"
    error: dict[str, Any]


@dataclass(frozen=True)
class Again:
    """Answers a request on a link that has not said hello: the server was restarted or the link is new."""

    TYPE: ClassVar[str] = "again"


Reply = (
    Welcome | Lacking | Stored | Chunk | Accepted | Subscribed | Okay | Pong | StatusReport | JobList | Error | Again
)
REPLIES: dict[str, type[Reply]] = {
    cls.TYPE: cls
    for cls in (
        Welcome,
        Lacking,
        Stored,
        Chunk,
        Accepted,
        Subscribed,
        Okay,
        Pong,
        StatusReport,
        JobList,
        Error,
        Again,
    )
}
