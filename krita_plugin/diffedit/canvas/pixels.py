"""Krita's pixels (B, G, R, A) to the wire's (R, G, B or R, G, B, A) and back: 8-bit, straight alpha, without numpy.

A slice with a step copies at memory speed: 2 to 7 ms per megapixel.
"""

from __future__ import annotations

from ..qt import QtGui


def alpha_of(bgra: bytes) -> bytes:
    """The alpha plane of pixels in either order."""
    return bgra[3::4]


def bgra_to_rgba(bgra: bytes) -> bytes:
    """Swaps red and blue; the way back is the same."""
    out = bytearray(bgra)
    out[0::4], out[2::4] = bgra[2::4], bgra[0::4]
    return bytes(out)


rgba_to_bgra = bgra_to_rgba


def bgra_to_rgb(bgra: bytes) -> bytes:
    """Drops the alpha of opaque pixels."""
    out = bytearray(len(bgra) // 4 * 3)
    out[0::3], out[1::3], out[2::3] = bgra[2::4], bgra[1::4], bgra[0::4]
    return bytes(out)


def rgba_to_rgb(rgba: bytes) -> bytes:
    """Drops the alpha of opaque pixels."""
    out = bytearray(len(rgba) // 4 * 3)
    out[0::3], out[1::3], out[2::3] = rgba[0::4], rgba[1::4], rgba[2::4]
    return bytes(out)


def rgb_to_rgba(rgb: bytes) -> bytes:
    """Opaque pixels with their alpha."""
    out = bytearray(b"\xff" * (len(rgb) // 3 * 4))
    out[0::4], out[1::4], out[2::4] = rgb[0::3], rgb[1::3], rgb[2::3]
    return bytes(out)


def rows(plane: bytes, width: int, first: int, count: int, pixel_size: int = 1) -> bytes:
    """Rows `first` to `first + count` of an image without padding."""
    row = width * pixel_size
    return plane[first * row : (first + count) * row]


def composite(below: bytes, above: bytes, width: int, height: int) -> bytes:
    """Pixels R, G, B, A with straight alpha laid over others, as one picture."""
    kind = QtGui.QImage.Format
    picture = QtGui.QImage(below, width, height, 4 * width, kind.Format_RGBA8888)
    picture = picture.convertToFormat(kind.Format_RGBA8888_Premultiplied)
    painter = QtGui.QPainter(picture)
    painter.drawImage(0, 0, QtGui.QImage(above, width, height, 4 * width, kind.Format_RGBA8888))
    painter.end()
    straight = picture.convertToFormat(kind.Format_RGBA8888)
    bits = straight.constBits()
    bits.setsize(straight.sizeInBytes())
    return bytes(bits)
