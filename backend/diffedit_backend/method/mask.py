"""From a soft map to a mask, at full resolution: what moves when the artist moves threshold, grow or feather.

    mask = feather(grow(soft_map >= round(255 * threshold))) * selection

All planes are (H, W) uint8. `soft_map` is the difference map, scaled so that 128 is a sensible place to cut. None of
this asks the network anything. A client may draw the thresholded map live with a table of 256 entries: see
`threshold_table`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import ndimage

from ..types import Plane

# 0.3 to 0.78: beyond, no area is stable but everything and nothing.
_AUTOMATIC_LEVELS = (77, 200)
_STABLE_OVER = 10  # levels to either side
_NEARLY_STABLE = 0.08  # share of the area by which it may change more than at the most stable level
# Of the border of what is searched: the mean of the soft map, 0 to 1, above which a ground is meant.
# On 480 bundled scenes that the benchmark does not show it is 0.05 to 0.30 for things and 0.49 to 0.96 for grounds.
_GROUND_AT_BORDER = 0.4
_LARGEST_SHORT_BOX = 255  # px: up to here the sums times 2^16 / box stay below 2^32


def threshold_level(threshold: float) -> int:
    """The lowest value, 1 to 254, of a soft map that is inside the mask; `threshold` in (0, 1)."""
    return min(254, max(1, round(threshold * 255)))


def threshold_table(threshold: float) -> bytes:
    """256 entries, 0 or 255: `soft_map.translate(table)` is the hard mask."""
    level = threshold_level(threshold)
    return bytes(level) + b"\xff" * (256 - level)


def automatic_threshold(soft_map: Plane, selection: Plane | None = None) -> float:
    """The threshold of the whole thing: the farthest from the most stable one to which the mask hardly changes.

    The most stable threshold, at which the mask's area changes by the smallest share (the idea of maximally stable
    regions, Matas et al., 2002), lies anywhere on the flank of a thing. From there it goes down for a thing, and up for
    a ground, which ends where a thing begins, as long as the area is nearly as stable. Pixels of the selection count,
    where there is one. Measured in docs/quality.md.
    """
    searched, border = _searched(soft_map, selection)
    area = np.bincount(searched, minlength=256)[::-1].cumsum()[::-1] + 1.0  # area[v]: pixels of at least v
    levels = np.arange(*_AUTOMATIC_LEVELS)
    change = np.log(area[levels - _STABLE_OVER] / area[levels + _STABLE_OVER])
    best = np.flatnonzero(change <= change.min() + 1e-9)
    start = best[np.argmin(np.abs(levels[best] - 128))]  # of equals the one nearest to the middle
    step = 1 if _shows_ground(border) else -1
    way = np.flatnonzero(change[start::step] > change[start] + _NEARLY_STABLE)
    end = levels[start::step][way[0] - 1 if len(way) else -1]
    same = levels[area[levels] == area[end]]  # they cut the very same mask
    return float(same[np.argmin(np.abs(same - 128))]) / 255


def is_ground(soft_map: Plane, selection: Plane | None = None) -> bool:
    """Whether a soft map is that of a ground, on which things stand: it is high along the border of the picture, or of
    the selection. Measured in docs/quality.md."""
    return _shows_ground(_searched(soft_map, selection)[1])


def _shows_ground(border: Plane) -> bool:
    return bool(border.mean() > 255 * _GROUND_AT_BORDER)


def _searched(soft_map: Plane, selection: Plane | None) -> tuple[Plane, Plane]:
    """The values of a soft map that count, and of these the ones along the border, (n,) each."""
    if selection is None:
        return soft_map.ravel(), np.concatenate((soft_map[[0, -1]].ravel(), soft_map[1:-1, [0, -1]].ravel()))
    within = selection > 0
    return soft_map[within], soft_map[within & ~ndimage.binary_erosion(within)]


def hard_mask(soft_map: Plane, threshold: float) -> Plane:
    """255 where the soft map reaches the threshold, else 0."""
    return np.where(soft_map >= threshold_level(threshold), np.uint8(255), np.uint8(0))


def grow(mask: Plane, radius: int) -> Plane:
    """Dilate by `radius` px (erode when negative) with an octagon, which is within 6 % of a disk.

    Shifted maxima of doubling length: O(log radius) passes, so a large radius costs little more than a small one.
    """
    if radius == 0:
        return mask
    if radius < 0:
        return 255 - grow(255 - mask, -radius)
    # A regular octagon of inradius r is a sum of lines: r tan(22.5 degrees) along each axis, the rest along diagonals,
    # a pair of which adds two px; one px that is left over is a step to the four neighbours.
    radius = min(radius, sum(mask.shape))
    straight = round(radius * 0.41421356)
    diagonal, rest = divmod(radius - straight, 2)
    mask = np.pad(mask, radius)  # a way of several lines may leave the picture and come back
    for dy, dx, reach in ((0, 1, straight), (1, 0, straight), (1, 1, diagonal), (1, -1, diagonal)):
        mask = _dilate_line(mask, dy, dx, reach)
    if rest:
        mask = np.maximum(_dilate_line(mask, 0, 1, 1), _dilate_line(mask, 1, 0, 1))
    return mask[radius:-radius, radius:-radius]


def _dilate_line(mask: Plane, dy: int, dx: int, reach: int) -> Plane:
    """The maximum over offsets -reach to reach along the direction (dy, dx)."""
    for sign in (1, -1):
        covered = 0  # offsets 0 to `covered` are done
        while covered < reach:
            shift = min(covered + 1, reach - covered)
            mask = np.maximum(mask, _shifted(mask, sign * dy * shift, sign * dx * shift))
            covered += shift
    return mask


def _shifted(mask: Plane, dy: int, dx: int) -> Plane:
    height, width = mask.shape
    out = np.zeros_like(mask)
    if abs(dy) < height and abs(dx) < width:
        out[max(0, dy) : height + min(0, dy), max(0, dx) : width + min(0, dx)] = mask[
            max(0, -dy) : height + min(0, -dy), max(0, -dx) : width + min(0, -dx)
        ]
    return out


def box_widths(feather_by: int) -> tuple[int, ...]:
    """The odd widths of the boxes whose blurs, one after the other, are nearly a Gaussian of sigma = feather / 2.

    The widest two odd widths around that of three equal boxes, so many of each as come nearest to its variance
    (Kovesi, "Fast almost-Gaussian filtering", 2010); 1 px of feather is one box of 3.
    """
    if feather_by == 0:
        return ()
    smaller = int((feather_by**2 + 1) ** 0.5)
    smaller -= 1 - smaller % 2
    many = (3 * feather_by**2 - 3 * smaller**2 - 12 * smaller - 9) / (-4 * smaller - 4)
    small = min(max(0, int(many + 0.5)), 2 if smaller == 1 else 3)
    return tuple(width for width in small * (smaller,) + (3 - small) * (smaller + 2,) if width > 1)


def feather(mask: Plane, width: int) -> Plane:
    """Blur the edge over about `width` px to either side; at the picture's borders the mask is continued outwards.

    In integers throughout, so that a client without numpy shows the very same mask.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    widths = box_widths(width)
    if not widths or len(rows) == 0:
        return mask
    reach = sum(box // 2 for box in widths)
    top, left = max(0, rows[0] - reach), max(0, columns[0] - reach)
    part = np.s_[top : rows[-1] + reach + 1, left : columns[-1] + reach + 1]
    blurred = mask[part]
    for box in widths:
        blurred = _box_mean(_box_mean(blurred, box, 1), box, 0)
    result = mask.copy()
    result[part] = blurred
    return result


def _box_mean(plane: Plane, box: int, axis: int) -> Plane:
    """The rounded mean of the `box` px around each pixel along an axis."""
    reach = box // 2
    pads = [(0, 0), (0, 0)]
    pads[axis] = (reach + 1, reach)
    sums = np.pad(plane, pads, mode="edge").cumsum(axis=axis, dtype=np.int64)
    sums = sums[box:] - sums[:-box] if axis == 0 else sums[:, box:] - sums[:, :-box]
    scale = 16 if box <= _LARGEST_SHORT_BOX else 32
    means: Plane = (sums * round((1 << scale) / box) + (1 << scale - 1) >> scale).astype(np.uint8)
    return means


def limit(mask: Plane, selection: Plane | None) -> Plane:
    """Multiply by the artist's selection, soft edges and all."""
    if selection is None:
        return mask
    product = mask.astype(np.uint16) * selection
    return ((product + 127) // 255).astype(np.uint8)


def unchanged(mask: Plane) -> Plane:
    """The `edge` of a mask that is not refined."""
    return mask


def final_mask(
    soft_map: Plane,
    threshold: float,
    grow_by: int,
    feather_by: int,
    selection: Plane | None,
    edge: Callable[[Plane], Plane] = unchanged,
) -> Plane:
    """The mask that an edit uses, by the formula of this module's docstring; `edge` may refine it before it is
    feathered.
    """
    return limit(feather(edge(grow(hard_mask(soft_map, threshold), grow_by)), feather_by), selection)
