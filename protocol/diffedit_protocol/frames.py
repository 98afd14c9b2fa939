"""One message as frames: a msgpack map of at most 64 KiB, then at most one frame of raw bytes.

    frame 0   {"type": str, "id": int, ...fields}      client to server: a request
              {"type": str, "re": int, ...fields}      server to client: a reply
              {"type": "event", "job": str, "seq": int, "kind": str, ...fields}
    frame 1   raw bytes of a chunk or a preview; only where the type has them

Reading never trusts: lengths, nesting and the number of frames are bounded before anything is built, extension types
and binary strings in the header are refused.

A server needs msgpack 1.2.3 or its pure-Python form: older C extensions leak what they had built of a header that turns
out to be broken, up to 0.6 MiB for one of 8 KiB. A client reads only from a server that it has authenticated, so there
any msgpack from 1.0.3 on will do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgpack

from .errors import SchemaError, TooLargeError

Buffer = bytes | memoryview
Frames = list[Buffer]

MAX_HEADER_BYTES = 64 * 1024
MAX_PAYLOAD_BYTES = 2 * 1024 * 1024  # also the socket's MAXMSGSIZE: a chunk of 1 MiB that its encoding made no smaller
MAX_ENTRIES = 4096  # of one array or map in a header; a job list is the longest


@dataclass(frozen=True)
class Message:
    """A message before or after the wire: its type, the other fields of its header, and its payload."""

    type: str
    fields: dict[str, Any] = field(default_factory=dict)
    payload: Buffer | None = None


def encode(message: Message) -> Frames:
    """The frames of `message`. Raises SchemaError if its header cannot be packed or is longer than 64 KiB."""
    try:
        header = msgpack.packb({"type": message.type, **message.fields}, use_bin_type=True)
    except (ValueError, OverflowError, TypeError) as error:
        raise SchemaError(f"A {message.type!r} message cannot be packed: {error}.") from error
    if len(header) > MAX_HEADER_BYTES:
        raise SchemaError(
            f"A {message.type!r} message has a header of {len(header)} bytes; at most {MAX_HEADER_BYTES} are allowed."
        )
    return [header] if message.payload is None else [header, message.payload]


def decode(frames: Sequence[Buffer]) -> Message:
    """The message that `frames` hold. Raises SchemaError or TooLargeError for what `encode` cannot have made."""
    if not 1 <= len(frames) <= 2:
        raise SchemaError(f"A message has 1 or 2 frames, not {len(frames)}.")
    if len(frames[0]) > MAX_HEADER_BYTES:
        raise TooLargeError(f"A header has {len(frames[0])} bytes; at most {MAX_HEADER_BYTES} are allowed.")
    if len(frames) == 2 and len(frames[1]) > MAX_PAYLOAD_BYTES:
        raise TooLargeError(f"A payload has {len(frames[1])} bytes; at most {MAX_PAYLOAD_BYTES} are allowed.")
    fields = _unpack(frames[0])
    kind = fields.pop("type", None)
    if not isinstance(kind, str):
        raise SchemaError("A header must hold its type as a string.")
    return Message(kind, fields, frames[1] if len(frames) == 2 else None)


def _unpack(header: Buffer) -> dict[str, Any]:
    try:
        value = msgpack.unpackb(
            header,
            raw=False,
            strict_map_key=True,
            ext_hook=_refuse_extension,
            max_str_len=MAX_HEADER_BYTES,
            max_bin_len=0,
            max_array_len=MAX_ENTRIES,
            max_map_len=MAX_ENTRIES,
            max_ext_len=0,
        )
    except (ValueError, msgpack.UnpackException) as error:
        raise SchemaError(f"A header is no msgpack map: {type(error).__name__}.", detail=str(error)) from error
    if not isinstance(value, dict):
        raise SchemaError(f"A header must be a map, not {type(value).__name__}.")
    return value


def _refuse_extension(code: int, data: bytes) -> Any:
    raise ValueError(f"extension type {code}")
