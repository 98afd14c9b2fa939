"""Small pictures for lists: what an edit looks like in its surroundings."""

from __future__ import annotations

import base64

from diffedit_protocol.messages import Bounds

from ..qt import QtCore, QtGui

BASE_SIDE = 512  # px: the copy of a captured picture that thumbnails are cut from
THUMBNAIL_SIDE = 320  # px: a tile of 128 units on a screen of 250 %, and what it is enlarged to under the mouse
NOTED_SIDE = 256  # px: of the surroundings of an edit whose result is fetched later
KEPT_SIDE = 64  # px: in a document's history
MARGIN = 0.15  # of the edit's larger side, shown around it


def image_of(pixels: bytes, width: int, height: int, channels: int) -> QtGui.QImage:
    """8-bit pixels without padding as an image that keeps a reference to them. `channels`: 3 RGB, 4 RGBA straight."""
    kind = QtGui.QImage.Format.Format_RGB888 if channels == 3 else QtGui.QImage.Format.Format_RGBA8888
    image = QtGui.QImage(pixels, width, height, width * channels, kind)
    image.pixels = pixels  # QImage does not own what it was made from
    return image


def shrunk(image: QtGui.QImage, side: int) -> QtGui.QImage:
    """A copy whose larger side is at most `side` px: at first coarsely (fast), then smoothly."""
    keep = QtCore.Qt.AspectRatioMode.KeepAspectRatio
    largest = max(image.width(), image.height())
    if largest <= side:
        return image.copy()
    if largest > 4 * side:
        image = image.scaled(4 * side, 4 * side, keep, QtCore.Qt.TransformationMode.FastTransformation)
    return image.scaled(side, side, keep, QtCore.Qt.TransformationMode.SmoothTransformation)


class Surroundings:
    """A small copy of a captured picture, `area` of the image, that shows edits in their place."""

    def __init__(self, pixels: bytes, area: Bounds, channels: int) -> None:
        self._area = area
        self._base = shrunk(image_of(pixels, area.width, area.height, channels), BASE_SIDE).convertToFormat(
            QtGui.QImage.Format.Format_ARGB32_Premultiplied
        )

    def to_text(self) -> str:
        """The copy as a small JPEG in base64."""
        return _jpeg(self._base, NOTED_SIDE)

    @classmethod
    def from_text(cls, text: str, area: Bounds) -> Surroundings:
        """Of `to_text`; a grey picture for what is none."""
        image = from_text(text)
        if image.isNull():
            image = QtGui.QImage(
                NOTED_SIDE, max(1, NOTED_SIDE * area.height // area.width), QtGui.QImage.Format.Format_RGB32
            )
            image.fill(QtCore.Qt.GlobalColor.gray)
        made = cls.__new__(cls)
        made._area = area
        made._base = image.convertToFormat(QtGui.QImage.Format.Format_ARGB32_Premultiplied)
        return made

    def with_edit(self, pixels: bytes, area: Bounds) -> QtGui.QImage:
        """RGBA `pixels` of `area` of the image over the picture, cut to the edit and a margin; THUMBNAIL_SIDE px."""
        picture = self._base.copy()
        painter = QtGui.QPainter(picture)
        painter.setRenderHint(QtGui.QPainter.RenderHint.SmoothPixmapTransform)
        painter.drawImage(self._on_base(area), shrunk(image_of(pixels, area.width, area.height, 4), BASE_SIDE))
        painter.end()
        margin = round(MARGIN * max(area.width, area.height))
        cut = self._on_base(area.grown(margin) & self._area).toAlignedRect()
        return shrunk(picture.copy(cut), THUMBNAIL_SIDE)

    def _on_base(self, area: Bounds) -> QtCore.QRectF:
        scale = self._base.width() / self._area.width
        x, y = area.x - self._area.x, area.y - self._area.y
        return QtCore.QRectF(x * scale, y * scale, area.width * scale, area.height * scale)


def to_text(image: QtGui.QImage) -> str:
    """A small JPEG (2 to 4 kB) in base64, for a document's history."""
    return _jpeg(image, KEPT_SIDE)


def _jpeg(image: QtGui.QImage, side: int) -> str:
    data = QtCore.QByteArray()
    buffer = QtCore.QBuffer(data)
    buffer.open(QtCore.QIODevice.OpenModeFlag.WriteOnly)
    shrunk(image, side).convertToFormat(QtGui.QImage.Format.Format_RGB32).save(buffer, "JPG", 85)
    buffer.close()
    return base64.b64encode(bytes(data)).decode()


def from_text(text: str) -> QtGui.QImage:
    """The image of `to_text`; an empty one for what is none."""
    return QtGui.QImage.fromData(base64.b64decode(text, validate=False), "JPG")
