"""Filling a place from what surrounds it, and matching an edit's colours to what surrounds the mask.

Both continue values from outside of a region into it as smoothly as can be: a membrane that is held at the region's
border (the Laplace equation, as in Poisson image editing, Pérez et al. 2003). It is found from coarse to fine.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import distance_transform_edt

from ..method.mask import grow
from .area import resized

Pixels = NDArray[np.uint8]
Plane = NDArray[np.uint8]
Region = NDArray[np.bool_]
Field = NDArray[np.float32]

_LONGEST = 256  # px of the longer side that a membrane is found at: it is smooth, so more shows nothing more
_COARSEST = 4  # px
_PASSES = 24  # at every size, of neighbours' means: what the coarser sizes leave is short-waved
_SOFTENED = 60.0  # levels: an edit that differs more from the picture beside the mask shows a thing there, no shift


def membrane(values: Field, known: Region) -> Field:
    """`values` (H, W, C), continued smoothly to where they are not known (H, W). All 0 where nothing is known."""
    height, width = known.shape
    if not known.any():
        return np.zeros_like(values)
    weight = known.astype(np.float32)[..., None]
    if min(height, width) <= _COARSEST:
        mean = (values * weight).sum((0, 1)) / weight.sum()
        found = np.where(known[..., None], values, mean)
    else:
        padded = ((0, height % 2), (0, width % 2), (0, 0))
        sums = _halved(np.pad(values * weight, padded))
        weights = _halved(np.pad(weight, padded))
        coarse = membrane((sums / np.maximum(weights, 1e-6)).astype(np.float32, copy=False), weights[..., 0] > 0)
        found = np.where(known[..., None], values, _enlarged(coarse, width, height))
    inside = ~known[..., None]
    for _ in range(_PASSES):
        around = np.pad(found, ((1, 1), (1, 1), (0, 0)), mode="edge")
        mean = (around[:-2, 1:-1] + around[2:, 1:-1] + around[1:-1, :-2] + around[1:-1, 2:]) / 4
        found = np.where(inside, mean, found)
    return found.astype(np.float32)


def _halved(field: Field) -> Field:
    height, width, channels = field.shape
    halves: Field = field.reshape(height // 2, 2, width // 2, 2, channels).mean((1, 3))
    return halves


def _enlarged(field: Field, width: int, height: int) -> Field:
    channels = [
        np.asarray(Image.fromarray(field[..., c]).resize((width, height), Image.Resampling.BILINEAR))
        for c in range(field.shape[2])
    ]
    return np.stack(channels, axis=-1)


def filled(picture: Pixels, mask: Plane, margin: int) -> Pixels:
    """The picture (H, W, 3) with the mask (H, W), and `margin` px around it, filled from what surrounds it."""
    region = grow(np.where(mask > 0, np.uint8(255), np.uint8(0)), margin) > 0
    width, height = _size_of_membrane(picture.shape[1], picture.shape[0])
    cells = resized(np.where(region, np.uint8(255), np.uint8(0)), width, height, Image.Resampling.BOX) > 0
    surface = membrane(resized(picture, width, height, Image.Resampling.BOX).astype(np.float32), ~cells)
    smooth = _enlarged(surface, picture.shape[1], picture.shape[0])
    return np.where(region[..., None], np.rint(smooth.clip(0, 255)), picture).astype(np.uint8)


def matched(edited: Pixels, picture: Pixels, mask: Plane, reach: float) -> Pixels:
    """An edit (H, W, 3) with its colours shifted so that it meets the picture (H, W, 3) at the border of the mask.

    What the two differ by beside the mask (H, W) is continued into it and fades over about `reach` px, so a colour cast
    of the whole edit is seen nowhere at its border, and the new thing in the middle keeps its colours. Places where the
    edit shows a thing across the border do not count. Unchanged where there is no outside.
    """
    inside = mask > 0
    if inside.all() or not inside.any():
        return edited
    height, width = inside.shape
    small = _size_of_membrane(width, height)
    cells = resized(np.where(inside, np.uint8(255), np.uint8(0)), *small, Image.Resampling.BOX) > 0
    before, after = (resized(p, *small, Image.Resampling.BOX).astype(np.float32) for p in (picture, edited))
    shift = before - after
    shift *= np.exp(-((np.linalg.norm(shift, axis=2, keepdims=True) / _SOFTENED) ** 4))
    distance = distance_transform_edt(cells)
    ring = ~cells
    fade = np.exp(-((distance * width / small[0] / reach) ** 2)).astype(np.float32)[..., None]
    correction = _enlarged(membrane(shift, ring) * fade, width, height)
    return np.where(inside[..., None], np.rint((edited + correction).clip(0, 255)), edited).astype(np.uint8)


def _size_of_membrane(width: int, height: int) -> tuple[int, int]:
    scale = min(1.0, _LONGEST / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))
