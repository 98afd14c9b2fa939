"""A backend of one's own in a folder of its own, for self-tests and benchmarks: started, waited for, stopped."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from diffedit_protocol.connection import Connection
from diffedit_protocol.errors import LinkError

START_SECONDS = 300.0  # importing torch and loading a model, on a slow or busy machine
STOP_SECONDS = 30.0


class PrivateBackend:
    """`with PrivateBackend(folder, ["--model", "bundled"]) as backend: Client(backend.connection)`.

    `folder` takes the place of the user's data folder (DIFFEDIT_HOME). `command` is what is started. What it writes to
    standard error goes to `folder/stderr.txt`.
    """

    def __init__(
        self,
        folder: Path,
        arguments: Sequence[str] = (),
        *,
        command: Sequence[str] = (sys.executable, "-m", "diffedit_backend.cli", "serve"),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.state = folder / "server"
        self.process: subprocess.Popen[str] | None = None
        self.ready_line = ""
        self._command = [*command, *arguments]
        self._environment = {**os.environ, **(environment or {}), "DIFFEDIT_HOME": str(folder)}

    def __enter__(self) -> PrivateBackend:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def connection(self) -> Connection:
        return Connection.from_file(self.folder / "local.json")

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self) -> None:
        """Start, and wait until it takes jobs. Raises LinkError with what it wrote when it ends instead."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(self.folder / "stderr.txt", "ab") as log:
            self.process = subprocess.Popen(
                self._command, stdout=subprocess.PIPE, stderr=log, text=True, env=self._environment
            )
        lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._read, args=(self.process, lines), daemon=True).start()
        try:
            self.ready_line = lines.get(timeout=START_SECONDS)
        except queue.Empty:
            self.ready_line = ""
        except BaseException:
            self.stop()
            raise
        if not self.ready_line:
            self.stop()
            errors = (self.folder / "stderr.txt").read_text(errors="replace")[-2000:]
            last_words = errors.strip().rpartition("\n")[2]
            raise LinkError(f"The backend did not start. {last_words}".strip(), detail=errors)

    def stop(self) -> int:
        """End it politely; its exit code."""
        if self.process is None:
            return 0
        self.process.terminate()
        try:
            return self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def kill(self) -> None:
        """End it by force, as a power cut would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    @staticmethod
    def _read(process: subprocess.Popen[str], lines: queue.SimpleQueue[str]) -> None:
        """Hand on the first line, "" when the process ended before; then read on, so that it never blocks on us."""
        assert process.stdout is not None
        with process.stdout:
            lines.put(process.stdout.readline())
            for _ in process.stdout:
                pass
