"""What Krita takes hold of: the menu and the docker. Besides `canvas/`, the only file that imports `krita`."""

from __future__ import annotations

from krita import DockWidget, DockWidgetFactory, DockWidgetFactoryBase, Extension, Krita, Window

from .actions import MENU, Action, actions
from .app import App
from .qt import QAction, QtCore, QtWidgets, sip
from .ui.dialogs.add_model_dialog import AddModelDialog
from .ui.dialogs.diagnostics import DiagnosticsDialog
from .ui.dialogs.frames_dialog import FramesDialog
from .ui.dialogs.install_dialog import InstallDialog
from .ui.dialogs.settings_dialog import SettingsDialog
from .ui.docker.panel import EditPanel
from .ui.quit_guard import QuitGuard

DOCKER_ID = "diffedit_docker"


class DiffEditExtension(Extension):
    """Makes the menu in every window and the dialogs; owns the app."""

    def __init__(self, parent: QtCore.QObject) -> None:
        super().__init__(parent)
        self.app = App(parent=self)
        self._quit_guard = QuitGuard(self.app, self)
        self._dialogs: list[QtWidgets.QDialog] = []
        self._menus: list[tuple[QtWidgets.QMenu, list[tuple[QAction, bool]]]] = []
        self.app.settings_wanted.connect(lambda: self._open(SettingsDialog))
        self.app.add_model_wanted.connect(lambda: self._open(AddModelDialog))
        self.app.frames_wanted.connect(lambda: self._open(FramesDialog))
        self.app.install_wanted.connect(lambda: self._open(InstallDialog))
        self.app.diagnostics_wanted.connect(lambda: self._open(DiagnosticsDialog))

    def setup(self) -> None:
        """Called once, before there is a window."""
        notifier = Krita.instance().notifier()
        notifier.setActive(True)
        notifier.imageClosed.connect(lambda *_: QtCore.QTimer.singleShot(0, self.app.forget_closed))
        notifier.viewCreated.connect(lambda *_: QtCore.QTimer.singleShot(0, self.app.look))
        notifier.applicationClosing.connect(self.app.close)
        self.app.open()

    def createActions(self, window: Window) -> None:
        """Called once for every window."""
        self._quit_guard.watch(window.qwindow())
        qwindow = window.qwindow()  # Krita deletes the Window itself after this call
        root = window.createAction(MENU, "DiffEdit", "tools")
        menu = QtWidgets.QMenu(MENU, qwindow)
        menu.setTitle("DiffEdit")
        root.setMenu(menu)
        entries = []
        for action in actions(self.app):
            made = window.createAction(action.id, action.text, f"tools/{MENU}")
            made.triggered.connect(lambda _=False, action=action: self._do(action, qwindow))
            entries.append((made, action.begins_group))
        menu.aboutToShow.connect(lambda: self._arrange(menu, entries))
        # Held here, as window, menu and entries hold each other only: Python's collector takes such a ring apart, and
        # in Krita 6 the menu's slot crashed then.
        self._menus = [kept for kept in self._menus if not sip.isdeleted(kept[0])] + [(menu, entries)]

    def _arrange(self, menu: QtWidgets.QMenu, entries: list[tuple[QAction, bool]]) -> None:
        """Our order, with a line above each group. Krita fills the menu after `createActions`, whenever it builds its
        menus anew, and from 5.3 on by the alphabet."""
        shown = menu.actions()
        lines = [action for action in shown if action.isSeparator()]
        if lines and [action for action in shown if action not in lines] == [action for action, _ in entries]:
            return
        for line in lines:
            menu.removeAction(line)
            line.deleteLater()
        for action, begins_group in entries:
            if begins_group:
                menu.addSeparator()
            menu.addAction(action)  # one that is there already moves to the end

    def _do(self, action: Action, qwindow: QtWidgets.QMainWindow) -> None:
        docker = qwindow.findChild(QtWidgets.QDockWidget, DOCKER_ID)
        if action.shows_docker and docker is not None:
            docker.setVisible(True)
            docker.raise_()
            if self.app.session.inputs.complaint():
                docker.panel.focus_words()
        action.do()

    def _open(self, kind: type[QtWidgets.QDialog]) -> None:
        """Shows the dialog, the one that is open already if there is one. Not modal: Krita goes on."""
        self._dialogs = [dialog for dialog in self._dialogs if dialog.isVisible()]
        dialog = next((dialog for dialog in self._dialogs if isinstance(dialog, kind)), None)
        if dialog is None:
            dialog = kind(self.app, Krita.instance().activeWindow().qwindow())
            self._dialogs.append(dialog)
        dialog.show()
        dialog.raise_()
        dialog.activateWindow()


class DiffEditDocker(DockWidget):
    """The docker of one window."""

    def __init__(self) -> None:
        super().__init__()
        self.setWindowTitle("DiffEdit")
        self.panel = EditPanel(extension().app)
        self.setWidget(self.panel)

    def canvasChanged(self, canvas: object) -> None:
        """Another view is active, or none."""
        # Krita calls this while the change is under way: what is active is known one turn later.
        QtCore.QTimer.singleShot(0, self._look)

    def _look(self) -> None:
        extension().app.look()
        self.panel.follow_window()


_extension: DiffEditExtension | None = None


def extension() -> DiffEditExtension:
    """The one extension; there from `register` on."""
    assert _extension is not None
    return _extension


def register() -> None:
    """Hands the extension and the docker to Krita."""
    global _extension
    application = Krita.instance()
    _extension = DiffEditExtension(application)
    application.addExtension(_extension)
    right = DockWidgetFactoryBase.DockPosition.DockRight
    application.addDockWidgetFactory(DockWidgetFactory(DOCKER_ID, right, DiffEditDocker))
