"""The server's side of one link, without a socket: frames in, requests out; replies and events in, frames out.

One ServerSession belongs to one link (one routing id of the ROUTER). It speaks the protocol and holds its state: which
version was agreed on and who the client says it is. It owns no blob and no job; those belong to the client's key:

    session = ServerSession(info)
    asked = session.receive(frames)             # one message
    for frames in asked.replies: send(frames)   # hello, ping and everything ill-formed are answered here already
    if asked.request is not None:               # anything else is for the caller, who answers exactly once:
        send(session.reply(asked, Stored(...)))
        # or  session.refuse(asked, NoBlobError(...))
    send(session.event(job, seq, event))        # at any time, for a job that this link subscribed to; may be None

`receive` never raises for what a client sent. Replies may be given in any order and at any later time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .blobs import pack_plane
from .encodings import PreviewEncoding, decode_chunk, encode_chunk
from .errors import DiffEditError, SchemaError, TooLargeError, VersionError, bounded_error
from .events import event_message
from .frames import Buffer, Frames, Message, decode, encode
from .messages import Done, Event, Preview
from .replies import NO_MASK, Again, Chunk, Error, Pong, Reply, ServerInfo, Welcome
from .requests import REQUESTS, Get, Hello, Ping, Put, Request, Subscribe
from .schema import from_map, layout, to_map

SUPPORTED_VERSIONS = (1, 1)
# What older clients are given, and fetch, as the mask of a result that has none.
BLACK_PIXEL, BLACK_PIXEL_BYTES = pack_plane(bytes(1), 1, 1)


@dataclass(frozen=True)
class Received:
    """What one message of a client came to.

    `replies`: frames to send now. `request`: what the caller must answer, None when nothing is left to do. `id`: the
    request's number. A Put's data is decoded (raw bytes, `length` of them) and within the limits.
    """

    replies: tuple[Frames, ...] = ()
    request: Request | None = None
    id: int | None = None


class ServerSession:
    """Protocol state of one link."""

    def __init__(self, info: ServerInfo, versions: tuple[int, int] = SUPPORTED_VERSIONS) -> None:
        self._info = info
        self._versions = versions
        self._previews: PreviewEncoding = "none"
        self.hello: Hello | None = None
        self.version: int | None = None

    def receive(self, frames: Sequence[Buffer]) -> Received:
        """Read one message (without the routing frame). Never raises for what it holds."""
        number: int | None = None
        try:
            message = decode(frames)
            number = _number(message.fields.pop("id", None))
            request = self._read(message)
            if isinstance(request, Hello):
                return Received((self._welcome(number, request),), None, number)
            if self.version is None:
                return Received((_frames(number, Again()),), None, number)
            if isinstance(request, Ping):
                return Received((_frames(number, Pong(self._info.boot_id)),), None, number)
            if isinstance(request, Put):
                request = self._opened(request)
            if isinstance(request, Get) and request.length > self._info.limits.chunk_bytes:
                raise TooLargeError(_too_long(request.length, self._info.limits.chunk_bytes))
            if isinstance(request, Subscribe):
                self._previews = request.previews
            return Received((), request, number)
        except DiffEditError as error:
            return Received((_error_frames(number, error),), None, number)

    def reply(self, asked: Received, reply: Reply) -> Frames:
        """The frames of `reply` to `asked`. A Chunk's data is given raw; it is encoded here as the client asked."""
        if isinstance(reply, Chunk) and isinstance(asked.request, Get) and asked.request.encoding != "raw":
            encoding, data = encode_chunk(reply.data, asked.request.encoding)
            reply = dataclasses.replace(reply, encoding=encoding, data=data)
        return _frames(asked.id, reply)

    def refuse(self, asked: Received, error: DiffEditError) -> Frames:
        """The frames that answer `asked` with `error`."""
        return _error_frames(asked.id, error)

    def event(self, job: str, seq: int, event: Event) -> Frames | None:
        """The frames that tell `event`; None for a preview that this client does not want.

        `seq`: the event's number, counted from 1; for a preview the number of the event before it.
        """
        if isinstance(event, Preview) and self._previews == "none":
            return None
        if isinstance(event, Done) and event.manifest.mask is None and not self._takes_no_mask:
            event = Done(dataclasses.replace(event.manifest, mask=BLACK_PIXEL))
        return encode(event_message(job, seq, event, previews=self._previews))

    @property
    def _takes_no_mask(self) -> bool:
        return self.hello is not None and NO_MASK in self.hello.capabilities

    def _read(self, message: Message) -> Request:
        cls = REQUESTS.get(message.type)
        if cls is None:
            raise SchemaError(f"There is no request of the type {message.type!r:.80}.")
        if cls is Hello:
            return from_map(Hello, message.fields, lenient=True)  # a newer client's hello must be understood
        payload = layout(cls).payload
        if (payload is None) != (message.payload is None):
            raise SchemaError(f"A {message.type!r} request comes {'without' if payload is None else 'with'} a payload.")
        return from_map(cls, message.fields, payload=message.payload)

    def _welcome(self, number: int | None, hello: Hello) -> Frames:
        """Agree on the highest version that both speak."""
        (ours_low, ours_high), (theirs_low, theirs_high) = self._versions, hello.versions
        if max(ours_low, theirs_low) > min(ours_high, theirs_high):
            older = "plugin" if theirs_high < ours_low else "backend"
            return _error_frames(
                number,
                VersionError(
                    f"The backend speaks version {_span(self._versions)}, this plugin {_span(hello.versions)}. "
                    f"Update the {older}."
                ),
            )
        self.hello = hello
        self.version = min(ours_high, theirs_high)
        return _frames(number, Welcome(self.version, self._info))

    def _opened(self, put: Put) -> Put:
        """The same chunk with its data decoded, within the limits."""
        limits = self._info.limits
        if put.length > limits.chunk_bytes:
            raise TooLargeError(_too_long(put.length, limits.chunk_bytes))
        if put.size > limits.blob_bytes:
            raise TooLargeError(f"A blob of {put.size} bytes is too large: this backend takes {limits.blob_bytes}.")
        data = decode_chunk(put.data, put.encoding, put.length)
        return put if put.encoding == "raw" else dataclasses.replace(put, data=data, encoding="raw")


def reply_message(number: int | None, reply: Reply) -> Message:
    """The message that carries `reply` to the request `number` (None: the request's number could not be read)."""
    payload = layout(type(reply)).payload
    fields: dict[str, Any] = {"re": number, **to_map(reply)}
    return Message(reply.TYPE, fields, None if payload is None else getattr(reply, payload))


def _frames(number: int | None, reply: Reply) -> Frames:
    return encode(reply_message(number, reply))


def _error_frames(number: int | None, error: DiffEditError) -> Frames:
    return _frames(number, Error(bounded_error(error)))


def _number(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**63:
        raise SchemaError("A request must have a number: id, an integer from 0 on.")
    return value


def _span(versions: tuple[int, int]) -> str:
    return str(versions[0]) if versions[0] == versions[1] else f"{versions[0]} to {versions[1]}"


def _too_long(length: int, limit: int) -> str:
    return f"A chunk of {length} bytes is too large: this backend takes {limit}."
