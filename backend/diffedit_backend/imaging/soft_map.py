"""From the engine's difference map, in cells, to the soft map of the whole picture."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from ..diffedit.difference import clamp_to_mean, smooth
from ..diffedit.settings import Settings
from .area import WorkArea, cut, to_cells
from .refine import guided_filter

Plane = NDArray[np.uint8]

_RADIUS_CELLS = 2.5  # of the guided filter: 20 px of a 512 px picture with cells of 8 px


def soft_map_of(
    difference: torch.Tensor,
    picture: NDArray[np.uint8],
    area: WorkArea,
    factor: int,
    settings: Settings,
    selection: Plane | None,
) -> Plane:
    """The soft map (H, W) uint8 of a picture (H, W, 3): 0 outside of the crop, 128 and more where the texts disagree.

    difference: (h, w) float in latent cells of the padded crop. Where a selection is given the scale is that of the
    selected cells, so that the strongest difference inside counts, whatever happens elsewhere.
    """
    cells = smooth(difference, settings.smoothing)
    cells = torch.where(torch.isfinite(cells), cells, 0.0)
    height, width = picture.shape[:2]
    place = np.full((height, width), 255, np.uint8) if selection is None else selection
    searched = torch.from_numpy(to_cells(place, area, factor)) > 0
    scaled = clamp_to_mean(cells) if settings.map_rule == "mean" else scale_to_peak(cells, searched)
    # The padding is cut off at cell precision times the cell's size, so resample on the padded frame first.
    crop = area.crop
    frame = (round(area.padded_height / area.scale), round(area.padded_width / area.scale))
    full = torch.nn.functional.interpolate(scaled[None, None], frame, mode="bilinear")[0, 0]
    full = full[: crop.height, : crop.width]
    if settings.refine:
        radius = max(1, round(_RADIUS_CELLS * factor / area.scale))
        values = guided_filter(cut(picture, crop), full, radius)
    else:
        values = full.numpy()
    soft_map = np.zeros((height, width), np.uint8)
    cut(soft_map, crop)[...] = np.rint(values.clip(0, 1) * 255)
    return soft_map


def scale_to_peak(cells: torch.Tensor, searched: torch.Tensor) -> torch.Tensor:
    """Scale a map so that its background, the median of the searched cells, is 0 and their peak 1."""
    inside = cells[searched]
    low, high = inside.median(), inside.max()
    return ((cells - low) / (high - low).clamp(min=1e-12)).clamp(0, 1)
