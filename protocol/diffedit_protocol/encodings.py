"""Lossless encodings of a chunk for slow links: zlib, alone or after taking the difference to the pixel on the left.

The difference (PNG's "sub" filter, over the whole chunk instead of row by row) makes photographs 1.6 to 1.7 times
smaller, zlib alone 1.2 times; after it zlib's run-length strategy is both faster and tighter than its search for
repeats (104 against 71 MB/s, measured on a photograph). Without numpy, bytes are added and subtracted by the million as
one big integer: in each byte the upper bit is kept apart, so that no carry crosses into its neighbour (SIMD within a
register: L. Lamport, "Multiple byte processing with full-word instructions", CACM 18(8), 1975). A process that has
numpy gives a quicker filter to `use_filter`.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from .errors import SchemaError

ChunkEncoding = Literal["raw", "zlib", "delta3", "delta4"]
PreviewEncoding = Literal["raw", "zlib", "none"]  # none: a link that cannot carry previews
FAST = 1  # zlib's fastest level: higher ones cost 3 to 10 times as much for a few percent
_CHANNELS: dict[ChunkEncoding, int] = {"delta3": 3, "delta4": 4}


def encode_chunk(data: bytes | memoryview, encoding: ChunkEncoding) -> tuple[ChunkEncoding, bytes | memoryview]:
    """`data` by `encoding`, and the encoding that was used: "raw" when the other one would not make it smaller."""
    if encoding == "raw":
        return "raw", data
    if encoding in _CHANNELS:
        packer = zlib.compressobj(FAST, strategy=zlib.Z_RLE)
        packed = packer.compress(_filter.difference(bytes(data), _CHANNELS[encoding])) + packer.flush()
    else:
        packed = zlib.compress(data, FAST)
    return (encoding, packed) if len(packed) < len(data) else ("raw", data)


def decode_chunk(data: bytes | memoryview, encoding: ChunkEncoding, length: int) -> bytes | memoryview:
    """The `length` bytes that `encode_chunk` took. Raises SchemaError for another length or no such data."""
    if encoding == "raw":
        if len(data) != length:
            raise SchemaError(f"A chunk of {length} bytes came with {len(data)}.")
        return data
    plain = inflate(data, length)
    return _filter.running_sum(plain, _CHANNELS[encoding]) if encoding in _CHANNELS else plain


def inflate(data: bytes | memoryview, size: int) -> bytes:
    """The `size` bytes that zlib packed into `data`; at most one byte more is ever unpacked. Raises SchemaError."""
    unpacker = zlib.decompressobj()
    try:
        plain = unpacker.decompress(data, size + 1)
    except zlib.error as error:
        raise SchemaError(f"Packed data cannot be unpacked: {error}.") from error
    if len(plain) != size or not unpacker.eof or unpacker.unused_data:
        raise SchemaError(f"Packed data does not hold the {size} bytes that were announced.")
    return plain


def difference(data: bytes, channels: int) -> bytes:
    """Each byte minus the one `channels` before it, modulo 256; the first `channels` bytes stay."""
    low, high = _masks(len(data))
    a = int.from_bytes(data, "little")
    b = (a << (8 * channels)) & (low | high)
    return (((a | high) - (b & low)) ^ ((a ^ b ^ high) & high)).to_bytes(len(data), "little")


def running_sum(data: bytes, channels: int) -> bytes:
    """Undoes `difference`: sums over 1, 2, 4, 8, ... pixels (Hillis and Steele's scan)."""
    low, high = _masks(len(data))
    everything = low | high
    total = int.from_bytes(data, "little")
    reach = channels
    while reach < len(data):
        shifted = (total << (8 * reach)) & everything
        total = ((total & low) + (shifted & low)) ^ ((total ^ shifted) & high)
        reach *= 2
    return total.to_bytes(len(data), "little")


@functools.lru_cache(maxsize=4)
def _masks(length: int) -> tuple[int, int]:
    """Integers of `length` bytes: the lower seven bits of each byte, and the upper one."""
    return int.from_bytes(b"\x7f" * length, "little"), int.from_bytes(b"\x80" * length, "little")


@dataclass(frozen=True)
class PixelFilter:
    """`difference(data, channels)` and `running_sum(data, channels)`, which undoes it."""

    difference: Callable[[bytes, int], bytes]
    running_sum: Callable[[bytes, int], bytes]


PLAIN_FILTER = PixelFilter(difference, running_sum)
_filter = PLAIN_FILTER


def use_filter(pixel_filter: PixelFilter) -> None:
    """Let this process encode and decode by `pixel_filter`, which must give the same bytes as PLAIN_FILTER."""
    global _filter
    _filter = pixel_filter
