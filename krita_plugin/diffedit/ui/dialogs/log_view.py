"""What the local backend prints, as it comes."""

from __future__ import annotations

from ...backend.local_backend import LocalBackend
from ...qt import QtGui, QtWidgets
from ...translation import tr

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
