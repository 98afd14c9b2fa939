"""Means and their 95 % intervals: percentile bootstrap over cases (Efron 1979)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .editors import DEFAULT_RATIO
from .metrics import psnr
from .run import Row

RESAMPLES = 2000


CONFIDENCE = 0.95


_SEED = 20221020  # any; fixed, so that the same rows give the same report


@dataclass(frozen=True)
class Figure:
    """A value and the interval in which it would fall for other cases of the same kind."""

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, float]:
        return {name: float(f"{value:.6g}") for name, value in asdict(self).items()}


def same(mean: float) -> float:
    """The figure is the mean itself."""
    return mean


def mean_figure(values: Sequence[float | None], finish: Callable[[float], float] = same) -> Figure | None:
    """`finish(mean)` over the values that are known, with its interval; None where no value is known.

    `finish` must be monotonous: `psnr` of mean squared errors, for one.
    """
    known = np.array([value for value in values if value is not None], np.float64)
    if not known.size:
        return None
    means = known[_picks(known.size)].mean(1)
    ends = sorted(finish(float(end)) for end in np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]))
    return Figure(finish(float(known.mean())), ends[0], ends[1])


def difference_figure(
    ours: Sequence[float], theirs: Sequence[float], finish: Callable[[float], float] = same
) -> Figure | None:
    """`finish(mean of ours) - finish(mean of theirs)` on the same cases, in the same order; None without a case."""
    if not ours:
        return None
    first, second = np.array(ours, np.float64), np.array(theirs, np.float64)
    picks = _picks(first.size)
    spread = [
        finish(float(a)) - finish(float(b)) for a, b in zip(first[picks].mean(1), second[picks].mean(1), strict=True)
    ]
    low, high = np.quantile(spread, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Figure(finish(float(first.mean())) - finish(float(second.mean())), float(low), float(high))


def _picks(count: int) -> NDArray[np.int64]:
    return np.random.default_rng(_SEED).integers(count, size=(RESAMPLES, count))


@dataclass(frozen=True)
class Column:
    """One figure of an editor: a mean of a row's score, `finish`ed; `better` is +1 where more is better, -1 where
    less is.
    """

    name: str
    score: str
    title: str
    digits: int
    better: int
    finish: Callable[[float], float] = same
    factor: float = 1.0


# PSNR is that of the mean squared error over the cases: a few untouched pictures cannot lift it.
COLUMNS = (
    Column("iou", "iou", "mask IoU", 3, +1),
    Column("iou_best", "iou_best", "IoU, best threshold", 3, +1),
    Column("auroc", "auroc", "AUROC", 3, +1),
    Column("boundary_f", "boundary_f", "boundary F, 2 px", 3, +1),
    Column("success", "success", "edit success", 3, +1),
    Column("inside_psnr", "inside_mse", "inside PSNR, dB", 2, +1, psnr),
    Column("ground_psnr", "ground_mse", "ground PSNR, dB", 2, +1, psnr),
    Column("ghost", "ghost", "ghost", 3, -1),
    Column("seam", "seam", "seam", 2, -1),
    Column("outside_psnr", "outside_mse", "outside PSNR, dB", 2, +1, psnr),
    Column("outside_exact", "outside_exact", "outside exact", 3, +1),
    Column("evaluations", "evaluations", "UNet samples", 1, -1),
    Column("seconds", "seconds", "seconds", 2, -1),
)


DETAILS = (
    Column("inside_ssim", "inside_ssim", "inside SSIM", 3, +1),
    Column("uncovered_psnr", "uncovered_mse", "ground PSNR, missed places too, dB", 2, +1, psnr),
    Column("ghost_correlation", "ghost_correlation", "ghost, correlation", 3, -1),
    Column("another_pose", "another_pose", "ground under another pose", 3, -1),
    Column("outside_ssim", "outside_ssim", "outside SSIM", 3, +1),
    Column("outside_psnr_before", "outside_before_mse", "outside PSNR before pasting, dB", 2, +1, psnr),
    Column("outside_ssim_before", "outside_before_ssim", "outside SSIM before pasting", 3, +1),
    Column("outside_psnr_after", "outside_after_mse", "outside PSNR after pasting, dB", 2, +1, psnr),
    Column("outside_ssim_after", "outside_after_ssim", "outside SSIM after pasting", 3, +1),
    Column("area", "area", "mask's share of the picture", 3, -1),
    Column("cpu_seconds", "cpu_seconds", "CPU seconds", 2, -1),
)


CURVES = ("success", "inside_psnr", "outside_psnr_before", "outside_psnr_after")


Json = dict[str, Any]


def figure(rows: Iterable[Row], column: Column) -> Figure | None:
    """The column's figure over some rows; None where no row has the score."""
    return mean_figure([row.scores.get(column.score) for row in rows], column.finish)


def figures(rows: Sequence[Row], columns: Sequence[Column]) -> Json:
    """{"cases": n, column: {"value", "low", "high"} or None}."""
    measured = {column.name: figure(rows, column) for column in columns}
    return {"cases": len(rows)} | {name: found and found.to_json() for name, found in measured.items()}


def differences(ours: Sequence[Row], theirs: Sequence[Row], columns: Sequence[Column] = COLUMNS) -> Json:
    """Per column, ours minus theirs over the cases that both have, with its interval."""
    found: Json = {}
    other = {row.case: row for row in theirs}
    for column in columns:
        pairs = [
            (a, b)
            for row in ours
            if row.case in other
            and (a := row.scores.get(column.score)) is not None
            and (b := other[row.case].scores.get(column.score)) is not None
        ]
        difference = difference_figure([a for a, _ in pairs], [b for _, b in pairs], column.finish)
        found[column.name] = difference and difference.to_json()
    return found


def build(rows: Sequence[Row], editors: Sequence[str], facts: Json) -> Json:
    """The whole report of rows at several ratios; `facts` (model, seed, judge, ...) stand beside the figures."""
    by_editor = {name: [row for row in rows if row.editor == name] for name in editors}
    main = {name: [row for row in found if row.ratio == DEFAULT_RATIO] for name, found in by_editor.items()}
    kinds = sorted({row.kind for row in rows})
    curves: Json = {}
    for name, found in by_editor.items():
        ratios = sorted({row.ratio for row in found})
        if len(ratios) > 1:
            at = {ratio: [row for row in found if row.ratio == ratio] for ratio in ratios}
            columns = [column for column in (*COLUMNS, *DETAILS) if column.name in CURVES]
            curves[name] = [{"ratio": ratio} | figures(at[ratio], columns) for ratio in ratios]
    return {
        **facts,
        "ratio": DEFAULT_RATIO,
        "editors": {name: figures(found, COLUMNS) for name, found in main.items()},
        "details": {name: figures(found, DETAILS) for name, found in main.items()},
        "kinds": {
            kind: {name: figures([row for row in found if row.kind == kind], COLUMNS) for name, found in main.items()}
            for kind in kinds
        },
        "ours_minus": {
            name: differences(main["ours"], found)
            for name, found in main.items()
            if "ours" in main and name.startswith("library")
        },
        "curves": curves,
    }


def dump(report: Json) -> str:
    return json.dumps(report, indent=2) + "\n"


def table(figures_by_name: dict[str, Json], columns: Sequence[Column], first: str = "editor") -> str:
    """A Markdown table: one line per name, a figure as "0.61 (0.58-0.64)", a dash where there is none."""
    lines = [
        f"| {first} | cases | " + " | ".join(column.title for column in columns) + " |",
        "|---|" + "---:|" * (len(columns) + 1),
    ]
    for name, measured in figures_by_name.items():
        cells = [_cell(measured[column.name], column) for column in columns]
        lines.append(f"| {name} | {measured['cases']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(value: Json | None, column: Column) -> str:
    if value is None:
        return "–"
    middle, low, high = (f"{value[end] * column.factor:.{column.digits}f}" for end in ("value", "low", "high"))
    return middle if low == high else f"{middle} ({low}–{high})"


# From a perfect edit to ours, every editor adds one thing that can fail.
_LADDER = (
    ("truth", "the judge, who is shown the true edit"),
    ("truth-vae", "the autoencoder, that the true edit went through"),
    ("changed-mask", "the model and the denoising, with every place free that has to change"),
    ("true-mask", "the space, when only the old thing's place is free"),
    ("ours", "the search for the mask"),
)


def losses(report: dict[str, Any]) -> list[tuple[str, float]]:
    """(cause, share of all edits that it costs; negative: gained) in the ladder's order, for the editors that ran.

    What an editor adds that did not run is named together with the next one that did.
    """
    success = {
        name: figures["success"]["value"] for name, figures in report["editors"].items() if figures.get("success")
    }
    before, found = 1.0, []
    causes: list[str] = []
    for name, cause in _LADDER:
        causes.append(cause)
        if name in success:
            found.append(("; ".join(causes), before - success[name]))
            before, causes = success[name], []
    return found


def sentences(report: dict[str, Any]) -> str:
    """The losses as Markdown, the largest named; empty where no editor was judged."""
    found = losses(report)
    if not found:
        return ""
    lines = [f"* {0.0 - share:+.1%} {cause}" for cause, share in found]
    cause, share = max(found, key=lambda loss: loss[1])
    if share > 0:
        lines.append(f"\nMost is lost to {cause}: {share:.1%} of all edits.")
    return "\n".join(lines)
