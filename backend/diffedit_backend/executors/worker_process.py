"""One spawned worker process and the threads that talk with it, so that no hung worker can hold up the server.

The worker is a fresh interpreter (no fork of a process that has sockets and threads), spoken to over its standard
input and output; what it writes to standard error goes to the log line by line.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO, cast

from ..worker.pipe import Payload, Pipe, PipeMessage
from .worker_slot import EXIT_WAIT

log = logging.getLogger("diffedit.worker")
WORKER_COMMAND = (sys.executable, "-m", "diffedit_backend.worker")
LAST_LINES = 20
LAST_LINES_SECONDS = 0.5
PIPE_BYTES = 1 << 20  # Linux lets every user have that much; with its 64 KiB each end waits 48 times for 3 MiB

# Told from the reader thread: (the process, a message or None when its pipe has ended).
OnMessage = Callable[["WorkerProcess", PipeMessage | None], None]


@dataclass(frozen=True)
class WorkerSetup:
    """How a worker is started: its command, the environment added to ours, and what it is told first."""

    command: tuple[str, ...] = WORKER_COMMAND
    environment: Mapping[str, str] = field(default_factory=dict)
    configuration: Mapping[str, Any] = field(default_factory=dict)


class WorkerProcess:
    """A running worker. `on_message` is called from a thread of this object; the rest for the owner's thread."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        configuration: dict[str, Any],
        on_message: OnMessage,
    ) -> None:
        self.name = name
        self._on_message = on_message
        self.last_lines: deque[str] = deque(maxlen=LAST_LINES)  # of its standard error
        self._outbox: queue.SimpleQueue[tuple[str, Sequence[Payload], dict[str, Any]] | None] = queue.SimpleQueue()
        self._process = subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **environment},
        )
        self._stdout = cast(BinaryIO, self._process.stdout)
        self.pipes = (cast(BinaryIO, self._process.stdin), self._stdout)
        for pipe in self.pipes:
            _widen(pipe)
        self._pipe = Pipe(self._stdout, self.pipes[0])
        stderr = cast(BinaryIO, self._process.stderr)
        self._logger = threading.Thread(target=self._log, args=(stderr,), name=f"{name}-log", daemon=True)
        self._threads = [
            threading.Thread(target=self._read, name=f"{name}-read", daemon=True),
            threading.Thread(target=self._write, name=f"{name}-write", daemon=True),
        ]
        for thread in (self._logger, *self._threads):
            thread.start()
        self.send("configure", **configuration)

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, type_: str, payloads: Sequence[Payload] = (), **fields: Any) -> None:
        """Send a message. Never blocks; a worker that is gone is told by `on_message(None)` alone."""
        self._outbox.put((type_, payloads, fields))

    def kill(self) -> None:
        """End the process by force."""
        self._process.kill()

    def join(self, seconds: float) -> bool:
        """Wait until the process has ended and everything that it output was handed on. Whether that came in time."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        self.discard()
        for thread in self._threads:
            thread.join(EXIT_WAIT)
        self._logger.join(LAST_LINES_SECONDS)
        return True

    def discard(self) -> None:
        """Let its threads end, without waiting for them: the process has ended."""
        self._outbox.put(None)

    def exit_code(self) -> int | None:
        """The exit code, negative for a signal; None while the process runs."""
        return self._process.poll()

    def _read(self) -> None:
        while True:
            try:
                message = self._pipe.receive()
            except (EOFError, OSError, ValueError) as error:
                log.debug("pipe ended", extra={"fields": {"worker": self.name, "reason": str(error)}})
                break
            self._on_message(self, message)
        self._process.kill()  # a worker that closed or garbled its pipe is of no use any more
        self._process.wait()
        self._stdout.close()
        self._logger.join(LAST_LINES_SECONDS)  # not for ever: a process that it started may hold its standard error
        self._on_message(self, None)

    def _write(self) -> None:
        while (entry := self._outbox.get()) is not None:
            type_, payloads, fields = entry
            try:
                self._pipe.send(type_, payloads, **fields)
            except OSError:
                break  # the reader tells of the end
        try:
            self._pipe.close()
        except OSError:
            log.debug("unsent bytes were dropped", extra={"fields": {"worker": self.name}})

    def _log(self, stream: BinaryIO) -> None:
        with stream:
            for raw in stream:
                line = raw.decode(errors="replace").rstrip()
                self.last_lines.append(line)
                log.info(line, extra={"fields": {"worker": self.name}})


def _widen(stream: BinaryIO) -> None:
    """Give the pipe PIPE_BYTES where the system has such pipes (Linux), and this user has not too many of them yet."""
    if sys.platform == "linux":
        import fcntl

        with contextlib.suppress(OSError):
            fcntl.fcntl(stream, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
