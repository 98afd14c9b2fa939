"""Messages between the server's process and a worker's, over the worker's standard input and output.

    4 bytes   length of the header, big endian
    header    msgpack map {"type": str, "sizes": [length of each payload], ...fields}
    payloads  raw bytes, one after the other

Nothing is pickled: a header holds numbers, strings, lists and maps only.
"""

from __future__ import annotations

import io
import os
import struct
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import msgpack
from diffedit_protocol.blobs import Pieces

MAX_HEADER_BYTES = 1 << 20
_LENGTH = struct.Struct(">I")

Payload = bytes | memoryview | Pieces


@dataclass(frozen=True)
class PipeMessage:
    """One message of the pipe."""

    type: str
    fields: dict[str, Any] = field(default_factory=dict)
    payloads: tuple[bytes, ...] = ()


class Pipe:
    """Sends and receives messages over two byte streams. `send` may be called by several threads, `receive` by one."""

    def __init__(self, reader: BinaryIO, writer: BinaryIO) -> None:
        self._reader = reader
        self._writer = writer
        self._sending = threading.Lock()

    def send(self, type_: str, payloads: Sequence[Payload] = (), **fields: Any) -> None:
        """Raises OSError (BrokenPipeError) when the other process is gone."""
        header = msgpack.packb({"type": type_, "sizes": [len(p) for p in payloads], **fields})
        with self._sending:
            self._writer.write(_LENGTH.pack(len(header)) + header)
            for payload in payloads:
                for part in payload.parts if isinstance(payload, Pieces) else (payload,):
                    self._writer.write(part)
            self._writer.flush()

    def receive(self) -> PipeMessage:
        """The next message. Raises EOFError when the other side has closed, ValueError for a stream that holds none."""
        (length,) = _LENGTH.unpack(self._exactly(_LENGTH.size))
        if length > MAX_HEADER_BYTES:
            raise ValueError(f"A message's header has {length} bytes; at most {MAX_HEADER_BYTES} are allowed.")
        fields = msgpack.unpackb(self._exactly(length))
        payloads = tuple(self._exactly(size) for size in fields.pop("sizes"))
        return PipeMessage(fields.pop("type"), fields, payloads)

    def close(self) -> None:
        """Close the writing end: the other process reads the end of the stream."""
        self._writer.close()

    def _exactly(self, size: int) -> bytes:
        data = self._reader.read(size)
        if len(data) < size:
            raise EOFError(f"The pipe ended after {len(data)} of {size} bytes.")
        return data


def message_to_bytes(type_: str, payloads: Sequence[Payload] = (), **fields: Any) -> bytes:
    """A message as one piece, for links that carry messages."""
    whole = io.BytesIO()
    Pipe(io.BytesIO(), whole).send(type_, payloads, **fields)
    return whole.getvalue()


def message_from_bytes(data: bytes) -> PipeMessage:
    """Raises EOFError or ValueError when the bytes hold no message."""
    return Pipe(io.BytesIO(data), io.BytesIO()).receive()


def claim_standard_streams() -> Pipe:
    """The pipe to the process that started this one; whatever a library prints goes to standard error from here on."""
    reader, writer = os.dup(0), os.dup(1)
    os.dup2(2, 1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    sys.stdout = sys.stderr
    return Pipe(os.fdopen(reader, "rb"), os.fdopen(writer, "wb"))
