"""From measured parts and simulated runs to `report.json`, tables in Markdown and a plot."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from .artists import LoadScenario
from .overhead import EXECUTORS, overheads
from .parts import Part, machine, served_from_json
from .plot import draw
from .rows import BEARABLE, DRAWS, FIGURES, MOST_ARTISTS, Row, Spread, beside, most_artists, row_of, simulated
from .services import as_lists, services_seen
from .simulation import Services

SHOWN = {
    "wait_p50": "wait p50, s",
    "wait_p95": "wait p95, s",
    "answer_p50": "answer p50, s",
    "hit_rate": "cache hits",
    "per_minute": "jobs/min",
}


@dataclass(frozen=True)
class Check:
    """A measured run beside the same artists simulated.

    `own`: with the service times of that very run, which tries the queue and the router alone. `single`: with those of
    one worker that had the machine for itself, as all other simulated rows are made.
    """

    measured: Row
    own: dict[str, Spread]
    single: dict[str, Spread]


def write_report(
    folder: Path, scenario: LoadScenario, workers: Sequence[int], services: Services, parts: Sequence[Part]
) -> str:
    """Write report.json, report.md and load.png into `folder`; returns the Markdown. `workers`: numbers to simulate."""
    folder.mkdir(parents=True, exist_ok=True)
    checks = [_check(part, services) for part in parts if part.name.startswith("real-")]
    rows = [
        simulated(number, affinity, services, scenario)
        for number in workers
        for affinity in ((True, False) if number > 1 else (True,))
    ]
    sizes = {number: most_artists(number, services, scenario.think, scenario.seed) for number in workers}
    measured = {name: part.result for name in EXECUTORS for part in parts if part.name == f"overhead-{name}"}
    overhead = overheads(measured)
    report = {
        "machine": machine(),
        "studio": asdict(scenario),
        "services": as_lists(services),
        "rows": [asdict(row) for row in (*(check.measured for check in checks), *rows)],
        "checks": [asdict(check) for check in checks],
        "most_artists": {"waiting_p95": BEARABLE, "by_workers": sizes},
        "overhead": overhead,
        "parts": [{key: value for key, value in asdict(part).items() if key != "result"} for part in parts],
    }
    (folder / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    lines = _introduction(scenario, parts)
    lines += _checked(checks)
    lines += _simulated(rows, sizes, scenario)
    lines += _services(services)
    lines += _overheads(overhead)
    lines += _parts(parts)
    text = "\n".join(lines) + "\n"
    (folder / "report.md").write_text(text)
    draw([*(check.measured for check in checks), *rows], folder / "load.png")
    return text


def _check(part: Part, services: Services) -> Check:
    served = served_from_json(part.result)
    settings = part.settings
    scenario = LoadScenario(settings["artists"], settings["jobs"], settings["think"], settings["seed"])
    workers, affinity = settings["workers"], settings["affinity"]
    return Check(
        row_of("measured", workers, affinity, served),
        beside(workers, affinity, services_seen(served, services), scenario),
        beside(workers, affinity, services, scenario),
    )


def _introduction(scenario: LoadScenario, parts: Sequence[Part]) -> list[str]:
    loads = [part.load[0] for part in parts]
    busy = f" Load average before each part: {min(loads):.1f} to {max(loads):.1f}." if loads else ""
    return [
        f"{scenario.artists} artists, {scenario.think:g} s of think time on average; {machine()}.{busy}",
        "",
        "*Measured*: real workers with the bundled model, each one process with one thread. *Simulated*: the server's "
        "own queue and router in simulated time, with the service times that were measured on one worker.",
    ]


def _checked(checks: Sequence[Check]) -> list[str]:
    if not checks:
        return ["", "Nothing was measured with several artists here: every row below is simulated."]
    lines = [
        "",
        f"## Measured, and the same artists simulated (median, least and greatest of {DRAWS} runs)",
        "",
        f"| workers | affinity | | jobs | {' | '.join(SHOWN.values())} | failed |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    within = 0
    for check in checks:
        row = check.measured
        cells = [str(row.workers), _affinity(row), "**measured**", str(row.jobs)]
        cells += [f"**{_cell(figure, getattr(row, figure))}**" for figure in FIGURES]
        lines.append(f"| {' | '.join(cells)} | {row.failed} |")
        for name, spreads in (("its own service times", check.own), ("one worker's service times", check.single)):
            cells = ["", "", f"simulated, {name}", ""]
            for figure in FIGURES:
                spread = spreads[figure]
                least, greatest = (_cell(figure, value) for value in (spread.least, spread.greatest))
                cells.append(f"{_cell(figure, spread.median)} ({least} to {greatest})")
            lines.append(f"| {' | '.join(cells)} | |")
        within += sum(check.own[name].least <= getattr(row, name) <= check.own[name].greatest for name in FIGURES)
    lines += [
        "",
        f"With a run's own service times, {within} of {len(checks) * len(FIGURES)} measured figures lie between the "
        "least and the greatest simulated one. Where one worker's service times give other figures, jobs took another "
        "time in the run: other programs ran, or the workers of one machine slowed each other down.",
    ]
    return lines


def _simulated(rows: Sequence[Row], sizes: dict[int, int], scenario: LoadScenario) -> list[str]:
    lines = [
        "",
        f"## Simulated, {scenario.jobs} jobs of each artist",
        "",
        f"| workers | affinity | {' | '.join(SHOWN.values())} |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [str(row.workers), _affinity(row), *(_cell(figure, getattr(row, figure)) for figure in FIGURES)]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", f"| workers | artists that they carry: 19 of 20 jobs wait at most {BEARABLE:g} s |", "|---|---|"]
    lines += [
        f"| {number} | {f'{MOST_ARTISTS} or more' if size >= MOST_ARTISTS - 1 else size} |"
        for number, size in sizes.items()
    ]
    return lines


def _services(services: Services) -> list[str]:
    lines = [
        "",
        "## Measured: service times on one worker",
        "",
        "| | median, s | least | greatest |",
        "|---|---|---|---|",
    ]
    for (kind, warm), found in services.items():
        if kind != "first edit" or not warm:
            name = f"{kind}, {'picture in the cache' if warm else 'picture new to the worker'}"
            lines.append(f"| {name} | {median(found):.3f} | {min(found):.3f} | {max(found):.3f} |")
    return lines


def _overheads(overhead: dict[str, dict[str, float]]) -> list[str]:
    if not overhead:
        return []
    lines = [
        "",
        "## Measured: a mask move with everything cached, through each executor",
        "",
        "| | median, ms | more than a direct call, ms |",
        "|---|---|---|",
    ]
    for name, figures in overhead.items():
        more = f"{1000 * figures['overhead']:.1f}" if "overhead" in figures else ""
        lines.append(f"| {name} | {1000 * figures['seconds']:.1f} | {more} |")
    missing = [name for name in EXECUTORS if name not in overhead]
    if missing:
        lines += ["", f"Not measured: {', '.join(missing)}."]
    return lines


def _parts(parts: Sequence[Part]) -> list[str]:
    if not parts:
        return []
    lines = ["", "## The measured parts", "", "| | when | took, s | load average before | after | cores |"]
    lines.append("|---|---|---|---|---|---|")
    for part in parts:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(part.began))
        before, after = part.load
        lines.append(f"| {part.name} | {when} | {part.seconds:.0f} | {before:.1f} | {after:.1f} | {part.cores} |")
    return lines


def _affinity(row: Row) -> str:
    return "no difference" if row.affinity is None else "with" if row.affinity else "without"


def _cell(figure: str, value: float) -> str:
    if figure == "hit_rate":
        return f"{value:.0%}"
    return f"{value:.0f}" if figure == "per_minute" else f"{value:.1f}"
