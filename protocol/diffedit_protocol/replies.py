"""What a server answers, and the values that its answers hold.

A reply repeats its request's number as `re`. A client ignores fields that it does not know, so a server may add some.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from .encodings import ChunkEncoding
from .schema import PAYLOAD

KIB, MIB = 1024, 1024 * 1024
# Capabilities: jobs of the task of that name are taken, or the request's field of that name can be asked for.
DESCRIBE = "describe"
SUGGEST = "suggest"
DETAIL = "detail"
MATTING = "matting"
BLEND = "blend"
# Of a client, in hello: a manifest may come without a mask. An older one is sent a mask of one black pixel instead.
NO_MASK = "no-mask"
SEGMENT = "segment"
AUTOMATIC_GROW = "automatic_grow"
OPTIONAL_FIELDS = (DETAIL, MATTING, SEGMENT)  # what an artist asks for, and is told of where it is left out


@dataclass(frozen=True)
class Limits:
    """What the server takes from one client. Beyond any of them the answer is TOO_LARGE, or BUSY for the queue.

    `chunk_bytes`: of one put or get, before encoding. `blob_bytes`: of one blob. `stored_bytes`: of all blobs of a key.
    `pixels`: width × height of a picture. `jobs`, `job_pixels`: waiting and running jobs of a key, and the pixels of
    their pictures together. `window`: chunks in flight. `result_seconds`: how long a result waits for its
    acknowledgement.
    """

    chunk_bytes: int = MIB
    blob_bytes: int = 256 * MIB
    stored_bytes: int = 1024 * MIB
    pixels: int = 64 * MIB
    jobs: int = 16
    job_pixels: int = 256 * MIB
    window: int = 8
    result_seconds: float = 3600.0


@dataclass(frozen=True)
class ModelInfo:
    """A model that the server can load. `size`: side in px that it was trained at, 0 where that is not known.

    `family`: "SD 1", "SD 2", "SD XL" or "other". `memory`: bytes that its weights take where the server runs models, 0
    where that is not known. `fault`: why it cannot be loaded, "" when nothing speaks against it.
    """

    name: str
    family: str = ""
    size: int = 0
    memory: int = 0
    fault: str = ""


@dataclass(frozen=True)
class AdapterInfo:
    """A LoRA or a textual inversion that the server has.

    `kind`: "LoRA", "textual inversion", "damaged", or "" from a server that does not tell. `family`: of the models that
    it was made for, "" where its file does not say. `word`: what a text must say for a textual inversion to count.
    """

    name: str
    kind: str = ""
    family: str = ""
    word: str = ""

    def fits(self, model: ModelInfo | None) -> bool:
        """False when it was made for models of another family, or cannot be read."""
        families = {self.family, model.family if model is not None else ""}
        return self.kind != "damaged" and ("" in families or len(families) == 1)


@dataclass(frozen=True)
class ServerInfo:
    """Who answers. `version` is the application's; a `boot_id` that changed means that running jobs are lost.

    `models`: the first is the default. `capabilities` names optional features of this protocol version. `adapters`:
    names, as from the first servers on; `adapter_details` says more of the same ones, and is empty from older servers.
    """

    version: str
    boot_id: str
    models: tuple[ModelInfo, ...] = ()
    device: str = ""
    limits: Limits = field(default_factory=Limits)
    capabilities: tuple[str, ...] = ()
    adapters: tuple[str, ...] = ()
    adapter_details: tuple[AdapterInfo, ...] = ()

    @property
    def known_adapters(self) -> tuple[AdapterInfo, ...]:
        """The adapters with what is known of them."""
        return self.adapter_details or tuple(AdapterInfo(name) for name in self.adapters)

    def model(self, name: str) -> ModelInfo | None:
        """The model of that name, the default for ""; None when the server has no such model."""
        return next((model for model in self.models if name in ("", model.name)), None)


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
    encoding: ChunkEncoding = "raw"
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


JobState = Literal["queued", "running", "done", "failed", "cancelled"]


@dataclass(frozen=True)
class JobInfo:
    """A job of this key. `last`: number of its last event."""

    job: str
    state: JobState
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
