"""`diffedit bench load`: how long artists wait at one backend, by the number of its workers, with affinity and without.

One and two workers (`--real`) are measured with the bundled model on this machine; for more (`--workers`) one formula
gives how many artists they carry.

Every part that was measured is kept in `parts/` of the output folder. A run that was ended, or in which a part failed,
is continued by the same command; `--only` measures some parts, in pieces as short as a machine is free.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffedit_protocol.errors import BadInputError, DiffEditError
from diffedit_protocol.messages import QUALITIES

if TYPE_CHECKING:
    from .artists import LoadScenario
    from .parts import Part, Parts

HELP = "measure waiting time, cache hits and throughput with several artists, and each executor's overhead"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    def numbers(text: str) -> tuple[int, ...]:
        found = tuple(int(part) for part in text.split(",") if part)
        if any(number < 1 for number in found):
            raise argparse.ArgumentTypeError(f"numbers of workers must be at least 1: {text}")
        return found

    parser.add_argument("--out", type=Path, required=True, help="folder for report.json, report.md and parts")
    parser.add_argument("--artists", type=int, default=10, help="(default: 10)")
    parser.add_argument("--think", type=float, default=15.0, metavar="SECONDS", help="mean think time (default: 15)")
    parser.add_argument("--jobs", type=int, default=6, help="of each artist (default: 6)")
    parser.add_argument(
        "--workers", type=numbers, default=(1, 2, 4, 8), help="to use the formula for (default: 1,2,4,8)"
    )
    parser.add_argument("--real", type=numbers, default=(1, 2), help="to measure; '' for none (default: 1,2)")
    parser.add_argument("--quality", choices=QUALITIES, default="draft", help="(default: draft)")
    parser.add_argument("--samples", type=int, default=8, help="of each service time (default: 8)")
    parser.add_argument("--rounds", type=int, default=50, help="for the overheads (default: 50)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--only",
        action="append",
        metavar="PART",
        help="measure this part alone, the others as they were measured before: services, overhead (or one of "
        "overhead-direct, -local, -ray), real (or one of real-1, real-2-with, real-2-without); may be given again",
    )
    parser.add_argument("--again", action="store_true", help="measure also what was measured before")


def run(args: argparse.Namespace) -> int:
    from .parts import Parts
    from .report import write_report

    _check(args)
    parts = Parts(args.out / "parts")
    plan = _plan(args)
    wanted = [name for name in plan if _is_wanted(name, args.only)]
    if not wanted:
        raise BadInputError(f"--only {' '.join(args.only)} names no part. There are: {', '.join(plan)}.")
    found: dict[str, Part] = {}
    failed: list[str] = []
    for number, (name, (settings, measure)) in enumerate(plan.items(), 1):
        part = parts.find(name, settings)
        if name in wanted and (part is None or args.again):
            _log(f"{number} of {len(plan)}: {name}")
            part = _measured(parts, name, settings, measure, failed)
        elif part is not None:
            _log(f"{number} of {len(plan)}: {name}: as measured before, in {part.seconds:.0f} s")
        if part is not None:
            found[name] = part
    if "services" not in found:
        _log("no report yet: it needs the service times (--only services)")
        return 1 if failed else 0
    from .workers import services_from_json

    services = services_from_json(found["services"].result)
    print(write_report(args.out, _scenario(args), args.workers, services, list(found.values())))
    missing = [name for name in plan if name not in found]
    if missing:
        _log(f"not measured yet: {', '.join(missing)}; the same command without --only measures them")
    return 1 if failed else 0


def _measured(
    parts: Parts, name: str, settings: dict[str, Any], measure: Callable[[], Any], failed: list[str]
) -> Part | None:
    """None, and its name in `failed`, when this part cannot be measured now: the others still can."""
    try:
        part = parts.measure(name, settings, measure)
    except (DiffEditError, TimeoutError) as error:
        failed.append(name)
        _log(f"{name} failed: {error}")
        return None
    _log(f"{name}: {part.seconds:.0f} s, load average {part.load[0]:.1f} before and {part.load[1]:.1f} after")
    return part


def _plan(args: argparse.Namespace) -> dict[str, tuple[dict[str, Any], Callable[[], Any]]]:
    """What can be measured, in order: by its name, the settings that it depends on and how to measure it."""
    from diffedit_backend.executors.routing import BEHIND

    from .artists import drive
    from .parts import served_to_json
    from .workers import local_workers, measure_overhead, measure_services, services_to_json

    quality: dict[str, Any] = {"quality": args.quality}
    plan: dict[str, tuple[dict[str, Any], Callable[[], Any]]] = {
        "services": (
            quality | {"samples": args.samples},
            lambda: services_to_json(measure_services(args.quality, args.samples)),
        )
    }
    executors = ["direct", "local"] + (["ray"] if importlib.util.find_spec("ray") is not None else [])
    for executor in executors:
        plan[f"overhead-{executor}"] = (
            quality | {"rounds": args.rounds},
            partial(measure_overhead, args.quality, args.rounds, executor),
        )
    scenario = _scenario(args)
    for workers in args.real:
        for affinity in (True, False) if workers > 1 else (True,):
            settings = quality | {"artists": args.artists, "think": args.think, "jobs": args.jobs}

            def measure(workers: int = workers, affinity: bool = affinity) -> Any:
                with local_workers(workers, args.quality, BEHIND if affinity else 0) as pool:
                    return served_to_json(drive(pool, scenario))

            name = real_name(workers, affinity)
            plan[name] = (settings | {"seed": args.seed, "workers": workers, "affinity": affinity}, measure)
    return plan


def real_name(workers: int, affinity: bool) -> str:
    """One worker has every picture: there, affinity makes no difference."""
    return f"real-{workers}" if workers == 1 else f"real-{workers}-{'with' if affinity else 'without'}"


def _is_wanted(name: str, only: list[str] | None) -> bool:
    return only is None or any(name == part or name.startswith(f"{part}-") for part in only)


def _scenario(args: argparse.Namespace) -> LoadScenario:
    from .artists import LoadScenario

    return LoadScenario(args.artists, args.jobs, args.think, args.seed)


def _check(args: argparse.Namespace) -> None:
    for name in ("artists", "jobs", "samples", "rounds"):
        if getattr(args, name) < 1:
            raise BadInputError(f"--{name.replace('_', '-')} is {getattr(args, name)}; it must be at least 1.")
    if args.think <= 0:
        raise BadInputError(f"--think is {args.think}; it must be more than 0 seconds.")


def _log(sentence: str) -> None:
    print(f"bench load: {sentence}", file=sys.stderr, flush=True)
