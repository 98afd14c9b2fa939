"""From the engine's difference map, in cells, to the soft map of the whole picture, drawn to the picture's own edges by
the fast guided filter with a colour guide.

He, Sun, Tang, "Guided image filtering" (2013), section 3.5; He, Sun, "Fast guided filter" (arXiv 1505.00996).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from torch import Tensor

from ..method.difference import clamp_to_mean, scale_to_peak, smooth
from ..method.settings import MethodSettings
from ..types import Pixels, Plane
from .area import WorkArea, content_cells, cut, resized, to_cells

EPS = 1e-4  # regularisation for colours in [0, 1]; the best of those measured on scenes with known truth
_STRIP = 512  # rows of the full picture that are held as floats at once


def _box(x: Tensor, radius: int) -> Tensor:
    """Mean over a window of 2 radius + 1 px, clipped at the borders. x: (C, H, W)."""
    for dim in (-2, -1):
        length = x.shape[dim]
        # float64 sums: differences of long float32 sums lose what EPS is there to keep.
        total = torch.nn.functional.pad(x.double().cumsum(dim), (1, 0) if dim == -1 else (0, 0, 1, 0))
        index = torch.arange(length, device=x.device)
        high, low = (index + radius + 1).clamp(max=length), (index - radius).clamp(min=0)
        width = (high - low).reshape((-1,) if dim == -1 else (-1, 1))
        x = ((total.index_select(dim, high) - total.index_select(dim, low)) / width).to(x.dtype)
    return x


def _coefficients(guide: Tensor, soft_map: Tensor, radius: int, eps: float) -> Tensor:
    """The local linear model soft_map = a . guide + b, smoothed: (4, h, w), a in the first three.

    guide: (3, h, w) in [0, 1]; soft_map: (1, h, w).
    """
    mean = _box(guide, radius)
    mean_map = _box(soft_map, radius)
    covariance = _box(guide * soft_map, radius) - mean * mean_map  # (3, h, w)
    products = torch.stack([guide[i] * guide[j] for i in range(3) for j in range(3)])
    sigma = _box(products, radius) - torch.stack([mean[i] * mean[j] for i in range(3) for j in range(3)])
    matrix = sigma.reshape(3, 3, -1).permute(2, 0, 1) + eps * torch.eye(3, device=guide.device)  # (h w, 3, 3)
    a = torch.linalg.solve(matrix, covariance.reshape(3, -1).T).T.reshape(covariance.shape)
    b = mean_map - (a * mean).sum(0, keepdim=True)
    return _box(torch.cat((a, b)), radius)


def guided_filter(
    picture: Pixels, soft_map: Tensor, radius: int, eps: float = EPS, device: torch.device | None = None
) -> NDArray[np.float32]:
    """The soft map at the picture's size, its edges where the picture has edges.

    picture: (H, W, 3) uint8; soft_map: (h, w) float of the same frame at any resolution; radius in px of the picture.
    Returns (H, W) float32 in [0, 1]. The local models are fitted on a picture `radius // 4` times smaller, which loses
    nothing that can be seen, and applied in strips, so that a huge picture needs little memory.
    """
    height, width = picture.shape[:2]
    where = device or torch.device("cpu")
    step = max(1, radius // 4)
    small_size = (-(-height // step), -(-width // step))
    guide = torch.nn.functional.adaptive_avg_pool2d(_floats(picture, where, step), small_size)
    coarse = torch.nn.functional.interpolate(soft_map[None, None].to(guide), small_size, mode="bilinear")[0]
    coefficients = _coefficients(guide, coarse, max(1, round(radius / step)), eps)
    columns = _positions(width, small_size[1], where)
    out = np.empty((height, width), np.float32)
    for top in range(0, height, _STRIP):
        rows = slice(top, min(height, top + _STRIP))
        lines = _positions(height, small_size[0], where)[rows]
        local = _sample(coefficients, lines, columns)
        strip = _tensor(picture[rows], where)
        out[rows] = ((local[:3] * strip).sum(0) + local[3]).clamp(0, 1).cpu().numpy()
    return out


def _floats(picture: Pixels, device: torch.device, step: int) -> Tensor:
    """(3, H, W) in [0, 1]; of a picture that will be averaged anyway, every other pixel where that leaves enough."""
    thin = max(1, step // 2)
    return _tensor(picture[::thin, ::thin], device)


def _tensor(pixels: NDArray[np.uint8], device: torch.device) -> Tensor:
    return torch.from_numpy(pixels.copy()).to(device).permute(2, 0, 1).float() / 255


def _positions(length: int, small: int, device: torch.device) -> Tensor:
    """Where the centres of `length` px lie among `small` px of the same extent."""
    return ((torch.arange(length, device=device) + 0.5) * small / length - 0.5).clamp(0, small - 1)


def _sample(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Bilinear samples of x (C, h, w) on the grid rows x columns."""
    for dim, position in ((1, rows), (2, columns)):
        low = position.floor().long()
        high = (low + 1).clamp(max=x.shape[dim] - 1)
        share = (position - low).reshape((-1, 1) if dim == 1 else (-1,))
        x = torch.lerp(x.index_select(dim, low), x.index_select(dim, high), share)
    return x


# Latent cells: the network tells no more than one value for each. Of 1 to 6 the best when it was chosen, on 200 bundled
# scenes that the benchmark does not show; docs/make_figures.py measures them anew for docs/how-it-works.md.
_LIMIT_CELLS = 2.0
_LIMIT_SHARE = 0.25  # of the area that was found: a thing of two cells is no fleck where nothing else was found
_FOUND = 128  # a sensible place to cut
_LONGEST = 256  # squares along the longer side by which parts are measured
_LEVELS = range(8, 256, 8)  # thresholds at which parts are looked for: a step is 0.03 on the artist's scale


def area_opening(soft_map: Plane, cell: float) -> Plane:
    """The soft map (H, W) with small holes filled and small specks taken away; `cell`: px in a latent cell's side."""
    limit = min(_LIMIT_CELLS * cell**2, _LIMIT_SHARE * np.count_nonzero(soft_map >= _FOUND))
    return 255 - _filled(255 - _filled(soft_map, limit), limit)


def _filled(plane: Plane, limit: float) -> Plane:
    """Raise every dark part of less than `limit` px to what surrounds it."""
    height, width = plane.shape
    step = -(-max(height, width) // _LONGEST)
    # The darkest of every square: a hole of one pixel is still a hole, measured too large rather than not at all.
    rows = np.minimum.reduceat(plane, np.arange(0, height, step), axis=0)
    dark = np.minimum.reduceat(rows, np.arange(0, width, step), axis=1)
    raised = np.zeros_like(dark)
    for level in _LEVELS:
        parts, _ = ndimage.label(dark < level)
        small = np.bincount(parts.ravel()) * step**2 < limit
        small[0] = False  # what is not dark
        raised[small[parts]] = level
    return np.maximum(plane, raised.repeat(step, axis=0).repeat(step, axis=1)[:height, :width])


# Chosen on the bundled scenes, whose masks are known: the filter raises the mean IoU of swaps from 0.54 to 0.74.
_RADIUS_CELLS = 4
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
