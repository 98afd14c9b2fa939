"""The backend as a program on this machine: found, started, watched and stopped from the plugin."""

from __future__ import annotations

import os
import shutil
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from diffedit_protocol.private_files import data_folder

from ..qt import QtCore, Signal
from ..translation import tr

PROGRAM = "diffedit.exe" if sys.platform == "win32" else "diffedit"
LOG_LINES = 2000
STOP_MILLISECONDS = 5000
# Krita's own program starts with these set for its own Python and libraries; another Python would trip over them.
KRITAS_OWN = ("PYTHONHOME", "PYTHONPATH", "LD_LIBRARY_PATH", "QT_PLUGIN_PATH")


LocalState = Literal["stopped", "starting", "running", "failed"]


class LocalBackend(QtCore.QObject):
    """Signals: `state_changed()`; `logged(line)` for every line that the backend prints.

    `state`: "stopped", "starting" (until it says that it is ready), "running", "failed" (`problem` says why).
    """

    state_changed = Signal()
    logged = Signal(str)

    def __init__(self, parent: QtCore.QObject | None = None) -> None:
        super().__init__(parent)
        self.state: LocalState = "stopped"
        self.problem = ""
        self.lines: deque[str] = deque(maxlen=LOG_LINES)
        self._partial = b""
        self._process = QtCore.QProcess(self)
        self._process.setProcessChannelMode(QtCore.QProcess.ProcessChannelMode.MergedChannels)
        self._process.readyReadStandardOutput.connect(self._read)
        self._process.finished.connect(self._finished)
        self._process.errorOccurred.connect(self._error)
        self._stopping = False

    @property
    def started_here(self) -> bool:
        """Whether this Krita started it, and so stops it."""
        return self._process.state() != QtCore.QProcess.ProcessState.NotRunning

    def start(self, program: str) -> None:
        """Runs `program serve`; `state` tells how it goes."""
        if self.started_here:
            return
        self.lines.clear()
        self._partial, self._stopping, self.problem = b"", False, ""
        environment = QtCore.QProcessEnvironment.systemEnvironment()
        for name in KRITAS_OWN:
            environment.remove(name)
        environment.insert("PYTHONUNBUFFERED", "1")
        self._process.setProcessEnvironment(environment)
        self._log(f"$ {program} serve")
        self._become("starting")
        self._process.start(program, ["serve"])

    def stop(self, wait: bool = False) -> None:
        """Ends a backend that this Krita started, politely at first. `wait`: not before it is gone (at most 5 s)."""
        if not self.started_here:
            return
        self._stopping = True
        self._process.terminate()
        if sys.platform == "win32":  # a console program hears no WM_CLOSE
            self._process.kill()
        elif not wait:
            QtCore.QTimer.singleShot(STOP_MILLISECONDS, self._kill)
        if wait and not self._process.waitForFinished(STOP_MILLISECONDS):
            self._kill()
            self._process.waitForFinished(1000)

    def _kill(self) -> None:
        if self._stopping and self.started_here:
            self._process.kill()

    def _read(self) -> None:
        text = self._partial + bytes(self._process.readAllStandardOutput())
        *lines, self._partial = text.split(b"\n")
        for line in lines:
            self._log(line.decode(errors="replace").rstrip())

    def _log(self, line: str) -> None:
        self.lines.append(line)
        self.logged.emit(line)
        if self.state == "starting" and line.startswith("ready"):
            self._become("running")

    def _finished(self, code: int, status: QtCore.QProcess.ExitStatus) -> None:
        self._read()
        if self._partial:
            self._log(self._partial.decode(errors="replace"))
            self._partial = b""
        if self._stopping or (code == 0 and status == QtCore.QProcess.ExitStatus.NormalExit):
            self._become("stopped")
        else:
            last = next((line for line in reversed(self.lines) if line.strip()), "")
            self.problem = tr("The backend stopped unexpectedly (code {code}): {last}", code=code, last=last)
            self._become("failed")

    def _error(self, error: QtCore.QProcess.ProcessError) -> None:
        if error == QtCore.QProcess.ProcessError.FailedToStart:
            self.problem = tr(
                "'{program}' could not be started. Choose it in Settings.", program=self._process.program()
            )
            self._log(self.problem)
            self._become("failed")

    def _become(self, state: LocalState) -> None:
        self.state = state
        self.state_changed.emit()


def find_program(chosen: str = "", installed: Path | None = None) -> str:
    """The path of `diffedit`: what the artist chose, what the plugin installed, or one that is found; else ""."""
    return next(
        (str(path) for path in _candidates(chosen, installed) if os.access(path, os.X_OK) and path.is_file()), ""
    )


def _candidates(chosen: str, installed: Path | None) -> Iterator[Path]:
    if chosen:
        yield Path(chosen).expanduser()
        return
    if "DIFFEDIT_PROGRAM" in os.environ:
        yield Path(os.environ["DIFFEDIT_PROGRAM"])
    if installed is not None:
        yield installed
    noted = data_folder() / "program"  # `diffedit install-plugin` notes there where it is itself
    if noted.is_file():
        yield Path(noted.read_text(encoding="utf-8").strip())
    on_path = shutil.which(PROGRAM)
    if on_path:
        yield Path(on_path)
    home = Path.home()
    bins = "Scripts" if sys.platform == "win32" else "bin"
    yield home / ".local" / "bin" / PROGRAM
    for environment in ("krita-diffedit/.venv", ".venv", "diffedit", "venv"):
        yield home / environment / bins / PROGRAM
