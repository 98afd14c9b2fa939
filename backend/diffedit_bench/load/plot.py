"""The plot of `bench load`: waiting, cache hits and throughput over the number of workers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from .rows import Row

COLUMNS = (
    ("wait_p95", "waiting, 95th percentile, s"),
    ("hit_rate", "cache hits"),
    ("per_minute", "jobs per minute"),
)


def draw(rows: Sequence[Row], path: Path) -> None:
    """Simulated rows are lines, measured ones filled diamonds. One worker belongs to both colours."""
    canvas = Figure(figsize=(11, 4), layout="constrained")
    for axes, (column, title) in zip(canvas.subplots(1, len(COLUMNS)), COLUMNS, strict=True):
        for affinity, colour in ((True, "tab:blue"), (False, "tab:orange")):
            for how, style in (("simulated", "o-"), ("measured", "D")):
                some = [row for row in rows if row.how == how and row.affinity in (affinity, None)]
                axes.plot(
                    [row.workers for row in some],
                    [getattr(row, column) for row in some],
                    style,
                    color=colour,
                    markersize=9 if how == "measured" else 4,
                    markeredgecolor="black" if how == "measured" else colour,
                    label=f"{how}, {'with' if affinity else 'without'} affinity" if some else None,
                )
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("workers")
        axes.set_xscale("log", base=2)
        numbers = sorted({row.workers for row in rows})
        axes.set_xticks(numbers, [str(number) for number in numbers])
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    canvas.axes[0].legend(fontsize=8)
    canvas.savefig(path, dpi=110)
