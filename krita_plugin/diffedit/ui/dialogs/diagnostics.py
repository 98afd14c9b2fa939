"""Shows the report on plugin, Krita and backend, and copies it."""

from __future__ import annotations

from ...app import App
from ...model.diagnostics import report
from ...qt import QtGui, QtWidgets
from ...translation import tr


class DiagnosticsDialog(QtWidgets.QDialog):
    def __init__(self, app: App, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._app = app
        self.setWindowTitle(tr("DiffEdit diagnostics"))
        self.text = QtWidgets.QPlainTextEdit()
        self.text.setReadOnly(True)
        self.text.setFont(QtGui.QFontDatabase.systemFont(QtGui.QFontDatabase.SystemFont.FixedFont))
        buttons = QtWidgets.QDialogButtonBox(QtWidgets.QDialogButtonBox.StandardButton.Close)
        role = QtWidgets.QDialogButtonBox.ButtonRole.ActionRole
        copy = buttons.addButton(tr("Copy"), role)
        copy.clicked.connect(lambda: QtWidgets.QApplication.clipboard().setText(self.text.toPlainText()))
        refresh = buttons.addButton(tr("Refresh"), role)
        refresh.clicked.connect(self.refresh)
        buttons.rejected.connect(self.close)
        hint = QtWidgets.QLabel(tr("This helps to find what is wrong. It holds no keys and none of your texts."))
        hint.setWordWrap(True)
        layout = QtWidgets.QVBoxLayout(self)
        layout.addWidget(hint)
        layout.addWidget(self.text)
        layout.addWidget(buttons)
        self.resize(640, 480)
        self.refresh()

    def refresh(self) -> None:
        self.text.setPlainText(report(self._app))
