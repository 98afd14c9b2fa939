"""The server's state as names and values for people: `diffedit status` prints it."""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__

if TYPE_CHECKING:
    from .process import Server


def resident_bytes(pid: int) -> int:
    """Memory that a process holds; 0 where the system does not tell it in a file (other than Linux)."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def status_report(server: Server, *, clients: bool) -> dict[str, Any]:
    """Free of secrets. `clients`: whether to name who is connected."""
    workers = [
        {**dataclasses.asdict(worker), "memory": resident_bytes(worker.pid) or worker.memory}
        for worker in server.executor.workers()
    ]
    report: dict[str, Any] = {
        "version": __version__,
        "boot_id": server.boot_id,
        "python": sys.version.split()[0],
        "pid": os.getpid(),
        "uptime_seconds": round(time.time() - server.started, 1),
        "models": [model.name for model in server.settings.models],
        "stopping": server.jobs.closing,
        "workers": workers,
        "queue": {
            "waiting": server.jobs.waiting,
            "running": server.jobs.running,
            "kept_results": server.jobs.kept,
            "finished": server.jobs.finished,
            "most_waiting": server.settings.queue,
        },
        "memory": {
            "process": resident_bytes(os.getpid()),
            "uploads": server.uploads.size,
            "results": server.results.memory,
            "results_on_disk": server.results.size,
            "disk_full": server.results.strained,
        },
        "links": len(server.links),
    }
    if clients:
        report["endpoints"] = list(server.endpoints)
        report["clients"] = [
            {"name": server.name_of(owner) or "revoked", "links": count} for owner, count in server.links.owners.items()
        ]
        report["gate"] = {
            "admitted": server.gate.admitted,
            "refused": server.gate.refused,
            "failed_handshakes": server.door.failed_handshakes,
            "floods_cut": server.door.inflow.cuts,
        }
    return report
