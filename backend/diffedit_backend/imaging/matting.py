"""A mask's edge as an alpha matte, for hair and fur: closed-form matting (Levin et al. 2008), by pymatting.

Only a band around the edge is unknown; what lies deeper inside or outside is taken as given. The band is solved in
blocks, so that memory does not grow with the picture.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import numpy as np
from diffedit_protocol.errors import BadInputError
from numpy.typing import NDArray

from ..diffedit.mask import grow, hard_mask, limit
from .area import bounds_of
from .closed_form import closed_form

Plane = NDArray[np.uint8]
Block = tuple[slice, slice]

_BLOCK = 384  # px: its equations take some 80 MB
_MARGIN = 8  # px beyond the band that a block sees on each side


def has_matting() -> bool:
    """Whether pymatting is installed here."""
    return importlib.util.find_spec("pymatting") is not None


def check_matting() -> None:
    """Raises BadInputError where pymatting is not installed."""
    if not has_matting():
        raise BadInputError(
            "Matting needs pymatting, which is not installed where the edit runs. "
            "Install it with: pip install 'krita-diffedit[matting]', or leave matting off."
        )


def matted(
    picture: NDArray[np.uint8], mask: Plane, band: int, on_block: Callable[[int, int], None] = lambda done, total: None
) -> Plane:
    """The mask (H, W) uint8 with its edge, `band` px to either side, as alpha of the picture (H, W, 3).

    The edge is where the mask passes its half. Beyond the band a soft mask keeps its own values, and in the band alpha
    is at most what the mask is near by. Where a block has nothing that is surely inside, or surely outside, its part of
    the mask stays as it is. `on_block(done, total)` is called before the first block and after each; what it raises
    ends the work. Raises BadInputError where pymatting is not installed.
    """
    check_matting()
    hard = hard_mask(mask, 0.5)
    inside, outside = grow(hard, -band) == 255, grow(hard, band) == 0
    unknown = ~(inside | outside)
    most = grow(mask, band)
    result = mask.copy()
    reach = 2 * band + _MARGIN
    blocks = _blocks(unknown)
    for done, core in enumerate(blocks):
        on_block(done, len(blocks))
        seen = _around(core, reach)
        if inside[seen].any() and outside[seen].any():
            alpha = _alpha(picture[seen], inside[seen], outside[seen])
            offset = (core[0].start - seen[0].start, core[1].start - seen[1].start)
            height, width = result[core].shape
            matte = alpha[offset[0] : offset[0] + height, offset[1] : offset[1] + width]
            result[core] = np.where(unknown[core], limit(matte, most[core]), result[core])
    on_block(len(blocks), len(blocks))
    return result


def _blocks(unknown: NDArray[np.bool_]) -> list[Block]:
    """The blocks that hold something unknown."""
    frame = bounds_of(unknown.astype(np.uint8))
    bottom, right = frame.y + frame.height, frame.x + frame.width
    blocks = [
        (slice(top, min(top + _BLOCK, bottom)), slice(left, min(left + _BLOCK, right)))
        for top in range(frame.y, bottom, _BLOCK)
        for left in range(frame.x, right, _BLOCK)
    ]
    return [block for block in blocks if unknown[block].any()]


def _around(block: Block, reach: int) -> Block:
    """The block with `reach` px on each side; what lies beyond the picture is cut off by the slice."""
    rows, columns = (slice(max(0, side.start - reach), side.stop + reach) for side in block)
    return rows, columns


def _alpha(picture: NDArray[np.uint8], inside: NDArray[np.bool_], outside: NDArray[np.bool_]) -> Plane:
    """(h, w): 255 inside, 0 outside, between them what explains the picture's colours."""
    trimap = np.where(inside, 1.0, np.where(outside, 0.0, 0.5))
    # The default, incomplete Cholesky, is for wide unknown regions. In a band this is quicker: 0.10 s instead of 0.15 s
    # for a block, alpha equal to 1e-6.
    matting = closed_form()
    alpha = matting.estimate_alpha_cf(picture.astype(np.float64) / 255, trimap, preconditioner=matting.jacobi)
    return np.rint(alpha.clip(0, 1) * 255).astype(np.uint8)
