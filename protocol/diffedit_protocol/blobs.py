"""Blobs: bytes that are named by their sha256, so that what the other side holds is never sent again.

Pictures are blobs of raw pixels; planes (selection, mask, soft map) are packed with zlib on any link: a mask of 1024²
becomes 7 to 50 kB in 2 to 4 ms.
"""

from __future__ import annotations

import hashlib
import queue
import threading
import zlib
from collections.abc import Sequence

from .encodings import FAST, inflate
from .errors import SchemaError, TooLargeError
from .frames import Buffer
from .messages import PictureRef, PlaneRef, check_blob_id

AT_ONCE_BYTES = 128 * 1024  # hashed in less time than a thread takes to start
IDLE_SECONDS = 1.0  # without bytes, after which the thread ends: a download that is given up leaves none behind


class BackgroundHash:
    """sha256 of bytes while they still come in, by a thread of its own: hashlib lets other threads run meanwhile.

    `update` returns at once; the bytes must stay as they are until `hexdigest`, which waits for the thread.

    The one who receives touches memory for the first time when it writes there, which costs as much as the hash (1.5 to
    2 µs for a page of 4 KiB in a virtual machine); with two threads a blob takes the longer of both and not their sum.
    """

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._waiting: queue.SimpleQueue[memoryview | None] = queue.SimpleQueue()
        self.thread: threading.Thread | None = None

    @property
    def waiting(self) -> int:
        """How many updates the thread has not come to."""
        return self._waiting.qsize()

    def update(self, data: memoryview) -> None:
        """Hash `data` next."""
        if self.thread is None and len(data) < AT_ONCE_BYTES:
            self._hash.update(data)
            return
        self._waiting.put(data)
        if self.thread is None or not self.thread.is_alive():
            self.thread = threading.Thread(target=self._work, name="sha256", daemon=True)
            self.thread.start()

    def hexdigest(self) -> str:
        """The hash of everything so far. Afterwards nothing can be added."""
        self._waiting.put(None)
        if self.thread is not None:
            self.thread.join()
        while not self._waiting.empty():  # the thread had just ended, having waited for long
            self._take(self._waiting.get())
        return self._hash.hexdigest()

    def _work(self) -> None:
        try:
            while self._take(self._waiting.get(timeout=IDLE_SECONDS)):
                pass
        except queue.Empty:
            return

    def _take(self, data: memoryview | None) -> bool:
        """Whether there was something to hash, not the end."""
        if data is not None:
            self._hash.update(data)
        return data is not None


Part = bytes | bytearray | memoryview
KEPT_BYTES = 64 * 1024  # a chunk from this size on stays where it came; smaller ones are copied together


def blob_id(data: bytes | memoryview) -> str:
    """The name of a blob: the sha256 of its bytes in 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


class Pieces:
    """Bytes that lie in several buffers, one after the other: an upload as it came, of which nothing was copied.

    Memory that is touched for the first time costs as much as hashing what is written there; a blob that is joined
    would pay that twice.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = tuple(parts)
        self._size = sum(map(len, self.parts))

    def __len__(self) -> int:
        return self._size

    def __bytes__(self) -> bytes:
        return b"".join(self.parts)

    def read(self, offset: int, length: int) -> Buffer:
        """`length` bytes from `offset` on, fewer at the end: a view where one part holds them, else a copy."""
        found: list[memoryview] = []
        begin = 0
        for part in self.parts:
            low, high = max(offset - begin, 0), min(offset + length - begin, len(part))
            if low < high:
                found.append(memoryview(part)[low:high])
            begin += len(part)
        return found[0] if len(found) == 1 else b"".join(found)


class BlobAssembler:
    """Gathers one upload chunk by chunk, in order, and checks its hash at the end.

    Memory grows with what came, never with what was announced: a large chunk is kept as it is, as long as all of it is
    new, and small ones are copied. A chunk that was stored already is skipped; one that would leave a gap is not
    stored. Both leave `received` as the place to go on from.
    """

    def __init__(self, blob: str, size: int, limit: int) -> None:
        """`blob` of `size` bytes. Raises TooLargeError if `size` is over `limit`, SchemaError for a bad name, size."""
        check_blob_id(blob)
        if size < 1:
            raise SchemaError(f"A blob has at least one byte, not {size}.")
        if size > limit:
            raise TooLargeError(f"A blob of {size} bytes is too large: the backend takes {limit}.")
        self.blob = blob
        self.size = size
        self._forget()

    @property
    def received(self) -> int:
        """How many bytes from the start are held."""
        return self._received

    @property
    def complete(self) -> bool:
        """Whether every byte is held; the hash was right then."""
        return self._received == self.size

    def put(self, offset: int, size: int, data: bytes | memoryview) -> int:
        """Take the bytes from `offset` on; returns `received`.

        Raises SchemaError, and forgets what it held, when `size` is not the size that the first chunk announced, when
        the bytes go beyond it, or when the whole does not have the hash that names it.
        """
        if size != self.size or offset < 0 or offset + len(data) > self.size:
            self._forget()
            raise SchemaError(
                f"{len(data)} bytes at {offset} of {size} do not fit the blob {self.blob[:12]}… of {self.size} bytes."
            )
        if offset <= self.received < offset + len(data):
            fresh = memoryview(data)[self.received - offset :]
            self._keep(data if offset == self.received else None, fresh)
            self._hash.update(fresh)
            self._received += len(fresh)
            if self.complete and self._hash.hexdigest() != self.blob:
                self._forget()
                raise SchemaError(f"The bytes that came as blob {self.blob[:12]}… have another hash.")
        return self.received

    def take(self) -> Pieces:
        """The whole blob. Only when `complete`."""
        if not self.complete:
            raise ValueError(f"{self.received} of {self.size} bytes are there.")
        return Pieces(self._parts)

    def _keep(self, whole: Buffer | None, fresh: memoryview) -> None:
        """Hold `fresh`: without a copy where it is `whole`, the chunk that came, so that no other bytes are held."""
        if whole is not None and len(whole) >= KEPT_BYTES:
            self._parts.append(whole)
        elif self._parts and isinstance(self._parts[-1], bytearray):
            self._parts[-1] += fresh
        else:
            self._parts.append(bytearray(fresh))

    def _forget(self) -> None:
        self._received = 0
        self._parts: list[Part] = []
        self._hash = hashlib.sha256()


def pack_plane(plane: bytes | memoryview, width: int, height: int) -> tuple[PlaneRef, bytes]:
    """A plane's reference and its blob.

    `plane`: width × height bytes, row by row. Raises SchemaError for another length.
    """
    if len(plane) != width * height:
        raise SchemaError(f"A plane of {width} × {height} px has {width * height} bytes, not {len(plane)}.")
    packed = zlib.compress(plane, FAST)
    return PlaneRef(blob_id(packed), width, height, packed=True), packed


def unpack_plane(ref: PlaneRef, blob: bytes) -> bytes:
    """The plane's bytes, row by row. Raises SchemaError when the blob holds more or fewer than `ref` says."""
    if ref.packed:
        return inflate(blob, ref.size)
    if len(blob) != ref.size:
        raise SchemaError(f"A plane of {ref.width} × {ref.height} px has {ref.size} bytes, not {len(blob)}.")
    return blob


def pack_picture(pixels: bytes, width: int, height: int, channels: int) -> tuple[PictureRef, bytes]:
    """A picture's reference and its blob; an RGBA picture that is opaque everywhere becomes RGB, a quarter smaller.

    `pixels`: 8-bit, width × height × channels bytes. Raises SchemaError for another length.
    """
    if len(pixels) != width * height * channels:
        raise SchemaError(
            f"A picture of {width} × {height} px and {channels} channels has {width * height * channels} bytes, "
            f"not {len(pixels)}."
        )
    if channels == 4 and _opaque(pixels):
        pixels, channels = drop_alpha(pixels), 3
    return PictureRef(blob_id(pixels), width, height, channels), pixels


def unpack_picture(ref: PictureRef, blob: bytes) -> bytes:
    """The picture's pixels. Raises SchemaError when the blob does not have the length that `ref` tells."""
    if len(blob) != ref.size:
        raise SchemaError(
            f"A picture of {ref.width} × {ref.height} px and {ref.channels} channels has {ref.size} bytes, "
            f"not {len(blob)}."
        )
    return blob


def drop_alpha(rgba: bytes) -> bytes:
    """The RGB of RGBA pixels."""
    rgb = bytearray(len(rgba) // 4 * 3)
    for channel in range(3):
        rgb[channel::3] = rgba[channel::4]
    return bytes(rgb)


def _opaque(rgba: bytes) -> bool:
    alpha = rgba[3::4]
    return alpha.count(0xFF) == len(alpha)
