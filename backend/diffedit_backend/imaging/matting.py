"""A mask's edge as an alpha matte, for hair and fur: closed-form matting (Levin et al. 2008), by pymatting.

Only a band around the edge is unknown; what lies deeper inside or outside is taken as given. The band is solved in
blocks, so that memory does not grow with the picture.
"""

from __future__ import annotations

import importlib.util

import numpy as np
from diffedit_protocol.errors import BadInputError
from numpy.typing import NDArray

from ..diffedit.mask import grow, hard_mask, limit
from .area import bounds_of

Plane = NDArray[np.uint8]

_BLOCK = 384  # px: its equations take some 80 MB
_MARGIN = 8  # px beyond the band that a block sees on each side


def check_matting() -> None:
    """Raises BadInputError where pymatting is not installed."""
    if importlib.util.find_spec("pymatting") is None:
        raise BadInputError(
            "Matting needs pymatting, which is not installed where the edit runs. "
            "Install it with: pip install 'krita-diffedit[matting]', or leave matting off."
        )


def matted(picture: NDArray[np.uint8], mask: Plane, band: int) -> Plane:
    """The mask (H, W) uint8 with its edge, `band` px to either side, as alpha of the picture (H, W, 3).

    The edge is where the mask passes its half. Beyond the band a soft mask keeps its own values, and in the band alpha
    is at most what the mask is near by. Where a block has nothing that is surely inside, or surely outside, its part of
    the mask stays as it is. Raises BadInputError where pymatting is not installed.
    """
    check_matting()
    hard = hard_mask(mask, 0.5)
    inside, outside = grow(hard, -band) == 255, grow(hard, band) == 0
    unknown = ~(inside | outside)
    most = grow(mask, band)
    result = mask.copy()
    frame = bounds_of(unknown.astype(np.uint8))
    reach = 2 * band + _MARGIN
    for top in range(frame.y, frame.y + frame.height, _BLOCK):
        for left in range(frame.x, frame.x + frame.width, _BLOCK):
            core = np.s_[
                top : min(top + _BLOCK, frame.y + frame.height), left : min(left + _BLOCK, frame.x + frame.width)
            ]
            seen = np.s_[max(0, top - reach) : top + _BLOCK + reach, max(0, left - reach) : left + _BLOCK + reach]
            if unknown[core].any() and inside[seen].any() and outside[seen].any():
                alpha = _alpha(picture[seen], inside[seen], outside[seen])
                offset = (core[0].start - seen[0].start, core[1].start - seen[1].start)
                height, width = result[core].shape
                matte = alpha[offset[0] : offset[0] + height, offset[1] : offset[1] + width]
                result[core] = np.where(unknown[core], limit(matte, most[core]), result[core])
    return result


def _alpha(picture: NDArray[np.uint8], inside: NDArray[np.bool_], outside: NDArray[np.bool_]) -> Plane:
    """(h, w): 255 inside, 0 outside, between them what explains the picture's colours."""
    from pymatting import estimate_alpha_cf
    from pymatting.preconditioner.jacobi import jacobi

    trimap = np.where(inside, 1.0, np.where(outside, 0.0, 0.5))
    # The default, incomplete Cholesky, is for wide unknown regions. In a band this is quicker: 0.10 s instead of 0.15 s
    # for a block, alpha equal to 1e-6.
    alpha = estimate_alpha_cf(picture.astype(np.float64) / 255, trimap, preconditioner=jacobi)
    return np.rint(alpha.clip(0, 1) * 255).astype(np.uint8)
