"""From served jobs to rows, `report.json`, a table in Markdown and a plot."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from .load_artists import FIRST, KINDS, Served, Studio
from .load_simulation import Services


@dataclass(frozen=True)
class Row:
    """One run. Seconds of waiting until a worker began; `hit_rate`: of the jobs on a picture that was edited before,
    those whose worker had its stages; `per_minute`: jobs ended; `failed`: those that ended with an error."""

    how: str
    workers: int
    affinity: bool
    jobs: int
    failed: int
    wait_p50: float
    wait_p95: float
    answer_p50: float
    hit_rate: float
    per_minute: float


def row_of(how: str, workers: int, affinity: bool, served: Sequence[Served]) -> Row:
    waits = [job.waited for job in served]
    known = [job.warm for job in served if job.ask.kind != FIRST]
    length = max(job.ended for job in served) - min(job.ask.time for job in served)
    return Row(
        how,
        workers,
        affinity,
        len(served),
        sum(job.failed for job in served),
        float(np.percentile(waits, 50)),
        float(np.percentile(waits, 95)),
        float(np.percentile([job.ended - job.ask.time for job in served], 50)),
        sum(known) / len(known) if known else 0.0,
        60 * len(served) / length,
    )


def services_of(report: dict[str, Any]) -> Services:
    """The service times of a report that was written before. Raises KeyError when it holds none."""
    found: dict[tuple[str, bool], list[float]] = {}
    for kind in KINDS:
        for warm in (False, True):
            found[kind, warm] = report["services"][f"{kind}, {'warm' if warm else 'cold'}"]
    return found


def write_report(
    folder: Path,
    studio: Studio,
    real_jobs: int,
    services: Services,
    rows: Sequence[Row],
    overhead: dict[str, dict[str, float]],
) -> str:
    """Write report.json, report.md and load.png into `folder`; returns the Markdown."""
    folder.mkdir(parents=True, exist_ok=True)
    report = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "studio": asdict(studio) | {"real_jobs": real_jobs},
        "services": {f"{kind}, {'warm' if warm else 'cold'}": list(s) for (kind, warm), s in services.items()},
        "rows": [asdict(row) for row in rows],
        "overhead": overhead,
    }
    (folder / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    text = _markdown(report, studio, real_jobs, services, rows, overhead)
    (folder / "report.md").write_text(text)
    _draw(rows, folder / "load.png")
    return text


def _markdown(
    report: dict[str, Any],
    studio: Studio,
    real_jobs: int,
    services: Services,
    rows: Sequence[Row],
    overhead: dict[str, dict[str, float]],
) -> str:
    lines = [
        f"{studio.artists} artists, {studio.think:g} s of think time on average; {report['machine']}. Measured rows "
        f"are real workers with the bundled model, {real_jobs} jobs of each artist. Simulated rows are the "
        f"server's own queue and router in simulated time, {studio.jobs} jobs of each artist, "
        "with the service times below.",
        "",
        "| | workers | affinity | wait p50, s | wait p95, s | answer p50, s | cache hits | jobs/min | failed |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [row.how, str(row.workers), "yes" if row.affinity else "no"]
        cells += [f"{value:.2f}" for value in (row.wait_p50, row.wait_p95, row.answer_p50)]
        cells += [f"{row.hit_rate:.0%}", f"{row.per_minute:.0f}", f"{row.failed} of {row.jobs}"]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "| service time, measured on one worker | median, s | least | greatest |", "|---|---|---|---|"]
    for (kind, warm), found in services.items():
        if kind != FIRST or not warm:
            name = f"{kind}, {'picture in the cache' if warm else 'picture new to the worker'}"
            lines.append(f"| {name} | {median(found):.3f} | {min(found):.3f} | {max(found):.3f} |")
    if overhead:
        lines += [
            "",
            "| a mask move with everything cached, measured | median, ms | more than direct, ms |",
            "|---|---|---|",
        ]
        for name, figures in overhead.items():
            more = f"{1000 * figures['overhead']:.1f}" if "overhead" in figures else ""
            lines.append(f"| {name} | {1000 * figures['seconds']:.1f} | {more} |")
        if "ray" not in overhead:
            lines += ["", "Ray is not installed here, so its overhead was not measured."]
    return "\n".join(lines) + "\n"


def _draw(rows: Sequence[Row], path: Path) -> None:
    """Waiting and cache hits over the number of workers; measured points are filled, simulated ones are lines."""
    from matplotlib.figure import Figure

    canvas = Figure(figsize=(11, 4), layout="constrained")
    columns = (
        ("wait_p95", "waiting, 95th percentile, s"),
        ("hit_rate", "cache hits"),
        ("per_minute", "jobs per minute"),
    )
    for axes, (column, title) in zip(canvas.subplots(1, len(columns)), columns, strict=True):
        for affinity, colour in ((True, "tab:blue"), (False, "tab:orange")):
            for how, style in (("simulated", "o-"), ("measured", "D")):
                some = [row for row in rows if (row.affinity, row.how) == (affinity, how)]
                axes.plot(
                    [row.workers for row in some],
                    [getattr(row, column) for row in some],
                    style,
                    color=colour,
                    markersize=8 if how == "measured" else 4,
                    markeredgecolor="black" if how == "measured" else colour,
                    label=f"{how}, {'with' if affinity else 'without'} affinity" if some else None,
                )
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("workers")
        axes.set_xscale("log", base=2)
        axes.set_xticks(sorted({row.workers for row in rows}), sorted({row.workers for row in rows}))
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    canvas.axes[0].legend(fontsize=8)
    canvas.savefig(path, dpi=110)
