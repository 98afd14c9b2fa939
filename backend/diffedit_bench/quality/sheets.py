"""Contact sheets: source | soft map | mask | edit | true edit, one case per strip, so that figures can be looked at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from .cases import EditCase, Picture
from .editors import Edited

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
