"""The backend on this machine: which program it is, its installation from the plugin, its update and restart."""

from __future__ import annotations

from pathlib import Path

from diffedit_protocol import __version__

from ..model.payload import LinkState
from ..model.sentences import Notice, of_no_backend, of_other_version
from ..model.settings import Store
from ..qt import QtCore, Signal
from .backend_installer import BackendInstaller, InstallOutcome, carried_version, carried_wheel
from .installation import Installation
from .local_backend import LocalBackend, find_program


class BackendSetup(QtCore.QObject):
    """`noticed(Notice)`: something that the artist should know, with the ways out; None: what was said is over."""

    noticed = Signal(object)

    def __init__(self, store: Store, backend: LocalBackend, parent: QtCore.QObject | None = None) -> None:
        super().__init__(parent)
        self.installer = BackendInstaller(self)
        self._store = store
        self._backend = backend
        self._start_once_stopped = False
        self._delete_old_once_ready = False
        self._reported = ""
        self.installer.finished.connect(self._installed)
        backend.state_changed.connect(self._backend_changed)

    @property
    def installation(self) -> Installation:
        """What the plugin installed, or would install, by the folder of the settings."""
        folder = self._store.settings.backend_folder
        return Installation(Path(folder) if folder else None)

    def program(self) -> str:
        """The `diffedit` to start: chosen, installed by the plugin, or found on this machine; "" for none."""
        return find_program(self._store.settings.program, self.installation.program())

    @property
    def can_install(self) -> bool:
        """Whether the plugin carries the backend's wheel, as it does when its zip was imported."""
        return carried_wheel() is not None

    def start(self) -> bool:
        """Starts the backend; False, with a notice, where there is none."""
        program = self.program()
        if program:
            self._backend.start(program)
        else:
            self.noticed.emit(of_no_backend())
        return bool(program)

    def restart(self) -> bool:
        """Starts a backend of this Krita anew, so that it sees what was added; False where this Krita runs none."""
        if not self._backend.started_here:
            return False
        self._start_once_stopped = True
        self._backend.stop()
        return True

    def remove(self) -> None:
        """Deletes what the plugin installed, once its backend is stopped."""
        if self._backend.started_here:
            self._backend.stop(wait=True)
        self.installer.remove(self.installation)

    def close(self) -> None:
        """Krita ends."""
        self.installer.close()

    def watch(self, state: LinkState) -> None:
        """The link's state changed: say that there is no backend yet, or that its version is another."""
        if not state.local:
            self._compare_versions(state)
        elif state.kind == "down" and not self.program() and not self.installer.running:
            if self._reported != "nothing":
                self._reported = "nothing"  # once: a notice that was dismissed does not come back by itself
                self.noticed.emit(of_no_backend())
        else:
            if state.kind == "ready" and self._delete_old_once_ready:
                self._delete_old_once_ready = False
                self.installer.delete_old(self.installation)
            self._compare_versions(state)

    def _compare_versions(self, state: LinkState) -> None:
        info = state.info
        if info is None or info.version == __version__ or self._reported == info.version:
            return
        self._reported = info.version
        wheel = carried_wheel()
        ours = self.installation.program() is not None and state.local
        can_update = ours and wheel is not None and carried_version(wheel) != self.installation.version()
        self.noticed.emit(of_other_version(state, info.version, __version__, can_update))

    def _installed(self, outcome: InstallOutcome) -> None:
        if outcome.program is None:
            if outcome.sentence:
                self.noticed.emit(Notice("error", outcome.sentence, "", ("install",)))
            return
        self._store.change(backend="local", program="")
        self._delete_old_once_ready = True
        self._reported = ""
        self.noticed.emit(None)  # while it starts, which takes its time, nobody need look for a backend any more
        if not self.restart():
            self.start()

    def _backend_changed(self) -> None:
        if self._start_once_stopped and not self._backend.started_here:
            self._start_once_stopped = False
            self.start()
