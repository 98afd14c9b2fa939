"""*Add model…*: runs `diffedit add-model` beside Krita, first to look and then to add."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from ..qt import QtCore, Signal
from ..translation import tr
from .local_backend import KRITAS_OWN


@dataclass(frozen=True)
class FoundModel:
    """What `add-model` says of a file, a folder or a hub id.

    kind: "model", "adapter", "vae", "program" (a folder of another program) or "download". about: what it is, how
    large, whether it fits. fits: "", "whole", "offloaded" or "too large". download: bytes to fetch.
    """

    name: str
    kind: str
    about: str
    fits: str = ""
    download: int = 0

    @classmethod
    def from_map(cls, values: dict[str, Any]) -> FoundModel:
        """ValueError when something is missing."""
        try:
            return cls(
                str(values["name"]),
                str(values["kind"]),
                str(values["about"]),
                str(values.get("fits", "")),
                int(values.get("download", 0)),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"the answer has no {error}") from error


class ModelAdder(QtCore.QObject):
    """Signals: `looked(FoundModel)`; `added(FoundModel)`; `failed(sentence)`; `progressed(line)` while it downloads."""

    looked = Signal(object)
    added = Signal(object)
    failed = Signal(str)
    progressed = Signal(str)

    def __init__(self, parent: QtCore.QObject | None = None) -> None:
        super().__init__(parent)
        self._process = QtCore.QProcess(self)
        self._process.readyReadStandardError.connect(self._read_progress)
        self._process.finished.connect(self._finished)
        self._process.errorOccurred.connect(self._could_not_start)
        self._looking = False
        self._cancelled = False
        self._errors = b""

    @property
    def running(self) -> bool:
        """Whether the command is under way."""
        return self._process.state() != QtCore.QProcess.ProcessState.NotRunning

    def look(self, program: str, what: str) -> None:
        """Asks what `what` is; nothing is changed."""
        self._run(program, what, looking=True)

    def add(self, program: str, what: str) -> None:
        """Takes it in: files and folders stay where they are, a hub id is downloaded; one that broke off goes on."""
        self._run(program, what, looking=False)

    def cancel(self) -> None:
        """Ends the command; a download goes on at the next attempt."""
        if self.running:
            self._cancelled = True
            self._process.kill()

    def _run(self, program: str, what: str, *, looking: bool) -> None:
        if self.running:
            return
        self._looking, self._cancelled, self._errors = looking, False, b""
        environment = QtCore.QProcessEnvironment.systemEnvironment()
        for name in KRITAS_OWN:
            environment.remove(name)
        environment.insert("PYTHONUTF8", "1")
        self._process.setProcessEnvironment(environment)
        # `--` : a name that begins with a dash is a name.
        self._process.start(program, ["add-model", "--json", *(["--look"] if looking else []), "--", what])

    def _read_progress(self) -> None:
        text = bytes(self._process.readAllStandardError())
        self._errors += text
        line = text.replace(b"\r", b"\n").strip().rpartition(b"\n")[2]
        if line:
            self.progressed.emit(line.decode(errors="replace").strip())

    def _finished(self, code: int, status: QtCore.QProcess.ExitStatus) -> None:
        self._read_progress()
        answer = bytes(self._process.readAllStandardOutput()).decode(errors="replace")
        if self._cancelled:
            self.failed.emit(tr("Cancelled. What was downloaded is kept."))
            return
        if code or status != QtCore.QProcess.ExitStatus.NormalExit:
            lines = [line.strip() for line in self._errors.decode(errors="replace").splitlines() if line.strip()]
            self.failed.emit((lines[-1] if lines else tr("The backend's program ended.")).removeprefix("diffedit: "))
            return
        try:
            found = FoundModel.from_map(json.loads(answer))
        except ValueError as error:
            self.failed.emit(tr("The backend's program gave no answer that can be read: {reason}", reason=error))
            return
        (self.looked if self._looking else self.added).emit(found)

    def _could_not_start(self, error: QtCore.QProcess.ProcessError) -> None:
        if error == QtCore.QProcess.ProcessError.FailedToStart:
            program = self._process.program()
            self.failed.emit(tr("'{program}' could not be started. Choose it in Settings.", program=program))
