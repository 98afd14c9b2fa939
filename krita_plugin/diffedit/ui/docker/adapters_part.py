"""LoRAs and textual inversions of an edit: added by name, each with its weight."""

from __future__ import annotations

import dataclasses

from diffedit_protocol.messages import Adapter
from diffedit_protocol.replies import AdapterInfo, ModelInfo

from ...app import App
from ...model.inputs import EditInputs
from ...model.payload import LinkState
from ...model.session import EditSession
from ...qt import QtCore, QtGui, QtWidgets, Signal
from ...translation import tr
from .pieces import SPACING, ElidedLabel, Numbers, SliderRow, quiet, row, tab_before, tool_button

WEIGHTS = Numbers(-1.0, 2.0, 0.05, 2, typed=(-4.0, 4.0))  # what is used, and what the backend takes
FOLDER = "adapters"  # in the data folder
NAME = QtCore.Qt.ItemDataRole.UserRole


class AdapterRow(QtWidgets.QWidget):
    """One that was chosen. `weighed(weight)`, `removed()`."""

    weighed = Signal(float)
    removed = Signal()

    def __init__(self, adapter: Adapter) -> None:
        super().__init__()
        self.name = ElidedLabel()
        self.name.set_text(adapter.name)
        self.remove = tool_button("cross", tr("Remove '{name}' from the list", name=adapter.name), self.removed.emit)
        tip = tr("Its strength: 1 is full, 0 is off, negative values invert it")
        self.weight = SliderRow(tr("Weight"), WEIGHTS, tip)
        for control in (self.weight.slider, self.weight.box):
            control.setAccessibleName(tr("Weight of {name}", name=adapter.name))
        self.weight.changed.connect(lambda weight: self.weighed.emit(round(weight, 2)))
        self.remark = quiet(QtWidgets.QLabel())
        self.remark.setWordWrap(True)
        layout = QtWidgets.QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addLayout(row(self.name, 1, self.remove))
        layout.addWidget(self.weight)
        layout.addWidget(self.remark)

    @property
    def stops(self) -> tuple[QtWidgets.QWidget, ...]:
        """What Tab reaches, in order."""
        return self.remove, self.weight.slider, self.weight.box

    def show_remark(self, text: str) -> None:
        self.remark.setText(text)
        self.remark.setVisible(bool(text))


class NameChoice(QtWidgets.QComboBox):
    """A list to choose from by name; arrow keys show the list instead of choosing blindly. Nothing stays chosen."""

    def __init__(self) -> None:
        super().__init__()
        self.setEditable(True)
        self.setInsertPolicy(QtWidgets.QComboBox.InsertPolicy.NoInsert)
        self.setSizePolicy(QtWidgets.QSizePolicy.Policy.Ignored, QtWidgets.QSizePolicy.Policy.Fixed)
        completer = self.completer()
        completer.setFilterMode(QtCore.Qt.MatchFlag.MatchContains)
        completer.setCompletionMode(QtWidgets.QCompleter.CompletionMode.PopupCompletion)

    def keyPressEvent(self, event: QtGui.QKeyEvent) -> None:
        if event.key() in (QtCore.Qt.Key.Key_Down, QtCore.Qt.Key.Key_Up):
            self.showPopup()
        else:
            super().keyPressEvent(event)

    def wheelEvent(self, event: QtGui.QWheelEvent) -> None:
        event.ignore()


class AdaptersPart(QtWidgets.QWidget):
    def __init__(self, app: App) -> None:
        super().__init__()
        self._app = app
        self.rows: list[AdapterRow] = []
        self._offered: dict[str, AdapterInfo] = {}
        self._listed: tuple[tuple[AdapterInfo, ...], ModelInfo | None] | None = None
        self._model: ModelInfo | None = None
        self._link = LinkState("connecting")
        self.hint = quiet(QtWidgets.QLabel())
        self.hint.setWordWrap(True)
        self.choice = NameChoice()
        self.choice.lineEdit().setPlaceholderText(tr("Add by name"))
        self.choice.setToolTip(tr("Type a part of its name, or choose from the list"))
        self.choice.setAccessibleName(tr("Add by name"))
        self.choice.activated.connect(lambda index: self._add(self.choice.itemData(index, NAME)))
        self.choice.lineEdit().returnPressed.connect(self._add_typed)
        self.folder = tool_button("folder", tr("Open the adapters folder"), self._open_folder)
        self.again = tool_button("again", tr("Refresh the list"), app.look_again)
        self._list = QtWidgets.QVBoxLayout()
        self._list.setContentsMargins(0, 0, 0, 0)
        self._list.setSpacing(SPACING)
        layout = QtWidgets.QVBoxLayout(self)
        layout.setContentsMargins(SPACING, 0, 0, SPACING)
        layout.setSpacing(4)
        layout.addLayout(self._list)
        layout.addWidget(self.hint)
        layout.addLayout(row(self.choice, 1, self.folder, self.again, spacing=2))

    def show_offer(self, link: LinkState, model: str) -> None:
        """Shows what the backend has. `model`: the artist's choice, "" for the backend's own."""
        self._link = link
        info = link.info
        self._model = info.model(model) if info is not None else None
        self._offered = {adapter.name: adapter for adapter in info.known_adapters} if info is not None else {}
        self.folder.setVisible(link.local)
        self.refresh(self._app.session)

    def refresh(self, session: EditSession) -> None:
        inputs = session.inputs
        if [line.name.text_whole for line in self.rows] != [adapter.name for adapter in inputs.adapters]:
            self._replace_rows(inputs)
        for line, adapter in zip(self.rows, inputs.adapters, strict=True):
            line.weight.set_value(adapter.weight)
            line.show_remark(self._remark(adapter, inputs))
        self._list_available({adapter.name for adapter in inputs.adapters})
        hint = self._hint()
        self.hint.setText(hint)
        self.hint.setVisible(bool(hint))

    def note(self, session: EditSession) -> str:
        """What the heading says: which are in force, with the weights that are not 1."""
        return " · ".join(
            adapter.name if adapter.weight == 1 else f"{adapter.name} {adapter.weight:g}"
            for adapter in session.inputs.adapters
        )

    def _remark(self, adapter: Adapter, inputs: EditInputs) -> str:
        """What keeps an adapter from being of use, "" for nothing."""
        if self._link.info is None:
            return ""
        known = self._offered.get(adapter.name)
        if known is None:
            return tr("This backend does not have it: put its file there, or remove it from the list.")
        if not known.fits(self._model):
            return _trouble(known)
        texts = f"{inputs.source} {inputs.target}".casefold()
        if known.word and known.word.casefold() not in texts and known.name.casefold() not in texts:
            return tr("Write {word} in a text, or it has no effect.", word=known.word)
        return ""

    def _hint(self) -> str:
        if self._link.info is None:
            return tr("The list is known once a backend is connected.")
        if self._offered or self.rows:
            return ""
        if self._link.local:
            return tr(
                "A LoRA adds a style or a subject to the model. There is none yet: put .safetensors files into "
                "the folder, then refresh."
            )
        return tr(
            "A LoRA adds a style or a subject to the model. {where} has none: .safetensors files go into the "
            "adapters folder there.",
            where=self._link.host,
        )

    def _replace_rows(self, inputs: EditInputs) -> None:
        for line in self.rows:
            self._list.removeWidget(line)
            line.hide()
            line.deleteLater()
        self.rows = []
        for index, adapter in enumerate(inputs.adapters):
            line = AdapterRow(adapter)
            line.weighed.connect(lambda weight, index=index: self._weigh(index, weight))
            line.removed.connect(lambda index=index: self._remove(index))
            self._list.addWidget(line)
            self.rows.append(line)
        tab_before(self.choice, [stop for line in self.rows for stop in line.stops])

    def _list_available(self, chosen: set[str]) -> None:
        """Fills the list with what can still be added; what does not fit is there, but cannot be chosen."""
        left = tuple(known for known in self._offered.values() if known.name not in chosen)
        if (left, self._model) == self._listed:
            return  # a keystroke in a text, most often
        self._listed = (left, self._model)
        typed = self.choice.currentText()
        self.choice.clear()
        for known in left:
            fits = known.fits(self._model)
            self.choice.addItem(known.name, known.name)
            index = self.choice.count() - 1
            kind = tr("textual inversion: {word}", word=known.word) if known.word else known.kind
            about = " · ".join(part for part in (kind, known.family) if part)
            self.choice.setItemData(index, about if fits else _trouble(known), QtCore.Qt.ItemDataRole.ToolTipRole)
            self.choice.model().item(index).setEnabled(fits)
        self.choice.setCurrentIndex(-1)
        self.choice.setEditText(typed)
        self.choice.setEnabled(self.choice.count() > 0)

    def _add(self, name: str | None) -> None:
        inputs = self._app.session.inputs
        self.choice.setCurrentIndex(-1)
        self.choice.setEditText("")
        fits = (
            name is not None and name in self._offered and self._offered[name].fits(self._model)
        )  # Qt reports disabled ones too
        if name is not None and fits and name not in (adapter.name for adapter in inputs.adapters):
            self._app.session.change_inputs(adapters=(*inputs.adapters, Adapter(name)))

    def _add_typed(self) -> None:
        """Enter: the one that has the typed words in its name. With several the list is shown."""
        typed = self.choice.currentText().strip().casefold()
        if not typed:
            return
        names = [self.choice.itemData(index, NAME) for index in range(self.choice.count())]
        found = [name for name in names if typed in name.casefold() and self._offered[name].fits(self._model)]
        exact = [name for name in found if name.casefold() == typed]
        if len(exact or found) == 1:
            self._add((exact or found)[0])
        elif found:
            self.choice.completer().complete()
        else:
            self.hint.setText(tr("Nothing of that name fits the model."))
            self.hint.show()

    def _weigh(self, index: int, weight: float) -> None:
        adapters = list(self._app.session.inputs.adapters)
        adapters[index] = dataclasses.replace(adapters[index], weight=weight)
        self._app.session.change_inputs(adapters=tuple(adapters))

    def _remove(self, index: int) -> None:
        adapters = self._app.session.inputs.adapters
        self._app.session.change_inputs(adapters=adapters[:index] + adapters[index + 1 :])
        following = self.rows[min(index, len(self.rows) - 1)].remove if self.rows else self.choice
        following.setFocus()

    def _open_folder(self) -> None:
        folder = self._app.store.folder / FOLDER
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        QtGui.QDesktopServices.openUrl(QtCore.QUrl.fromLocalFile(str(folder)))


def _trouble(known: AdapterInfo) -> str:
    """Why an adapter cannot be used with the model."""
    if known.kind == "damaged":
        return tr("Its file is damaged.")
    return tr("Made for {family}: it does not fit the model.", family=known.family)
