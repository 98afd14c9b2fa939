"""Answers requests: what each of them means for uploads, jobs and results of the client's key."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from diffedit_protocol.errors import (
    BadInputError,
    DiffEditError,
    InternalError,
    ModelError,
    NoBlobError,
    TooLargeError,
    name_list,
)
from diffedit_protocol.frames import Buffer
from diffedit_protocol.messages import EditRequest, PlaneRef
from diffedit_protocol.replies import (
    Accepted,
    Chunk,
    JobList,
    Lacking,
    Okay,
    Reply,
    StatusReport,
    Subscribed,
)
from diffedit_protocol.requests import Ack, Cancel, Get, Have, Jobs, Put, Request, Status, Submit, Subscribe
from diffedit_protocol.server_session import BLACK_PIXEL, BLACK_PIXEL_BYTES, Received

from .client_connection import ClientConnection, ClientConnections
from .faults import redacted
from .job_table import FAULT, JobTable
from .results import ResultStore, StoredPart
from .settings import ServerSettings
from .uploads import Uploads


@dataclass(frozen=True)
class StoredChunk:
    """A chunk whose bytes lie on the disk: `read` is for a thread."""

    size: int
    part: StoredPart

    def read(self) -> Chunk:
        """Raises NoBlobError when the file is gone."""
        data = self.part.read()
        if not data:
            raise _no_blob(self.part.path.name)
        return Chunk(self.size, self.part.offset, len(data), data=data)


class Service:
    """`status` tells the server's state to the client with the given key, for people."""

    def __init__(
        self,
        links: ClientConnections,
        uploads: Uploads,
        results: ResultStore,
        jobs: JobTable,
        settings: ServerSettings,
        status: Callable[[str], dict[str, Any]],
    ) -> None:
        self._links = links
        self._uploads = uploads
        self._results = results
        self._jobs = jobs
        self._limits = settings.limits
        self._describes, self._suggests = settings.describes, settings.suggests
        self._segments = settings.segments
        self._models = tuple(model.name for model in settings.models)
        self._status = status

    def handle(self, link: ClientConnection, asked: Received) -> Chunk | StoredChunk | None:
        """Answer one message of a link. A chunk is returned instead: reading and sending it may take long."""
        for frames in asked.replies:
            self._links.reply(link, frames)
        if asked.request is None:
            return None
        try:
            reply = self.answer(link.owner, asked.request)
            if isinstance(reply, Chunk | StoredChunk):
                return reply
            frames = link.session.reply(asked, reply)
        except DiffEditError as error:
            shown = error if link.owner == self._jobs.local_owner else redacted(error)
            self._links.reply(link, link.session.refuse(asked, shown))
            return None
        except Exception as error:  # a fault of ours: the client learns of it, the log has the rest
            self._links.reply(link, link.session.refuse(asked, InternalError(FAULT, detail=repr(error)[:500])))
            raise
        self._links.reply(link, frames)
        if isinstance(asked.request, Subscribe):
            self._links.subscribe(link, asked.request.job, asked.request.since)
        return None

    def answer(self, owner: str, request: Request) -> Reply | StoredChunk:
        """The reply to a request of the client with the key `owner`. Raises DiffEditError."""
        match request:
            case Have():
                held = {blob: self._uploads.received(owner, blob) for blob in request.blobs}
                return Lacking({blob: received for blob, received in held.items() if received is not None})
            case Put():
                return self._uploads.put(owner, request)
            case Get():
                return self._get(owner, request)
            case Submit():
                blobs = self._check(request.request)
                return Accepted(request.job, known=not self._jobs.submit(owner, request.job, request.request, blobs))
            case Subscribe():
                return Subscribed(request.job, len(self._jobs.find(owner, request.job).events))
            case Cancel():
                self._jobs.cancel(owner, request.job)
                return Okay()
            case Ack():
                self._jobs.acknowledge(owner, request.job)
                return Okay()
            case Jobs():
                return JobList(self._jobs.of(owner))
            case Status():
                return StatusReport(self._status(owner))
            case _:
                raise AssertionError(f"The session answers {request.TYPE!r} itself.")

    def _get(self, owner: str, get: Get) -> Chunk | StoredChunk:
        uploaded = self._uploads.find(owner, get.blob)
        data: Buffer | StoredPart
        if get.blob == BLACK_PIXEL.blob and uploaded is None:  # of an older client: see server_session
            size, data = len(BLACK_PIXEL_BYTES), memoryview(BLACK_PIXEL_BYTES)[get.offset : get.offset + get.length]
        elif uploaded is not None:
            size, data = len(uploaded), uploaded.read(get.offset, get.length)
        else:
            kept = self._results.find(owner, get.blob, get.offset, get.length)
            if kept is None:
                raise _no_blob(get.blob)
            size, data = kept
        if isinstance(data, StoredPart):
            return StoredChunk(size, data)
        if not data:
            raise BadInputError(f"The blob {get.blob[:12]}… has {size} bytes; there are none at {get.offset}.")
        return Chunk(size, get.offset, len(data), data=data)

    def _check(self, request: EditRequest) -> tuple[str, ...]:
        """The blobs that a request needs. Raises for what no worker could run."""
        if request.task == "suggest":
            if not self._suggests:
                raise ModelError(
                    "This backend has no language model, so it cannot suggest words. "
                    "Start it with 'diffedit serve --suggester FOLDER' (a T5 or FLAN-T5 model), or write them yourself."
                )
            return ()
        picture = request.picture
        if picture is None:
            raise BadInputError("The request names no picture.")
        if picture.width * picture.height > self._limits.pixels:
            raise TooLargeError(
                f"A picture of {picture.width} × {picture.height} px is too large: this backend takes "
                f"{self._limits.pixels / 1e6:.0f} megapixels. Select a part of it, or make it smaller."
            )
        if request.model and request.model not in self._models:
            raise ModelError(f"The backend has no model {request.model!r:.80}. It has: {name_list(self._models)}.")
        if request.task == "describe" and not self._describes:
            raise ModelError(
                "This backend has no captioning model, so it cannot describe a picture. "
                "Start it with 'diffedit serve --captioner FOLDER' (a BLIP model), or write the words yourself."
            )
        if request.segment and not self._segments:
            raise ModelError(
                "This backend has no segmenter, so it cannot look for words in a picture. Start it with "
                "'diffedit serve --segmenter FOLDER' (CLIPSeg or SAM 3), or leave the segmenter out."
            )
        planes = [("selection", request.selection), ("mask", request.mask)]
        for name, plane in planes:
            if plane is not None and (plane.width, plane.height) != (picture.width, picture.height):
                raise BadInputError(
                    f"The {name} is {plane.width} × {plane.height} px, but the picture "
                    f"{picture.width} × {picture.height} px."
                )
        refs = [plane for _, plane in planes if isinstance(plane, PlaneRef)]
        return tuple(dict.fromkeys([picture.blob, *(plane.blob for plane in refs)]))


def _no_blob(blob: str) -> NoBlobError:
    return NoBlobError(f"The backend holds no blob {blob[:12]}… of yours; it was fetched or is too old.")
