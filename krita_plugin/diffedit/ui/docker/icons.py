"""Small line icons in the colour of the theme's text, sharp at every size: drawn when they are shown."""

from __future__ import annotations

from collections.abc import Callable

from ...qt import QtCore, QtGui, QtWidgets

GRID = 16.0  # units of an icon's side
PEN = 1.4
DISABLED_OPACITY = 0.4


class LineIcon(QtGui.QIconEngine):
    """Draws `draw(path)` on a grid of 16 × 16 units."""

    def __init__(self, draw: Callable[[QtGui.QPainterPath], None]) -> None:
        super().__init__()
        self._draw = draw

    def clone(self) -> LineIcon:
        return LineIcon(self._draw)

    def paint(
        self, painter: QtGui.QPainter, rect: QtCore.QRect, mode: QtGui.QIcon.Mode, state: QtGui.QIcon.State
    ) -> None:
        path = QtGui.QPainterPath()
        self._draw(path)
        scale = min(rect.width(), rect.height()) / GRID
        colour = QtWidgets.QApplication.palette().color(QtGui.QPalette.ColorRole.WindowText)
        painter.save()
        painter.setRenderHint(QtGui.QPainter.RenderHint.Antialiasing)
        painter.translate(QtCore.QRectF(rect).center() - QtCore.QPointF(GRID / 2, GRID / 2) * scale)
        painter.scale(scale, scale)
        painter.setOpacity(DISABLED_OPACITY if mode == QtGui.QIcon.Mode.Disabled else 1.0)
        pen = QtGui.QPen(colour, PEN)
        pen.setCapStyle(QtCore.Qt.PenCapStyle.RoundCap)
        pen.setJoinStyle(QtCore.Qt.PenJoinStyle.RoundJoin)
        painter.setPen(pen)
        painter.drawPath(path)
        painter.restore()

    def pixmap(self, size: QtCore.QSize, mode: QtGui.QIcon.Mode, state: QtGui.QIcon.State) -> QtGui.QPixmap:
        pixmap = QtGui.QPixmap(size)
        pixmap.fill(QtCore.Qt.GlobalColor.transparent)
        painter = QtGui.QPainter(pixmap)
        self.paint(painter, QtCore.QRect(QtCore.QPoint(0, 0), size), mode, state)
        painter.end()
        return pixmap


def icon(name: str) -> QtGui.QIcon:
    """The icon `name`: swap, clock, again, lock, unlock, plus, tick, cross, save, menu, dice, pen, folder, words."""
    return QtGui.QIcon(LineIcon(_DRAWINGS[name]))


def _lines(path: QtGui.QPainterPath, *points: tuple[float, float]) -> None:
    path.moveTo(*points[0])
    for point in points[1:]:
        path.lineTo(*point)


def _swap(path: QtGui.QPainterPath) -> None:
    _lines(path, (5, 13.5), (5, 3))
    _lines(path, (2, 6), (5, 3), (8, 6))
    _lines(path, (11, 2.5), (11, 13))
    _lines(path, (8, 10), (11, 13), (14, 10))


def _clock(path: QtGui.QPainterPath) -> None:
    path.addEllipse(QtCore.QRectF(2, 2, 12, 12))
    _lines(path, (8, 4.5), (8, 8), (10.5, 9.5))


def _again(path: QtGui.QPainterPath) -> None:
    path.arcMoveTo(QtCore.QRectF(2.5, 2.5, 11, 11), 60)
    path.arcTo(QtCore.QRectF(2.5, 2.5, 11, 11), 60, 290)
    _lines(path, (7.6, 1.2), (10.8, 3.2), (8.6, 6.2))


def _padlock(path: QtGui.QPainterPath, lift: float) -> None:
    path.addRoundedRect(QtCore.QRectF(3, 7.5, 10, 6.5), 1, 1)
    path.moveTo(5, 7.5 - lift)
    path.lineTo(5, 5 - lift)
    path.arcTo(QtCore.QRectF(5, 2 - lift, 6, 6), 180, -180)
    path.lineTo(11, 7.5 if not lift else 6 - lift)


def _plus(path: QtGui.QPainterPath) -> None:
    _lines(path, (8, 2.5), (8, 13.5))
    _lines(path, (2.5, 8), (13.5, 8))


def _tick(path: QtGui.QPainterPath) -> None:
    _lines(path, (2.5, 8.5), (6.5, 12.5), (13.5, 4))


def _cross(path: QtGui.QPainterPath) -> None:
    _lines(path, (4, 4), (12, 12))
    _lines(path, (12, 4), (4, 12))


def _save(path: QtGui.QPainterPath) -> None:
    _lines(path, (8, 2), (8, 10))
    _lines(path, (4.5, 6.8), (8, 10.2), (11.5, 6.8))
    _lines(path, (2.5, 11), (2.5, 13.8), (13.5, 13.8), (13.5, 11))


def _menu(path: QtGui.QPainterPath) -> None:
    for y in (4, 8, 12):
        _lines(path, (3, y), (13, y))


def _dice(path: QtGui.QPainterPath) -> None:
    path.addRoundedRect(QtCore.QRectF(2.5, 2.5, 11, 11), 2, 2)
    for x, y in ((5.6, 5.6), (10.4, 10.4), (8, 8)):
        path.addEllipse(QtCore.QPointF(x, y), 0.5, 0.5)


def _pen(path: QtGui.QPainterPath) -> None:
    _lines(path, (2.5, 13.5), (3.5, 9.8), (10.8, 2.5), (13.5, 5.2), (6.2, 12.5), (2.5, 13.5))
    _lines(path, (9, 4.3), (11.7, 7))


def _folder(path: QtGui.QPainterPath) -> None:
    _lines(path, (2, 4), (2, 13), (14, 13), (14, 5.5), (7.8, 5.5), (6.3, 3.5), (2, 3.5), (2, 4))


def _words(path: QtGui.QPainterPath) -> None:
    path.addRoundedRect(QtCore.QRectF(2, 2.5, 12, 8.5), 2, 2)
    _lines(path, (4.5, 11), (4.5, 14), (7.5, 11))
    for x in (5, 8, 11):
        path.addEllipse(QtCore.QPointF(x, 6.8), 0.4, 0.4)


_DRAWINGS: dict[str, Callable[[QtGui.QPainterPath], None]] = {
    "swap": _swap,
    "clock": _clock,
    "again": _again,
    "lock": lambda path: _padlock(path, 0),
    "unlock": lambda path: _padlock(path, 1.5),
    "plus": _plus,
    "tick": _tick,
    "cross": _cross,
    "save": _save,
    "menu": _menu,
    "dice": _dice,
    "pen": _pen,
    "folder": _folder,
    "words": _words,
}
