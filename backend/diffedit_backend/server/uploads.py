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
MAX_PARTIAL = 16  # uploads that one client has under way


@dataclass
class _Entry:
    data: Pieces = field(repr=False)
    pins: int = 0


@dataclass
class _Partial:
    assembler: BlobAssembler
    touched: float


@dataclass
class _Shelf:
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
        self._shelves: OrderedDict[str, _Shelf] = OrderedDict()  # the least recently used owner first
        self.size = 0

    def received(self, owner: str, blob: str) -> int | None:
        """Bytes held of a blob that is not whole; None when it is."""
        shelf = self._shelf(owner)
        if blob in shelf.blobs:
            shelf.blobs.move_to_end(blob)
            return None
        return shelf.partial[blob].assembler.received if blob in shelf.partial else 0

    def put(self, owner: str, put: Put) -> Stored:
        """Store a chunk. Raises SchemaError (hash, size), TooLargeError, BusyError (pinned blobs fill the room)."""
        shelf = self._shelf(owner)
        if put.blob in shelf.blobs:
            return Stored(put.blob, len(shelf.blobs[put.blob].data), True)
        partial = shelf.partial.get(put.blob)
        if partial is None:
            if put.size > self._owner_bytes:
                raise TooLargeError(f"A blob of {put.size} bytes is too large: a client may store {self._owner_bytes}.")
            partial = _Partial(BlobAssembler(put.blob, put.size, self._blob_bytes), 0.0)
            self._drop_partial(shelf, keep=MAX_PARTIAL - 1)
        before = partial.assembler.received
        self._make_room(owner, shelf, max(0, put.offset + put.length - before))
        try:
            received = partial.assembler.put(put.offset, put.size, put.data)
        except Exception:
            self._count(shelf, -before)
            shelf.partial.pop(put.blob, None)
            raise
        partial.touched = time.monotonic()
        shelf.partial[put.blob] = partial
        self._count(shelf, received - before)
        if partial.assembler.complete:
            del shelf.partial[put.blob]
            shelf.blobs[put.blob] = _Entry(partial.assembler.take())
            return Stored(put.blob, received, True)
        return Stored(put.blob, received, False)

    def find(self, owner: str, blob: str) -> Pieces | None:
        """The bytes of the owner's blob; None when it is not here."""
        entry = self._shelf(owner).blobs.get(blob)
        return None if entry is None else entry.data

    def pin(self, owner: str, blobs: Iterable[str]) -> dict[str, Pieces]:
        """Hold `blobs` until `unpin`; returns their bytes. Raises NoBlobError, and holds none, when one is missing."""
        shelf = self._shelf(owner)
        wanted = list(blobs)
        for blob in wanted:
            if blob not in shelf.blobs:
                raise NoBlobError(f"The backend does not hold the blob {blob[:12]}…; send it again.")
        for blob in wanted:
            shelf.blobs[blob].pins += 1
        return {blob: shelf.blobs[blob].data for blob in wanted}

    def unpin(self, owner: str, blobs: Iterable[str]) -> None:
        shelf = self._shelf(owner)
        for blob in blobs:
            shelf.blobs[blob].pins -= 1

    def drop_owner(self, owner: str) -> None:
        """Forget everything of an owner that no job needs."""
        shelf = self._shelf(owner)
        self._drop_partial(shelf, keep=0)
        while self._drop_one(shelf):
            pass

    def sweep(self) -> None:
        """Drop uploads that were cut and not gone on with."""
        old = time.monotonic() - PARTIAL_SECONDS
        for owner, shelf in list(self._shelves.items()):
            for blob, partial in list(shelf.partial.items()):
                if partial.touched < old:
                    self._count(shelf, -shelf.partial.pop(blob).assembler.received)
            if not shelf.blobs and not shelf.partial:
                del self._shelves[owner]

    def _shelf(self, owner: str) -> _Shelf:
        shelf = self._shelves.setdefault(owner, _Shelf())
        self._shelves.move_to_end(owner)
        return shelf

    def _make_room(self, owner: str, shelf: _Shelf, size: int) -> None:
        """Drop what is unused for longest, the owner's own first, until `size` more bytes fit."""
        while shelf.size + size > self._owner_bytes and self._drop_one(shelf):
            pass
        for other in list(self._shelves.values()):
            while self.size + size > self._total_bytes and self._drop_one(other):
                pass
        if shelf.size + size > self._owner_bytes or self.size + size > self._total_bytes:
            raise BusyError(
                "The backend's memory is full of pictures that wait for their turn.", retry_after=BUSY_SECONDS
            )

    def _drop_one(self, shelf: _Shelf) -> bool:
        for blob, entry in shelf.blobs.items():
            if entry.pins == 0:
                del shelf.blobs[blob]
                self._count(shelf, -len(entry.data))
                return True
        return False

    def _drop_partial(self, shelf: _Shelf, keep: int) -> None:
        for blob in sorted(shelf.partial, key=lambda blob: shelf.partial[blob].touched)[
            : max(0, len(shelf.partial) - keep)
        ]:
            self._count(shelf, -shelf.partial.pop(blob).assembler.received)

    def _count(self, shelf: _Shelf, change: int) -> None:
        shelf.size += change
        self.size += change
