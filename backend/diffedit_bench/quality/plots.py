"""The figures as PNG: bars with intervals for the editors, curves with bands over the encoding ratio."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from PIL import Image, ImageDraw

from .cases import EditCase, Picture
from .editors import Edited
from .report import COLUMNS, DETAILS

_TITLES = {column.name: column.title for column in (*COLUMNS, *DETAILS)}


_BARS = ("iou", "auroc", "boundary_f", "success", "inside_psnr", "outside_psnr")


_DPI = 110


_PSNR_SHOWN = 50  # dB: bars of untouched pictures (100 dB) run out of the chart


def draw_editors(report: dict[str, Any], path: Path) -> None:
    """A small chart for each of the main columns, one bar per editor."""
    names = list(report["editors"])
    canvas = Canvas(figsize=(13, 1.2 + 0.5 * len(names)), layout="constrained")
    for axes, column in zip(canvas.subplots(2, 3, sharey=True).flat, _BARS, strict=True):
        known = [(i, found) for i, name in enumerate(names) if (found := report["editors"][name][column]) is not None]
        axes.barh(
            [i for i, _ in known],
            [found["value"] for _, found in known],
            xerr=_reach([found for _, found in known]),
            color=["tab:blue" if names[i].startswith("ours") else "tab:gray" for i, _ in known],
            error_kw={"elinewidth": 1, "capsize": 2},
        )
        axes.set_xlim(0, _PSNR_SHOWN if column.endswith("psnr") else 1)
        axes.set_title(_TITLES[column], fontsize=10)
        axes.set_yticks(range(len(names)), names)
        axes.grid(axis="x", alpha=0.3)
    canvas.axes[0].invert_yaxis()
    canvas.savefig(path, dpi=_DPI)


def draw_curves(report: dict[str, Any], path: Path) -> None:
    """Edit success, likeness to the true edit, and the outside before pasting, over the encoding ratio."""
    columns = ("success", "inside_psnr", "outside_psnr_before")
    canvas = Canvas(figsize=(13, 3.8), layout="constrained")
    for axes, column in zip(canvas.subplots(1, len(columns)), columns, strict=True):
        for name, points in report["curves"].items():
            _curve(axes, name, [(point["ratio"], point[column]) for point in points if point[column] is not None])
        axes.set_title(_TITLES[column], fontsize=10)
        axes.set_xlabel("encoding ratio")
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(fontsize=8)
    canvas.savefig(path, dpi=_DPI)


def _curve(axes: Axes, name: str, points: list[tuple[float, dict[str, float]]]) -> None:
    ratios = [ratio for ratio, _ in points]
    axes.plot(ratios, [found["value"] for _, found in points], marker="o", markersize=3, label=name)
    axes.fill_between(ratios, [found["low"] for _, found in points], [found["high"] for _, found in points], alpha=0.2)


def _reach(found: list[dict[str, float]]) -> list[list[float]]:
    """How far the intervals reach below and above the values."""
    return [
        [max(0.0, f["value"] - f["low"]) for f in found],
        [max(0.0, f["high"] - f["value"]) for f in found],
    ]


COLUMNS_OF_CELLS = ("source", "soft map", "mask", "edit", "true edit")


_CELL = 128  # px, whatever the pictures' size


_GAP = 4


_LABEL = 14  # px for the words above a strip


_PAPER = (250, 250, 250)


def strip(case: EditCase, edited: Edited) -> Image.Image:
    """One case; a cell stays empty where the editor or the case has nothing to show."""
    soft_map = None if edited.soft_map is None else _grey(edited.soft_map)
    cells = (case.source, soft_map, _grey(edited.mask), edited.delivered, case.target)
    image = Image.new("RGB", (len(cells) * (_CELL + _GAP) - _GAP, _LABEL + _CELL), _PAPER)
    ImageDraw.Draw(image).text((1, 1), f"{case.source_text}  >  {case.target_text}", fill=(0, 0, 0))
    for i, cell in enumerate(cells):
        if cell is not None:
            sized = Image.fromarray(cell).resize((_CELL, _CELL), _filter(cell))
            image.paste(sized, (i * (_CELL + _GAP), _LABEL))
    return image


def sheet(strips: Sequence[Path], columns: int = 2) -> Image.Image:
    """Strips that were saved before, in `columns` columns read from left to right."""
    images = [Image.open(path) for path in strips]
    width, height = images[0].size
    rows = -(-len(images) // columns)
    page = Image.new("RGB", (columns * (width + 3 * _GAP), rows * (height + 2 * _GAP)), _PAPER)
    for i, image in enumerate(images):
        page.paste(image, (i % columns * (width + 3 * _GAP), i // columns * (height + 2 * _GAP)))
    return page


def _grey(plane: Picture) -> Picture:
    return np.repeat(plane[..., None], 3, 2)


def _filter(cell: Picture) -> Image.Resampling:
    """Small pictures are shown with their pixels, large ones are averaged."""
    return Image.Resampling.NEAREST if cell.shape[0] <= _CELL else Image.Resampling.BOX
