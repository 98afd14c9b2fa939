"""Small Ray clusters for tests: their options, and a head of its own that a test may stop."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

import psutil
from backends import ROOT
from diffedit_backend.executors.ray_pool import ENVIRONMENT

STORE = 80 << 20  # bytes of shared memory; 75 MiB are the least that Ray takes
OWN: dict[str, Any] = {
    "node_ip": "127.0.0.1",
    "options": {"num_cpus": 2, "include_dashboard": False, "object_store_memory": STORE},
}
PATHS = os.pathsep.join(str(ROOT / part) for part in ("protocol", "backend", "tests/backend"))
TOKEN = {"RAY_AUTH_TOKEN": "ab" * 32}


@dataclass
class Head:
    """A head that runs until it is stopped. `address`: HOST:PORT."""

    process: subprocess.Popen[str]
    address: str
    reader: threading.Thread

    def stop(self) -> None:
        """End all its processes, as a power cut would."""
        root = psutil.Process(self.process.pid)
        for process in [root, *root.children(recursive=True)]:
            process.kill()
        self.process.wait()
        self.reader.join()


@contextmanager
def ray_head() -> Iterator[Head]:
    """A head on this machine with a port of its own."""
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--port", "0"]
    command += ["--num-cpus", "2", "--object-store-memory", str(STORE), "--include-dashboard", "false"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **ENVIRONMENT, **TOKEN, "PYTHONPATH": PATHS},
    )
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if found := re.search(r"ray start --address='([^']+)'", line):
            break
    else:
        raise AssertionError(f"Ray's head did not start:\n{said}")
    reader = threading.Thread(target=_drain, args=(process.stdout,), daemon=True)
    reader.start()
    head = Head(process, found[1], reader)
    try:
        yield head
    finally:
        if process.poll() is None:
            head.stop()


def _drain(stream: IO[str]) -> None:
    with stream:
        stream.read()


def ray_processes() -> set[int]:
    """Ray's processes on this machine that were started below this one."""
    found = set()
    for process in psutil.Process().children(recursive=True):
        if any(word in " ".join(process.cmdline()) for word in ("raylet", "gcs_server", "ray::", "ray_driver")):
            found.add(process.pid)
    return found
