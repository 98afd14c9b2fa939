"""Settings: where edits run, and how masks and results are put into the document."""

from __future__ import annotations

from diffedit_protocol.connection import Connection
from diffedit_protocol.errors import BadInputError, DiffEditError

from ...app import App
from ...backend.install_errors import gigabytes
from ...backend.local_backend import LocalBackend
from ...qt import QtCore, QtGui, QtWidgets
from ...translation import LANGUAGES, tr
from ..docker.pieces import row

ROWS = 8


class LogView(QtWidgets.QPlainTextEdit):
    """Follows its end unless the artist scrolled up."""

    def __init__(self, backend: LocalBackend) -> None:
        super().__init__()
        self.setReadOnly(True)
        self.setLineWrapMode(QtWidgets.QPlainTextEdit.LineWrapMode.NoWrap)
        self.setMaximumBlockCount(backend.lines.maxlen)
        self.setFont(QtGui.QFontDatabase.systemFont(QtGui.QFontDatabase.SystemFont.FixedFont))
        self.setPlaceholderText(tr("The backend's messages appear here."))
        self.setMinimumHeight(ROWS * self.fontMetrics().lineSpacing())
        self.setPlainText("\n".join(backend.lines))
        backend.logged.connect(self.appendPlainText)


MOST_CONTEXT = 1024  # px


class SettingsDialog(QtWidgets.QDialog):
    """Every change is in force at once; there is nothing to confirm."""

    def __init__(self, app: App, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._app = app
        self.setWindowTitle(tr("DiffEdit settings"))
        self.setAttribute(QtCore.Qt.WidgetAttribute.WA_DeleteOnClose, False)
        tabs = QtWidgets.QTabWidget()
        tabs.addTab(self._backend_page(), tr("Backend"))
        tabs.addTab(self._editing_page(), tr("Editing"))
        close = QtWidgets.QDialogButtonBox(QtWidgets.QDialogButtonBox.StandardButton.Close)
        close.rejected.connect(self.close)
        layout = QtWidgets.QVBoxLayout(self)
        layout.addWidget(tabs)
        layout.addWidget(close)
        for button in self.findChildren(QtWidgets.QPushButton):
            button.setAutoDefault(False)  # else Enter after a pasted line would press the first of them as well
        self.resize(520, 520)
        app.backend.state_changed.connect(self._show_backend)
        app.link_changed.connect(lambda _: self._show_backend())
        installer = app.setup.installer
        installer.measured.connect(self._show_size)
        installer.removed.connect(self._removed)
        installer.finished.connect(lambda _: self._show_installed())
        self._show_backend()
        self._show_installed()

    # -- the backend ------------------------------------------------------------------------------------------------

    def _backend_page(self) -> QtWidgets.QWidget:
        settings = self._app.settings
        self.local = QtWidgets.QRadioButton(tr("On this machine"))
        self.remote = QtWidgets.QRadioButton(tr("On another machine"))
        (self.local if settings.backend == "local" else self.remote).setChecked(True)
        self.local.toggled.connect(lambda on: self._change(backend="local" if on else "remote"))
        self.result = QtWidgets.QLabel()
        self.result.setWordWrap(True)
        self.result.setTextInteractionFlags(QtCore.Qt.TextInteractionFlag.TextSelectableByMouse)
        self.test = QtWidgets.QPushButton(tr("Test connection"))
        self.test.clicked.connect(self._test_connection)
        page = QtWidgets.QWidget()
        layout = QtWidgets.QVBoxLayout(page)
        layout.addWidget(self.local)
        layout.addWidget(self._local_box(), 1)
        layout.addWidget(self.remote)
        layout.addWidget(self._remote_box())
        layout.addLayout(row(self.test, self.result, 1))
        return page

    def _local_box(self) -> QtWidgets.QWidget:
        settings = self._app.settings
        self.program = QtWidgets.QLineEdit(settings.program)
        found = self._app.setup.program() if not settings.program else ""
        self.program.setPlaceholderText(found or tr("not found: choose where 'diffedit' is"))
        self.program.setToolTip(tr("The program 'diffedit'; empty to use the one that is found"))
        self.program.editingFinished.connect(lambda: self._change(program=self.program.text().strip()))
        choose = QtWidgets.QPushButton(tr("Choose…"))
        choose.clicked.connect(self._choose_program)
        self.installed = QtWidgets.QLabel()
        self.installed.setWordWrap(True)
        self.install = QtWidgets.QPushButton(tr("Install…"))
        self.install.clicked.connect(lambda: self._app.install_wanted.emit())
        self.remove = QtWidgets.QPushButton(tr("Remove…"))
        self.remove.clicked.connect(self._ask_to_remove)
        self.start = QtWidgets.QPushButton(tr("Start"))
        self.start.clicked.connect(self._start)
        self.stop = QtWidgets.QPushButton(tr("Stop"))
        self.stop.clicked.connect(self._app.stop_backend)
        self.state = QtWidgets.QLabel()
        self.state.setWordWrap(True)
        with_krita = self._check("start_with_krita", tr("Start it with Krita"))
        end_with_krita = self._check("stop_with_krita", tr("Stop it with Krita, if Krita started it"))
        self.log = LogView(self._app.backend)
        box = QtWidgets.QWidget()
        layout = QtWidgets.QVBoxLayout(box)
        layout.setContentsMargins(20, 0, 0, 8)
        layout.addLayout(row(QtWidgets.QLabel(tr("Program")), self.program, 1, choose))
        layout.addLayout(row(self.installed, 1, self.install, self.remove))
        layout.addLayout(row(self.start, self.stop, self.state, 1))
        layout.addWidget(with_krita)
        layout.addWidget(end_with_krita)
        layout.addWidget(self.log, 1)
        return box

    def _remote_box(self) -> QtWidgets.QWidget:
        self.line = QtWidgets.QLineEdit()
        self.line.setPlaceholderText("diffedit://…")
        self.line.setToolTip(tr("The line printed by 'diffedit invite' on the other machine"))
        self.line.setEchoMode(QtWidgets.QLineEdit.EchoMode.PasswordEchoOnEdit)
        self.line.returnPressed.connect(self._join)
        self.join = QtWidgets.QPushButton(tr("Join"))
        self.join.clicked.connect(self._join)
        self.joined = QtWidgets.QLabel(self._remote_name())
        self.joined.setWordWrap(True)
        box = QtWidgets.QWidget()
        layout = QtWidgets.QVBoxLayout(box)
        layout.setContentsMargins(20, 0, 0, 8)
        layout.addLayout(row(self.line, 1, self.join))
        layout.addWidget(self.joined)
        return box

    def _remote_name(self) -> str:
        try:
            connection = Connection.from_file(self._app.store.remote_file)
        except DiffEditError:
            return tr("Paste the line printed by 'diffedit invite' on the other machine.")
        return tr("Connected to {address} as '{name}'", address=connection.endpoint, name=connection.name)

    def _join(self) -> None:
        try:
            self._app.join(self.line.text())
        except BadInputError as error:
            self.joined.setText(error.sentence)
            return
        self.line.clear()
        self.remote.setChecked(True)
        self.joined.setText(self._remote_name())
        self._test_connection()

    def _choose_program(self) -> None:
        dialog = QtWidgets.QFileDialog(self, tr("Choose the program 'diffedit'"))
        dialog.setFileMode(QtWidgets.QFileDialog.FileMode.ExistingFile)
        dialog.fileSelected.connect(self._use_program)
        dialog.open()

    def _use_program(self, path: str) -> None:
        self.program.setText(path)
        self._change(program=path)

    def _start(self) -> None:
        if not self._app.setup.start():
            self.state.setText(tr("The program 'diffedit' was not found. Choose it above, or install it."))

    def _show_installed(self) -> None:
        """Which backend the plugin has installed, with the size on the disk, measured on a thread of its own."""
        installation = self._app.setup.installation
        version = installation.version()
        self.remove.setEnabled(bool(version) and not self._app.setup.installer.running)
        self.install.setText(tr("Update or repair…") if version else tr("Install…"))
        if version:
            self.installed.setText(tr("Installed by this plugin: version {version}", version=version))
            self._app.setup.installer.measure(installation)
        else:
            self.installed.setText(tr("The plugin can install the backend by itself."))

    def _show_size(self, size: int) -> None:
        version = self._app.setup.installation.version()
        if version:
            self.installed.setText(
                tr("Installed by this plugin: version {version}, {size}", version=version, size=gigabytes(size))
            )

    def _ask_to_remove(self) -> None:
        question = QtWidgets.QMessageBox(self)
        question.setText(
            tr(
                "Delete the backend in '{folder}'? Models, settings and keys stay.",
                folder=self._app.setup.installation.folder,
            )
        )
        buttons = QtWidgets.QMessageBox.StandardButton
        question.setStandardButtons(buttons.Yes | buttons.No)
        question.button(buttons.Yes).clicked.connect(self._app.setup.remove)
        question.open()

    def _removed(self, sentence: str) -> None:
        self._show_installed()
        if sentence:
            self.installed.setText(sentence)

    def _show_backend(self) -> None:
        backend = self._app.backend
        words = {
            "stopped": tr("not started here"),
            "starting": tr("is starting …"),
            "running": tr("is running"),
            "failed": backend.problem,
        }
        self.state.setText(words[backend.state])
        self.start.setEnabled(not backend.started_here)
        self.stop.setEnabled(backend.started_here)

    def _test_connection(self) -> None:
        self.result.setText(tr("Testing …"))
        self._app.test_connection(lambda sentence, good: self.result.setText(("✓ " if good else "✗ ") + sentence))

    # -- editing ----------------------------------------------------------------------------------------------------

    def _editing_page(self) -> QtWidgets.QWidget:
        page = QtWidgets.QWidget()
        form = QtWidgets.QFormLayout(page)
        form.addRow(
            tr("A found mask is shown as"),
            self._combo(
                "mask_form",
                {
                    "overlay": tr("a red overlay"),
                    "selection": tr("Krita's selection"),
                    "selectionmask": tr("a selection mask"),
                },
            ),
        )
        form.addRow(
            tr("A result becomes"),
            self._combo(
                "result_form",
                {
                    "layer": tr("a layer with a selection mask"),
                    "transparency": tr("a layer with a transparency mask, to paint the old picture back"),
                    "group": tr("a group with a transparency mask"),
                },
            ),
        )
        form.addRow(self._check("add_single", tr("Add a single result at once, without asking")))
        form.addRow(self._check("show_preview", tr("Show a preview while editing")))
        context = QtWidgets.QSpinBox()
        context.setRange(0, MOST_CONTEXT)
        context.setSuffix(" px")
        context.setValue(self._app.settings.context)
        context.setToolTip(tr("How much of the picture around a selection is sent, so that the result fits in"))
        context.valueChanged.connect(lambda value: self._change(context=value))
        form.addRow(tr("Context around a selection"), context)
        languages = {"": tr("as in Krita"), **LANGUAGES}
        form.addRow(tr("Language (after a restart)"), self._combo("language", languages))
        return page

    def _check(self, name: str, text: str) -> QtWidgets.QCheckBox:
        box = QtWidgets.QCheckBox(text)
        box.setChecked(getattr(self._app.settings, name))
        box.toggled.connect(lambda on: self._change(**{name: on}))
        return box

    def _combo(self, name: str, choices: dict[str, str]) -> QtWidgets.QComboBox:
        combo = QtWidgets.QComboBox()
        for key, text in choices.items():
            combo.addItem(text, key)
        combo.setCurrentIndex(list(choices).index(getattr(self._app.settings, name)))
        combo.activated.connect(lambda index: self._change(**{name: combo.itemData(index)}))
        return combo

    def _change(self, **values: object) -> None:
        self._app.store.change(**values)
