"""From the figures of `diffedit bench processor` to a table in Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from .run import EditDifference, StepTime


def table(processor: str, steps: Sequence[StepTime], edits: Sequence[EditDifference]) -> str:
    """Steps by size, each beside the first row of its size; then the edits. A star marks what is chosen by default."""
    lines = [
        f"{processor}; * is the default",
        "",
        "| model | precision | threads | UNet | step, median | least | beside the first | processor time |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for _, group in groupby(steps, key=lambda row: row.size):
        rows = list(group)
        lines += [_step(row, rows[0]) for row in rows]
    if edits:
        lines += [
            "",
            "| bundled model, beside fp32 | scenes | mask IoU, mean | least | picture, median | least | "
            "IoU with the true mask, fp32 | in this precision |",
            "|---|---|---|---|---|---|---|---|",
        ]
    lines += [
        f"| {row.precision} | {row.scenes} | {row.mask_iou[0]:.3f} | {row.mask_iou[1]:.3f} | {row.psnr[0]:.1f} dB | "
        f"{row.psnr[1]:.1f} dB | {row.true_iou[0]:.3f} | {row.true_iou[1]:.3f} |"
        for row in edits
    ]
    return "\n".join(lines)


def _step(row: StepTime, first: StepTime) -> str:
    name = f"{row.size} *" if row.chosen else row.size
    return (
        f"| {name} | {row.precision} | {row.threads} | {row.weights / 1e6:.0f} MB | {row.seconds * 1000:.0f} ms | "
        f"{row.least_seconds * 1000:.0f} ms | {row.least_seconds / first.least_seconds:.2f} | "
        f"{row.processor_seconds * 1000:.0f} ms |"
    )
