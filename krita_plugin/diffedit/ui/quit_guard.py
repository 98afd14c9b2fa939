"""Asks before Krita ends while an edit is under way."""

from __future__ import annotations

from ..app import App
from ..qt import QtCore, QtWidgets
from ..translation import tr


class QuitGuard(QtCore.QObject):
    """Watches Krita's windows. The last one is closed only when the artist knows what becomes of their edit.

    No event loop is nested in the closing of a window: the window stays open, and is closed again when the answer is
    *Quit Krita*.
    """

    def __init__(self, app: App, parent: QtCore.QObject | None = None) -> None:
        super().__init__(parent)
        self._app = app
        self._windows: list[QtWidgets.QMainWindow] = []
        self._answered = False
        self.box: QtWidgets.QMessageBox | None = None

    def watch(self, window: QtWidgets.QMainWindow) -> None:
        self._windows.append(window)
        window.installEventFilter(self)
        window.destroyed.connect(lambda _=None: self._forget(window))

    def eventFilter(self, window: QtCore.QObject, event: QtCore.QEvent) -> bool:
        if event.type() != QtCore.QEvent.Type.Close or self._answered:
            return False
        if any(other != window and other.isVisible() for other in self._windows):
            return False
        names = [session.name for session in self._app.jobs.edited()]
        if not names:
            return False
        event.ignore()
        if self.box is None:
            self._ask(self._windows[0], names)
        return True

    def _ask(self, window: QtWidgets.QMainWindow, names: list[str]) -> None:
        if self._app.backend.started_here and self._app.settings.stop_with_krita:
            rest = tr("The backend stops with Krita, so that edit would be lost.")
        else:
            rest = tr("It goes on at the backend, and its result is fetched when Krita is started again.")
        box = self.box = QtWidgets.QMessageBox(window)
        box.setIcon(QtWidgets.QMessageBox.Icon.Question)
        box.setWindowTitle("DiffEdit")
        box.setText(tr("An edit is under way: {documents}.", documents=", ".join(names)))
        box.setInformativeText(rest)
        leave = box.addButton(tr("Quit Krita"), QtWidgets.QMessageBox.ButtonRole.DestructiveRole)
        stay = box.addButton(tr("Stay"), QtWidgets.QMessageBox.ButtonRole.RejectRole)
        box.setDefaultButton(stay)
        box.setEscapeButton(stay)
        leave.clicked.connect(lambda _=False: QtCore.QTimer.singleShot(0, lambda: self._leave(window)))
        box.finished.connect(lambda _=0: self._close_box())
        box.open()

    def _close_box(self) -> None:
        if self.box is not None:
            self.box.deleteLater()
            self.box = None

    def _leave(self, window: QtWidgets.QMainWindow) -> None:
        self._answered = True
        if not window.close():  # Krita asked about an unsaved picture, and the artist stayed
            self._answered = False

    def _forget(self, window: QtWidgets.QMainWindow) -> None:
        self._windows = [other for other in self._windows if other is not window]
