"""The server's state as names and values for people: `diffedit status` prints it."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import __version__
from ..executors.base import WorkerInfo


def resident_bytes(pid: int) -> int:
    """Memory that a process holds; 0 where the system does not report it in a file (other than Linux)."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def worker_status(workers: Sequence[WorkerInfo]) -> list[dict[str, Any]]:
    """Each worker's state; its memory is read here where it runs on this machine."""
    return [{**dataclasses.asdict(worker), "memory": resident_bytes(worker.pid) or worker.memory} for worker in workers]


def status_report(server: Mapping[str, Any]) -> dict[str, Any]:
    """The `server`'s own figures with those of its process. Free of secrets."""
    return {
        "version": __version__,
        "python": sys.version.split()[0],
        "pid": os.getpid(),
        **server,
        "memory": {"process": resident_bytes(os.getpid()), **server["memory"]},
    }
