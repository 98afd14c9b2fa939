"""What a client may ask. Every request has a number that its reply repeats, and may be repeated without harm.

    hello      who I am, which protocol versions I speak      -> Welcome
    have       which of these blobs do you lack               -> Lacking
    put        one chunk of a blob, in order                  -> Stored
    get        one chunk of a blob, any                       -> Chunk
    submit     a job under an id that the client chose        -> Accepted
    subscribe  a job's events from a number on                -> Subscribed, then events
    cancel     end a job at its next step                     -> Okay
    ack        a finished job's result was fetched: drop it   -> Okay
    ping       is the application alive                       -> Pong
    status     the server's state, for people                 -> StatusReport
    jobs       the jobs of this client's key                  -> JobList

Anything else, and anything ill-formed, is answered by an Error with the code SCHEMA.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass, field
from typing import ClassVar, get_args

from .encodings import ChunkEncoding, PreviewEncoding
from .errors import SchemaError
from .messages import EditRequest, check_blob_id
from .schema import PAYLOAD

CHUNK_ENCODINGS: tuple[ChunkEncoding, ...] = get_args(ChunkEncoding)
PREVIEW_ENCODINGS: tuple[PreviewEncoding, ...] = get_args(PreviewEncoding)
MAX_BLOBS_PER_HAVE = 256
MAX_TEXT = 200
_JOB_ID = re.compile(r"[0-9a-f]{32}")


def new_job_id() -> str:
    """A job id: a random UUID in 32 lower-case hexadecimal digits."""
    return uuid.uuid4().hex


def check_job_id(job: str) -> None:
    """Raises SchemaError unless `job` is 32 lower-case hexadecimal digits."""
    if not _JOB_ID.fullmatch(job):
        raise SchemaError(f"A job is named by 32 lower-case hexadecimal digits, not {job!r:.80}.")


def check(ok: bool, sentence: str) -> None:
    """Raises SchemaError with `sentence` unless `ok`."""
    if not ok:
        raise SchemaError(sentence)


@dataclass(frozen=True)
class Hello:
    """The first request of every link. `versions`: lowest and highest protocol version that the client speaks."""

    TYPE: ClassVar[str] = "hello"
    versions: tuple[int, int]
    client: str
    capabilities: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check(
            1 <= self.versions[0] <= self.versions[1],
            f"versions must be a range from 1 on, not {self.versions[0]} to {self.versions[1]}.",
        )
        check(
            len(self.client) <= MAX_TEXT and self.client.isprintable(), f"client must be printable, at most {MAX_TEXT}."
        )


@dataclass(frozen=True)
class Have:
    """Asks which of `blobs` the server lacks, and how much of each it has from an upload that was cut."""

    TYPE: ClassVar[str] = "have"
    blobs: tuple[str, ...]

    def __post_init__(self) -> None:
        check(
            len(self.blobs) <= MAX_BLOBS_PER_HAVE,
            f"At most {MAX_BLOBS_PER_HAVE} blobs are asked for at once, not {len(self.blobs)}.",
        )
        for blob in self.blobs:
            check_blob_id(blob)


@dataclass(frozen=True)
class Put:
    """`length` bytes of `blob` from `offset` on; the blob has `size` bytes in all. `data` is encoded by `encoding`.

    Chunks come in order. One that was stored already is answered again; one that leaves a gap is not stored, and its
    reply tells where to go on.
    """

    TYPE: ClassVar[str] = "put"
    blob: str
    size: int
    offset: int
    length: int
    encoding: ChunkEncoding = "raw"
    data: bytes | memoryview = field(default=b"", repr=False, metadata=PAYLOAD)

    def __post_init__(self) -> None:
        check_blob_id(self.blob)
        _check_chunk(self.offset, self.length, self.encoding)
        if self.offset + self.length > self.size:
            raise SchemaError(
                f"A chunk of {self.length} bytes at {self.offset} lies beyond a blob of {self.size} bytes."
            )


@dataclass(frozen=True)
class Get:
    """Asks for `length` bytes of `blob` from `offset` on (fewer at its end), encoded by `encoding`."""

    TYPE: ClassVar[str] = "get"
    blob: str
    offset: int
    length: int
    encoding: ChunkEncoding = "raw"

    def __post_init__(self) -> None:
        check_blob_id(self.blob)
        _check_chunk(self.offset, self.length, self.encoding)


@dataclass(frozen=True)
class Submit:
    """Asks for an edit under the id `job`. The same id is the same job: a second submit changes nothing."""

    TYPE: ClassVar[str] = "submit"
    job: str
    request: EditRequest

    def __post_init__(self) -> None:
        check_job_id(self.job)


@dataclass(frozen=True)
class Subscribe:
    """Asks for the events of `job` numbered above `since`, those that happened and those to come.

    `previews` is how previews travel: "raw", "zlib", or "none" for a link that cannot carry them.
    """

    TYPE: ClassVar[str] = "subscribe"
    job: str
    since: int = 0
    previews: PreviewEncoding = "raw"

    def __post_init__(self) -> None:
        check_job_id(self.job)
        check(self.since >= 0, f"since must be 0 or more, not {self.since}.")
        check(
            self.previews in PREVIEW_ENCODINGS,
            f"previews must be one of {', '.join(PREVIEW_ENCODINGS)}, not {self.previews!r:.80}.",
        )


@dataclass(frozen=True)
class Cancel:
    """Asks to end `job` at its next step; without effect on one that has ended."""

    TYPE: ClassVar[str] = "cancel"
    job: str

    def __post_init__(self) -> None:
        check_job_id(self.job)


@dataclass(frozen=True)
class Ack:
    """Tells that the result of `job` was fetched: the server may forget the job and its blobs."""

    TYPE: ClassVar[str] = "ack"
    job: str

    def __post_init__(self) -> None:
        check_job_id(self.job)


@dataclass(frozen=True)
class Ping:
    """Asks for a sign of life from the application; the socket's own heartbeat is answered by a library thread."""

    TYPE: ClassVar[str] = "ping"


@dataclass(frozen=True)
class Status:
    """Asks for the server's state."""

    TYPE: ClassVar[str] = "status"


@dataclass(frozen=True)
class Jobs:
    """Asks for the jobs of this client's key."""

    TYPE: ClassVar[str] = "jobs"


Request = Hello | Have | Put | Get | Submit | Subscribe | Cancel | Ack | Ping | Status | Jobs
REQUESTS: dict[str, type[Request]] = {
    cls.TYPE: cls for cls in (Hello, Have, Put, Get, Submit, Subscribe, Cancel, Ack, Ping, Status, Jobs)
}


def _check_chunk(offset: int, length: int, encoding: str) -> None:
    """Of every chunk, so the sentences are made only when they are needed."""
    if offset < 0:
        raise SchemaError(f"offset must be 0 or more, not {offset}.")
    if length < 1:
        raise SchemaError(f"length must be 1 or more, not {length}.")
    if encoding not in CHUNK_ENCODINGS:
        raise SchemaError(f"encoding must be one of {', '.join(CHUNK_ENCODINGS)}, not {encoding!r:.80}.")
