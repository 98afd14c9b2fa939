"""Runs an installation on a thread of its own, so that Krita never waits, and reports by signals."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from ..qt import QtCore, Signal
from ..translation import tr
from ..vendoring import VENDOR
from .installation import Installation
from .installer import InstallCancelled, Installer, InstallError, InstallPlan, InstallProgress

LOG_LINES = 5000
CARRIED = VENDOR / "backend"


@dataclass(frozen=True)
class InstallOutcome:
    """How an installation ended. `program`: the new `diffedit`, None where it did not work.

    `sentence`: why not, for the artist; "" after a cancel.
    """

    program: Path | None
    sentence: str = ""

    @property
    def cancelled(self) -> bool:
        return self.program is None and not self.sentence


class BackendInstaller(QtCore.QObject):
    """Signals, on the thread that made it: `progressed(InstallProgress)`; `logged(line)`; `finished(InstallOutcome)`;
    `removed(sentence)`, "" where all went well; `measured(bytes)`."""

    progressed = Signal(object)
    logged = Signal(str)
    finished = Signal(object)
    removed = Signal(str)
    measured = Signal(object)  # an int of Qt has 32 bits

    def __init__(self, parent: QtCore.QObject | None = None) -> None:
        super().__init__(parent)
        self.lines: deque[str] = deque(maxlen=LOG_LINES)
        self.progress: InstallProgress | None = None
        self._installer: Installer | None = None
        self._thread: threading.Thread | None = None
        self.logged.connect(self.lines.append)
        self.progressed.connect(self._remember)
        self.finished.connect(self._ended)

    @property
    def running(self) -> bool:
        """Whether an installation is under way."""
        return self._installer is not None

    def start(self, plan: InstallPlan) -> None:
        """Begins; nothing happens where one is under way."""
        if self.running:
            return
        self.lines.clear()
        self.progress = None
        self._installer = Installer(plan, self.progressed.emit, self.logged.emit)
        self._thread = threading.Thread(target=self._run, args=(self._installer,), name="diffedit-install", daemon=True)
        self._thread.start()

    def cancel(self) -> None:
        """Ends it; `finished` comes within a second. What was downloaded is kept."""
        if self._installer is not None:
            self._installer.cancel()

    def close(self) -> None:
        """Krita ends: the installation too, and goes on at the next attempt."""
        self.cancel()
        if self._thread is not None:
            self._thread.join(5)

    def delete_old(self, installation: Installation) -> None:
        """After a good start: what the new environment replaced goes, without Krita waiting for it."""

        def work() -> None:
            try:
                installation.delete_old()
            except OSError as error:  # held by another program: it goes with the next update
                self.logged.emit(f"an older environment stays: {error}")

        threading.Thread(target=work, name="diffedit-delete-old", daemon=True).start()

    def measure(self, installation: Installation) -> None:
        """How much the installation takes on the disk: `measured` tells it."""
        work = threading.Thread(target=lambda: self.measured.emit(installation.size()), daemon=True)
        work.start()

    def remove(self, installation: Installation) -> None:
        """Deletes the installation; `removed` tells how it went."""

        def work() -> None:
            try:
                installation.remove()
                sentence = ""
            except OSError as error:
                sentence = tr(
                    "Not everything could be deleted: {reason}. Stop the backend, then try again.", reason=error
                )
            self.removed.emit(sentence)

        threading.Thread(target=work, name="diffedit-remove", daemon=True).start()

    def _run(self, installer: Installer) -> None:
        try:
            outcome = InstallOutcome(installer.run())
        except InstallCancelled:
            outcome = InstallOutcome(None)
        except InstallError as error:
            outcome = InstallOutcome(None, str(error))
        except Exception as error:  # a fault of ours must not leave the dialog waiting for ever
            self.logged.emit(repr(error))
            sentence = tr("The installation failed: {last} The log has the details.", last=str(error)[:200])
            outcome = InstallOutcome(None, sentence)
        self.finished.emit(outcome)

    def _remember(self, progress: InstallProgress) -> None:
        self.progress = progress

    def _ended(self, _: InstallOutcome) -> None:
        self._installer = None
        self.progress = None


def carried_wheel() -> Path | None:
    """The backend's wheel that came with the plugin's zip; None where the plugin was installed otherwise."""
    return next(iter(sorted(CARRIED.glob("krita_diffedit-*.whl"))), None)


def carried_version(wheel: Path) -> str:
    """The version of a wheel, by its name: NAME-VERSION-TAGS.whl."""
    return wheel.name.split("-")[1]
