"""`diffedit bench wire`: how fast layers go there and back, beside raw TCP and a copy in memory, in one run.

The server is the real one in a process of its own, the client the plugin's. A layer goes up with a submit for a model
that the server does not have: every byte is sent and its hash checked, and nothing is run. Then it is fetched again.
Beside it stand the same frames over bare ZeroMQ, the most that any protocol on it could reach, and the rate of sha256,
which every layer passes once on each way. All ways take turns within each round; medians count, and the spread of the
rounds' own shares is reported.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import ssl
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import zmq
from diffedit_protocol.blobs import blob_id
from diffedit_protocol.client import Client
from diffedit_protocol.connection import Connection
from diffedit_protocol.errors import ModelError
from diffedit_protocol.messages import EditRequest, PictureRef

from .baselines import BareZmq, RawTcp, copy_seconds
from .transports import compare

if TYPE_CHECKING:
    from diffedit_backend.server.private_backend import PrivateBackend

HELP = "measure the link to a backend on this machine beside raw TCP and a copy in memory"
SIDES = (1024, 2048, 4096)
CHANNELS = 3
PINGS = 2000
HASHED = 32 << 20  # bytes
SHARED = ("plain", "curve", "bare_plain", "bare_curve")
EDIT_SIDE = 1024
NOWHERE = "no such model"
MEGABYTE = 1e6
# What the figures should reach, as shares of raw TCP's there-and-back rate and of an edit's time.
PLAIN_SHARE, CURVE_SHARE, TRANSPORT_SHARE = 0.5, 0.25, 0.03

Way = Callable[[bytes, int], tuple[float, float]]  # a layer's bytes and its side to seconds there and back


@dataclass(frozen=True)
class Trips:
    """Seconds of layers of `size` bytes, each round's (there, back)."""

    size: int
    seconds: list[tuple[float, float]]

    def rates(self) -> dict[str, float]:
        """MB/s there, back, and of both ways together: from the medians of the seconds."""
        there, back = map(statistics.median, zip(*self.seconds, strict=True))
        rates = {"there": self.size / there, "back": self.size / back, "there_and_back": 2 * self.size / (there + back)}
        return {name: round(rate / MEGABYTE, 1) for name, rate in rates.items()}

    def share_of(self, raw: Trips) -> dict[str, float]:
        """The rate there and back as a share of `raw`'s; lowest and highest of the rounds, and the fastest of both."""
        own, other = [sum(pair) for pair in self.seconds], [sum(pair) for pair in raw.seconds]
        each = [theirs / ours for ours, theirs in zip(own, other, strict=True)]
        shares = {
            "median": self.rates()["there_and_back"] / raw.rates()["there_and_back"],
            "lowest": min(each),
            "highest": max(each),
            "fastest_rounds": min(other) / min(own),
        }
        return {name: round(share, 3) for name, share in shares.items()}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where report.json is written")
    parser.add_argument("--sides", default=",".join(map(str, SIDES)), help="sides of the square layers in px")
    parser.add_argument("--rounds", type=int, default=7, help="layers of each size; the median counts (default: 7)")
    parser.add_argument("--edits", type=int, default=3, help="edits for the share of transport (default: 3)")
    parser.add_argument(
        "--transports", action="store_true", help="only compare ZeroMQ with TLS, without a backend (needs openssl)"
    )
    parser.add_argument("--model", default="bundled", help="for the edits (default: bundled)")


def run(args: argparse.Namespace) -> int:
    from diffedit_backend.server.private_backend import PrivateBackend

    args.out.mkdir(parents=True, exist_ok=True)
    file = args.out / "report.json"
    if args.transports:
        compared = {**_environment(), "milliseconds": compare(args.rounds)}
        file.write_text(json.dumps(compared, indent=2) + "\n")
        print("\n".join(_transport_lines(compared["milliseconds"])))
        print(file)
        return 0
    sides = [int(side) for side in args.sides.split(",")]
    listen = ["--listen", "local", "--listen", "tcp://127.0.0.1:0", "--model", args.model]
    with (
        tempfile.TemporaryDirectory(prefix="diffedit-wire-") as folder,
        PrivateBackend(Path(folder), listen) as backend,
    ):
        report = measure(backend, sides, args.rounds, args.edits)
    file.write_text(json.dumps(report, indent=2) + "\n")
    print("\n".join(_lines(report)))
    print(file)
    return 0


def measure(backend: PrivateBackend, sides: list[int], rounds: int, edits: int) -> dict[str, Any]:
    """Every figure of the report, on a running backend that listens locally and on TCP."""
    invited = _invited(backend.state, backend.ready_line)
    with (
        Client(backend.connection) as plain,
        Client(invited) as curve,
        RawTcp() as raw,
        BareZmq(encrypted=False) as bare_plain,
        BareZmq(encrypted=True) as bare_curve,
    ):
        ways: dict[str, Way] = {
            "memcpy": lambda data, _: copy_seconds(data),
            "raw_tcp": lambda data, _: raw.seconds(data),
            "plain": lambda data, side: _layer_seconds(plain, data, side),
            "curve": lambda data, side: _layer_seconds(curve, data, side),
            "bare_plain": lambda data, _: bare_plain.seconds(data),
            "bare_curve": lambda data, _: bare_curve.seconds(data),
        }
        taken = {str(side): _seconds(ways, side, rounds) for side in sides}
        throughput = {side: {name: trips.rates() for name, trips in found.items()} for side, found in taken.items()}
        return {
            **_environment(),
            "plain_endpoint": backend.connection.endpoint.partition(":")[0],
            "throughput_MB_per_s": throughput,
            "sha256_MB_per_s": _hash_rate(),
            "rounds": rounds,
            "share_of_raw_tcp": {
                name: {side: found[name].share_of(found["raw_tcp"]) for side, found in taken.items()} for name in SHARED
            },
            "small_request_p50_ms": {"plain": _ping_p50(plain), "curve": _ping_p50(curve)},
            "edit": _edit_share(plain, edits),
            "targets": {"plain": PLAIN_SHARE, "curve": CURVE_SHARE, "transport_share": TRANSPORT_SHARE},
        }


def _environment() -> dict[str, Any]:
    """The machine and the libraries of a report."""
    return {
        "machine": {"cores": os.cpu_count(), "processor": platform.machine(), "load": os.getloadavg()[0]},
        "libraries": {
            "python": platform.python_version(),
            "pyzmq": zmq.__version__,
            "libzmq": zmq.zmq_version(),
            "openssl": ssl.OPENSSL_VERSION,
        },
    }


def _transport_lines(found: dict[str, dict[str, dict[str, float]]]) -> list[str]:
    lines = ["milliseconds, best (median)" + "".join(f"{name:>20}" for name in found)]
    for what in ("layer", "small", "connection"):
        cells = [f"{way[what]['best']:.2f} ({way[what]['median']:.2f})" for way in found.values()]
        lines.append(f"{what:<27}" + "".join(f"{cell:>20}" for cell in cells))
    return lines


def _invited(state: Path, ready_line: str) -> Connection:
    from diffedit_backend.server.allow_list import AllowList
    from diffedit_backend.server.state_folder import StateFolder

    folder = StateFolder(state)
    endpoint = next(word for word in ready_line.split() if word.startswith("tcp://"))
    return AllowList(folder.allow_list).invite("bench", endpoint, folder.server_keys().public)


def _seconds(ways: dict[str, Way], side: int, rounds: int) -> dict[str, Trips]:
    """Each way's trips. The ways take turns, so that whatever else the machine does falls on all of them alike.

    Every layer is a new one: a blob that the server holds would not be sent again.
    """
    size = side * side * CHANNELS
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            taken[name].append(way(os.urandom(size), side))
    return {name: Trips(size, seconds) for name, seconds in taken.items()}


def _hash_rate() -> float:
    """MB/s of sha256 on one core."""
    data = bytes(HASHED)
    begun = time.perf_counter()
    blob_id(data)
    return round(HASHED / (time.perf_counter() - begun) / MEGABYTE, 1)


def _layer_seconds(client: Client, data: bytes, side: int) -> tuple[float, float]:
    ref = PictureRef(blob_id(data), side, side, CHANNELS)
    begun = time.perf_counter()
    try:
        client.submit(EditRequest("a", "b", picture=ref, model=NOWHERE), {ref.blob: data})
    except ModelError:
        between = time.perf_counter()  # every byte is there
    else:
        raise AssertionError(f"The backend has a model called {NOWHERE!r}.")
    client.fetch(ref)
    return between - begun, time.perf_counter() - between


def _ping_p50(client: Client) -> float:
    return round(statistics.median(client.ping() for _ in range(PINGS)) * 1000, 3)


def _edit_share(client: Client, edits: int) -> dict[str, float]:
    """What an edit's way there and back adds to what it takes in the worker, over edits of pictures that are new."""
    from diffedit_backend.cli.self_test import round_trip, sample_edit

    totals, workers = [], []
    for number in range(edits + 1):
        request, blobs = sample_edit(EDIT_SIDE, shade=number)
        total = round_trip(client, request, blobs).total
        if number:  # the first warms up
            totals.append(total)
            workers.append(float(client.status()["workers"][0]["job_seconds"]))
    shares = [(total - worker) / total for total, worker in zip(totals, workers, strict=True)]
    return {
        "side": EDIT_SIDE,
        "seconds": round(statistics.median(totals), 4),
        "seconds_in_worker": round(statistics.median(workers), 4),
        "transport_share": round(statistics.median(shares), 4),
    }


def _lines(report: dict[str, Any]) -> list[str]:
    lines = ["MB/s there and back  " + "".join(f"{name:>12}" for name in ("memcpy", "raw_tcp", *SHARED))]
    for side, rates in report["throughput_MB_per_s"].items():
        lines.append(f"{side + ' px':<20} " + "".join(f"{way['there_and_back']:>12.0f}" for way in rates.values()))
    aims = {"plain": f" (aim: {PLAIN_SHARE:.0%})", "curve": f" (aim: {CURVE_SHARE:.0%})"}
    for name in SHARED:
        shares = ", ".join(
            f"{side}: {share['median']:.0%} ({share['lowest']:.0%} to {share['highest']:.0%})"
            for side, share in report["share_of_raw_tcp"][name].items()
        )
        lines.append(f"{name} of raw TCP: {shares}{aims.get(name, '')}")
    lines.append(f"sha256: {report['sha256_MB_per_s']:.0f} MB/s")
    pings = report["small_request_p50_ms"]
    lines.append(f"small request p50: plain {pings['plain']} ms, curve {pings['curve']} ms")
    edit = report["edit"]
    lines.append(
        f"an edit at {edit['side']} px: {edit['seconds']} s, of which transport {edit['transport_share']:.1%} "
        f"(aim: under {TRANSPORT_SHARE:.0%})"
    )
    return lines
