"""`diffedit bench load`: how long artists wait at one backend, by the number of its workers, with affinity and without.

One and two workers (`--real`) are measured with the bundled model on this machine; the others are simulated with the
server's own queue and router and with service times measured here, or taken from the report of another machine.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from pathlib import Path

from diffedit_protocol.errors import BadInputError

HELP = "waiting time, cache hits and throughput of a studio, measured and simulated, and each executor's overhead"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    def numbers(text: str) -> tuple[int, ...]:
        found = tuple(int(part) for part in text.split(",") if part)
        if any(number < 1 for number in found):
            raise argparse.ArgumentTypeError(f"numbers of workers must be at least 1: {text}")
        return found

    parser.add_argument("--out", type=Path, required=True, help="folder for report.json, report.md and the plot")
    parser.add_argument("--artists", type=int, default=10, help="(default: 10)")
    parser.add_argument("--think", type=float, default=5.0, metavar="SECONDS", help="mean think time (default: 5)")
    parser.add_argument("--jobs", type=int, default=200, help="of each artist, simulated (default: 200)")
    parser.add_argument("--real-jobs", type=int, default=5, help="of each artist, measured (default: 5)")
    parser.add_argument("--workers", type=numbers, default=(1, 2, 4, 8), help="to simulate (default: 1,2,4,8)")
    parser.add_argument("--real", type=numbers, default=(1, 2), help="to measure; '' for none (default: 1,2)")
    parser.add_argument("--quality", choices=("draft", "normal", "fine"), default="draft", help="(default: draft)")
    parser.add_argument("--samples", type=int, default=8, help="of each service time (default: 8)")
    parser.add_argument("--rounds", type=int, default=50, help="for the overheads (default: 50)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--services", type=Path, metavar="REPORT", help="report.json of a machine: simulate only, with its times"
    )


def run(args: argparse.Namespace) -> int:
    from ..executors.routing import BEHIND
    from .load_artists import Studio, drive
    from .load_measured import local_floor, measure_overhead, measure_services, overhead_pools
    from .load_report import Row, row_of, services_of, write_report
    from .load_simulation import Services, SimulatedFloor

    for name in ("artists", "jobs", "real_jobs", "samples", "rounds"):
        if getattr(args, name) < 1:
            raise BadInputError(f"--{name.replace('_', '-')} is {getattr(args, name)}; it must be at least 1.")
    if args.think <= 0:
        raise BadInputError(f"--think is {args.think}; it must be more than 0 seconds.")
    with_ray = importlib.util.find_spec("ray") is not None
    rows: list[Row] = []
    overhead: dict[str, dict[str, float]] = {}
    services: Services
    if args.services is not None:
        services = services_of(json.loads(args.services.read_text()))
    else:
        _say("service times on one worker")
        services = measure_services(args.quality, args.samples)
        _say("overhead of each executor")
        overhead = measure_overhead(args.quality, args.rounds, overhead_pools(with_ray))
        studio = Studio(args.artists, args.real_jobs, args.think, args.seed)
        for workers in args.real:
            for affinity in (True, False):
                _say(f"{workers} real workers, {'with' if affinity else 'without'} affinity")
                with local_floor(workers, args.quality, BEHIND if affinity else 0) as floor:
                    rows.append(row_of("measured", workers, affinity, drive(floor, studio)))
    studio = Studio(args.artists, args.jobs, args.think, args.seed)
    for workers in args.workers:
        for affinity in (True, False):
            floor_in_time = SimulatedFloor(workers, services, BEHIND if affinity else 0, args.seed)
            rows.append(row_of("simulated", workers, affinity, drive(floor_in_time, studio)))
    print(write_report(args.out, studio, args.real_jobs, services, rows, overhead))
    return 0


def _say(what: str) -> None:
    print(f"measuring: {what}", file=sys.stderr, flush=True)
