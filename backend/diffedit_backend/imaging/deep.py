"""16 bits per channel in colour or with alpha: Pillow decodes such files, but hands out the high bytes only.

Reading uses Pillow's own decoders twice, once for the high and once for the low byte of every sample, by the raw modes
";16B" and ";16L", which take the first and the second byte. Writing is for PNG (PNG specification, third edition).
"""

from __future__ import annotations

import io
import struct
import sys
import zlib
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_BIG, _LITTLE = ";16B", ";16L"  # raw modes that take the first, or the second byte
_NATIVE = ";16N"
_COLOUR_TYPES = {2: 4, 3: 2, 4: 6}  # by channels: grey with alpha, RGB, RGBA
_HEADER_END = 33  # signature, and the chunk IHDR that always comes first
_UP = 2  # the row filter that subtracts the row above


def raw_mode(image: Image.Image) -> str:
    """How the samples lie in the file of an image that was opened but not loaded: Pillow's raw mode, "" if unknown."""
    arguments = image.tile[0][3] if image.tile else ""
    first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return first if isinstance(first, str) else ""


def has_deep_colours(image: Image.Image) -> bool:
    """Whether Pillow would cut 16-bit samples of the image to 8 bits."""
    if not image.tile or image.mode not in ("RGB", "RGBA"):
        return False
    codec, arguments = image.tile[0][0], image.tile[0][3]
    if codec == "SGI16" or raw_mode(image).endswith((_BIG, _LITTLE, _NATIVE)):
        return True
    # ("RGB", 65535): the largest sample of a PPM. 5 bits, "BGR;15", and 5-6-5, "BGR;16", are not deep.
    return codec in ("ppm", "ppm_plain") and int(arguments[-1]) > 255


def is_cut_to_8_bits(format_: str | None, data: bytes) -> bool:
    """Whether the content of a file of Pillow's `format_` has more bits per channel than the 8 that Pillow reads of it.

    AVIF: high_bitdepth in the box av1C (AV1 in ISOBMFF, 2.3.3). JPEG 2000: Ssiz in the marker SIZ (ISO 15444-1, A.5.1).
    """
    if format_ == "AVIF":
        start = data.find(b"av1C")
        return start >= 0 and len(data) > start + 6 and bool(data[start + 6] & 0x40)
    if format_ == "JPEG2000":
        start = data.find(b"\xff\x4f\xff\x51")
        return start >= 0 and len(data) > start + 42 and (data[start + 42] & 0x7F) + 1 > 8
    return False


def read_deep(image: Image.Image, again: Image.Image) -> NDArray[np.uint16] | None:
    """The samples (H, W, 2 to 4) of a file that `has_deep_colours`; None where only 8 bits of them can be had.

    image, again: the file opened twice, neither of them loaded. Raises what Pillow raises for damaged files.
    """
    mode = raw_mode(image)
    if mode == "LA;16B":  # four bytes a pixel, read as such
        image.tile = [_with_raw_mode(tile, "RGBA") for tile in image.tile]
        return np.ascontiguousarray(np.asarray(image)).view(">u2").astype(np.uint16)
    if not mode.endswith((_BIG, _LITTLE, _NATIVE)):
        return None
    channels, order = mode[:-4], mode[-4:]
    if order == _NATIVE:
        order = _LITTLE if sys.byteorder == "little" else _BIG
    other = _LITTLE if order == _BIG else _BIG
    image.tile = [_with_raw_mode(tile, channels + order) for tile in image.tile]
    again.tile = [_with_raw_mode(tile, channels + other) for tile in again.tile]
    high, low = np.asarray(image), np.asarray(again)
    samples = np.left_shift(high, 8, dtype=np.uint16)
    samples |= low
    return samples


def _with_raw_mode(tile: Any, mode: str) -> Any:
    arguments = tile.args
    return tile._replace(args=mode if isinstance(arguments, str) else (mode, *arguments[1:]))


def write_deep_png(stream: BinaryIO, samples: NDArray[np.uint16], **options: Any) -> None:
    """Write samples (H, W, 2, 3 or 4) as PNG. options: Pillow's for PNG (icc_profile, exif, pnginfo, dpi)."""
    height, width, channels = samples.shape
    rows = samples.astype(">u2").view(np.uint8).reshape(height, -1)
    up = np.diff(rows, axis=0, prepend=np.zeros((1, rows.shape[1]), np.uint8))
    lines = np.concatenate((np.full((height, 1), _UP, np.uint8), up), axis=1)
    header = struct.pack(">IIBBBBB", width, height, 16, _COLOUR_TYPES[channels], 0, 0, 0)
    # Pillow writes everything but the samples: a picture of one pixel, whose header and data are exchanged.
    frame = io.BytesIO()
    Image.new("RGB", (1, 1)).save(frame, "PNG", **options)
    data = frame.getvalue()
    begin, end = _data_chunks(data)
    stream.write(data[:8] + _chunk(b"IHDR", header) + data[_HEADER_END:begin])
    stream.write(_chunk(b"IDAT", zlib.compress(lines.tobytes(), 6)))
    stream.write(data[end:])


def _data_chunks(data: bytes) -> tuple[int, int]:
    """Where the IDAT chunks of a PNG begin and end."""
    position, begin, end = 8, 0, 0
    while position < len(data):
        length, kind = struct.unpack(">I4s", data[position : position + 8])
        if kind == b"IDAT":
            begin, end = begin or position, position + 12 + length
        position += 12 + length
    return begin, end


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
