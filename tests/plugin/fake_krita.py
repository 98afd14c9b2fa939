"""A stand-in for Krita's Python module: documents of 8-bit sRGB, layers, selection masks, selections, an empty canvas.

What it does is what Krita 5.1.5 does: `krita_behaviours.py` is run against both. What the plugin does not use is not
here, and asking for it fails loudly.
"""

from __future__ import annotations

import copy
import enum
import re
import zipfile
from collections.abc import Callable

import numpy as np
from diffedit.qt import QtCore, QtGui, QtWidgets, Signal
from fake_canvas import KisCanvasController, View
from numpy.typing import NDArray

SRGB = ("RGBA", "U8", "sRGB-elle-V2-srgbtrc.icc")


class Raster:
    """Pixels on an endless plane, 0 where nothing was written."""

    def __init__(self, channels: int) -> None:
        self.x = self.y = 0
        self.pixels: NDArray[np.uint8] = np.zeros((0, 0, channels), np.uint8)

    def read(self, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        out = np.zeros((height, width, self.pixels.shape[2]), np.uint8)
        left, top = max(x, self.x), max(y, self.y)
        right = min(x + width, self.x + self.pixels.shape[1])
        bottom = min(y + height, self.y + self.pixels.shape[0])
        if left < right and top < bottom:
            here = self.pixels[top - self.y : bottom - self.y, left - self.x : right - self.x]
            out[top - y : bottom - y, left - x : right - x] = here
        return out

    def write(self, pixels: NDArray[np.uint8], x: int, y: int) -> None:
        height, width = pixels.shape[:2]
        if self.pixels.size:
            left, top = min(x, self.x), min(y, self.y)
            right = max(x + width, self.x + self.pixels.shape[1])
            bottom = max(y + height, self.y + self.pixels.shape[0])
        else:
            left, top, right, bottom = x, y, x + width, y + height
        whole = self.read(left, top, right - left, bottom - top)
        whole[y - top : y - top + height, x - left : x - left + width] = pixels
        self.x, self.y, self.pixels = left, top, whole

    def bounds(self) -> tuple[int, int, int, int]:
        """Left, top, width and height of what is not 0 in the last channel (alpha)."""
        rows, columns = np.nonzero(self.pixels[..., -1])
        if not rows.size:
            return (0, 0, 0, 0)
        left, top = int(columns.min()), int(rows.min())
        width, height = int(columns.max()) + 1 - left, int(rows.max()) + 1 - top
        return (self.x + left, self.y + top, width, height)


class Selection:
    def __init__(self) -> None:
        self._raster = Raster(1)

    def select(self, x: int, y: int, width: int, height: int, value: int) -> None:
        self._raster.write(np.full((height, width, 1), value, np.uint8), x, y)

    def setPixelData(self, data: bytes, x: int, y: int, width: int, height: int) -> None:
        self._raster.write(np.frombuffer(data, np.uint8).reshape(height, width, 1), x, y)

    def pixelData(self, x: int, y: int, width: int, height: int) -> QtCore.QByteArray:
        return QtCore.QByteArray(self._raster.read(x, y, width, height).tobytes())

    def x(self) -> int:
        return self._raster.bounds()[0]

    def y(self) -> int:
        return self._raster.bounds()[1]

    def width(self) -> int:
        return self._raster.bounds()[2]

    def height(self) -> int:
        return self._raster.bounds()[3]

    def duplicate(self) -> Selection:
        return copy.deepcopy(self)

    def add(self, other: Selection) -> None:
        self._combine(other, np.maximum)

    def intersect(self, other: Selection) -> None:
        self._combine(other, np.minimum)

    def grow(self, x_radius: int, y_radius: int) -> None:
        """Every pixel becomes the largest value in the ellipse around it."""
        x, y, width, height = self._raster.bounds()
        x, y, width, height = x - x_radius, y - y_radius, width + 2 * x_radius, height + 2 * y_radius
        source = self._raster.read(x - x_radius, y - y_radius, width + 2 * x_radius, height + 2 * y_radius)
        grown = np.zeros((height, width, 1), np.uint8)
        for dy in range(-y_radius, y_radius + 1):
            for dx in range(-x_radius, x_radius + 1):
                if (dx / x_radius) ** 2 + (dy / y_radius) ** 2 <= 1:
                    moved = source[y_radius + dy : y_radius + dy + height, x_radius + dx : x_radius + dx + width]
                    grown = np.maximum(grown, moved)
        self._raster.write(grown, x, y)

    def _combine(self, other: Selection, rule: Callable[..., NDArray[np.uint8]]) -> None:
        boxes = [selection._raster.bounds() for selection in (self, other)]
        left, top = min(box[0] for box in boxes), min(box[1] for box in boxes)
        right, bottom = max(box[0] + box[2] for box in boxes), max(box[1] + box[3] for box in boxes)
        area = (left, top, right - left, bottom - top)
        self._raster.write(rule(self._raster.read(*area), other._raster.read(*area)), left, top)


class Node(QtCore.QObject):
    def __init__(self, name: str, kind: str) -> None:
        super().__init__()
        self._name, self._kind = name, kind
        self._id = QtCore.QUuid.createUuid()
        self._parent: Node | None = None
        self._children: list[Node] = []
        self._frames = {0: Raster(4)}  # by keyframe; one at 0 alone: not animated
        self._now = 0  # of a root: the frame that its document shows
        self._selection: Selection | None = None
        self._visible, self._locked, self._inherits = True, False, False
        self._style = ""
        self._position = QtCore.QPoint(0, 0)

    @property
    def _raster(self) -> Raster:
        """What is shown now."""
        top = self
        while top._parent is not None:
            top = top._parent
        return self._frames[max(time for time in self._frames if time <= top._now)]

    def animated(self) -> bool:
        return len(self._frames) > 1

    def hasKeyframeAtTime(self, time: int) -> bool:
        return self.animated() and time in self._frames

    def duplicate(self) -> Node:
        twin = self.copied()
        twin._id = QtCore.QUuid.createUuid()
        return twin

    def name(self) -> str:
        return self._name

    def setName(self, name: str) -> None:
        self._name = name

    def type(self) -> str:
        return self._kind

    def uniqueId(self) -> QtCore.QUuid:
        return self._id

    def parentNode(self) -> Node | None:
        return self._parent

    def childNodes(self) -> list[Node]:
        return list(self._children)

    def addChildNode(self, child: Node, above: Node | None) -> bool:
        """Above `above`, or on top of all; True even where nothing was added."""
        holds_layers = self._kind == "grouplayer" or child._kind.endswith("mask")
        if holds_layers and (above is None or above in self._children):
            place = len(self._children) if above is None else self._children.index(above) + 1
            self._children.insert(place, child)
            child._parent = self
        return True

    def remove(self) -> bool:
        self._parent._children.remove(self)
        self._parent = None
        return True

    def visible(self) -> bool:
        return self._visible

    def setVisible(self, visible: bool) -> None:
        self._visible = visible

    def locked(self) -> bool:
        return self._locked

    def setLocked(self, locked: bool) -> None:
        self._locked = locked

    def opacity(self) -> int:
        return 255

    def setOpacity(self, opacity: int) -> None:
        if opacity != 255:
            raise NotImplementedError("This stand-in knows no opacity.")

    def blendingMode(self) -> str:
        return "normal"

    def inheritAlpha(self) -> bool:
        return self._inherits

    def setInheritAlpha(self, on: bool) -> None:
        self._inherits = on

    def projectionPixelData(self, x: int, y: int, width: int, height: int) -> QtCore.QByteArray:
        """Opaque and wholly transparent pixels are laid over each other; a selection mask changes nothing."""
        seen = self._raster.read(x, y, width, height)
        for child in self._children:
            if child._visible and not child._kind.endswith("mask"):
                above = np.frombuffer(bytes(child.projectionPixelData(x, y, width, height)), np.uint8)
                above = above.reshape(height, width, 4)
                seen = np.where(above[..., 3:] > 0, above, seen)
        return QtCore.QByteArray(seen.tobytes())

    def layerStyleToAsl(self) -> str:
        return self._style

    def setLayerStyleFromAsl(self, asl: str) -> None:
        """Only noted: nothing is drawn."""
        self._style = asl

    def passThroughMode(self) -> bool:
        return False

    def colorModel(self) -> str:
        return SRGB[0]

    def colorDepth(self) -> str:
        return SRGB[1]

    def colorProfile(self) -> str:
        return SRGB[2]

    def bounds(self) -> QtCore.QRect:
        return QtCore.QRect(*self._raster.bounds())

    def position(self) -> QtCore.QPoint:
        return self._position

    def move(self, x: int, y: int) -> None:
        step = QtCore.QPoint(x, y) - self._position
        self._position = QtCore.QPoint(x, y)
        for raster in self._frames.values():
            raster.x += step.x()
            raster.y += step.y()

    def pixelData(self, x: int, y: int, width: int, height: int) -> QtCore.QByteArray:
        return QtCore.QByteArray(self._raster.read(x, y, width, height).tobytes())

    def setPixelData(self, data: bytes, x: int, y: int, width: int, height: int) -> None:
        self._raster.write(np.frombuffer(bytes(data), np.uint8).reshape(height, width, 4), x, y)

    def selection(self) -> Selection | None:
        return self._selection

    def setSelection(self, selection: Selection) -> None:
        self._selection = selection

    def copied(self) -> Node:
        """With the same id, as Document.clone makes them."""
        twin = Node(self._name, self._kind)
        twin._id, twin._frames, twin._now = self._id, copy.deepcopy(self._frames), self._now
        twin._selection = copy.deepcopy(self._selection)
        twin._visible, twin._locked, twin._position = self._visible, self._locked, self._position
        twin._style = self._style
        for child in self._children:
            twin.addChildNode(child.copied(), None)
        return twin


class InfoObject(QtCore.QObject):
    def __init__(self) -> None:
        super().__init__()
        self._properties: dict[str, object] = {}

    def setProperty(self, name: str, value: object) -> None:
        self._properties[name] = value


class Document(QtCore.QObject):
    def __init__(self, width: int, height: int, name: str) -> None:
        super().__init__()
        self._size, self._name, self._file_name = (width, height), name, ""
        self._root: Node | None = Node("root", "grouplayer")
        self._active: Node | None = None
        self._selection: Selection | None = None
        self._annotations: dict[str, bytes] = {}
        self._modified = False

    def width(self) -> int:
        return self._size[0]

    def height(self) -> int:
        return self._size[1]

    def xRes(self) -> float:
        return 72.0

    def yRes(self) -> float:
        return 72.0

    def name(self) -> str:
        return self._name

    def fileName(self) -> str:
        return self._file_name

    def colorModel(self) -> str:
        return SRGB[0]

    def colorDepth(self) -> str:
        return SRGB[1]

    def colorProfile(self) -> str:
        return SRGB[2]

    def rootNode(self) -> Node | None:
        return self._root

    def topLevelNodes(self) -> list[Node]:
        return self._root.childNodes()

    def activeNode(self) -> Node | None:
        return self._active

    def setActiveNode(self, node: Node) -> None:
        self._active = node

    def createNode(self, name: str, kind: str) -> Node:
        return Node(name, kind)

    def createSelectionMask(self, name: str) -> Node:
        return Node(name, "selectionmask")

    def currentTime(self) -> int:
        return self._root._now

    def setCurrentTime(self, time: int) -> None:
        self._root._now = time

    def playBackStartTime(self) -> int:
        return 0

    def playBackEndTime(self) -> int:
        return 100

    def fullClipRangeEndTime(self) -> int:
        return 100

    def setColorSpace(self, model: str, depth: str, profile: str) -> None:
        if (model, depth, profile) != SRGB:
            raise NotImplementedError("This stand-in knows 8-bit sRGB only.")

    def selection(self) -> Selection | None:
        """A new wrapper around the document's own selection."""
        if self._selection is None:
            return None
        wrapper = Selection()
        wrapper._raster = self._selection._raster
        return wrapper

    def setSelection(self, selection: Selection | None) -> None:
        self._selection = selection

    def clone(self) -> Document:
        twin = Document(*self._size, self._name)
        twin._root = self._root.copied()
        twin._selection = copy.deepcopy(self._selection)
        return twin

    def resizeImage(self, x: int, y: int, width: int, height: int) -> None:
        self._size = (width, height)

    def thumbnail(self, width: int, height: int) -> QtGui.QImage:
        pixels = bytes(self._root.projectionPixelData(0, 0, *self._size))
        image = QtGui.QImage(pixels, *self._size, 4 * self._size[0], QtGui.QImage.Format.Format_ARGB32)
        return image.scaled(width, height)

    def projection(self, x: int, y: int, width: int, height: int) -> QtGui.QImage:
        pixels = bytes(self._root.projectionPixelData(x, y, width, height))
        return QtGui.QImage(pixels, width, height, 4 * width, QtGui.QImage.Format.Format_ARGB32).copy()

    def exportImage(self, path: str, options: InfoObject) -> bool:
        """Writes nothing."""
        return False

    def refreshProjection(self) -> None:
        """What is seen is always asked anew here."""

    def crop(self, x: int, y: int, width: int, height: int) -> None:
        self._size = (width, height)

    def setAnnotation(self, key: str, description: str, data: QtCore.QByteArray) -> None:
        self._annotations[key] = bytes(data)

    def annotation(self, key: str) -> QtCore.QByteArray:
        return QtCore.QByteArray(self._annotations.get(key, b""))

    def setBatchmode(self, on: bool) -> None:
        """Nothing here asks questions."""

    def waitForDone(self) -> None:
        """Nothing here is computed in the background."""

    def tryBarrierLock(self) -> bool:
        return True

    def unlock(self) -> None:
        """See tryBarrierLock."""

    def modified(self) -> bool:
        return self._modified

    def setModified(self, modified: bool) -> None:
        self._modified = modified

    def close(self) -> bool:
        application = Krita.instance()
        if self in application._documents:
            application._documents.remove(self)
            if application._active is self:
                application._active = None
        self._root = None
        return True


class Notifier(QtCore.QObject):
    imageClosed = Signal(str)
    viewCreated = Signal(object)
    applicationClosing = Signal()

    def setActive(self, active: bool) -> None:
        """Always is."""


class Window(QtCore.QObject):
    def __init__(self) -> None:
        super().__init__()
        self._window = QtWidgets.QMainWindow()
        self._views = QtWidgets.QMdiArea()
        self._view, self.controller = View(), KisCanvasController()
        self._views.addSubWindow(self.controller).showMaximized()
        self._window.setCentralWidget(self._views)
        self._actions: dict[str, QtCore.QObject] = {}

    def qwindow(self) -> QtWidgets.QMainWindow:
        return self._window

    def activeView(self) -> View:
        return self._view

    def createAction(self, name: str, text: str, menu: str) -> QtCore.QObject:
        from diffedit.qt import QAction

        self._actions[name] = QAction(text, self._window)
        Krita.instance()._actions[name] = self._actions[name]
        return self._actions[name]


class Krita(QtCore.QObject):
    _the_one: Krita | None = None

    @staticmethod
    def instance() -> Krita:
        if Krita._the_one is None:
            Krita._the_one = Krita()
        return Krita._the_one

    def __init__(self) -> None:
        super().__init__()
        self._documents: list[Document] = []
        self._active: Document | None = None
        self._quiet = False
        self._notifier = Notifier()
        self._window: Window | None = None
        self._actions: dict[str, QtCore.QObject] = {}
        self.extensions: list[Extension] = []
        self.factories: list[DockWidgetFactory] = []

    def createDocument(
        self, width: int, height: int, name: str, model: str, depth: str, profile: str, resolution: float
    ) -> Document:
        if (model, depth, profile) != SRGB:
            raise NotImplementedError(f"This stand-in knows 8-bit sRGB only, not {model} {depth} {profile}.")
        document = Document(width, height, name)
        background = document.createNode("Background", "paintlayer")
        document.rootNode().addChildNode(background, None)
        document.setActiveNode(background)
        self._documents.append(document)
        return document

    def openDocument(self, path: str) -> Document:
        """A .kra whose one layer has keyframes and no pixels; other files are not read."""
        with zipfile.ZipFile(path) as archive:
            (name,) = [name for name in archive.namelist() if name.endswith(".keyframes.xml")]
            times = re.findall(r'<keyframe time="(\d+)"', archive.read(name).decode())
            size = re.search(r'width="(\d+)" height="(\d+)"', archive.read("maindoc.xml").decode())
        document = self.createDocument(int(size[1]), int(size[2]), "", *SRGB, 72.0)
        document.topLevelNodes()[0]._frames = {int(time): Raster(4) for time in times}
        return document

    def batchmode(self) -> bool:
        return self._quiet

    def setBatchmode(self, quiet: bool) -> None:
        self._quiet = quiet

    def documents(self) -> list[Document]:
        return list(self._documents)

    def activeDocument(self) -> Document | None:
        return self._active

    def setActiveDocument(self, document: Document) -> None:
        self._active = document

    def activeWindow(self) -> Window:
        if self._window is None:
            self._window = Window()
        return self._window

    def windows(self) -> list[Window]:
        return [] if self._window is None else [self._window]

    def notifier(self) -> Notifier:
        return self._notifier

    def action(self, name: str) -> QtCore.QObject | None:
        return self._actions.get(name)

    def addExtension(self, extension: Extension) -> None:
        self.extensions.append(extension)

    def addDockWidgetFactory(self, factory: DockWidgetFactory) -> None:
        self.factories.append(factory)

    def version(self) -> str:
        return "5.1.5"


class Extension(QtCore.QObject):
    pass


class DockWidget(QtWidgets.QDockWidget):
    pass


class DockWidgetFactoryBase:
    class DockPosition(enum.Enum):  # scoped, as in Krita 6: in Krita 5 both ways to write it are understood
        DockRight = 3


class DockWidgetFactory:
    def __init__(self, name: str, place: DockWidgetFactoryBase.DockPosition, kind: type[DockWidget]) -> None:
        self.name, self.kind = name, kind
