"""A coarse soft map drawn to the picture's own edges: the fast guided filter with a colour guide.

He, Sun, Tang, "Guided image filtering" (2013), section 3.5; He, Sun, "Fast guided filter" (arXiv 1505.00996).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..types import Pixels

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
