"""diffedit status: what a running backend is doing."""

from __future__ import annotations

import argparse
from typing import Any

from diffedit_protocol.errors import ModelError

from .arguments import add_connect_argument, connection_of
from .terminal import print_json

HELP = "show a running backend's workers, queue, clients and memory"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_connect_argument(parser, "another backend than this machine's")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")


def run(args: argparse.Namespace) -> int:
    from diffedit_protocol.client import Client

    with Client(connection_of(args.connect or ""), software="diffedit status") as client:
        report = client.status()
    if args.json:
        print_json(report, indent=2)
    else:
        print("\n".join(lines(report)))
    if report["workers"] and all(worker["state"] == "unusable" for worker in report["workers"]):
        raise ModelError("No edit can run there: its model cannot be loaded. The reason is in the backend's log.")
    return 0


def lines(report: dict[str, Any]) -> list[str]:
    """The report as lines for people."""
    queue, memory = report["queue"], report["memory"]
    printed = [
        f"diffedit {report['version']}, process {report['pid']}, up {_duration(report['uptime_seconds'])}"
        + (", stopping" if report["stopping"] else ""),
        f"models   {', '.join(report['models'])}",
    ]
    for worker in report["workers"]:
        device_memory = f", {_size(worker['device_memory'])} on the device" if worker["device_memory"] else ""
        printed.append(
            f"{worker['name']} {worker['state']} on {worker['device'] or '?'}, process {worker['pid']}, "
            f"{_size(worker['memory'])}{device_memory}, restarted {worker['restarts']} times"
        )
    printed += [
        f"queue    {queue['running']} running, {queue['waiting']} of {queue['most_waiting']} waiting, "
        f"{queue['kept_results']} results kept, {queue['finished']} jobs ended",
        f"memory   {_size(memory['process'])}; uploads {_size(memory['uploads'])}, results {_size(memory['results'])}, "
        f"on disk {_size(memory['results_on_disk'])}" + (" (THE DISK IS FULL)" if memory["disk_full"] else ""),
    ]
    loop = report.get("loop")  # an older backend does not report it
    if loop:
        printed.append(
            f"loop     longest turn {loop['longest_ms']:.0f} ms, {loop['beyond_aim']} of {loop['turns']} beyond 20 ms, "
            f"{report['faults']} faults"
        )
    if "clients" in report:
        guard = report["gate"]
        printed += [
            f"listens  {', '.join(report['endpoints'])}",
            f"access   {guard['admitted']} admitted, {guard['refused']} refused, {guard['failed_handshakes']} failed "
            f"handshakes, {guard['floods_cut']} floods cut",
        ]
        printed += [f"client   {client['name']}, {client['links']} links" for client in report["clients"]]
    return printed


def _size(count: int) -> str:
    return f"{count / 2**20:.0f} MiB"


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"
