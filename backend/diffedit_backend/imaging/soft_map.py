"""From the engine's difference map, in cells, to the soft map of the whole picture."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from ..method.difference import clamp_to_mean, smooth
from ..method.settings import MethodSettings
from ..types import Pixels, Plane
from .area import WorkArea, content_cells, cut, resized, to_cells
from .area_opening import area_opening
from .refine import guided_filter

# Chosen on the bundled scenes, whose masks are known: the filter raises the mean IoU of swaps from 0.54 to 0.74.
_RADIUS_CELLS = 4
_PEAK_QUANTILE = 0.97  # a single hot cell is no peak
# The share of the peak at which masks agree best with the truth there; 0.5 on the artist's scale stands for it.
_BEST_CUT = 0.42
_LARGEST = 4096  # px of the longer side that edges are followed at: larger pictures are scanned or upscaled ones
# In units of the noise: below, the two texts mean the same to the model. Measured with maps at 0.65: a word more that
# means nothing gives 0.004 (median), things exchanged 0.09 and more.
_NO_DIFFERENCE = 0.005


def soft_map_of(
    difference: torch.Tensor,
    picture: Pixels,
    area: WorkArea,
    factor: int,
    settings: MethodSettings,
    selection: Plane | None,
    attention: torch.Tensor | None = None,
) -> Plane:
    """The soft map (H, W) uint8 of a picture (H, W, 3): 0 outside of the crop, 128 and more where the texts disagree.

    difference: (h, w) float in latent cells of the padded crop. Where a selection is given the peak is that of the
    selected cells, so that the strongest difference inside counts, whatever happens elsewhere. Black where there is no
    difference worth the name. attention: (h, w) in [0, 1], where the changed words look; multiplied in by its share.
    """
    height, width = picture.shape[:2]
    soft_map = np.zeros((height, width), np.uint8)
    cells = smooth(difference, settings.smoothing)
    content = torch.from_numpy(content_cells(area, factor))
    searched = content if selection is None else content & torch.from_numpy(to_cells(selection, area, factor) > 0)
    if cells[searched].max() < _NO_DIFFERENCE:
        return soft_map
    if attention is not None:
        cells = cells * smooth(1 - settings.attention * (1 - attention), settings.smoothing)
    scaled = clamp_to_mean(cells) if settings.map_rule == "mean" else scale_to_peak(cells, content, searched)
    frame = (area.padded_height, area.padded_width)
    work = torch.nn.functional.interpolate(scaled[None, None], frame, mode="bilinear")[
        0, 0, : area.height, : area.width
    ]
    part = cut(picture, area.crop)
    if settings.refine:
        work = torch.from_numpy(_refined(part, work, round(_RADIUS_CELLS * factor))) * (0.5 / _BEST_CUT)
    levels = (work.clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    levels = resized(levels, area.crop.width, area.crop.height, Image.Resampling.BILINEAR)
    cut(soft_map, area.crop)[...] = area_opening(levels, factor / area.scale) if settings.refine else levels
    return soft_map


def _refined(picture: Pixels, work: torch.Tensor, radius: int) -> NDArray[np.float32]:
    """The map `work` (h, w) at the size of the picture or at _LARGEST, if less; radius in px of `work`."""
    height, width = picture.shape[:2]
    scale = min(1.0, _LARGEST / max(height, width))
    guide = resized(picture, max(1, round(width * scale)), max(1, round(height * scale)), Image.Resampling.BOX)
    return guided_filter(guide, work, max(1, round(radius * guide.shape[1] / work.shape[1])))


def scale_to_peak(cells: torch.Tensor, content: torch.Tensor, searched: torch.Tensor) -> torch.Tensor:
    """Scale a map (h, w) to [0, 1]: 0 is the lowest of the content's cells, 1 the peak of the searched ones.

    The lowest, not the median: an edit of the ground changes most of a picture.
    """
    low, high = cells[content].min(), cells[searched].quantile(_PEAK_QUANTILE)
    return ((cells - low) / (high - low).clamp(min=1e-12)).clamp(0, 1)
