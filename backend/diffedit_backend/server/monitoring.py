"""The server's state: names and values for people, which `diffedit status` prints; and /healthz and /metrics over HTTP,
on a port of their own: off unless asked for, loopback unless said.

A thread answers from the last report that the server's loop left: a monitor that asks often, or not at all, costs the
loop nothing. Nothing that it reports names a client, a job or a picture.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import AF_INET6
from typing import Any

from diffedit_protocol.errors import BadInputError
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from .. import __version__
from ..executors.base import WorkerInfo
from .addresses import Address


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


log = logging.getLogger("diffedit.monitoring")
STALE_SECONDS = 10.0  # without a new report, after which the loop is taken to hang
REQUEST_SECONDS = 5.0  # for a monitor to ask its question


class Monitoring(Collector):
    """Answers HTTP at `address` until `close`. `publish` is called by the server's loop, about once a second."""

    def __init__(self, address: Address) -> None:
        """Raises BadInputError when the address cannot be had."""
        self._report: dict[str, Any] = {}
        self._published = -STALE_SECONDS
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        try:
            self._server = _server(address, self)
        except OSError as error:
            raise BadInputError(
                f"--metrics cannot listen on {address.host}:{address.port}: {error.strerror}."
            ) from error
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, name="monitoring", daemon=True).start()

    def publish(self, report: dict[str, Any]) -> None:
        self._report, self._published = report, time.monotonic()

    def health(self) -> tuple[bool, dict[str, Any]]:
        """Whether edits can run, and why not."""
        report, age = self._report, time.monotonic() - self._published
        states = Counter(worker["state"] for worker in report.get("workers", ()))
        reasons = []
        if age > STALE_SECONDS:
            reasons.append("the server's loop has not reported" if report else "the server is starting")
        if states and set(states) == {"unusable"}:
            reasons.append("no worker can load its model")
        if report.get("memory", {}).get("disk_full"):
            reasons.append("the disk is full")
        if report.get("stopping"):
            reasons.append("the server is stopping")
        return not reasons, {"healthy": not reasons, "reasons": reasons, "workers": dict(states)}

    def metrics(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """For the registry: the last report as metrics."""
        report = self._report
        if not report:
            return
        queue, memory, guard = report["queue"], report["memory"], report["gate"]
        yield _gauge("diffedit_info", "Version of the backend", "version", {report["version"]: 1})
        yield _gauge("diffedit_uptime_seconds", "Since the server started", "", {"": report["uptime_seconds"]})
        jobs = {state: queue[state] for state in ("waiting", "running", "kept_results")}
        yield _gauge("diffedit_jobs", "Jobs by state; kept_results wait to be fetched", "state", jobs)
        workers = Counter(worker["state"] for worker in report["workers"])
        yield _gauge("diffedit_workers", "Workers by state", "state", dict(workers))
        sizes = {name: size for name, size in memory.items() if name != "disk_full"}
        yield _gauge("diffedit_memory_bytes", "What the server holds, by kind", "kind", sizes)
        device = {worker["name"]: worker["device_memory"] for worker in report["workers"]}
        yield _gauge("diffedit_worker_device_bytes", "In use on each worker's device", "worker", device)
        yield _gauge("diffedit_disk_full", "1 while results cannot be written", "", {"": int(memory["disk_full"])})
        yield _gauge("diffedit_links", "Connected clients' links", "", {"": report["links"]})
        loop = report["loop"]
        help_ = "Turns of the server's loop: how long it was away from its sockets"
        yield HistogramMetricFamily("diffedit_loop_turn_seconds", help_, loop["buckets"], sum_value=loop["seconds"])
        longest = loop["longest_ms"] / 1000
        yield _gauge("diffedit_loop_longest_turn_seconds", "The longest turn since the start", "", {"": longest})
        for name, help_, value in (
            ("diffedit_jobs_finished", "Jobs that ended", queue["finished"]),
            ("diffedit_worker_restarts", "Workers started again", sum(w["restarts"] for w in report["workers"])),
            ("diffedit_faults", "Faults in the server's loop, each logged", report["faults"]),
            ("diffedit_refused_keys", "Handshakes with a key that was not invited", guard["refused"]),
            ("diffedit_floods_cut", "Links that were cut for sending too much", guard["floods_cut"]),
        ):
            counter = CounterMetricFamily(name, help_)
            counter.add_metric([], value)
            yield counter

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def metrics_address(text: str) -> Address:
    """The address of "PORT" (on this machine only) or "HOST:PORT". Raises BadInputError."""
    host, _, port = text.rpartition(":")
    try:
        return Address.parse(f"tcp://{host or '127.0.0.1'}:{port}")
    except BadInputError as error:
        raise BadInputError(f"--metrics takes PORT or HOST:PORT, not {text!r:.80}.") from error


def _gauge(name: str, help_: str, label: str, values: dict[str, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, help_, labels=[label] if label else [])
    for key, value in values.items():
        family.add_metric([key] if label else [], value)
    return family


def _server(address: Address, monitoring: Monitoring) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        timeout = REQUEST_SECONDS
        server_version, sys_version = "diffedit", ""

        def do_GET(self) -> None:
            if self.path == "/metrics":
                self._answer(200, CONTENT_TYPE_LATEST, monitoring.metrics())
            elif self.path == "/healthz":
                healthy, found = monitoring.health()
                self._answer(200 if healthy else 503, "application/json", json.dumps(found).encode() + b"\n")
            else:
                self._answer(404, "text/plain", b"There are /healthz and /metrics.\n")

        def _answer(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            log.debug("asked", extra={"fields": {"request": format % args}})

    class Server(ThreadingHTTPServer):
        address_family = AF_INET6 if ":" in address.host else ThreadingHTTPServer.address_family
        daemon_threads = True

    return Server((address.host.strip("[]"), address.port), Handler)
