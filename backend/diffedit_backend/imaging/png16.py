"""PNG with 16 bits per channel in colour or with alpha, which Pillow cuts to 8 bits (PNG specification, 3rd ed.)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {2: 3, 4: 2, 6: 4}  # by colour type: RGB, grey with alpha, RGBA
_COLOUR_TYPES = {3: 2, 2: 4, 4: 6}
_NONE, _SUB, _UP, _AVERAGE, _PAETH = range(5)


class UnreadablePng(ValueError):
    """The file is damaged or interlaced."""


def is_png16(path: Path) -> bool:
    """Whether the file is a PNG with 16 bits per channel and more than one channel."""
    with path.open("rb") as file:
        head = file.read(33)
    return head[:8] == _SIGNATURE and len(head) == 33 and head[24] == 16 and head[25] in _CHANNELS


def read_png16(path: Path) -> NDArray[np.uint16]:
    """The samples (H, W, channels). Raises UnreadablePng."""
    data = path.read_bytes()
    try:
        width, height, _, colour_type, _, _, interlaced = struct.unpack(">IIBBBBB", data[16:29])
        if interlaced:
            raise UnreadablePng("interlaced 16-bit PNG")
        packed = b"".join(body for kind, body in _chunks(data) if kind == b"IDAT")
        channels = _CHANNELS[colour_type]
        lines = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(height, 1 + width * channels * 2)
    except (struct.error, zlib.error, ValueError) as error:
        raise UnreadablePng(str(error)) from error
    rows = np.zeros((height + 1, width, channels * 2), np.uint8)  # one row of zeros above the first
    for y in range(height):
        line = lines[y, 1:].reshape(width, channels * 2)
        rows[y + 1] = _unfiltered(int(lines[y, 0]), line, rows[y])
    return (
        rows[1:].reshape(height, width * channels, 2).copy().view(">u2").reshape(height, width, channels).astype("=u2")
    )


def write_png16(path: Path, samples: NDArray[np.uint16], profile: bytes | None = None) -> None:
    """Write samples (H, W, 2, 3 or 4); `profile`: an ICC profile to embed."""
    height, width, channels = samples.shape
    header = struct.pack(">IIBBBBB", width, height, 16, _COLOUR_TYPES[channels], 0, 0, 0)
    rows = samples.astype(">u2").view(np.uint8).reshape(height, -1)
    up = np.diff(rows, axis=0, prepend=np.zeros((1, rows.shape[1]), np.uint8))
    lines = np.concatenate((np.full((height, 1), _UP, np.uint8), up), axis=1)
    chunks = [(b"IHDR", header)]
    if profile is not None:
        chunks.append((b"iCCP", b"ICC\0\0" + zlib.compress(profile)))
    chunks += [(b"IDAT", zlib.compress(lines.tobytes(), 6)), (b"IEND", b"")]
    with path.open("wb") as file:
        file.write(_SIGNATURE)
        for kind, body in chunks:
            file.write(struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)))


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = len(_SIGNATURE)
    while place + 12 <= len(data):
        length, kind = struct.unpack(">I4s", data[place : place + 8])
        yield kind, data[place + 8 : place + 8 + length]
        place += 12 + length


def _unfiltered(kind: int, line: NDArray[np.uint8], above: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A row (W, bytes per pixel) as it was before its filter."""
    if kind == _NONE:
        return line
    if kind == _SUB:
        return np.cumsum(line, axis=0, dtype=np.uint8)
    if kind == _UP:
        return line + above
    if kind not in (_AVERAGE, _PAETH):
        raise UnreadablePng(f"unknown row filter {kind}")
    # These two read the pixel to the left, so they go pixel by pixel; plain ints are several times faster than arrays.
    size = line.shape[1]
    out = [0] * size
    ups, corner = above.ravel().tolist(), [0] * size
    result: list[int] = []
    for x, value in enumerate(line.ravel().tolist()):
        c = x % size
        a, b = out[c], ups[x]
        if kind == _AVERAGE:
            value += (a + b) // 2
        else:
            value += _paeth(a, b, corner[c])
            corner[c] = b
        out[c] = value & 255
        result.append(out[c])
    return np.array(result, np.uint8).reshape(line.shape)


def _paeth(a: int, b: int, c: int) -> int:
    p = a + b - c
    pa, pb, pc = abs(p - a), abs(p - b), abs(p - c)
    if pa <= pb and pa <= pc:
        return a
    return b if pb <= pc else c
