"""A mask's edge as an alpha matte, for hair and fur: closed-form matting (Levin et al. 2008), by pymatting.

Only a band around the edge is unknown; what lies deeper inside or outside is taken as given. It is solved in blocks,
so that memory does not grow with the picture. A wide one, as in a large picture, is solved on a smaller picture and
brought back along the colours: closed-form matting takes alpha for a linear function of them near by, and so does the
guided filter.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
import torch
from diffedit_protocol.errors import BadInputError
from numpy.typing import NDArray
from PIL import Image

from ..method.mask import grow, hard_mask, limit
from ..types import Pixels, Plane
from .area import bounds_of, resized
from .soft_map import guided_filter

Block = tuple[slice, slice]
OnBlock = Callable[[int, int], None]

_LAPLACIAN = "pymatting.laplacian.cf_laplacian"
_LOOP = "_cf_laplacian"  # over every px; without a compiler it would take minutes
_WIDEST = 8  # px: four times as wide a band takes 30 times as long
_EPS = 1e-5  # of the filter that brings alpha back, for colours in [0, 1]
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


def matted(picture: Pixels, mask: Plane, band: int, on_block: OnBlock = lambda done, total: None) -> Plane:
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
    if not (unknown.any() and inside.any() and outside.any()):
        return mask.copy()
    part = _around(_frame(unknown), 2 * band + _MARGIN)
    solve = _solved if band <= _WIDEST else _solved_smaller
    alpha = solve(_Trimap(picture[part], mask[part], inside[part], outside[part]), band, on_block)
    result = mask.copy()
    result[part] = np.where(unknown[part], limit(alpha, grow(mask, band)[part]), mask[part])
    return result


@dataclass(frozen=True, eq=False)
class _Trimap:
    """A picture (H, W, 3) with its mask (H, W), and where that is surely inside or outside (H, W) bool."""

    picture: Pixels
    mask: Plane
    inside: NDArray[np.bool_]
    outside: NDArray[np.bool_]

    def resized(self, width: int, height: int) -> _Trimap:
        """A cell of the smaller one is sure where all of its px are."""
        inside, outside = (
            resized(known.astype(np.uint8) * 255, width, height, Image.Resampling.BOX) == 255
            for known in (self.inside, self.outside)
        )
        picture, mask = (resized(p, width, height, Image.Resampling.BOX) for p in (self.picture, self.mask))
        return _Trimap(picture, mask, inside, outside)


def _solved_smaller(trimap: _Trimap, band: int, on_block: OnBlock) -> Plane:
    """What `_solved` gives, from a picture on which the band is _WIDEST px wide."""
    height, width = trimap.mask.shape
    shrink = band / _WIDEST
    small = trimap.resized(max(1, round(width / shrink)), max(1, round(height / shrink)))
    alpha = torch.from_numpy(_solved(small, _WIDEST, on_block).astype(np.float32) / 255)
    # With this radius the filter, too, fits its functions on the smaller picture, where alpha belongs to the colours.
    return np.rint(guided_filter(trimap.picture, alpha, round(4 * shrink), _EPS) * 255).astype(np.uint8)


def _solved(trimap: _Trimap, band: int, on_block: OnBlock) -> Plane:
    """(H, W): alpha in place of the mask where that is neither surely inside nor surely outside."""
    unknown = ~(trimap.inside | trimap.outside)
    alpha = trimap.mask.copy()
    blocks = _blocks(unknown)
    for done, core in enumerate(blocks):
        on_block(done, len(blocks))
        seen = _around(core, 2 * band + _MARGIN)
        if trimap.inside[seen].any() and trimap.outside[seen].any():
            found = _alpha(trimap.picture[seen], trimap.inside[seen], trimap.outside[seen])
            top, left = (side.start - whole.start for side, whole in zip(core, seen, strict=True))
            height, width = alpha[core].shape
            alpha[core] = np.where(unknown[core], found[top : top + height, left : left + width], alpha[core])
    on_block(len(blocks), len(blocks))
    return alpha


def _frame(unknown: NDArray[np.bool_]) -> Block:
    """The smallest rectangle that holds all of it."""
    bounds = bounds_of(unknown.astype(np.uint8))
    return slice(bounds.y, bounds.y + bounds.height), slice(bounds.x, bounds.x + bounds.width)


def _blocks(unknown: NDArray[np.bool_]) -> list[Block]:
    """The blocks that hold something unknown."""
    rows, columns = _frame(unknown)
    blocks = [
        (slice(top, min(top + _BLOCK, rows.stop)), slice(left, min(left + _BLOCK, columns.stop)))
        for top in range(rows.start, rows.stop, _BLOCK)
        for left in range(columns.start, columns.stop, _BLOCK)
    ]
    return [block for block in blocks if unknown[block].any()]


def _around(block: Block, reach: int) -> Block:
    """The block with `reach` px on each side; what lies beyond the picture is cut off by the slice."""
    rows, columns = (slice(max(0, side.start - reach), side.stop + reach) for side in block)
    return rows, columns


def _alpha(picture: Pixels, inside: NDArray[np.bool_], outside: NDArray[np.bool_]) -> Plane:
    """(h, w): 255 inside, 0 outside, between them what explains the picture's colours."""
    trimap = np.where(inside, 1.0, np.where(outside, 0.0, 0.5))
    # The default, incomplete Cholesky, is for wide unknown regions. In a band this is quicker: 0.10 s instead of 0.15 s
    # for a block, alpha equal to 1e-6.
    matting = closed_form()
    alpha = matting.estimate_alpha_cf(picture.astype(np.float64) / 255, trimap, preconditioner=matting.jacobi)
    return np.rint(alpha.clip(0, 1) * 255).astype(np.uint8)


@cache
def closed_form() -> ModuleType:
    """The module pymatting, ready in seconds, of which `estimate_alpha_cf` and `jacobi` are fit for use.

    On its first import on a machine pymatting compiles all that it has: 45 s of work (numba), during which nothing can
    be reported or cancelled. Closed-form matting needs one of those functions, 2 s. So pymatting is imported with numba
    switched off, and that one function is compiled; numba keeps it on the disk, and the next process has it at once.
    Of the rest, what numba should compile is slow in this process, unless pymatting had been imported before.
    """
    if "pymatting" in sys.modules:
        return sys.modules["pymatting"]
    import numba

    config: Any = numba.config  # its settings are made at run time
    switched_off = config.DISABLE_JIT
    config.DISABLE_JIT = True
    try:
        pymatting = importlib.import_module("pymatting")
    finally:
        config.DISABLE_JIT = switched_off
    laplacian = sys.modules[_LAPLACIAN]
    setattr(laplacian, _LOOP, numba.njit(cache=True, nogil=True)(getattr(laplacian, _LOOP)))
    return pymatting
