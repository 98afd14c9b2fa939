"""Masks drawn in red over the canvas, the found one and the selection mask that is active: no part of the document, so
there is nothing to undo, to save or to clean up.

Where the picture under it is red itself, it is drawn in another colour.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Generator

from diffedit_protocol.messages import Bounds
from krita import Document, Node

from ..model.steps import CanvasRefusal
from ..qt import QtCore, QtGui, QtWidgets, sip
from .canvas_view import CanvasView
from .documents import active_document, id_of
from .layers import canvas_area, is_busy
from .mask_shape import coloured_steps, grey_image, thinned

RED, OTHERS = (255, 0, 40), ((0, 150, 255), (40, 255, 0))
OPACITY = 140  # of 255, where the mask is full
ALIKE = 110  # of 441: colours nearer than that are hard to tell apart under the overlay
MOST_ALIKE = 0.25  # of what is masked: up to here red is seen well enough
SAMPLED_SIDE = 32  # px: of the picture and the mask, to choose the colour by
Colour = tuple[int, int, int]
_GREY, _INDEXED = QtGui.QImage.Format.Format_Grayscale8, QtGui.QImage.Format.Format_Indexed8
_PREMULTIPLIED = QtGui.QImage.Format.Format_ARGB32_Premultiplied


class MaskOverlay(QtWidgets.QWidget):
    """A transparent child of the canvas, below Krita's own palettes there; pen and mouse go through it.

    Krita draws the canvas anew when the view moves, and a child is drawn with its parent: the overlay asks where the
    picture lies each time it is drawn, and so is never behind. `leave` is called for Esc on the canvas, except while a
    stroke or a transformation is under way: then Esc is Krita's, which ends that.
    """

    def __init__(self, document: Document, leave: Callable[[], None]) -> None:
        """CanvasRefusal NO_CANVAS when the active view has no canvas that is known."""
        self._canvas_view = CanvasView(document)
        self._canvas = self._canvas_view.widget
        super().__init__(self._canvas)
        self._document = document
        self._leave = leave
        self._image = QtGui.QImage()
        self._area = Bounds(0, 0, 0, 0)
        self._colour: Colour = RED
        self.setObjectName("diffedit_mask_overlay")
        self.setAttribute(QtCore.Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.setAttribute(QtCore.Qt.WidgetAttribute.WA_NoSystemBackground)
        self.setFocusPolicy(QtCore.Qt.FocusPolicy.NoFocus)
        self.setGeometry(self._canvas.rect())
        self.lower()
        self._listen_first()
        QtWidgets.QApplication.instance().focusChanged.connect(self._focus_changed)
        self.show()

    @property
    def colour(self) -> Colour:
        """R, G, B of what is drawn."""
        return self._colour

    def show_mask(self, mask: QtGui.QImage, area: Bounds, *, keep_colour: bool = False) -> None:
        """Draws `mask`, grey values, over `area` of the image; a mask with fewer px than that is drawn smoothly.

        The colour is chosen by the picture, unless `keep_colour`: it should not change while a slider is dragged.
        """
        if not (keep_colour and self._area == area):
            self._colour = colour_over(self._sample(area), mask)
        indexed = mask.convertToFormat(_GREY)
        indexed.reinterpretAsFormat(_INDEXED)
        indexed.setColorTable(_colour_table(self._colour))
        self._image = indexed.convertToFormat(_PREMULTIPLIED)
        self._area = area
        self.update()

    def plane_steps(self, plane: bytes, area: Bounds) -> Generator[None, None, None]:
        """Draws a mask with all its px, values 0..255 of `area`, prepared in short steps."""
        thin, width, height = thinned(plane, area.width, area.height, -(-max(area.width, area.height) // SHOWN_SIDE))
        colour = colour_over(self._sample(area), grey_image(thin, width, height))
        yield
        image = yield from coloured_steps(plane, area.width, area.height, _colour_table(colour))
        if not sip.isdeleted(self):  # its view may have been closed meanwhile
            self._colour, self._image, self._area = colour, image, area
            self.update()

    def _sample(self, area: Bounds) -> QtGui.QImage:
        """What is seen in `area`, small: some of its rows. (Krita's own thumbnail of a large picture takes long.)"""
        side = min(SAMPLED_SIDE, area.height)
        kind, aspect = QtGui.QImage.Format.Format_RGBA8888, QtCore.Qt.AspectRatioMode.IgnoreAspectRatio
        picture = QtGui.QImage(side, side, kind)
        painter = QtGui.QPainter(picture)
        painter.setCompositionMode(QtGui.QPainter.CompositionMode.CompositionMode_Source)
        for i in range(side):
            row = self._document.projection(area.x, area.y + (2 * i + 1) * area.height // (2 * side), area.width, 1)
            painter.drawImage(0, i, row.scaled(side, 1, aspect))
        painter.end()
        return picture

    def move_to(self, area: Bounds) -> None:
        """The layer was moved, and its mask with it."""
        if area != self._area:
            self._area = area
            self.update()

    def take_away(self) -> None:
        QtWidgets.QApplication.instance().focusChanged.disconnect(self._focus_changed)
        self._canvas.removeEventFilter(self)
        self.hide()
        self.deleteLater()

    def paintEvent(self, event: QtGui.QPaintEvent) -> None:
        transform = self._canvas_view.image_to_widget()
        painter = QtGui.QPainter(self)
        painter.setTransform(transform)
        painter.setClipRect(QtCore.QRect(QtCore.QPoint(0, 0), self._canvas_view.image_size()))
        # Enlarged, the pixels of a mask without a feather are as sharp as the picture's.
        coarse = self._image.width() < self._area.width or self._image.height() < self._area.height
        smooth = coarse or abs(transform.determinant()) < 1
        painter.setRenderHint(QtGui.QPainter.RenderHint.SmoothPixmapTransform, smooth)
        area = QtCore.QRect(self._area.x, self._area.y, self._area.width, self._area.height)
        painter.drawImage(area, self._image)
        painter.end()

    def eventFilter(self, watched: QtCore.QObject, event: QtCore.QEvent) -> bool:
        kind = event.type()
        if kind == QtCore.QEvent.Type.Resize:
            self.setGeometry(self._canvas.rect())
        elif kind == QtCore.QEvent.Type.ShortcutOverride and event.key() == QtCore.Qt.Key.Key_Escape:
            self._escape()
        return False

    def _escape(self) -> None:
        if not is_busy(self._document):
            # One turn later: the filter goes with the overlay, and is in use now.
            QtCore.QTimer.singleShot(0, self._leave)

    def _focus_changed(self, _: QtWidgets.QWidget | None, now: QtWidgets.QWidget | None) -> None:
        if now is self._canvas:
            QtCore.QTimer.singleShot(0, self._listen_first)

    def _listen_first(self) -> None:
        """Krita's input manager puts its own filter in front whenever the canvas gets the focus, and keeps Esc, which
        is its key for ending what a tool does, from all others."""
        self._canvas.installEventFilter(self)


def _colour_table(colour: Colour) -> list[int]:
    return [QtGui.qRgba(*colour, OPACITY * value // 255) for value in range(256)]


def colour_over(picture: QtGui.QImage, mask: QtGui.QImage) -> Colour:
    """Red, unless more than a quarter of what `mask` covers of `picture` looks like it: then what differs most.

    Both show the same area, at any size.
    """
    aspect, fast = QtCore.Qt.AspectRatioMode.IgnoreAspectRatio, QtCore.Qt.TransformationMode.FastTransformation
    side = QtCore.QSize(SAMPLED_SIDE, SAMPLED_SIDE)
    seen = _bytes(picture.scaled(side, aspect, fast).convertToFormat(QtGui.QImage.Format.Format_RGBA8888))
    weights = _bytes(mask.scaled(side, aspect, fast).convertToFormat(_GREY))
    shown = [(seen[4 * i : 4 * i + 3], weight) for i, weight in enumerate(weights) if weight and seen[4 * i + 3]]
    whole = sum(weight for _, weight in shown)

    def alike(colour: Colour) -> float:
        near = sum(w for rgb, w in shown if sum((a - b) ** 2 for a, b in zip(rgb, colour, strict=True)) < ALIKE**2)
        return near / max(1, whole)

    return RED if alike(RED) <= MOST_ALIKE else min(OTHERS, key=alike)


def _bytes(image: QtGui.QImage) -> bytes:
    """The px of an image whose rows have no padding."""
    bits = image.constBits()
    bits.setsize(image.sizeInBytes())
    return bytes(bits)


SHOWN_SIDE = 1024  # px: of a larger mask every second, third ... px is drawn


class ActiveMaskOverlay:
    """`look()` is called some times a second: Krita has no signal for a mask that becomes active or is painted on."""

    def __init__(self) -> None:
        self._overlay: MaskOverlay | None = None
        self._shown = ("", "", 0)  # document, mask, checksum
        self._left = ("", "")  # what the artist sent away with Esc

    def look(self) -> None:
        """Draws the active selection mask as it is now, or takes the overlay away where there is none."""
        try:
            document = active_document()
        except CanvasRefusal:
            self.take_away()
            return
        mask = document.activeNode()
        if mask is None or mask.type() != "selectionmask" or not mask.visible() or _is_global(mask):
            self.take_away()
            self._left = ("", "")
            return
        ids = (id_of(document), str(mask.uniqueId().toString()))
        if ids == self._left or is_busy(document):
            return
        self._draw(document, mask, ids)

    def take_away(self) -> None:
        if self._overlay is not None and not sip.isdeleted(self._overlay):
            self._overlay.take_away()
        self._overlay, self._shown = None, ("", "", 0)

    def _draw(self, document: Document, mask: Node, ids: tuple[str, str]) -> None:
        selection, area = mask.selection(), canvas_area(document)
        plane = b"" if selection is None else bytes(selection.pixelData(0, 0, area.width, area.height))
        shown = (*ids, zlib.crc32(plane))
        there = self._overlay is not None and not sip.isdeleted(self._overlay) and self._overlay.isVisible()
        if shown == self._shown and there:
            return
        if ids != self._shown[:2] or not there:
            self.take_away()
        try:
            if self._overlay is None:
                self._overlay = MaskOverlay(document, lambda: self._leave(ids))
        except CanvasRefusal:
            return  # no canvas to draw on: nothing depends on it
        if plane:
            step = -(-max(area.width, area.height) // SHOWN_SIDE)
            thin, width, height = thinned(plane, area.width, area.height, step)
            self._overlay.show_mask(grey_image(thin, width, height), area)
        self._shown = shown

    def _leave(self, ids: tuple[str, str]) -> None:
        self._left = ids
        self.take_away()


def _is_global(mask: Node) -> bool:
    """Whether it is the picture's own selection, which Krita shows by its marching ants."""
    parent = mask.parentNode()
    return parent is None or parent.parentNode() is None
