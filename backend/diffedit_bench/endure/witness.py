"""`python -m diffedit_bench.endure.witness`: pings a backend ten times a second, in a process of its own.

In the attackers' process it would wait for their threads, and measure them in place of the server. It reads a
connection line from its standard input and ends when that is closed; it prints "when seconds" for each ping, by a
clock that all processes of the machine share, and "failed" for a link that was lost.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping

from diffedit_protocol.client import Client
from diffedit_protocol.connection import Connection
from diffedit_protocol.errors import DiffEditError

from .clients import PATIENT

PING_SECONDS = 0.1
END_SECONDS = 30.0


class Witness:
    """The process, as the bench sees it. `waits`: (when, seconds) of each ping; `failures`: links that were lost."""

    def __init__(self, connection: Connection, environment: Mapping[str, str]) -> None:
        """`environment`: added to this process's own."""
        self.waits: list[tuple[float, float]] = []
        self.failures = 0
        command = (sys.executable, "-m", "diffedit_bench.endure.witness")
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment}
        )
        assert self._process.stdin is not None
        self._process.stdin.write(f"{connection.to_line()}\n")
        self._process.stdin.flush()
        self._reader = threading.Thread(target=self._read, name="witness", daemon=True)
        self._reader.start()

    def close(self) -> None:
        """End it, and take what it measured last."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(END_SECONDS)

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout:
            for line in self._process.stdout:
                when, _, seconds = line.partition(" ")
                if seconds:
                    self.waits.append((float(when), float(seconds)))
                else:
                    self.failures += 1


def main() -> int:
    connection = Connection.from_line(sys.stdin.readline())
    over = threading.Event()

    def wait_for_end() -> None:
        sys.stdin.read()
        over.set()

    threading.Thread(target=wait_for_end, daemon=True).start()
    while not over.is_set():
        try:
            with Client(connection, PATIENT, software="endure witness") as client:
                while not over.wait(PING_SECONDS):
                    print(f"{time.monotonic():.6f} {client.ping():.6f}", flush=True)
        except DiffEditError:
            print("failed", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
