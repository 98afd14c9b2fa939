"""A soft map without small holes and specks: a highlight on a thing is no hole in it, a lone fleck no second thing.

The area closing and opening of grey-scale morphology (Vincent 1993): at whatever threshold, parts that are smaller than
a limit take the value of what surrounds them, and every other edge stays where it is. It is done to the soft map, so
that a client that cuts the map itself gets the same mask.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from ..types import Plane

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
