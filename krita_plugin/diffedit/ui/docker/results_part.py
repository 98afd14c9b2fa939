"""The results: thumbnails to choose from, one more, accept and discard."""

from __future__ import annotations

import html

from ...app import App
from ...model.session import EditSession
from ...model.variations import Variation
from ...qt import QtCore, QtGui, QtWidgets, Signal
from ...translation import tr
from .icons import icon
from .pieces import SPACING, ElidedLabel, quiet, row, tab_before

SMALLEST, LARGEST = 72, 128  # px of a tile: three stand in a row of a docker of 260 px
GAP = 4


class Tile(QtWidgets.QAbstractButton):
    """One result. Click or Space shows it, double click or Enter accepts it; its tooltip shows it larger."""

    accepted = Signal()

    def __init__(self, variation: Variation | None, number: int, selected: bool) -> None:
        """`variation` None: the tile that asks for one more."""
        super().__init__()
        self._variation = variation
        self._number = number
        self._selected = selected
        self.resize(LARGEST, LARGEST)
        self.setFocusPolicy(QtCore.Qt.FocusPolicy.StrongFocus)
        tip = tr("One more, with a new seed") if variation is None else self._describe(variation)
        self.setToolTip(tip)
        self.setAccessibleName(tip)

    def event(self, event: QtCore.QEvent) -> bool:
        if self._variation is None or not isinstance(event, QtGui.QHelpEvent):
            return super().event(event)
        if event.type() != QtCore.QEvent.Type.ToolTip:
            return super().event(event)
        QtWidgets.QToolTip.showText(event.globalPos(), self.enlarged(self._variation), self)
        return True

    def enlarged(self, variation: Variation) -> str:
        """The tooltip: the whole thumbnail above its description, as Qt's rich text."""
        text = "<br>".join(html.escape(line) for line in self.toolTip().splitlines())
        picture, ratio = variation.thumbnail, self.devicePixelRatioF()
        size = f"width={round(picture.width() / ratio)} height={round(picture.height() / ratio)}"
        return f'<img src="data:image/png;base64,{_png(picture)}" {size}><br>{text}'

    def mouseDoubleClickEvent(self, event: QtGui.QMouseEvent) -> None:
        self.accepted.emit()

    def keyPressEvent(self, event: QtGui.QKeyEvent) -> None:
        if event.key() in (QtCore.Qt.Key.Key_Return, QtCore.Qt.Key.Key_Enter) and self._variation is not None:
            self.accepted.emit()
        else:
            super().keyPressEvent(event)

    def paintEvent(self, event: QtGui.QPaintEvent) -> None:
        painter = QtGui.QPainter(self)
        painter.setRenderHint(QtGui.QPainter.RenderHint.SmoothPixmapTransform)
        painter.setRenderHint(QtGui.QPainter.RenderHint.Antialiasing)
        palette = self.palette()
        painter.fillRect(self.rect(), palette.color(QtGui.QPalette.ColorRole.Base))
        if self._variation is None:
            side = self.width() // 3
            spot = QtCore.QRect(0, 0, side, side)
            spot.moveCenter(self.rect().center())
            icon("plus").paint(painter, spot)
        else:
            self._paint_picture(painter, self._variation)
        if self._selected or self.hasFocus() or self.underMouse():
            strong = self._selected or self.hasFocus()
            pen = QtGui.QPen(palette.color(QtGui.QPalette.ColorRole.Highlight), 2 if strong else 1)
            painter.setPen(pen)
            painter.setBrush(QtCore.Qt.BrushStyle.NoBrush)
            painter.drawRect(QtCore.QRectF(self.rect()).adjusted(1, 1, -1, -1))
        painter.end()

    def _paint_picture(self, painter: QtGui.QPainter, variation: Variation) -> None:
        picture = variation.thumbnail
        size = picture.size().scaled(self.size(), QtCore.Qt.AspectRatioMode.KeepAspectRatio)
        target = QtCore.QRect(QtCore.QPoint(0, 0), size)
        target.moveCenter(self.rect().center())
        painter.drawImage(target, picture)
        badge = {"waiting": str(self._number), "shown": "●", "added": "✓"}[variation.state]
        corner = QtCore.QRectF(2, 2, 15, 15)
        painter.setPen(QtCore.Qt.PenStyle.NoPen)
        painter.setBrush(QtGui.QColor(0, 0, 0, 150))
        painter.drawRoundedRect(corner, 3, 3)
        painter.setPen(QtCore.Qt.GlobalColor.white)
        painter.drawText(corner, QtCore.Qt.AlignmentFlag.AlignCenter, badge)

    def _describe(self, variation: Variation) -> str:
        state = {
            "waiting": tr("Click to show it in the picture, double-click to accept it"),
            "shown": tr("Shown in the picture; accept it to keep it"),
            "added": tr("Added as a layer"),
        }[variation.state]
        return f"{variation.name}\n{state}"


def _png(image: QtGui.QImage) -> str:
    data = QtCore.QByteArray()
    buffer = QtCore.QBuffer(data)
    buffer.open(QtCore.QIODevice.OpenModeFlag.WriteOnly)
    image.save(buffer, "PNG")
    buffer.close()
    return bytes(data.toBase64()).decode()


class Tiles(QtWidgets.QWidget):
    """As many tiles in a row as there is room for, as many rows as it takes."""

    def __init__(self) -> None:
        super().__init__()
        self.tiles: list[Tile] = []

    def replace(self, tiles: list[Tile], following: QtWidgets.QWidget) -> None:
        """Shows these; Tab reaches them before `following`, and the place that had the focus keeps it."""
        focused = next((index for index, tile in enumerate(self.tiles) if tile.hasFocus()), -1)
        old, self.tiles = self.tiles, tiles
        for tile in tiles:
            tile.setParent(self)
        tab_before(following, tiles)
        for index, tile in enumerate(tiles):
            tile.show()
            if index == focused:
                tile.setFocus()
        for tile in old:
            tile.hide()
            tile.deleteLater()
        self._flow()

    def resizeEvent(self, event: QtGui.QResizeEvent) -> None:
        super().resizeEvent(event)
        self._flow()

    def _flow(self) -> None:
        columns = max(1, min(len(self.tiles), (self.width() + GAP) // (SMALLEST + GAP)))
        side = max(SMALLEST, min(LARGEST, (self.width() + GAP) // columns - GAP))
        for index, tile in enumerate(self.tiles):
            tile.setGeometry(index % columns * (side + GAP), index // columns * (side + GAP), side, side)
        self.setFixedHeight(-(-len(self.tiles) // columns) * (side + GAP))


class ResultsPart(QtWidgets.QWidget):
    def __init__(self, app: App) -> None:
        super().__init__()
        self._app = app
        self.tiles = Tiles()
        self.accept = QtWidgets.QPushButton(tr("Accept"))
        self.accept.setToolTip(tr("Keep the chosen result as a layer above the source"))
        self.accept.clicked.connect(lambda: app.results.accept(app.session))
        self.discard = QtWidgets.QPushButton(tr("Discard"))
        self._discard_tip = tr("Discard the results that were not accepted")
        self.discard.clicked.connect(lambda: app.results.discard(app.session))
        self.seed = quiet(ElidedLabel())
        layout = QtWidgets.QVBoxLayout(self)
        layout.setContentsMargins(SPACING, 0, 0, SPACING)
        layout.setSpacing(SPACING)
        layout.addWidget(self.tiles)
        layout.addWidget(self.seed)
        layout.addLayout(row(self.accept, 1, self.discard, 1))

    def refresh(self, session: EditSession) -> None:
        tiles = []
        for index, variation in enumerate(session.variations):
            tile = Tile(variation, index + 1, index == session.selected)
            tile.clicked.connect(lambda _=False, index=index: self._app.results.show(session, index))
            tile.accepted.connect(lambda index=index: self._accept(session, index))
            tiles.append(tile)
        if session.variations:
            more = Tile(None, 0, False)
            more.clicked.connect(lambda: self._app.results.more(session))
            tiles.append(more)
        self.tiles.replace(tiles, self.accept)
        chosen = session.variations[session.selected] if session.selected >= 0 else None
        idle = session.activity is None
        self.accept.setEnabled(self._app.results.can_accept(session))
        self.discard.setEnabled(idle and bool(session.variations))
        shown = any(variation.state == "shown" for variation in session.variations)
        self.discard.setText(tr("Remove layer") if shown else tr("Discard"))
        self.discard.setToolTip(
            tr("Take the shown result out of the picture and drop the others") if shown else self._discard_tip
        )
        self.seed.set_text("" if chosen is None else tr("seed {seed}", seed=chosen.seed))

    def note(self, session: EditSession) -> str:
        if not session.variations:
            return ""
        inputs = session.variations[max(0, session.selected)].inputs
        return f"{inputs.source} → {inputs.target}"

    def _accept(self, session: EditSession, index: int) -> None:
        session.offer(session.variations, index)
        self._app.results.accept(session)
