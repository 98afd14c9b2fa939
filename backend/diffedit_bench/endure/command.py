"""`diffedit bench endure`: a server under attack for as long as is asked, and what its honest clients noticed of it."""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import diffedit_protocol
from diffedit_backend.server.allow_list import AllowList
from diffedit_backend.server.monitoring import resident_bytes
from diffedit_backend.server.private_backend import PrivateBackend
from diffedit_backend.server.state_folder import StateFolder
from diffedit_protocol.client import Client
from diffedit_protocol.errors import DiffEditError

from .attacks import ATTACKS, Target
from .clients import Artist, Relay
from .witness import Witness

HELP = "attack a server of its own for a while, and see what honest clients notice"
ARTISTS = 2
QUIET_SECONDS = 20.0  # before the attacks and between some of them: what the witness measures on this machine by itself
AFTER_SECONDS = 0.5  # in which an attack that has ended may still be felt
WARM_SHARE, END_SHARE = 0.15, 0.15  # of the run: memory is compared between these parts
MIB = 1 << 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--minutes", type=float, default=60.0, help="how long (default: 60)")
    parser.add_argument("--seed", type=int, default=0, help="the same seed chooses the same attacks (default: 0)")
    parser.add_argument(
        "--rest",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="between two attacks, to spare the machine (default: 0)",
    )
    names = [attack.__name__ for attack in ATTACKS]
    parser.add_argument("--only", choices=names, nargs="+", default=names, metavar="ATTACK", help=", ".join(names))
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the report and the server")


def run(args: argparse.Namespace) -> int:
    args.out.mkdir(parents=True, exist_ok=True)
    command = (sys.executable, "-m", "diffedit_bench.endure.backend")
    with PrivateBackend(args.out / "home", command=command, environment=_environment()) as backend:
        report = endure(
            backend, Plan(args.minutes * 60, args.rest, args.seed, tuple(args.only)), args.out / "endure.json"
        )
    print(summary(report))
    return 0 if report["stood"] else 1


@dataclass(frozen=True)
class Plan:
    """`seconds`: of the whole; `rest`: seconds between two attacks; `only`: the names of the attacks to choose from."""

    seconds: float
    rest: float
    seed: int
    only: tuple[str, ...]


@dataclass
class Observations:
    """What has been noticed since `begun` (monotonic seconds).

    memory: (seconds since the beginning, bytes). counts: attacks by name. attacked: (since, until, attack), monotonic.
    failures: what attacks were thrown out with.
    """

    backend: PrivateBackend
    witness: Witness
    artists: list[Artist]
    begun: float = field(default_factory=time.monotonic)
    memory: list[tuple[float, int]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    attacked: list[tuple[float, float, str]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def attack(self, attack: Callable[[Target], None], target: Target) -> None:
        """Make one attack, and note what it did to the server."""
        since = time.monotonic()
        try:
            attack(target)
        except Exception:  # an attacker that was thrown out is no fault of the server
            self.failures.append(f"{attack.__name__}: {traceback.format_exc(limit=1).splitlines()[-1][:200]}")
        self.counts[attack.__name__] += 1
        self.attacked.append((since, time.monotonic(), attack.__name__))
        self.memory.append((time.monotonic() - self.begun, resident_bytes(self.backend.pid)))

    def report(self) -> dict[str, Any]:
        """The report so far."""
        seconds = time.monotonic() - self.begun
        alive = _alive(self.backend)
        under: list[float] = []
        quiet: list[float] = []
        for when, wait in list(self.witness.waits):
            (
                under
                if any(since <= when + wait and when <= until + AFTER_SECONDS for since, until, _ in self.attacked)
                else quiet
            ).append(wait)
        warm = [size for when, size in self.memory if seconds * WARM_SHARE <= when <= seconds * 2 * WARM_SHARE]
        end = [size for when, size in self.memory if when >= seconds * (1 - END_SHARE)]
        first, last = (statistics.median(sizes) / MIB if sizes else 0.0 for sizes in (warm, end))
        tallies = [artist.tally for artist in self.artists]
        lost, mixed = sum(tally.lost for tally in tallies), sum(tally.mixed for tally in tallies)
        return {
            "minutes": round(seconds / 60, 1),
            "niceness": os.nice(0),
            "server_processor_seconds": _processor_seconds(self.backend.pid),
            "cores": os.cpu_count(),
            "load_average": round(os.getloadavg()[0], 1),
            "pid": self.backend.pid,
            "stood": alive and not lost and not mixed,
            "attacks": dict(self.counts.most_common()),
            "attacks_thrown_out": len(self.failures),
            "thrown_out": self.failures[-20:],
            "edits_done": sum(tally.done for tally in tallies),
            "edits_again": sum(tally.retried for tally in tallies),
            "edits_lost": lost,
            "pictures_mixed": mixed,
            "errors_seen": dict(sum((Counter(tally.errors) for tally in tallies), Counter())),
            "ping_failures": self.witness.failures,
            "ping_ms_quiet": _percentiles(quiet),
            "ping_ms_attacked": _percentiles(under),
            "loop": _loop(self.backend),
            "memory_mib_warm": round(first, 1),
            "memory_mib_end": round(last, 1),
            "memory_growth_percent": round(100 * (last / first - 1), 1) if first else 0.0,
            "memory_mib_most": round(max((size for _, size in self.memory), default=0) / MIB, 1),
        }


def endure(backend: PrivateBackend, plan: Plan, file: Path) -> dict[str, Any]:
    """Attack `backend` as planned. The report is written to `file` now and then, so that none is lost."""
    folder = StateFolder(backend.state)
    endpoint = next(word for word in backend.ready_line.split() if word.startswith("tcp://"))
    invited = [
        AllowList(folder.allow_list).invite(name, endpoint, folder.server_keys().public)
        for name in ("witness", *(f"artist-{number}" for number in range(ARTISTS)))
    ]
    witness = Witness(invited[0], _environment())
    artists = [Artist(Relay(connection)) for connection in invited[1:]]
    chance = random.Random(plan.seed)
    target = Target(endpoint, folder, tuple(artist.relay for artist in artists), backend.connection, chance)
    for artist in artists:
        artist.start()
    attacks = [attack for attack in ATTACKS if attack.__name__ in plan.only]
    observed = Observations(backend, witness, artists)

    def write() -> dict[str, Any]:
        report = observed.report()
        file.write_text(json.dumps(report, indent=2), encoding="utf-8")
        return report

    _rest(QUIET_SECONDS)
    while time.monotonic() - observed.begun < plan.seconds and _alive(backend):
        observed.attack(chance.choice(attacks), target)
        _rest(plan.rest)
        if observed.counts.total() % 12 == 0:
            _rest(QUIET_SECONDS / 2)
            write()
    for artist in artists:
        artist.stop.set()
    for artist in artists:
        artist.join(150.0)
    witness.close()
    report = write()
    for artist in artists:
        artist.relay.close()
    return report


def _alive(backend: PrivateBackend) -> bool:
    return backend.process is not None and backend.process.poll() is None


def summary(report: dict[str, Any]) -> str:
    """The report in one sentence per question."""
    quiet, attacked, loop = report["ping_ms_quiet"], report["ping_ms_attacked"], report["loop"]
    return "\n".join(
        (
            f"{report['minutes']} minutes, {sum(report['attacks'].values())} attacks: "
            f"{'the same process stood' if report['stood'] else 'IT DID NOT STAND'} (process {report['pid']})",
            f"edits: {report['edits_done']} done, {report['edits_again']} submitted again after their worker had died, "
            f"{report['edits_lost']} lost, {report['pictures_mixed']} with another's pixels",
            f"another client's ping, ms: quiet p50 {quiet['p50']}, p99 {quiet['p99']}; "
            f"attacked p50 {attacked['p50']}, p99 {attacked['p99']}, longest {attacked['longest']}",
            f"the server's loop: longest turn {loop['longest_ms']} ms ({loop['longest_step']}), of processor time "
            f"{loop['longest_processor_ms']} ms; {loop['beyond_aim']} of {loop['turns']} turns beyond 20 ms",
            f"memory: {report['memory_mib_warm']} MiB warm, {report['memory_mib_end']} MiB at the end "
            f"({report['memory_growth_percent']:+.1f} %)",
        )
    )


def _percentiles(waits: list[float]) -> dict[str, float]:
    if not waits:
        return {"count": 0, "p50": 0.0, "p99": 0.0, "longest": 0.0}
    ordered = sorted(waits)
    p50, p99 = (ordered[min(len(ordered) - 1, int(len(ordered) * share))] for share in (0.5, 0.99))
    return {
        "count": len(ordered),
        "p50": round(p50 * 1000, 1),
        "p99": round(p99 * 1000, 1),
        "longest": round(ordered[-1] * 1000, 1),
    }


def _loop(backend: PrivateBackend) -> dict[str, Any]:
    """What the server reports of its loop; its histogram's upper ends as names."""
    try:
        with Client(backend.connection, software="endure report") as client:
            loop: dict[str, Any] = client.status()["loop"]
    except DiffEditError as error:  # it did not stand: the report says so, and is written all the same
        nothing = {"turns": 0, "beyond_aim": 0, "longest_ms": 0.0, "longest_processor_ms": 0.0}
        return {**nothing, "longest_step": f"unknown: {error.sentence}"}
    return {**loop, "buckets": dict(loop["buckets"])}


def _processor_seconds(pid: int) -> float:
    """Of a process, in itself and in the system; 0 where it has ended."""
    import psutil  # an extra's: the command line imports this module without it

    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return round(times.user + times.system, 1)


def _rest(seconds: float) -> None:
    """Nothing is attacked for a while."""
    time.sleep(seconds)


def _environment() -> dict[str, str]:
    """With which a process finds the packages that this one runs."""
    folders = (Path(__file__).parents[2], Path(diffedit_protocol.__file__).parents[1])
    return {"PYTHONPATH": os.pathsep.join(map(str, folders))}
