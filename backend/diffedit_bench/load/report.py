"""From measured parts to `report.json` and tables in Markdown, with one formula for more workers."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np

from .artists import FIRST, MASK, NEW_PICTURE, NEW_TARGET, TARGET, LoadScenario, Served
from .parts import Part, machine, served_from_json
from .workers import EXECUTORS, ServiceTimes, overheads, services_to_json

SHOWN = {
    "wait_p50": "wait p50, s",
    "wait_p95": "wait p95, s",
    "answer_p50": "answer p50, s",
    "hit_rate": "cache hits",
    "per_minute": "jobs/min",
}


@dataclass(frozen=True)
class Row:
    """One measured run. Seconds of waiting until a worker began; `hit_rate`: of the jobs on a picture that was edited
    before, those whose worker had its stages; `per_minute`: jobs ended; `failed`: those that ended with an error.

    `affinity`: None where it makes no difference, at one worker."""

    workers: int
    affinity: bool | None
    jobs: int
    failed: int
    wait_p50: float
    wait_p95: float
    answer_p50: float
    hit_rate: float
    per_minute: float


def row_of(workers: int, affinity: bool, served: Sequence[Served]) -> Row:
    waits = [job.waited for job in served]
    known = [job.warm for job in served if job.ask.kind != FIRST]
    length = max(job.ended for job in served) - min(job.ask.time for job in served)
    return Row(
        workers,
        affinity if workers > 1 else None,
        len(served),
        sum(job.failed for job in served),
        float(np.percentile(waits, 50)),
        float(np.percentile(waits, 95)),
        float(np.percentile([job.ended - job.ask.time for job in served], 50)),
        sum(known) / len(known) if known else 0.0,
        60 * len(served) / length,
    )


def mean_job_seconds(services: ServiceTimes) -> float:
    """Mean seconds of an artist's jobs, every picture in the cache after its first edit."""
    shares = {FIRST: NEW_PICTURE, TARGET: NEW_TARGET, MASK: 1 - NEW_PICTURE - NEW_TARGET}
    return sum(share * mean(services[kind, kind != FIRST]) for kind, share in shares.items())


def artists_carried(workers: int, think: float, job: float) -> int:
    """About how many artists `workers` carry with short waits: workers at half load.

    An artist asks every `think` + `job` seconds and keeps a worker busy for `job` of them. At a load of a half hardly
    anyone waits, and at 0.8 to 0.9 queues grow long (an M/M/c queue); half leaves room for what comes at once.
    """
    return max(1, int(workers * (think + job) / (2 * job)))


def write_report(
    folder: Path, scenario: LoadScenario, workers: Sequence[int], services: ServiceTimes, parts: Sequence[Part]
) -> str:
    """Write report.json and report.md into `folder`; returns the latter. `workers`: numbers to use the formula for."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        row_of(part.settings["workers"], part.settings["affinity"], served_from_json(part.result))
        for part in parts
        if part.name.startswith("real-")
    ]
    job = mean_job_seconds(services)
    carried = {number: artists_carried(number, scenario.think, job) for number in workers}
    overhead = overheads({name: part.result for name in EXECUTORS for part in parts if part.name == f"overhead-{name}"})
    report = {
        "machine": machine(),
        "scenario": asdict(scenario),
        "services": services_to_json(services),
        "rows": [asdict(row) for row in rows],
        "mean_job_seconds": job,
        "artists_carried": carried,
        "overhead": overhead,
        "parts": [{key: value for key, value in asdict(part).items() if key != "result"} for part in parts],
    }
    (folder / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    lines = [
        *_introduction(scenario, parts),
        *_measured(rows),
        *_carried(carried, scenario.think, job),
        *_services(services),
        *_overheads(overhead),
        *_parts(parts),
    ]
    text = "\n".join(lines) + "\n"
    (folder / "report.md").write_text(text)
    return text


def _introduction(scenario: LoadScenario, parts: Sequence[Part]) -> list[str]:
    loads = [part.load[0] for part in parts]
    busy = f" Load average before each part: {min(loads):.1f} to {max(loads):.1f}." if loads else ""
    return [
        f"{scenario.artists} artists, {scenario.think:g} s of think time on average; {machine()}.{busy}",
        "",
        "Real workers with the bundled model, each one process with one thread.",
    ]


def _measured(rows: Sequence[Row]) -> list[str]:
    if not rows:
        return ["", "Nothing was measured with several artists here."]
    lines = [
        "",
        "## Several artists",
        "",
        f"| workers | affinity | jobs | {' | '.join(SHOWN.values())} | failed |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        affinity = "no difference" if row.affinity is None else "with" if row.affinity else "without"
        cells = [str(row.workers), affinity, str(row.jobs), *(_cell(name, getattr(row, name)) for name in SHOWN)]
        lines.append(f"| {' | '.join(cells)} | {row.failed} |")
    return lines


def _carried(carried: dict[int, int], think: float, job: float) -> list[str]:
    lines = [
        "",
        "## More workers",
        "",
        f"`workers × (think time + job) / (2 × job)` artists, with {think:g} s of think time and {job:.2f} s for a job "
        "on average:",
        "",
        "| workers | artists |",
        "|---|---|",
    ]
    return lines + [f"| {number} | {artists} |" for number, artists in carried.items()]


def _services(services: ServiceTimes) -> list[str]:
    lines = [
        "",
        "## Service times on one worker",
        "",
        "| | median, s | least | greatest |",
        "|---|---|---|---|",
    ]
    for (kind, warm), found in services.items():
        if kind != FIRST or not warm:
            name = f"{kind}, {'picture in the cache' if warm else 'picture new to the worker'}"
            lines.append(f"| {name} | {median(found):.3f} | {min(found):.3f} | {max(found):.3f} |")
    return lines


def _overheads(overhead: dict[str, dict[str, float]]) -> list[str]:
    if not overhead:
        return []
    lines = [
        "",
        "## A mask move with everything cached, through each executor",
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


def _cell(figure: str, value: Any) -> str:
    if figure == "hit_rate":
        return f"{value:.0%}"
    return f"{value:.0f}" if figure == "per_minute" else f"{value:.1f}"
