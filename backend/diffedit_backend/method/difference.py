"""Where the two texts disagree: the difference map of their noise predictions (paper, section 3.2, step 1)."""

from __future__ import annotations

import torch
from torch import Tensor


def prediction_difference(source: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference of two noise predictions over channels and noises.

    source, target: (n, C, h, w), predictions for the same n noised latents under the two texts.
    Returns (h, w), in the unit of the predictions, >= 0.
    """
    return (target - source).abs().mean(dim=(0, 1))


def mean_difference(source: Tensor, target: Tensor) -> Tensor:
    """Root mean square over channels of the mean difference of two noise predictions over noises.

    As `prediction_difference`, but what one noise changes by chance cancels before sizes are taken.
    """
    return (target - source).mean(0).square().mean(0).sqrt()


_PEAK_QUANTILE = 0.97  # a single hot cell is no peak


def scale_to_peak(cells: Tensor, content: Tensor, searched: Tensor) -> Tensor:
    """Scale a map (h, w) to [0, 1]: 0 is the lowest of the content's cells, 1 the peak of the searched ones.

    content, searched: (h, w) bool. The lowest, not the median: an edit of the ground changes most of a picture.
    """
    low, high = cells[content].min(), cells[searched].quantile(_PEAK_QUANTILE)
    return ((cells - low) / (high - low).clamp(min=1e-12)).clamp(0, 1)


def border_share(difference: Tensor) -> float:
    """The mean, 0 to 1, of the outermost cells of a map (h, w) scaled to its peak: whether a ground differs.

    A ground reaches the border of a picture nearly everywhere, a thing of whatever size hardly anywhere.
    """
    border = torch.ones_like(difference, dtype=torch.bool)
    scaled = scale_to_peak(difference, border, border)
    border[1:-1, 1:-1] = False
    return float(scaled[border].mean())


def average_maps(first: Tensor, second: Tensor) -> Tensor:
    """The mean of two maps (h, w) of different levels, in the unit of the first, to whose mean the second is scaled."""
    scale = first.mean() / second.mean().clamp(min=1e-12)
    return (first + scale * second) / 2


def clamp_to_mean(difference: Tensor, ratio: float = 3.0) -> Tensor:
    """Clamp a map at `ratio` times its own mean and scale to [0, 1]: the outlier rule of the reference implementation.

    difference: (..., h, w) >= 0; every map of a batch has its own mean. A map without any difference stays 0
    everywhere.
    """
    limit = difference.mean(dim=(-2, -1), keepdim=True) * ratio
    return torch.where(limit > 0, difference.clamp(max=limit) / limit, 0.0)


def smooth(difference: Tensor, sigma: float) -> Tensor:
    """Gaussian smoothing of a map (h, w) with `sigma` in cells, edges mirrored: single cells are noise, not regions."""
    radius = min(int(3 * sigma + 0.5), difference.shape[-2] - 1, difference.shape[-1] - 1)
    if radius < 1:
        return difference
    x = torch.arange(-radius, radius + 1, dtype=difference.dtype, device=difference.device)
    kernel = torch.exp(-0.5 * (x / sigma) ** 2)
    kernel = kernel / kernel.sum()
    padded = torch.nn.functional.pad(difference[None, None], (radius,) * 4, mode="reflect")
    rows = torch.nn.functional.conv2d(padded, kernel.view(1, 1, 1, -1))
    return torch.nn.functional.conv2d(rows, kernel.view(1, 1, -1, 1))[0, 0]
