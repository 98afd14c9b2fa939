"""What passes between Krita's main thread and the client thread: a payload to run, what came of it, how the link is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from diffedit_protocol.errors import DiffEditError
from diffedit_protocol.messages import EditRequest, Manifest
from diffedit_protocol.replies import ServerInfo

LinkKind = Literal["connecting", "ready", "lost", "down", "refused"]


@dataclass(frozen=True)
class LinkState:
    """`kind`: "connecting"; "ready"; "lost" (was ready, is tried again); "down" (not reached, is tried again);
    "refused" (waiting will not help). `error` says why for the last three. `host`: for sentences."""

    kind: LinkKind
    host: str = ""
    local: bool = True
    info: ServerInfo | None = None
    error: DiffEditError | None = None

    def reads_like(self, other: LinkState) -> bool:
        """Whether an artist would read the same: every attempt that fails has an error object of its own."""
        mine, others = (
            (state.kind, state.host, state.local, state.info, state.error and (state.error.code, state.error.sentence))
            for state in (self, other)
        )
        return mine == others


@dataclass(frozen=True)
class JobPayload:
    """One job to be done: the request without pixels, and the pixels, which the client thread packs.

    `picture`: RGB or RGBA by `channels`, sRGB 8-bit, straight alpha, None for a job on words alone; `selection` and
    `mask`: 8-bit planes of its size.
    """

    job: str
    request: EditRequest
    width: int = 0
    height: int = 0
    channels: int = 0
    picture: bytes | None = None
    selection: bytes | None = None
    mask: bytes | None = None


@dataclass(frozen=True)
class JobResult:
    """A job's result with its pixels: `mask` and `soft_map` are planes of the sent picture's size, `edits` the RGBA
    pixels of the manifest's bounds, one per variation. `left_out`: fields of the request that the backend could not be
    asked for."""

    manifest: Manifest
    mask: bytes
    soft_map: bytes | None
    edits: tuple[bytes, ...]
    left_out: tuple[str, ...] = ()
