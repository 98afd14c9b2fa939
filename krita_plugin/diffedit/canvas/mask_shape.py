"""Grey images of masks: Qt's planes and a quick feather for as long as a slider is dragged.

`mask_formula` makes the mask that an edit uses. The feather here has its width, its slope is not quite the same; it is
made from fewer px where that shows the same.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

from ..qt import QtCore, QtGui

_SMOOTH = QtCore.Qt.TransformationMode.SmoothTransformation
_ANY_ASPECT = QtCore.Qt.AspectRatioMode.IgnoreAspectRatio
_GREY = QtGui.QImage.Format.Format_Grayscale8
COLOURED_STEP = 1 << 20  # px: some 5 ms


def feathered(plane: bytes, width: int, height: int, feather: float) -> QtGui.QImage:
    """`plane` with its edges blurred over about `feather` px, as a Gaussian with sigma = feather / 2 does.

    The image is smaller than the plane, by up to feather / √7: `enlarged` gives it its size back, smoothly.
    Scaled down by f, averaged with its neighbours as [1 2 1] / 4 three times, scaled up: the box, the averages and the
    slopes between the samples add up to a variance of f² (1/12 + 3/2 + 1/6), so that f = feather / √7.
    """
    factor = feather / 7**0.5
    if factor <= 1:
        return grey_image(plane, width, height)
    small = scaled(QtGui.QImage(plane, width, height, width, _GREY), round(width / factor), round(height / factor))
    for dx, dy in 3 * ((1, 0), (-1, 0), (0, 1), (0, -1)):
        small = _averaged(small, dx, dy)
    return small


def grey_image(plane: bytes, width: int, height: int) -> QtGui.QImage:
    """An image of its own with the values of `plane`."""
    return QtGui.QImage(plane, width, height, width, _GREY).copy()


def scaled(image: QtGui.QImage, width: int, height: int) -> QtGui.QImage:
    """`image` at that size, at least 1 px; averaged where smaller, smooth where larger."""
    return image.scaled(max(1, width), max(1, height), _ANY_ASPECT, _SMOOTH)


def enlarged(image: QtGui.QImage, width: int, height: int) -> bytes:
    """The plane of that size of what `feathered` gave."""
    return plane_of(image if (image.width(), image.height()) == (width, height) else scaled(image, width, height))


def thinned(plane: bytes, width: int, height: int, step: int) -> tuple[bytes, int, int]:
    """Every `step`th px of every `step`th row, and the width and height of that. A soft map is smooth: it was made at
    an eighth of the model's size."""
    if step == 1:
        return plane, width, height
    rows = [plane[y * width : (y + 1) * width : step] for y in range(step // 2, height, step)] or [plane[:width:step]]
    return b"".join(rows), len(rows[0]), len(rows)


def trimmed(plane: bytes, width: int, height: int) -> tuple[bytes, int, int, int, int]:
    """The smallest part of a plane with all that is not 0, and its left, top, width and height; b"" where all is 0."""
    rows = [plane[start : start + width] for start in range(0, width * height, width)]
    filled = [y for y, row in enumerate(rows) if row.count(0) < width]
    if not filled:
        return b"", 0, 0, 0, 0
    rows = rows[filled[0] : filled[-1] + 1]
    left = min(width - len(row.lstrip(b"\0")) for row in rows)
    right = max(len(row.rstrip(b"\0")) for row in rows)
    return b"".join(row[left:right] for row in rows), left, filled[0], right - left, len(rows)


def coloured_steps(plane: bytes, width: int, height: int, table: Sequence[int]) -> Generator[None, None, QtGui.QImage]:
    """An image with the colour `table[value]`, not premultiplied, for each value of a plane, in short steps."""
    premultiplied = QtGui.QImage.Format.Format_ARGB32_Premultiplied
    image = QtGui.QImage(width, height, premultiplied)
    count = max(1, COLOURED_STEP // width)
    for top in range(0, height, count):
        part = plane[top * width : (top + count) * width]
        indexed = QtGui.QImage(part, width, len(part) // width, width, QtGui.QImage.Format.Format_Indexed8)
        indexed.setColorTable(table)
        painter = QtGui.QPainter(image)
        painter.setCompositionMode(QtGui.QPainter.CompositionMode.CompositionMode_Source)
        painter.drawImage(0, top, indexed.convertToFormat(premultiplied))
        painter.end()
        yield
    return image


def _averaged(image: QtGui.QImage, dx: int, dy: int) -> QtGui.QImage:
    """The mean of the image and itself moved by (dx, dy)."""
    out = image.copy()
    painter = QtGui.QPainter(out)
    painter.setOpacity(0.5)
    painter.drawImage(dx, dy, image)
    painter.end()
    return out


def plane_of(image: QtGui.QImage) -> bytes:
    """An image's grey values, row by row without the padding that Qt keeps at the end of each."""
    grey = image.convertToFormat(_GREY)
    bits = grey.constBits()
    bits.setsize(grey.sizeInBytes())
    data = bytes(bits)
    stride, width = grey.bytesPerLine(), grey.width()
    if stride == width:
        return data
    return b"".join(data[start : start + width] for start in range(0, len(data), stride))
