"""The stand-in's one view: an empty canvas inside widgets as Krita has, zoomed, turned and scrolled."""

from __future__ import annotations

from diffedit.qt import QtWidgets


class KisQPainterCanvas(QtWidgets.QWidget):
    """Found by the name of its class, as Krita's own."""


class KisCanvasController(QtWidgets.QAbstractScrollArea):
    """Holds the canvas of every document here: a stand-in has one view."""

    def __init__(self) -> None:
        super().__init__()
        layout = QtWidgets.QVBoxLayout(self.viewport())
        layout.setContentsMargins(0, 0, 0, 0)
        self.canvas = KisQPainterCanvas()
        layout.addWidget(self.canvas)
        for bar in (self.horizontalScrollBar(), self.verticalScrollBar()):
            bar.setRange(-1000, 1000)


class Canvas:
    zoom, turn, mirrored = 1.0, 0.0, False

    def zoomLevel(self) -> float:
        return self.zoom

    def rotation(self) -> float:
        return self.turn

    def mirror(self) -> bool:
        return self.mirrored


class View:
    def __init__(self) -> None:
        self._canvas = Canvas()
        self.selected: list[object] = []

    def canvas(self) -> Canvas:
        return self._canvas

    def selectedNodes(self) -> list[object]:
        return self.selected
