"""The report on plugin, Krita and backend, to be copied into a bug report. It holds no key and no prompt."""

from __future__ import annotations

import platform
import sys

import msgpack
import zmq
from diffedit_protocol import PROTOCOL_VERSION, __version__

from ...app import App
from ...qt import QtCore, QtGui, QtWidgets
from ...translation import artists_language, tr

LOG_LINES = 40


def report(app: App) -> str:
    """The report as text."""
    state = app.link.state
    krita, document = app.canvas.description()
    lines = [
        f"DiffEdit plugin {__version__}, protocol {PROTOCOL_VERSION}",
        f"{krita}, Qt {QtCore.qVersion()}, language {artists_language()}",
        f"Python {platform.python_version()} at {sys.prefix}",
        f"pyzmq {zmq.pyzmq_version()} (libzmq {zmq.zmq_version()}), msgpack {'.'.join(map(str, msgpack.version))}",
        f"System {platform.platform()}",
        "",
        f"Backend: {app.settings.backend}, {state.kind}" + (f" at {state.host}" if state.host else ""),
    ]
    if state.error is not None:
        lines += [f"  {state.error.code}: {state.error.sentence}", f"  {state.error.detail}"]
    if state.info is not None:
        info = state.info
        lines += [
            f"  version {info.version} on {info.device}",
            f"  models {', '.join(model.name for model in info.models)}",
            f"  capabilities {', '.join(info.capabilities)}",
        ]
    backend = app.backend
    lines += [f"  started by this Krita: {backend.started_here}, {backend.state} {backend.problem}".rstrip(), ""]
    lines += [document, "", f"The last {LOG_LINES} lines of the backend that was started here:"]
    lines += list(backend.lines)[-LOG_LINES:] or ["(none)"]
    return "\n".join(lines)


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
        hint = QtWidgets.QLabel(tr("Use this to find out what is wrong. It contains no keys and none of your texts."))
        hint.setWordWrap(True)
        layout = QtWidgets.QVBoxLayout(self)
        layout.addWidget(hint)
        layout.addWidget(self.text)
        layout.addWidget(buttons)
        self.resize(640, 480)
        self.refresh()

    def refresh(self) -> None:
        self.text.setPlainText(report(self._app))
