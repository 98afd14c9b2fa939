"""Blobs that clients sent: kept in memory within limits, each for its own client only.

An upload is a cache: what no waiting or running job needs may be dropped, and the client sends it again when asked
(NO_BLOB). A name is the hash of the bytes, so a layer that did not change is never sent twice.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

from diffedit_protocol.blobs import BlobAssembler, Pieces
from diffedit_protocol.errors import BusyError, NoBlobError, TooLargeError
from diffedit_protocol.replies import Stored
from diffedit_protocol.requests import Put

BUSY_SECONDS = 5.0  # until a client should ask again when waiting jobs hold all the room
PARTIAL_SECONDS = 600.0  # how long an upload that was cut is kept for its client to go on with
IDLE_SECONDS = 3600.0  # without use, after which a whole blob goes: its client sends it again should it be needed
MAX_PARTIAL = 16  # uploads that one client has under way


@dataclass
class _Entry:
    data: Pieces = field(repr=False)
    pins: int = 0
    touched: float = field(default_factory=time.monotonic)


@dataclass
class _Partial:
    assembler: BlobAssembler
    touched: float


@dataclass
class _OwnerUploads:
    """What one client sent; complete blobs in the order of their last use."""

    blobs: OrderedDict[str, _Entry] = field(default_factory=OrderedDict)
    partial: dict[str, _Partial] = field(default_factory=dict)
    size: int = 0  # bytes of both


class Uploads:
    """Blobs by owner. `blob_bytes`, `owner_bytes`, `total_bytes`: of one blob, of one owner's, of all."""

    def __init__(self, blob_bytes: int, owner_bytes: int, total_bytes: int) -> None:
        self._blob_bytes = blob_bytes
        self._owner_bytes = owner_bytes
        self._total_bytes = total_bytes
        self._owners: OrderedDict[str, _OwnerUploads] = OrderedDict()  # the least recently used owner first
        self.size = 0

    def received(self, owner: str, blob: str) -> int | None:
        """Bytes held of a blob that is not whole; None when it is."""
        uploads = self._uploads_of(owner)
        if blob in uploads.blobs:
            uploads.blobs.move_to_end(blob)
            uploads.blobs[blob].touched = time.monotonic()
            return None
        return uploads.partial[blob].assembler.received if blob in uploads.partial else 0

    def put(self, owner: str, put: Put) -> Stored:
        """Store a chunk. Raises SchemaError (hash, size), TooLargeError, BusyError (pinned blobs fill the room)."""
        uploads = self._uploads_of(owner)
        if put.blob in uploads.blobs:
            return Stored(put.blob, len(uploads.blobs[put.blob].data), True)
        partial = uploads.partial.get(put.blob)
        if partial is None:
            if put.size > self._owner_bytes:
                raise TooLargeError(f"A blob of {put.size} bytes is too large: a client may store {self._owner_bytes}.")
            partial = _Partial(BlobAssembler(put.blob, put.size, self._blob_bytes), 0.0)
            self._drop_partial(uploads, keep=MAX_PARTIAL - 1)
        before = partial.assembler.received
        self._make_room(owner, uploads, max(0, put.offset + put.length - before))
        try:
            received = partial.assembler.put(put.offset, put.size, put.data)
        except Exception:
            self._count(uploads, -before)
            uploads.partial.pop(put.blob, None)
            raise
        partial.touched = time.monotonic()
        uploads.partial[put.blob] = partial
        self._count(uploads, received - before)
        if partial.assembler.complete:
            del uploads.partial[put.blob]
            uploads.blobs[put.blob] = _Entry(partial.assembler.take())
            return Stored(put.blob, received, True)
        return Stored(put.blob, received, False)

    def find(self, owner: str, blob: str) -> Pieces | None:
        """The bytes of the owner's blob; None when it is not here."""
        entry = self._uploads_of(owner).blobs.get(blob)
        return None if entry is None else entry.data

    def pin(self, owner: str, blobs: Iterable[str]) -> dict[str, Pieces]:
        """Hold `blobs` until `unpin`; returns their bytes. Raises NoBlobError, and holds none, when one is missing."""
        uploads = self._uploads_of(owner)
        wanted = list(blobs)
        for blob in wanted:
            if blob not in uploads.blobs:
                raise NoBlobError(f"The backend does not hold the blob {blob[:12]}…; send it again.")
        for blob in wanted:
            uploads.blobs[blob].pins += 1
        return {blob: uploads.blobs[blob].data for blob in wanted}

    def unpin(self, owner: str, blobs: Iterable[str]) -> None:
        uploads = self._uploads_of(owner)
        for blob in blobs:
            uploads.blobs[blob].pins -= 1
            uploads.blobs[blob].touched = time.monotonic()

    @property
    def owners(self) -> tuple[str, ...]:
        """Everyone whose blobs are here."""
        return tuple(self._owners)

    def drop_owner(self, owner: str) -> None:
        """Forget everything of an owner that no job needs."""
        uploads = self._uploads_of(owner)
        self._drop_partial(uploads, keep=0)
        while self._drop_one(uploads):
            pass

    def sweep(self) -> None:
        """Drop uploads that were cut and not gone on with, and blobs that nobody used for long."""
        old, unused = time.monotonic() - PARTIAL_SECONDS, time.monotonic() - IDLE_SECONDS
        for owner, uploads in list(self._owners.items()):
            for blob, partial in list(uploads.partial.items()):
                if partial.touched < old:
                    self._count(uploads, -uploads.partial.pop(blob).assembler.received)
            for blob, entry in list(uploads.blobs.items()):
                if entry.pins == 0 and entry.touched < unused:
                    del uploads.blobs[blob]
                    self._count(uploads, -len(entry.data))
            if not uploads.blobs and not uploads.partial:
                del self._owners[owner]

    def _uploads_of(self, owner: str) -> _OwnerUploads:
        uploads = self._owners.setdefault(owner, _OwnerUploads())
        self._owners.move_to_end(owner)
        return uploads

    def _make_room(self, owner: str, uploads: _OwnerUploads, size: int) -> None:
        """Drop what is unused for longest, the owner's own first, until `size` more bytes fit."""
        while uploads.size + size > self._owner_bytes and self._drop_one(uploads):
            pass
        for other in list(self._owners.values()):
            while self.size + size > self._total_bytes and self._drop_one(other):
                pass
        if uploads.size + size > self._owner_bytes or self.size + size > self._total_bytes:
            raise BusyError(
                "The backend's memory is full of pictures that wait for their turn.", retry_after=BUSY_SECONDS
            )

    def _drop_one(self, uploads: _OwnerUploads) -> bool:
        for blob, entry in uploads.blobs.items():
            if entry.pins == 0:
                del uploads.blobs[blob]
                self._count(uploads, -len(entry.data))
                return True
        return False

    def _drop_partial(self, uploads: _OwnerUploads, keep: int) -> None:
        for blob in sorted(uploads.partial, key=lambda blob: uploads.partial[blob].touched)[
            : max(0, len(uploads.partial) - keep)
        ]:
            self._count(uploads, -uploads.partial.pop(blob).assembler.received)

    def _count(self, uploads: _OwnerUploads, change: int) -> None:
        uploads.size += change
        self.size += change
