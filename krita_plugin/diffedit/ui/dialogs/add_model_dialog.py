"""*Add model…*: a file, a folder of another program, or an id of the hub; what it is, before it is taken in."""

from __future__ import annotations

from collections.abc import Callable

from ...app import App
from ...backend.model_adder import FoundModel, ModelAdder
from ...qt import QtCore, QtWidgets
from ...translation import tr
from ..docker.pieces import row


class AddModelDialog(QtWidgets.QDialog):
    """Nothing is copied: files and folders are used where they are. A download shows its size before it begins."""

    def __init__(self, app: App, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._app = app
        self._found_of = ""
        self.adder = ModelAdder(self)
        self.setWindowTitle(tr("Add a model"))
        self.setAttribute(QtCore.Qt.WidgetAttribute.WA_DeleteOnClose, False)
        intro = QtWidgets.QLabel(
            tr(
                "A .safetensors file, a folder of ComfyUI, A1111, InvokeAI or krita-ai-diffusion (shared, nothing is "
                "copied), or an id of the Hugging Face hub such as owner/model."
            )
        )
        intro.setWordWrap(True)
        self.what = QtWidgets.QLineEdit()
        self.what.setPlaceholderText("owner/model")
        self.what.textChanged.connect(lambda _: self._refresh())
        self.what.returnPressed.connect(self._look)
        self.file = QtWidgets.QPushButton(tr("File…"))
        self.file.clicked.connect(lambda: self._choose(QtWidgets.QFileDialog.FileMode.ExistingFile))
        self.folder = QtWidgets.QPushButton(tr("Folder…"))
        self.folder.clicked.connect(lambda: self._choose(QtWidgets.QFileDialog.FileMode.Directory))
        self.state = QtWidgets.QLabel()
        self.state.setWordWrap(True)
        self.state.setTextInteractionFlags(QtCore.Qt.TextInteractionFlag.TextSelectableByMouse)
        self.bar = QtWidgets.QProgressBar()
        self.bar.setRange(0, 0)
        self.bar.setTextVisible(False)
        self.look = QtWidgets.QPushButton(tr("What is it?"))
        self.look.clicked.connect(self._look)
        self.add = QtWidgets.QPushButton(tr("Add"))
        self.add.clicked.connect(self._add)
        self.cancel = QtWidgets.QPushButton(tr("Cancel"))
        self.cancel.clicked.connect(self.adder.cancel)
        self.done = QtWidgets.QPushButton(tr("Close"))
        self.done.clicked.connect(self.close)
        layout = QtWidgets.QVBoxLayout(self)
        layout.addWidget(intro)
        layout.addLayout(row(self.what, 1, self.file, self.folder))
        layout.addWidget(self.bar)
        layout.addWidget(self.state, 1)
        layout.addLayout(row(None, self.look, self.add, self.cancel, self.done))
        for button in self.findChildren(QtWidgets.QPushButton):
            button.setAutoDefault(False)
        self.adder.looked.connect(self._show_found)
        self.adder.added.connect(self._show_added)
        self.adder.failed.connect(self._show)
        self.adder.progressed.connect(self.state.setText)
        self.resize(520, 220)
        self._refresh()

    def _choose(self, mode: QtWidgets.QFileDialog.FileMode) -> None:
        dialog = QtWidgets.QFileDialog(self, tr("Which model?"))
        dialog.setFileMode(mode)
        if mode == QtWidgets.QFileDialog.FileMode.ExistingFile:
            dialog.setNameFilter(tr("Models") + " (*.safetensors)")
        dialog.fileSelected.connect(self._use)
        dialog.open()

    def _use(self, path: str) -> None:
        self.what.setText(path)
        self._look()

    def _look(self) -> None:
        self._start(self.adder.look, tr("Looking …"))

    def _add(self) -> None:
        self._start(self.adder.add, tr("Adding …"))

    def _start(self, action: Callable[[str, str], None], doing: str) -> None:
        program, what = self._app.setup.program(), self.what.text().strip()
        if not program:
            self._show(tr("There is no backend on this machine to add a model to. Install it first."))
        elif what:
            self._found_of = ""
            self.state.setText(doing)
            action(program, what)
            self._refresh()

    def _show_found(self, found: FoundModel) -> None:
        self._found_of = self.what.text().strip()
        self._show(f"{found.name}: {found.about}")

    def _show_added(self, found: FoundModel) -> None:
        sentence = tr("Added: {name}. {about}", name=found.name, about=found.about)
        if not self._app.setup.restart() and self._app.link.state.kind == "ready":
            sentence += " " + tr("Start the backend anew to see it in the menu.")
        self._show(sentence)

    def _show(self, sentence: str) -> None:
        self.state.setText(sentence)
        self._refresh()

    def _refresh(self) -> None:
        running, what = self.adder.running, self.what.text().strip()
        for widget in (self.what, self.file, self.folder):
            widget.setEnabled(not running)
        self.bar.setVisible(running)
        self.look.setEnabled(bool(what) and not running)
        self.add.setEnabled(bool(what) and what == self._found_of and not running)  # seen before it is taken in
        self.cancel.setEnabled(running)
