"""Small Ray clusters for tests: their options, and a head of its own that a test may stop."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

import psutil
from backends import ROOT
from diffedit_backend.executors.ray_pool import ENVIRONMENT, ray_times

STORE = 80 << 20  # bytes of shared memory; 75 MiB are the least that Ray takes
OWN: dict[str, Any] = {
    "node_ip": "127.0.0.1",
    "options": {"num_cpus": 2, "include_dashboard": False, "object_store_memory": STORE},
}
PATHS = os.pathsep.join(str(ROOT / part) for part in ("protocol", "backend", "tests/backend"))
TOKEN = {"RAY_AUTH_TOKEN": "ab" * 32}


STARTS = 5  # Ray gives up starting after 30 s, which no setting changes; a busy machine needs more than one try
# A head that is gone is noticed after this long; 15 s otherwise.
HEAD_SOON = {"RAY_gcs_rpc_server_reconnect_timeout_s": "3"}
# A node that says nothing any more is given up after some ten seconds; after a minute otherwise.
NODE_SOON = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "3000",
    "RAY_health_check_failure_threshold": "3",
}


@dataclass
class Node:
    """One box of a cluster, which runs until it is stopped. `said`: what it wrote until it was ready."""

    process: subprocess.Popen[str]
    shown: str
    reader: threading.Thread

    @property
    def address(self) -> str:
        """HOST:PORT of a head."""
        found = re.search(r"ray start --address='([^']+)'", self.shown)
        assert found is not None, self.shown
        return found[1]

    def actors(self) -> list[psutil.Process]:
        """The processes of the workers on this box."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        return [process for process in children if _name_of(process).startswith("ray::WorkerAct")]

    def stop(self) -> None:
        """End all its processes, as a power cut would."""
        root = psutil.Process(self.process.pid)
        for process in [root, *root.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):  # it follows another that was ended before
                process.kill()
        self.process.wait()
        self.reader.join()


@contextmanager
def ray_node(
    *arguments: str, ip: str, cpus: int, prefix: Sequence[str] = (), environment: Mapping[str, str] | None = None
) -> Iterator[Node]:
    """A box on this machine, or wherever `prefix` runs the command."""
    command = [*prefix, sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--node-ip-address", ip]
    command += ["--num-cpus", str(cpus), "--object-store-memory", str(STORE), *arguments]
    variables = {**os.environ, **ray_times(), **ENVIRONMENT, **TOKEN, "PYTHONPATH": PATHS, **(environment or {})}
    for _ in range(STARTS):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=variables)
        assert process.stdout is not None
        shown = ""
        while (line := process.stdout.readline()) and "--block" not in shown:  # its last words before it goes on
            shown += line
        if line:
            break
        process.stdout.close()
        process.wait()
    else:
        raise AssertionError(f"Ray did not start:\n{shown}")
    reader = threading.Thread(target=_drain, args=(process.stdout,), daemon=True)
    reader.start()
    node = Node(process, shown, reader)
    try:
        yield node
    finally:
        if process.poll() is None:
            node.stop()


@contextmanager
def ray_head(ip: str = "127.0.0.1", cpus: int = 2, environment: Mapping[str, str] | None = None) -> Iterator[Node]:
    """A head with a port of its own."""
    arguments = ("--head", "--port", "0", "--include-dashboard", "false")
    with ray_node(*arguments, ip=ip, cpus=cpus, environment=environment) as head:
        yield head


def _name_of(process: psutil.Process) -> str:
    """ "" for one that ends just now."""
    try:
        return process.name()
    except psutil.NoSuchProcess:
        return ""


def _drain(stream: IO[str]) -> None:
    with stream:
        stream.read()


def ray_processes() -> set[int]:
    """Ray's processes on this machine that were started below this one."""
    found = set()
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # it ends just now
            if any(word in " ".join(process.cmdline()) for word in ("raylet", "gcs_server", "ray::", "ray_driver")):
                found.add(process.pid)
    return found
