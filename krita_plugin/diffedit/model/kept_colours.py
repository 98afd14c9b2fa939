"""Where an edit kept the colour that was sent, the picture keeps its own, finer or stronger than 8-bit sRGB can say."""

from __future__ import annotations

from ..qt import QtGui

KEPT = 2  # of 255: a difference up to this is a colour that was kept (what a conversion may round)
CHANGED = 12  # of 255: from this on, the colour is the edit's; between the two it is mixed
_SHARE = bytes(min(255, max(0, round(255 * (d - KEPT) / (CHANGED - KEPT)))) for d in range(256))


def changed_share(sent: bytes, channels: int, edit: bytes, width: int, height: int) -> bytes:
    """How much of each px is the edit's: a plane, 0 (the colour was kept) to 255.

    `sent`: RGB or RGBA by `channels`; `edit`: RGBA; both 8-bit sRGB of `width` × `height` px. Alpha does not count.
    """
    source = _opaque(sent, channels, width, height)
    result = _opaque(edit, 4, width, height)
    _compose(source, result, QtGui.QPainter.CompositionMode.CompositionMode_Difference)
    # The largest of three channels: the picture itself, moved by one byte and by two, the lighter of each.
    data = _bytes(source)
    for offset in (1, 2):
        moved = _image(data[offset:] + bytes(offset), width, height)
        _compose(source, moved, QtGui.QPainter.CompositionMode.CompositionMode_Lighten)
    return _bytes(source)[0::4].translate(_SHARE)


def multiplied(plane: bytes, other: bytes, width: int, height: int) -> bytes:
    """The product of two planes, 0..255 as 0..1, rounded."""
    images = []
    for values in (plane, other):
        data = bytearray(4 * width * height)
        data[0::4] = values
        images.append(_image(bytes(data), width, height))
    _compose(images[0], images[1], QtGui.QPainter.CompositionMode.CompositionMode_Multiply)
    return _bytes(images[0])[0::4]


def _opaque(pixels: bytes, channels: int, width: int, height: int) -> QtGui.QImage:
    if channels == 4:
        return _image(pixels, width, height)
    image = QtGui.QImage(pixels, width, height, 3 * width, QtGui.QImage.Format.Format_RGB888)
    return image.convertToFormat(QtGui.QImage.Format.Format_RGBX8888)


def _image(data: bytes, width: int, height: int) -> QtGui.QImage:
    """A copy of four bytes a px, of which the last is of no account. (Qt takes it for alpha unless it is 255.)"""
    opaque = bytearray(data)
    opaque[3::4] = b"\xff" * (width * height)
    return QtGui.QImage(bytes(opaque), width, height, 4 * width, QtGui.QImage.Format.Format_RGBX8888).copy()


def _compose(below: QtGui.QImage, above: QtGui.QImage, mode: QtGui.QPainter.CompositionMode) -> None:
    painter = QtGui.QPainter(below)
    painter.setCompositionMode(mode)
    painter.drawImage(0, 0, above)
    painter.end()


def _bytes(image: QtGui.QImage) -> bytes:
    bits = image.constBits()
    bits.setsize(image.sizeInBytes())
    return bytes(bits)
