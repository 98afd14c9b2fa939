"""Where the pixels of the picture lie on the canvas of the active view: its widget, and the way from image to it."""

from __future__ import annotations

from krita import Document, View

from ..model.steps import CanvasRefusal
from ..qt import QtCore, QtGui, QtWidgets
from ..translation import tr
from .documents import window_in_front

CANVAS_CLASSES = ("KisOpenGLCanvas2", "KisQPainterCanvas")
CONTROLLER_CLASS = "KisCanvasController"
POINTS_PER_INCH = 72  # Krita's zoom counts screen px per point


class CanvasView:
    """The canvas of the active view. `widget`: what Krita draws the picture on. CanvasRefusal NO_CANVAS without one.

    The API has no call for the widget, and Krita 5.1 none for the transform, so that both come from Qt's own widgets.
    """

    def __init__(self, document: Document) -> None:
        self._document = document
        window = window_in_front()
        self._view: View = None if window is None else window.activeView()
        controller = None if window is None else _controller(window.qwindow())
        widget = None if controller is None else _canvas(controller)
        if controller is None or widget is None or self._view is None:
            raise CanvasRefusal(
                "NO_CANVAS",
                tr(
                    "The canvas was not found, so the mask cannot be drawn over it. Choose another form under "
                    "'Show as'."
                ),
            )
        self._controller: QtWidgets.QAbstractScrollArea = controller
        self.widget: QtWidgets.QWidget = widget

    def image_to_widget(self) -> QtGui.QTransform:
        """From px of the image to (logical) px of `widget`, as the picture is zoomed, turned and moved now."""
        if hasattr(self._view, "flakeToCanvasTransform"):  # Krita 5.2
            to_image = self._view.flakeToImageTransform()
            return to_image.inverted()[0] * self._view.flakeToCanvasTransform()
        return self._from_scroll_bars()

    def image_size(self) -> QtCore.QSize:
        return QtCore.QSize(self._document.width(), self._document.height())

    def _from_scroll_bars(self) -> QtGui.QTransform:
        """Scaled, mirrored, then turned; the scroll bars stand at the top left of the rectangle around all that, which
        they hold to whole px: turned pictures lie within one px of it."""
        canvas, document = self._view.canvas(), self._document
        zoom = canvas.zoomLevel() * POINTS_PER_INCH
        turn = QtGui.QTransform().rotate(canvas.rotation())
        across = -1 if canvas.mirror() else 1
        shape = QtGui.QTransform.fromScale(across * zoom / document.xRes(), zoom / document.yRes()) * turn
        around = shape.mapRect(QtCore.QRectF(0, 0, document.width(), document.height()))
        left = self._controller.horizontalScrollBar().value()
        top = self._controller.verticalScrollBar().value()
        return shape * QtGui.QTransform.fromTranslate(-left - around.x(), -top - around.y())


def _controller(window: QtWidgets.QMainWindow) -> QtWidgets.QAbstractScrollArea | None:
    """What scrolls the canvas of the view in front."""
    views = window.findChild(QtWidgets.QMdiArea)
    front = None if views is None else views.currentSubWindow()
    if front is None:
        return None
    areas = front.findChildren(QtWidgets.QAbstractScrollArea)
    return next((area for area in areas if area.metaObject().className() == CONTROLLER_CLASS), None)


def _canvas(controller: QtWidgets.QAbstractScrollArea) -> QtWidgets.QWidget | None:
    widgets = controller.viewport().findChildren(QtWidgets.QWidget)
    return next((widget for widget in widgets if widget.metaObject().className() in CANVAS_CLASSES), None)
