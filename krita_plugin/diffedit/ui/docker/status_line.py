"""One line on how the backend is, and a menu behind it."""

from __future__ import annotations

from diffedit_protocol.replies import ModelInfo

from ...model.payload import LinkState
from ...model.sentences import status_line
from ...qt import QtCore, QtGui, QtWidgets, Signal
from ...translation import tr
from .pieces import ElidedLabel, row, tool_button

DOT = 9  # px
MB, GB = 10**6, 10**9
GREEN, AMBER, RED = QtGui.QColor(0x4C, 0xAF, 0x50), QtGui.QColor(0xE0, 0xA0, 0x30), QtGui.QColor(0xD0, 0x50, 0x40)
COLOURS = {"ready": GREEN, "connecting": AMBER, "lost": AMBER, "down": RED, "refused": RED}


def _shown(name: str) -> str:
    """A name as a menu shows it: there, & marks a key."""
    return name.replace("&", "&&")


def _entry(model: ModelInfo) -> str:
    """A model in the menu: its name, and at the right its kind and the memory that it takes."""
    if model.fault:
        return _shown(model.name) + "\t" + tr("cannot be loaded")
    memory = ""
    if model.memory:
        memory = f"{model.memory / GB:.1f} GB" if model.memory >= GB else f"{model.memory / MB:.0f} MB"
    facts = " · ".join(part for part in (model.family if model.family != "other" else "", memory) if part)
    return _shown(model.name) + (f"\t{facts}" if facts else "")


class Dot(QtWidgets.QWidget):
    """The backend's state as a colour. Its words stand beside it, so that the colour is never alone."""

    def __init__(self) -> None:
        super().__init__()
        self._colour = AMBER
        self.setFixedSize(DOT, DOT)

    def set_colour(self, colour: QtGui.QColor) -> None:
        self._colour = colour
        self.update()

    def paintEvent(self, event: QtGui.QPaintEvent) -> None:
        painter = QtGui.QPainter(self)
        painter.setRenderHint(QtGui.QPainter.RenderHint.Antialiasing)
        painter.setPen(QtCore.Qt.PenStyle.NoPen)
        painter.setBrush(self._colour)
        painter.drawEllipse(self.rect())
        painter.end()


class StatusLine(QtWidgets.QWidget):
    """`chosen(name)`: "model:NAME", "reconnect", "start", "stop", "install", "settings" or
    "diagnostics" of its menu."""

    chosen = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self._state = LinkState("connecting")
        self._model = ""
        self._started_here = False
        self.dot = Dot()
        self.text = ElidedLabel()
        self.button = tool_button("menu", tr("Backend, model and settings"), self._open_menu)
        self.start = QtWidgets.QToolButton()
        self.start.setText(tr("Start"))
        self.start.setToolTip(tr("Start the local backend"))
        self.start.setFocusPolicy(QtCore.Qt.FocusPolicy.TabFocus)
        self.start.clicked.connect(lambda: self.chosen.emit("start"))
        self.start.hide()
        self.setLayout(row(self.dot, self.text, 1, self.start, self.button))

    def show_state(self, state: LinkState, model: str, started_here: bool, starting: bool = False) -> None:
        """`model`: the artist's choice, "" for the backend's; `started_here`: this Krita can stop the backend, which is
        not up yet while it is `starting`."""
        self._state, self._model, self._started_here = state, model, started_here
        self.dot.set_colour(COLOURS[state.kind])
        info = state.info
        tip = state.error.sentence if state.error is not None else ""
        if info is not None:
            tip = tr("DiffEdit {version} on {device}", version=info.version, device=info.device)
        starting = starting and state.kind != "ready"
        self.start.setVisible(state.kind == "down" and state.local and not (started_here or starting))
        if starting:
            self.dot.set_colour(AMBER)
        self.text.set_text(tr("Starting …") if starting else status_line(state, model), tip)

    def menu(self) -> QtWidgets.QMenu:
        """The menu, built for the state of the moment."""
        menu = QtWidgets.QMenu(self)
        info = self._state.info
        if info is not None and info.models:
            menu.addSection(tr("Model"))
            current = self._model or info.models[0].name
            for model in info.models:
                action = menu.addAction(_entry(model))
                action.setCheckable(True)
                action.setChecked(model.name == current)
                action.setEnabled(not model.fault)
                action.setToolTip(model.fault)
                action.triggered.connect(lambda _=False, name=model.name: self.chosen.emit(f"model:{name}"))
            if info.model(current) is None:
                absent = menu.addAction(_shown(current) + "\t" + tr("missing"))
                absent.setCheckable(True)
                absent.setChecked(True)
                absent.setEnabled(False)
            menu.setToolTipsVisible(True)
            menu.addSeparator()
        entries = [("reconnect", tr("Reconnect"))]
        if self._started_here:
            entries.append(("stop", tr("Stop the local backend")))
        elif self._state.kind != "ready":
            entries.append(("start", tr("Start the local backend")))
        if self._state.local:
            entries.append(("add model", tr("Add a model…")))
            entries.append(("install", tr("Install the backend…")))
        entries += [("settings", tr("Settings…")), ("diagnostics", tr("Diagnostics…"))]
        for name, text in entries:
            menu.addAction(text).triggered.connect(lambda _=False, name=name: self.chosen.emit(name))
        menu.setAttribute(QtCore.Qt.WidgetAttribute.WA_DeleteOnClose)
        return menu

    def _open_menu(self) -> None:
        self.menu().popup(self.button.mapToGlobal(self.button.rect().bottomLeft()))
