"""*Install the backend here*: what will be done, how far it is, what went wrong, and the log behind a button."""

from __future__ import annotations

from pathlib import Path

from ...app import App
from ...backend.accelerators import NEEDS, Accelerator, accelerators_of, detect
from ...backend.backend_installer import InstallOutcome, carried_version, carried_wheel
from ...backend.install_errors import gigabytes
from ...backend.installation import Installation
from ...backend.installer import InstallPlan, InstallProgress
from ...qt import QtCore, QtGui, QtWidgets
from ...translation import tr
from ..docker.pieces import row

STEPS = 1000
LOG_ROWS = 12


def accelerator_names() -> dict[Accelerator, str]:
    """What the choices are called."""
    return {
        "cpu": tr("the processor (slow, works everywhere)"),
        "cuda": tr("an NVIDIA card (CUDA)"),
        "rocm": tr("an AMD card (ROCm)"),
        "xpu": tr("an Intel card (XPU)"),
        "mps": tr("the Apple processor (MPS)"),
    }


class InstallDialog(QtWidgets.QDialog):
    """Closing it does not end an installation; opening it again shows how far it is."""

    def __init__(self, app: App, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._app = app
        self.setWindowTitle(tr("Install the DiffEdit backend"))
        self.setAttribute(QtCore.Qt.WidgetAttribute.WA_DeleteOnClose, False)
        self.intro = _wrapped(
            tr(
                "The backend is the program that edits pictures. It gets a Python environment of its own in the folder "
                "below; nothing else on this machine is changed, and Settings can remove it again."
            )
        )
        self.accelerator = QtWidgets.QComboBox()
        names = accelerator_names()
        for kind in accelerators_of():
            self.accelerator.addItem(names[kind], kind)
        self.accelerator.setCurrentIndex(self.accelerator.findData(app.setup.installation.accelerator() or detect()))
        self.accelerator.currentIndexChanged.connect(lambda _: self._show_needs())
        self.folder = QtWidgets.QLineEdit(str(app.setup.installation.folder))
        self.folder.setToolTip(tr("Where the backend is installed"))
        self.folder.editingFinished.connect(self._show_needs)
        self.choose = QtWidgets.QPushButton(tr("Choose…"))
        self.choose.clicked.connect(self._choose_folder)
        self.needs = _wrapped("")
        self.index = QtWidgets.QLineEdit(app.settings.index_url)
        self.index.setPlaceholderText("https://pypi.org/simple")
        self.index.setToolTip(tr("A mirror of the Python package index; empty for the public one"))
        self.torch_index = QtWidgets.QLineEdit(app.settings.torch_index_url)
        self.torch_index.setPlaceholderText("https://download.pytorch.org/whl")
        self.torch_index.setToolTip(tr("A mirror of torch's packages; empty for the public one"))
        self.state = _wrapped("")
        self.state.setTextInteractionFlags(QtCore.Qt.TextInteractionFlag.TextSelectableByMouse)
        self.bar = QtWidgets.QProgressBar()
        self.bar.setTextVisible(False)
        self.log = QtWidgets.QPlainTextEdit()
        self.log.setReadOnly(True)
        self.log.setLineWrapMode(QtWidgets.QPlainTextEdit.LineWrapMode.NoWrap)
        self.log.setFont(QtGui.QFontDatabase.systemFont(QtGui.QFontDatabase.SystemFont.FixedFont))
        self.log.setMinimumHeight(LOG_ROWS * self.log.fontMetrics().lineSpacing())
        self.log.setPlainText("\n".join(app.setup.installer.lines))
        self.log.hide()
        self.show_log = QtWidgets.QPushButton(tr("Show log"))
        self.show_log.setCheckable(True)
        self.show_log.toggled.connect(self.log.setVisible)
        self.install = QtWidgets.QPushButton(tr("Install"))
        self.install.clicked.connect(self._start)
        self.cancel = QtWidgets.QPushButton(tr("Cancel"))
        self.cancel.clicked.connect(app.setup.installer.cancel)
        self.done = QtWidgets.QPushButton(tr("Close"))
        self.done.clicked.connect(self.close)
        form = QtWidgets.QFormLayout()
        form.addRow(tr("Compute on"), self.accelerator)
        form.addRow(tr("Folder"), row(self.folder, 1, self.choose))
        form.addRow(tr("Package index"), self.index)
        form.addRow(tr("Index of torch"), self.torch_index)
        layout = QtWidgets.QVBoxLayout(self)
        layout.addWidget(self.intro)
        layout.addLayout(form)
        layout.addWidget(self.needs)
        layout.addWidget(self.bar)
        layout.addWidget(self.state)
        layout.addWidget(self.log, 1)
        layout.addLayout(row(self.show_log, None, self.install, self.cancel, self.done))
        for button in self.findChildren(QtWidgets.QPushButton):
            button.setAutoDefault(False)
        app.setup.installer.progressed.connect(self._show_progress)
        app.setup.installer.logged.connect(self.log.appendPlainText)
        app.setup.installer.finished.connect(self._show_outcome)
        self.resize(560, 360)
        self._show_needs()
        self._show_running()
        if app.setup.installer.progress is not None:
            self._show_progress(app.setup.installer.progress)

    # -- before -----------------------------------------------------------------------------------------------------

    def _choose_folder(self) -> None:
        dialog = QtWidgets.QFileDialog(self, tr("Where to install the backend?"))
        dialog.setFileMode(QtWidgets.QFileDialog.FileMode.Directory)
        dialog.fileSelected.connect(self._use_folder)
        dialog.open()

    def _use_folder(self, path: str) -> None:
        self.folder.setText(str(Path(path) / "diffedit-backend"))
        self._show_needs()

    def _kind(self) -> Accelerator:
        kind: Accelerator = self.accelerator.currentData()
        return kind

    def _show_needs(self) -> None:
        needs = NEEDS[self._kind()]
        self.needs.setText(
            tr(
                "About {download} will be downloaded; it takes about {disk} on the disk.",
                download=gigabytes(needs.download),
                disk=gigabytes(needs.disk),
            )
        )

    def _start(self) -> None:
        wheel = carried_wheel()
        if wheel is None:
            self.state.setText(
                tr(
                    "This plugin was not installed from its zip and carries no backend. Install the zip, or the "
                    "backend by 'pip install krita-diffedit[backend]'."
                )
            )
            return
        folder = self.folder.text().strip()
        self._app.store.change(
            index_url=self.index.text().strip(),
            torch_index_url=self.torch_index.text().strip(),
            backend_folder="" if folder == str(Installation().folder) else folder,
        )
        settings = self._app.settings
        plan = InstallPlan(
            self._app.setup.installation,
            carried_version(wheel),
            wheel,
            self._kind(),
            settings.index_url,
            settings.torch_index_url,
        )
        self.state.setText("")
        self.log.clear()
        self._app.setup.installer.start(plan)
        self._show_running()

    # -- while and after --------------------------------------------------------------------------------------------

    def _show_running(self) -> None:
        running = self._app.setup.installer.running
        for widget in (self.accelerator, self.folder, self.choose, self.index, self.torch_index, self.install):
            widget.setEnabled(not running)
        self.cancel.setEnabled(running)
        self.bar.setVisible(running)
        installed = self._app.setup.installation.version()
        wheel = carried_wheel()
        if not installed:
            self.install.setText(tr("Install"))
        elif wheel is not None and carried_version(wheel) != installed:
            self.install.setText(tr("Update"))
        else:
            self.install.setText(tr("Repair"))

    def _show_progress(self, progress: InstallProgress) -> None:
        self.state.setText(progress.sentence)
        if progress.share is None:
            self.bar.setRange(0, 0)
        else:
            self.bar.setRange(0, STEPS)
            self.bar.setValue(int(STEPS * progress.share))

    def _show_outcome(self, outcome: InstallOutcome) -> None:
        self._show_running()
        if outcome.program is not None:
            self.state.setText(tr("The backend is installed and is started."))
        elif outcome.cancelled:
            self.state.setText(tr("Cancelled. What was downloaded is kept; Install goes on from there."))
        else:
            self.state.setText(outcome.sentence)


def _wrapped(text: str) -> QtWidgets.QLabel:
    label = QtWidgets.QLabel(text)
    label.setWordWrap(True)
    return label
