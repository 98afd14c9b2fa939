"""Distances between masks and between pictures. Pure functions; scikit-image and scipy do what they have.

Pictures are (H, W, 3) uint8, soft maps (H, W) uint8, masks and regions (H, W) bool. A region must not be empty where
a mean is taken over it; `None` answers stand for "no pixel to ask".
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import trapezoid
from scipy.ndimage import binary_erosion, binary_propagation, distance_transform_edt
from scipy.spatial import KDTree
from skimage.metrics import structural_similarity

from .cases import Picture, Region

Plane = NDArray[np.uint8]

_PALETTE_STEP = 8  # levels: a thing's colours are distinguished this finely
_SAME_COLOUR = 40.0  # distance in sRGB, 0 to 441
PSNR_OF_EQUAL = 100.0  # dB, for pictures without any difference; one grey level in one pixel of 512 x 512 is 102 dB
BOUNDARY_TOLERANCE = 2  # px


def iou(mask: Region, truth: Region) -> float:
    """Intersection over union; 1 when both are empty."""
    union = np.count_nonzero(mask | truth)
    return float(np.count_nonzero(mask & truth) / union) if union else 1.0


def best_iou(soft_map: Plane, truth: Region) -> float:
    """The IoU at the best of all thresholds, each of them at least 1: how much a better threshold alone could win."""
    inside, outside = _counts_from_above(soft_map, truth)
    return float((inside / (truth.sum() + outside))[1:].max())


def auroc(soft_map: Plane, truth: Region) -> float | None:
    """The share of pairs (a pixel inside the truth, one outside) which the map puts in the right order; ties count
    half.
    """
    inside, outside = _counts_from_above(soft_map, truth)
    if inside[0] == 0 or outside[0] == 0:
        return None
    # The area under the curve of rates over all thresholds, from none (above 255) to all (0).
    hits, false_alarms = np.append(inside, 0) / inside[0], np.append(outside, 0) / outside[0]
    return float(trapezoid(hits[::-1], false_alarms[::-1]))


def _counts_from_above(soft_map: Plane, truth: Region) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For every level 0 to 255, the pixels of at least that value inside the truth, and outside."""
    inside, outside = (np.bincount(soft_map[region], minlength=256) for region in (truth, ~truth))
    return inside[::-1].cumsum()[::-1], outside[::-1].cumsum()[::-1]


def boundary_f(mask: Region, truth: Region, tolerance: float = BOUNDARY_TOLERANCE) -> float:
    """F-measure of boundaries that may lie `tolerance` px apart (Csurka et al. 2013). The picture's border is no
    boundary.
    """
    found, true = _boundary(mask), _boundary(truth)
    if not found.any() or not true.any():
        return float(found.any() == true.any())
    precision = float((distance_transform_edt(~true)[found] <= tolerance).mean())
    recall = float((distance_transform_edt(~found)[true] <= tolerance).mean())
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _boundary(mask: Region) -> Region:
    """The pixels of a mask that touch, by a side, a pixel which is not of it."""
    boundary: Region = mask & ~binary_erosion(mask, border_value=1)
    return boundary


def mse(picture: Picture, other: Picture, region: Region | None = None) -> float | None:
    """Mean squared difference over a region, of channels in [0, 1]."""
    difference = (picture.astype(np.float64) - other.astype(np.float64)) / 255
    if region is not None:
        difference = difference[region]
    return float((difference**2).mean()) if difference.size else None


def psnr(mean_squared_error: float) -> float:
    """In dB, for channels in [0, 1]."""
    if mean_squared_error <= 0:
        return PSNR_OF_EQUAL
    return min(PSNR_OF_EQUAL, -10 * math.log10(mean_squared_error))


def ssim_map(picture: Picture, other: Picture) -> NDArray[np.float64]:
    """Structural similarity at every pixel (H, W), by Wang et al. 2004: Gaussian windows of sigma 1.5, mean of the
    channels.
    """
    _, similarity = structural_similarity(
        picture,
        other,
        data_range=255,
        channel_axis=-1,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )
    mean: NDArray[np.float64] = similarity.mean(-1)
    return mean


def another_pose(picture: Picture, source: Picture, target: Picture, thing: Region, region: Region) -> Region:
    """The pixels (H, W) of a region where the picture shows the new thing, though the true edit shows ground there.

    A new thing that is drawn in another pose covers other pixels than the true one's, which is no fault of the ground.
    Such a pixel has a colour of the true thing, nearer than any mixture of the true ground's colour with the source's,
    and is joined by others of its kind to the true thing's place. A ghost, faint or strong, is not excused, nor is what
    stands apart from the thing.
    """
    inner = binary_erosion(thing)
    if not inner.any() or not region.any():
        return np.zeros_like(region)
    palette = KDTree(np.unique(target[inner] // _PALETTE_STEP, axis=0) * _PALETTE_STEP + _PALETTE_STEP / 2)
    shown = np.zeros_like(region)
    from_thing = palette.query(picture[region])[0]
    found, ground = picture[region].astype(float), target[region].astype(float)
    old = source[region] - ground
    strength = ((found - ground) * old).sum(1) / np.maximum((old * old).sum(1), 1.0)
    from_mixture = np.linalg.norm(found - ground - strength.clip(0, 1)[:, None] * old, axis=1)
    shown[region] = (from_thing < _SAME_COLOUR) & (from_thing < from_mixture)
    joined: Region = binary_propagation(thing, mask=shown | thing)
    return shown & joined


def still_showing(picture: Picture, source: Picture, target: Picture, region: Region) -> tuple[float, float] | None:
    """How much of the source still shows in a region where the true edit shows something else: (share, correlation).

    share: the multiple of (source - target) that fits (picture - target) best, 0 for none, 1 for the source itself.
    correlation: the cosine between the two, whatever their strength; 0 where the picture is the target. None for an
    empty region, or one where source and target are equal.
    """
    wanted = target[region].astype(float)
    old, left = (pixels[region].astype(float) - wanted for pixels in (source, picture))
    strength, length = float((old * old).sum()), float((left * left).sum())
    if strength == 0:
        return None
    product = float((old * left).sum())
    return product / strength, product / math.sqrt(strength * length) if length else 0.0


def seam(picture: Picture, target: Picture, mask: Region) -> float | None:
    """How much larger the picture's colour step across a mask's border is than the true edit's, in levels of 255.

    The mean over neighbouring pixels of which one is inside, and over the channels. None where there is no border.
    """
    steps = []
    for axis in (0, 1):
        first, second = (np.s_[:-1], np.s_[1:]) if axis == 0 else (np.s_[:, :-1], np.s_[:, 1:])
        border = mask[first] != mask[second]
        a, b = (np.abs(p[first].astype(float) - p[second])[border].mean(-1) for p in (picture, target))
        steps.append(a - b)
    found = np.concatenate(steps)
    return float(found.mean()) if found.size else None
