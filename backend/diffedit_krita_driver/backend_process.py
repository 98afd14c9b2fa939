"""A `diffedit serve` of its own, for a demonstration or a test: found by the Krita that has the same DIFFEDIT_HOME."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from diffedit_protocol.errors import InternalError

READY_SECONDS = 600.0  # 5 s on a quiet machine; minutes with a cold disk and many others at work
STOP_SECONDS = 10.0


class BackendProcess:
    """`diffedit serve` with `arguments`, keys and log in `home`; ready when the constructor returns.

    InternalError with its output when it ends or stays silent. `with BackendProcess(...)` stops it.
    """

    def __init__(self, home: Path, arguments: Sequence[str] = ()) -> None:
        self.log = home / "backend.log"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "diffedit_backend.cli", "serve", "--grace", "1", *arguments],
                env=os.environ | {"DIFFEDIT_HOME": str(home), "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a Ctrl-C is for us: we stop it after Krita
            )
        try:
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not any(line.startswith("ready ") for line in self.output().splitlines()):
            if self._process.poll() is not None:
                raise InternalError(f"The backend ended with code {self._process.returncode}:\n{self.output()}")
            if time.monotonic() > deadline:
                raise InternalError(f"The backend was not ready after {READY_SECONDS:.0f} s:\n{self.output()}")
            time.sleep(0.1)

    def output(self) -> str:
        """What it printed so far."""
        return self.log.read_text(errors="replace")

    @property
    def pid(self) -> int:
        """Of the process that owns the socket."""
        return self._process.pid

    def stop(self) -> None:
        """Stops it and its workers: politely, then at once. Again: nothing."""
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> BackendProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
