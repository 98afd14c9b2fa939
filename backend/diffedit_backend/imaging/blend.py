"""Filling a place from what surrounds it, and blending an edit into what surrounds the mask.

Both continue values from outside of a region into it as smoothly as can be: a membrane that is held at the region's
border (the Laplace equation, as in Poisson image editing, Pérez et al. 2003). It is found from coarse to fine.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_propagation, distance_transform_edt, gaussian_filter

from ..method.mask import grow
from ..types import Pixels, Plane
from .area import resized

Region = NDArray[np.bool_]
Field = NDArray[np.float32]

_LONGEST = 256  # px of the longer side that a membrane is found at: it is smooth, so more shows nothing more
_COARSEST = 4  # px
_PASSES = 24  # at every size, of neighbours' means: what the coarser sizes leave is short-waved
_SOFTENED = 60.0  # levels: an edit that differs more from the picture beside the mask shows a thing there, no shift
_LIKE_GROUND = 40.0  # distance in sRGB, 0 to 441, up to which an edit is the ground with something pale on it
_EVEN, _EVEN_SHARE = 60.0, 0.6  # ground is even where at least this share of a ring is nearer to what continues it


def membrane(values: Field, known: Region) -> Field:
    """`values` (H, W, C), continued smoothly to where they are not known (H, W). All 0 where nothing is known."""
    if not known.any():
        return np.zeros_like(values)
    rows, columns = np.flatnonzero(~known.all(1)), np.flatnonzero(~known.all(0))
    if len(rows) == 0:
        return values
    # What is known beyond the border of a hole does not change what the hole is filled with.
    part = np.s_[max(0, rows[0] - 1) : rows[-1] + 2, max(0, columns[0] - 1) : columns[-1] + 2]
    result = values.copy()
    result[part] = _continued(values[part], known[part])
    return result


def _continued(values: Field, known: Region) -> Field:
    height, width = known.shape
    weight = known.astype(np.float32)[..., None]
    if min(height, width) <= _COARSEST:
        mean = (values * weight).sum((0, 1)) / max(1.0, float(weight.sum()))
        found = np.where(known[..., None], values, mean)
    else:
        padded = ((0, height % 2), (0, width % 2), (0, 0))
        sums = _halved(np.pad(values * weight, padded))
        weights = _halved(np.pad(weight, padded))
        coarse = _continued((sums / np.maximum(weights, 1e-6)).astype(np.float32, copy=False), weights[..., 0] > 0)
        found = np.where(known[..., None], values, _enlarged(coarse, width, height))
    around = np.pad(found, ((1, 1), (1, 1), (0, 0)), mode="edge")
    inner, mean = around[1:-1, 1:-1], np.empty_like(found)
    hole = np.broadcast_to(~known[..., None], found.shape)
    for _ in range(_PASSES):
        np.add(around[:-2, 1:-1], around[2:, 1:-1], out=mean)
        mean += around[1:-1, :-2]
        mean += around[1:-1, 2:]
        mean *= 0.25
        np.copyto(inner, mean, where=hole)
        around[0], around[-1], around[:, 0], around[:, -1] = around[1], around[-2], around[:, 1], around[:, -2]
    return inner.astype(np.float32)


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


def blended(edited: Pixels, picture: Pixels, mask: Plane, cell: float) -> Pixels:
    """An edit (H, W, 3) that joins the picture (H, W, 3) at the border of the mask (H, W), without a ghost.

    1. What the two differ by beside the mask is continued into it and fades over half a latent cell, whose side is
       `cell` px, so a colour cast of the edit is not seen at the border, and the new thing keeps its colours.
       Places where the edit shows a thing across the border do not count.
    2. Where the edit shows nearly the ground, and is joined to the border by such places, it gets the ground's colours,
       continued from around the mask: what is left of the old thing beside the new one is pale. Only where the ground
       around the mask is even enough to be continued.

    Unchanged where there is no outside. All of it is found at _LONGEST px at most and added to the edit, whose finer
    detail stays.
    """
    inside = mask > 0
    if inside.all() or not inside.any():
        return edited
    height, width = inside.shape
    small = _size_of_membrane(width, height)
    cell *= small[0] / width
    free = resized(np.where(inside, np.uint8(255), np.uint8(0)), *small, Image.Resampling.BOX) > 0
    if free.all():
        return edited
    before, after = (resized(p, *small, Image.Resampling.BOX).astype(np.float32) for p in (picture, edited))
    shifted = after + _match(before, after, free, cell)
    correction = shifted + _clear(before, shifted, free, cell) - after
    result = edited + _enlarged(correction.astype(np.float32), width, height)
    return np.where(inside[..., None], np.rint(result.clip(0, 255)), edited).astype(np.uint8)


def _match(before: Field, after: Field, free: Region, cell: float) -> Field:
    """Step 1: what is to be added to the edit `after`."""
    shift = before - after
    shift *= np.exp(-((np.linalg.norm(shift, axis=2, keepdims=True) / _SOFTENED) ** 4))
    fade = np.exp(-((distance_transform_edt(free) / (cell / 2)) ** 2))[..., None]
    matched: Field = (membrane(shift, ~free) * fade * free[..., None]).astype(np.float32)
    return matched


def _clear(before: Field, after: Field, free: Region, cell: float) -> Field:
    """Step 2: what is to be added to the edit `after`."""
    from_mask = distance_transform_edt(~free)
    ring = ~free & (from_mask <= max(2.0, cell / 2))
    if not ring.any() or ring.all():
        return np.zeros_like(after)
    continued = membrane(before, ~(free | ring))
    if (np.linalg.norm(continued - before, axis=2)[ring] < _EVEN).mean() < _EVEN_SHARE:
        return np.zeros_like(after)
    # The pixels next to the mask are left out too: the edge of the old thing is often among them.
    ground = membrane(before, from_mask > 1)
    distance = gaussian_filter(np.linalg.norm(after - ground, axis=2), cell / 8)
    like_ground = free & (distance < _LIKE_GROUND)
    joined = binary_propagation(~free, mask=like_ground | ~free)
    weight = ((gaussian_filter(joined.astype(np.float32), cell / 10) - 0.25) * 2).clip(0, 1) * free
    cleared: Field = (weight[..., None] * (ground - after)).astype(np.float32)
    return cleared


def _size_of_membrane(width: int, height: int) -> tuple[int, int]:
    scale = min(1.0, _LONGEST / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))
